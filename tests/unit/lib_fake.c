/* The scheduler's end of one client, for the tests of libpawl. */
#include "tests/unit/lib_fake.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "shm/doorbell.h"
#include "shm/error.h"

void fake_lock(struct fake *fake)
{
    pthread_mutex_lock(&fake->mutex);
}

void fake_unlock(struct fake *fake)
{
    pthread_mutex_unlock(&fake->mutex);
}

static void hang_up(struct fake *fake)
{
    if (fake->wire.fd >= 0)
        pawl_wire_fini(&fake->wire);
    fake->wire.fd = -1;
    if (fake->attached) {
        pawl_client_port_destroy(&fake->port);
        close(fake->scheduler_fd);
        close(fake->client_fd);
    }
    fake->attached = false;
}

static void answer(struct fake *fake, uint16_t type, uint64_t tag, const void *body, size_t bytes,
                   const int *fds, unsigned fd_count)
{
    pawl_wire_queue_message(&fake->wire, type, tag, body, bytes, NULL, 0, fds, fd_count);
    pawl_wire_flush(&fake->wire);
}

static void answer_error(struct fake *fake, uint64_t tag, int error)
{
    struct {
        struct pawl_wire_error head;
        char text[8];
    } body = {.head = {.error = error, .exit_code = 4, .text_bytes = 4}, .text = "no!\n"};
    answer(fake, PAWL_WIRE_ERROR, tag, &body, sizeof body, NULL, 0);
}

static void attach(struct fake *fake, const struct pawl_wire_message *message)
{
    const struct pawl_wire_attach *request = message->body;
    fake->publisher = request->publisher;
    fake->numbers = 0;
    pawl_client_port_create(fake->submit_bytes, fake->inbound_bytes, &fake->port);
    fake->scheduler_fd = pawl_doorbell_open();
    fake->client_fd = pawl_doorbell_open();
    struct pawl_wire_attached body = {.epoch = fake->epoch,
                                      .publisher_sequence = fake->known_sequence,
                                      .data_bytes_max = 1 << 20,
                                      .headers_bytes_max = 16 << 10,
                                      .delay_ns_max = UINT64_C(3600000000000),
                                      .client = 1};
    int fds[4] = {fake->port.lane_segment.fd, fake->port.inbound_segment.fd, fake->scheduler_fd,
                  fake->client_fd};
    answer(fake, PAWL_WIRE_ATTACHED, message->header.tag, &body, sizeof body, fds, 4);
    fake->attached = true;
    fake->attachments++;
}

/* Two deliveries of one queue. */
static void answer_taken(struct fake *fake, uint64_t tag)
{
    _Alignas(8) char body[4096];
    struct pawl_wire_taken head = {.count = 2, .next = 9};
    size_t used = sizeof head;
    memcpy(body, &head, sizeof head);
    for (uint64_t i = 0; i < 2; i++) {
        struct pawl_inbound_entry entry = {.attempt = 3, .seq = 7 + i, .epoch = fake->epoch};
        struct pawl_event_parts parts = {.topic = "t.x", .topic_bytes = 3, .data = "taken", .data_bytes = 5};
        memcpy(body + used, &entry, sizeof entry);
        pawl_event_pack(&parts, body + used + sizeof entry);
        used += sizeof entry + pawl_event_bytes(&parts);
    }
    answer(fake, PAWL_WIRE_TAKEN, tag, body, used, NULL, 0);
}

static void on_message(struct fake *fake, const struct pawl_wire_message *message)
{
    uint64_t tag = message->header.tag;
    struct pawl_wire_welcome welcome = {.version = PAWL_WIRE_VERSION, .epoch = fake->epoch};
    struct {
        struct pawl_wire_settled head;
        int32_t result, padding;
    } settled = {.head.count = 1, .result = fake->settle_result};
    struct pawl_wire_consume_ok consume_ok = {.queue = 1, .ack_wait_ns = 1};
    switch (message->header.type) {
    case PAWL_WIRE_HELLO:
        answer(fake, PAWL_WIRE_WELCOME, tag, &welcome, sizeof welcome, NULL, 0);
        return;
    case PAWL_WIRE_ATTACH:
        if (fake->attach_error)
            answer_error(fake, tag, fake->attach_error);
        else
            attach(fake, message);
        return;
    case PAWL_WIRE_CONSUME:
        fake->consumes++;
        memcpy(&fake->last_consume, message->body, sizeof fake->last_consume);
        if (fake->reply_error)
            answer_error(fake, tag, fake->reply_error);
        else
            answer(fake, PAWL_WIRE_CONSUME_OK, tag, &consume_ok, sizeof consume_ok, NULL, 0);
        return;
    case PAWL_WIRE_CONSUME_END:
        fake->consume_ends++;
        answer(fake, PAWL_WIRE_OK, tag, NULL, 0, NULL, 0);
        return;
    case PAWL_WIRE_TAKE:
        if (!fake->takes_end || fake->take_tag)
            answer_taken(fake, fake->take_tag ? fake->take_tag : tag);
        fake->take_tag = fake->takes_end && !fake->take_tag ? tag : 0;
        return;
    case PAWL_WIRE_SETTLE:
        memcpy(&fake->last_settle, (const char *)message->body + sizeof(struct pawl_wire_settle),
               sizeof fake->last_settle);
        answer(fake, PAWL_WIRE_SETTLED, tag, &settled, sizeof settled, NULL, 0);
        return;
    default:
        fake->asked++;
        size_t bytes = message->header.bytes < sizeof fake->last_request ? message->header.bytes
                                                                         : sizeof fake->last_request - 1;
        memcpy(fake->last_request, message->body, bytes);
        fake->last_request[bytes] = 0;
        if (fake->dies_when_asked) {
            fake->dies_when_asked = false;
            fake->epoch++;
            hang_up(fake);
        } else if (fake->reply_error)
            answer_error(fake, tag, fake->reply_error);
        else if (fake->answers_second && fake->asked == 1)
            fake->late_tag = tag;
        else if (fake->reply_json)
            answer(fake, PAWL_WIRE_BUS_OK, tag, fake->reply_json, strlen(fake->reply_json), NULL, 0);
        if (fake->late_tag && fake->late_tag != tag) {
            answer(fake, PAWL_WIRE_BUS_OK, fake->late_tag, fake->reply_json, strlen(fake->reply_json), NULL,
                   0);
            fake->late_tag = 0;
        }
    }
}

static void accept_one(struct fake *fake)
{
    int fd = accept4(fake->listen_fd, NULL, NULL, SOCK_CLOEXEC);
    if (fd < 0)
        return;
    if (atomic_load(&fake->refuses)) {
        close(fd);
        return;
    }
    hang_up(fake);
    pawl_wire_init(&fake->wire, fd);
}

static void serve(struct fake *fake)
{
    const struct pawl_submit *submit;
    struct pawl_settle settle;
    while ((submit = fake_submission(fake)))
        if (submit->type == PAWL_SUBMIT_EVENT)
            fake_confirm(fake, submit->sequence, submit->sequence, submit->sequence + 1000);
    while (fake_settlement(fake, &settle))
        ;
    fake_durable(fake);
}

static void *run(void *context)
{
    struct fake *fake = context;
    struct pawl_wire_message message;
    while (!atomic_load(&fake->stops)) {
        struct pollfd fds[2] = {{.fd = fake->listen_fd, .events = POLLIN},
                                {.fd = fake->wire.fd, .events = POLLIN}};
        poll(fds, 2, 1);
        fake_lock(fake);
        if (fds[0].revents)
            accept_one(fake);
        int got = 0;
        while (fake->wire.fd >= 0 && (got = pawl_wire_receive(&fake->wire, &message)) > 0)
            on_message(fake, &message);
        if (got < 0)
            hang_up(fake);
        if (fake->attached && atomic_load(&fake->serves))
            serve(fake);
        fake_unlock(fake);
    }
    return NULL;
}

void fake_start(struct fake *fake)
{
    memset(fake, 0, sizeof *fake);
    pthread_mutex_init(&fake->mutex, NULL);
    fake->wire.fd = -1;
    fake->epoch = 1;
    fake->submit_bytes = fake->inbound_bytes = PAWL_CLIENT_RING_BYTES_MIN;
    snprintf(fake->directory, sizeof fake->directory, "/tmp/pawl-lib-XXXXXX");
    cr_assert(ne(ptr, mkdtemp(fake->directory), NULL));
    snprintf(fake->path, sizeof fake->path, "%s/socket", fake->directory);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    strcpy(address.sun_path, fake->path);
    fake->listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    cr_assert(eq(int, bind(fake->listen_fd, (struct sockaddr *)&address, sizeof address), 0));
    cr_assert(eq(int, listen(fake->listen_fd, 8), 0));
    cr_assert(eq(int, pthread_create(&fake->thread, NULL, run, fake), 0));
}

void fake_stop(struct fake *fake)
{
    atomic_store(&fake->stops, true);
    pthread_join(fake->thread, NULL);
    hang_up(fake);
    close(fake->listen_fd);
    unlink(fake->path);
    rmdir(fake->directory);
}

void fake_die(struct fake *fake)
{
    fake_lock(fake);
    fake->epoch++;
    hang_up(fake);
    fake_unlock(fake);
}

struct pawl *fake_client(struct fake *fake)
{
    struct pawl *pawl = NULL;
    struct pawl_connect_options options = {.bytes = sizeof options, .socket = fake->path};
    cr_assert(eq(int, pawl_connect(&options, &pawl), 0), "%s", pawl_last_error(NULL));
    return pawl;
}

const struct pawl_submit *fake_submission(struct fake *fake)
{
    int got = pawl_client_port_submission(&fake->port, fake->copy, sizeof fake->copy);
    cr_assert(ge(int, got, 0));
    pawl_client_port_release(&fake->port);
    return got > 0 ? (const void *)fake->copy : NULL;
}

const struct pawl_event *fake_event(const struct pawl_submit *submit)
{
    const struct pawl_event *event = (const void *)(submit + 1);
    cr_assert(eq(int, submit->type, PAWL_SUBMIT_EVENT));
    cr_assert(eq(int, pawl_event_check(event, submit->bytes - sizeof *submit), 0));
    return event;
}

bool fake_settlement(struct fake *fake, struct pawl_settle *settle_out)
{
    int got = pawl_client_port_settlement(&fake->port, settle_out);
    cr_assert(ge(int, got, 0));
    if (pawl_client_port_release(&fake->port))
        pawl_doorbell_ring(&fake->port.lane->sleeping, fake->client_fd);
    return got > 0;
}

static void publish(struct fake *fake)
{
    if (pawl_client_port_publish(&fake->port))
        pawl_doorbell_ring(&fake->port.lane->sleeping, fake->client_fd);
}

void fake_reply(struct fake *fake, struct pawl_reply reply)
{
    cr_assert(eq(int, pawl_client_port_reply(&fake->port, &reply), 0));
    publish(fake);
}

void fake_confirm(struct fake *fake, uint64_t first, uint64_t last, uint64_t event_id)
{
    fake_reply(fake, (struct pawl_reply){.type = PAWL_REPLY_CONFIRM,
                                         .first = first,
                                         .last = last,
                                         .event_id = event_id,
                                         .durability = PAWL_DURABILITY_FSYNC,
                                         .routed = 1});
}

void fake_deliver(struct fake *fake, uint32_t consumer, const char *topic, const char *data, bool auto_ack)
{
    _Alignas(8) char bytes[FAKE_ENTRY_BYTES];
    struct pawl_event_parts parts = {
        .topic = topic, .topic_bytes = strlen(topic), .data = data, .data_bytes = strlen(data)};
    struct pawl_inbound_entry entry = {.consumer = consumer,
                                       .attempt = 1,
                                       .number = fake->numbers,
                                       .seq = fake->numbers + 1,
                                       .epoch = fake->epoch,
                                       .queue = 1,
                                       .ack_wait_ns = auto_ack ? 0 : 1000};
    pawl_event_pack(&parts, bytes);
    ((struct pawl_event *)(void *)bytes)->id = fake->numbers + 77;
    cr_assert(eq(int, pawl_client_port_deliver(&fake->port, &entry, (const void *)bytes), 0));
    fake->numbers++;
    publish(fake);
}

void fake_durable(struct fake *fake)
{
    pawl_client_port_settled(&fake->port, fake->port.settle_position);
    pawl_client_port_submit_settled(&fake->port, fake->port.submit_position);
    pawl_doorbell_ring(&fake->port.lane->sleeping, fake->client_fd);
}

uint64_t fake_begun(struct fake *fake)
{
    uint64_t begun = 0;
    cr_assert(eq(int, pawl_client_port_begun(&fake->port, 0, fake->numbers, &begun), 0));
    return begun;
}

/* Rules of libpawl's detached deliveries and of its requests over the socket. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "shm/error.h"
#include "tests/unit/lib_fixture.h"

TestSuite(lib_detached, .init = fake_set_up, .fini = fake_tear_down, .timeout = 300);

Test(lib_detached, what_is_taken_is_one_allocation_with_tags)
{
    struct pawl_taken *taken;
    cr_assert(eq(int, pawl_take(client, "jobs", NULL, 2, 1000, &taken), 2), "%s", pawl_last_error(client));
    cr_expect(eq(str, taken[0].tag, "jobs:7:3:1"));
    cr_expect(eq(str, taken[1].tag, "jobs:8:3:1"));
    cr_expect(eq(str, (char *)taken[1].delivery.topic, "t.x"));
    cr_expect(eq(int, memcmp(taken[1].delivery.data, "taken", 5), 0));
    cr_expect(eq(int, pawl_ack(&taken[0].delivery), PAWL_ERR_INVALID),
              "a detached one is settled by its tag");
    free(taken);
    uint64_t next = 0;
    cr_assert(eq(int, pawl_peek(client, "jobs", "readers", 1, 2, &next, &taken), 2));
    cr_expect(eq(u64, next, 9));
    char tag[192];
    cr_expect(eq(str, taken[0].tag, "jobs/readers:7:3:1"));
    cr_expect(eq(int, pawl_delivery_tag(&taken[0].delivery, tag, sizeof tag), 0));
    cr_expect(eq(str, tag, "jobs/readers:7:3:1"));
    free(taken);
}

Test(lib_detached, a_tag_is_settled_with_what_it_says)
{
    cr_assert(eq(int, pawl_settle_tag(client, "jobs/readers:7:3:12", "nack", 250, "later"), 0));
    cr_expect(eq(str, fake.last_settle.queue, "jobs"));
    cr_expect(eq(str, fake.last_settle.group, "readers"));
    cr_expect(eq(u64, fake.last_settle.seq, 7));
    cr_expect(eq(u32, fake.last_settle.attempt, 3));
    cr_expect(eq(u64, fake.last_settle.epoch, 12));
    cr_expect(eq(u64, fake.last_settle.value, 250000000));
    cr_expect(eq(int, fake.last_settle.op, PAWL_SETTLE_OP_NACK));
    cr_expect(eq(u32, fake.last_settle.text_bytes, 5));
    fake.settle_result = PAWL_E_STALE_RECEIPT;
    cr_expect(eq(int, pawl_settle_tag(client, "jobs:7:3:12", "ack", 0, NULL), PAWL_ERR_STALE));
}

Test(lib_detached, more_time_than_a_week_is_refused_and_is_not_sent)
{
    const int64_t week_ms = INT64_C(7) * 86400 * 1000;
    cr_expect(eq(int, pawl_settle_tag(client, "jobs:7:3:12", "extend", week_ms + 1, NULL), PAWL_ERR_LIMIT));
    cr_expect(eq(int, pawl_settle_tag(client, "jobs:7:3:12", "extend", INT64_MAX, NULL), PAWL_ERR_LIMIT));
    cr_expect(eq(int, fake.last_settle.op, 0));
    cr_expect(eq(int, pawl_settle_tag(client, "jobs:7:3:12", "extend", week_ms, NULL), 0));
    cr_expect(eq(u64, fake.last_settle.value, (uint64_t)week_ms * 1000000));
}

Test(lib_detached, a_tag_or_op_that_does_not_hold_is_invalid_and_is_not_sent)
{
    const char *const bad[] = {"",
                               "jobs",
                               "jobs:1:2",
                               "jobs:1:2:3:4",
                               "jobs:-1:2:3",
                               "jobs:1::3",
                               ":1:2:3",
                               "jobs/:1:2:3",
                               "jobs:1:2:3x",
                               "jobs:1:4294967296:3",
                               "jobs:x:2:3",
                               "a b:c:1:2:3",
                               "jobs:1:2:99999999999999999999"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        cr_expect(eq(int, pawl_settle_tag(client, bad[i], "ack", 0, NULL), PAWL_ERR_INVALID), "%s", bad[i]);
    cr_expect(eq(int, pawl_settle_tag(client, "jobs:1:2:3", "eat", 0, NULL), PAWL_ERR_INVALID));
    cr_expect(eq(int, fake.last_settle.op, 0));
}

Test(lib_detached, a_handle_is_of_no_use_in_a_forked_child_and_unharmed_by_it)
{
    struct pawl_message message = {.bytes = sizeof message, .topic = "a"};
    atomic_store(&fake.serves, true);
    cr_assert(eq(int, pawl_publish(client, &message, 60000, NULL), 0));
    struct pawl_consumer *consumer;
    struct pollfd fd = {.fd = pawl_fd(client), .events = POLLIN};
    cr_assert(eq(int, pawl_consume(client, "jobs", NULL, &consumer), 0));
    pid_t pid = fork();
    if (pid == 0) {
        char *reply;
        const struct pawl_delivery *delivery;
        bool refused = pawl_publish(client, &message, 0, NULL) == PAWL_ERR_STATE &&
                       pawl_request(client, "{}", &reply) == PAWL_ERR_STATE &&
                       pawl_publish_batch(client, &message, 1, 0, NULL) == PAWL_ERR_STATE &&
                       pawl_run_wait(client, "r", 0, NULL) == PAWL_ERR_STATE &&
                       pawl_claim(consumer, &delivery, 1, 0) == PAWL_ERR_STATE &&
                       pawl_fd(client) == PAWL_ERR_STATE && pawl_dispatch(client, 0) == PAWL_ERR_STATE;
        pawl_consumer_close(consumer);
        pawl_close(client);
        _exit(refused ? 0 : 1);
    }
    int status;
    cr_assert(eq(int, waitpid(pid, &status, 0), pid));
    cr_expect(eq(int, status, 0));
    cr_expect(eq(int, pawl_publish(client, &message, 60000, NULL), 0));
    while (pawl_dispatch(client, 0) > 0)
        ;
    cr_expect(eq(int, poll(&fd, 1, 0), 0));
}

static bool is_connected(void)
{
    fake_lock(&fake);
    bool connected = fake.wire.fd >= 0;
    fake_unlock(&fake);
    return connected;
}

Test(lib_detached, a_client_that_dies_is_gone_although_a_child_that_it_forked_lives)
{
    int pipe_fds[2];
    pid_t child = 0;
    cr_assert(eq(int, pipe(pipe_fds), 0));
    pid_t pid = fork();
    if (pid == 0) {
        fake_client(&fake); /* takes the place of the test's own */
        child = fork();
        if (child == 0)
            for (;;)
                pause();
        _exit(write(pipe_fds[1], &child, sizeof child) == sizeof child ? 0 : 1);
    }
    int status;
    cr_assert(eq(int, waitpid(pid, &status, 0), pid));
    cr_assert(eq(int, status, 0));
    cr_assert(eq(sz, (size_t)read(pipe_fds[0], &child, sizeof child), sizeof child));
    while (is_connected())
        usleep(1000); /* until the suite's timeout: it never ends where the child's copy counts */
    cr_expect(eq(int, kill(child, SIGKILL), 0));
    close(pipe_fds[0]);
    close(pipe_fds[1]);
}

Test(lib_detached, a_request_whose_scheduler_is_lost_has_an_unknown_fate_and_a_repeatable_one_is_asked_again)
{
    char *reply;
    fake.dies_when_asked = true;
    cr_expect(eq(int, pawl_request(client, "{}", &reply), PAWL_ERR_INDEFINITE));
    fake.reply_json = "{}";
    fake.dies_when_asked = true;
    cr_expect(eq(int, pawl_queue_pause(client, "jobs"), 0));
    cr_expect(eq(uint, fake.asked, 3));
    fake.dies_when_asked = true;
    cr_expect(eq(int, pawl_request(client, "{\"op\": \"queue.list\"}", &reply), 0));
    free(reply);
    cr_expect(eq(uint, fake.asked, 5));
    fake.dies_when_asked = true;
    cr_expect(eq(int, pawl_request(client, "{\"op\": \"queue.purge\", \"name\": \"jobs\"}", &reply),
                 PAWL_ERR_INDEFINITE));
    cr_expect(eq(uint, fake.asked, 6));
}

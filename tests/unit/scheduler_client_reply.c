/* Rules of what the scheduler tells an attached client, and when it wakes it for that. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "scheduler/client.h"
#include "scheduler/control.h"
#include "scheduler/journal_internal.h"
#include "shm/doorbell.h"

enum { RING = PAWL_CLIENT_RING_BYTES_MIN };

static struct pawl_journal journal;
static struct pawl_clients clients;
static struct pawl_client client, *by_number[2];
static struct pawl_loop loop;
static struct pawl_client_end end;
static int bell; /* the client's end */

static void set_up(void)
{
    loop = (struct pawl_loop){.journal = &journal, .clients = &clients};
    client = (struct pawl_client){.loop = &loop, .number = 1, .bell_fd = -1, .hot = true};
    by_number[1] = &client;
    clients = (struct pawl_clients){.by_number = by_number, .room = 2, .hot = &client};
    cr_assert(eq(int, pawl_client_port_create(RING, RING, &client.port), 0));
    cr_assert(eq(
        int,
        pawl_client_end_attach(dup(client.port.lane_segment.fd), dup(client.port.inbound_segment.fd), &end),
        0));
    cr_assert(eq(int, pawl_doorbell_open_pipe(&client.own_bell_fd, &bell), 0));
}

static void tear_down(void)
{
    pawl_client_end_detach(&end);
    pawl_client_port_destroy(&client.port);
    close(client.own_bell_fd);
    close(bell);
}

TestSuite(client_reply, .init = set_up, .fini = tear_down, .timeout = 300);

/* The end of a turn: all of @durable_lsn is on disk, the journal has come to @last_lsn. */
static void turn(uint64_t last_lsn, uint64_t durable_lsn)
{
    journal.next_lsn = last_lsn + 1;
    loop.durable_lsn = durable_lsn;
    pawl_clients_tell_durable(&loop);
    (void)pawl_clients_publish(&loop);
}

static bool rang(void)
{
    struct pollfd fd = {.fd = bell, .events = POLLIN};
    bool readable = poll(&fd, 1, 0) == 1;
    if (readable)
        pawl_doorbell_clear(bell);
    return readable;
}

Test(client_reply, who_sleeps_until_settlements_are_durable_is_woken_when_they_are)
{
    pawl_doorbell_prepare(&end.lane->sleeping);
    client.port.settle_position = 3; /* taken, and written as lsn 10 */
    turn(10, 9);
    cr_expect(not(rang()), "nothing is durable yet");
    cr_expect(eq(u64, pawl_client_end_settled_durable(&end), 0));
    turn(12, 10);
    cr_expect(rang(), "pawl_flush() sleeps for ever");
    cr_expect(eq(u64, pawl_client_end_settled_durable(&end), 3));
    turn(12, 12);
    cr_expect(not(rang()), "one bell is enough");
}

Test(client_reply, who_sleeps_until_settlements_with_words_are_durable_is_woken_when_they_are)
{
    pawl_doorbell_prepare(&end.lane->sleeping);
    client.last_worded = 4096;
    turn(10, 9);
    cr_expect(not(rang()));
    cr_expect(eq(u64, pawl_client_end_submit_durable(&end), 0));
    turn(10, 10);
    cr_expect(rang(), "pawl_flush() sleeps for ever");
    cr_expect(eq(u64, pawl_client_end_submit_durable(&end), 4096));
}

Test(client_reply, settlements_of_the_turn_in_which_earlier_ones_become_durable_are_told_later_and_rung_for)
{
    pawl_doorbell_prepare(&end.lane->sleeping);
    client.port.settle_position = 1;
    turn(10, 9);
    client.port.settle_position = 2; /* written as lsn 11 */
    turn(11, 10);
    cr_expect(rang());
    cr_expect(eq(u64, pawl_client_end_settled_durable(&end), 1), "the second one is not on disk");
    turn(11, 11);
    cr_expect(rang());
    cr_expect(eq(u64, pawl_client_end_settled_durable(&end), 2));
}

Test(client_reply, a_client_that_is_owed_word_of_the_disk_stays_hot)
{
    client.port.settle_position = 1;
    client.quiet_turns = 1000;
    turn(10, 9);
    cr_expect(eq(u32, client.quiet_turns, 0));
}

Test(client_reply, who_is_awake_is_told_without_a_bell)
{
    client.port.settle_position = 1;
    turn(10, 10);
    cr_expect(not(rang()));
    cr_expect(eq(u64, pawl_client_end_settled_durable(&end), 1));
}

Test(client_reply, who_sleeps_for_news_only_is_not_woken_by_room_nor_by_what_became_durable)
{
    pawl_doorbell_prepare_for(&end.lane->sleeping, PAWL_CLIENT_SLEEP_NEWS);
    client.port.settle_position = 1;
    pawl_client_ring(&client); /* room was given back */
    turn(10, 10);
    cr_expect(not(rang()), "a consumer that acks is woken once more for each batch");
    cr_expect(eq(u64, pawl_client_end_settled_durable(&end), 1));
    pawl_clients_reply(&loop, 1, &(struct pawl_reply){.type = PAWL_REPLY_GONE, .first = 1, .last = 1});
    turn(10, 10);
    cr_expect(rang());
}

Test(client_reply, acks_are_synced_at_once_only_when_somebody_sleeps_until_they_are)
{
    client.port.settle_position = 1;
    turn(10, 9);
    cr_expect(not(loop.hurry));
    pawl_doorbell_prepare_for(&end.lane->sleeping, PAWL_CLIENT_SLEEP_NEWS);
    turn(10, 9);
    cr_expect(not(loop.hurry), "a consumer that waits for the next delivery does not wait for the disk");
    pawl_doorbell_prepare_for(&end.lane->sleeping, PAWL_CLIENT_SLEEP_ALL);
    turn(10, 9);
    cr_expect(loop.hurry);
}

Test(client_reply, words_for_who_reads_none_of_them_take_bounded_memory)
{
    int ends[2];
    struct pawl_connection connection = {.role = PAWL_ROLE_CLIENT};
    cr_assert(eq(int, socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends), 0));
    cr_assert(eq(int, pawl_wire_init(&connection.wire, ends[0]), 0));
    for (int i = 0; i < 100000; i++) {
        (void)pawl_control_tell(&connection, "queue q is paused: nothing is delivered until somebody says");
        (void)pawl_wire_flush(&connection.wire);
    }
    cr_expect(ge(sz, pawl_wire_pending(&connection.wire), 1), "words wait for a client that is slow to read");
    cr_expect(le(sz, pawl_wire_pending(&connection.wire), 2 * PAWL_OUTPUT_BYTES_HIGH));
    pawl_wire_fini(&connection.wire);
    close(ends[1]);
}

static bool is_full_words(const struct pawl_wire_message *message)
{
    return memmem(message->body, message->header.bytes, "the disk of /state is full", 26) != NULL;
}

Test(client_reply, that_the_disk_is_full_is_told_when_what_came_before_was_read_and_only_once)
{
    const struct pawl_scheduler_options options = {.state_path = "/state"};
    struct pawl_connection connection = {.role = PAWL_ROLE_CLIENT, .loop = &loop, .attached = &client};
    struct pawl_wire reader;
    struct pawl_wire_message message;
    int ends[2], told = 0;
    loop.options = &options;
    journal.room = PAWL_JOURNAL_TIGHT;
    cr_assert(eq(int, socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends), 0));
    cr_assert(eq(int, pawl_wire_init(&connection.wire, ends[0]), 0));
    cr_assert(eq(int, pawl_wire_init(&reader, ends[1]), 0));
    while (pawl_control_tell(&connection, "words that nobody reads"))
        ;
    pawl_control_tell_room(&connection);
    do {
        (void)pawl_wire_flush(&connection.wire);
        while (pawl_wire_receive(&reader, &message) > 0)
            cr_expect(not(is_full_words(&message)), "there was no room for it");
    } while (pawl_wire_pending(&connection.wire) > 0);
    for (int i = 0; i < 3; i++)
        pawl_control_tell_room(&connection);
    (void)pawl_wire_flush(&connection.wire);
    while (pawl_wire_receive(&reader, &message) > 0)
        told += is_full_words(&message);
    cr_expect(eq(int, told, 1));
    pawl_wire_fini(&connection.wire);
    pawl_wire_fini(&reader);
}

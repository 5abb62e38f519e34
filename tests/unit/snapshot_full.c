/*
 * snapshot_full.c - the snapshots that let go of a full disk what nobody wants any more.
 */
#include "tests/sim/bus_memory.h"
#include "tests/unit/small_loop.h"

enum { TURN_NS = 2100000000, PUBLISHER = 7 };

static struct pawl_world *world;

static void ask(const char *text)
{
    char why[256];
    uint64_t lsn;
    json_t *reply, *json = json_loads(text, 0, NULL);
    cr_assert(eq(int, pawl_bus_request(t.loop.bus, t.loop.now, 0, json, &reply, &lsn, why), 0), "%s", why);
    json_decref(json);
    json_decref(reply);
}

static void set_up_queue(void)
{
    uint64_t sequence;
    set_up();
    world = calloc(1, sizeof *world);
    t.loop.world = world;
    t.loop.now = (struct pawl_now){.boottime_ns = 1, .realtime_ns = 1};
    cr_assert(eq(int, pawl_bus_start(t.loop.bus, t.loop.now, 1, 0), 0));
    ask("{\"op\": \"queue.declare\", \"name\": \"q\", \"config\": {\"topics\": [\"t\"]}}");
    cr_assert(eq(int, pawl_bus_client_open(t.loop.bus, t.loop.now, 1, PUBLISHER, &sequence), 0));
}

static void tear_down_queue(void)
{
    tear_down();
    free(world);
}

TestSuite(snapshot_full, .init = set_up_queue, .fini = tear_down_queue, .timeout = 60);

static void publish(uint64_t sequence)
{
    struct pawl_event *event = memory_event(&(struct memory_publish){.topic = "t", .data = "wanted"});
    struct pawl_submit submit = {
        .bytes = (uint32_t)sizeof submit + event->bytes, .type = PAWL_SUBMIT_EVENT, .sequence = sequence};
    pawl_bus_publish(t.loop.bus, t.loop.now, pawl_bus_client(t.loop.bus, 1), &submit, event);
    pawl_bus_flush(t.loop.bus, t.loop.now);
    pawl_journal_cut(t.loop.journal);
    free(event);
}

static void append_until(uint32_t segment)
{
    for (uint64_t n = 1; pawl_journal_current_segment(t.loop.journal) < segment; n++) {
        append(n, FRAME_BYTES);
        cr_assert(eq(int, pawl_journal_sync(t.loop.journal), 0));
    }
}

static void turns(int count)
{
    for (; count > 0; count--) {
        t.loop.now.boottime_ns += TURN_NS;
        append((uint64_t)count, 64);
        pawl_snapshot_turn(&t.loop);
        while (t.loop.snapshotting)
            cr_assert(ge(int, pawl_io_wait(t.loop.io, UINT64_MAX), 0));
        cr_assert(eq(int, pawl_journal_sync(t.loop.journal), 0));
        if (t.loop.release_due)
            pawl_snapshot_release(&t.loop);
    }
}

Test(snapshot_full, what_was_let_go_behind_a_segment_that_stays_is_no_reason_for_more)
{
    publish(1);
    append_until(5);
    pawl_journal_secure(t.loop.journal);
    t.disk.capacity = t.disk.used;
    cr_assert(
        eq(int, pawl_journal_has_room(t.loop.journal, 1 << 20, PAWL_JOURNAL_FOR_WORK), PAWL_E_NO_SPACE));
    turns(4);
    int count = t.witness.snapshot_count;
    cr_assert(ge(int, count, 2), "a pair, and one whose records were moved");
    cr_assert(exists(t.dir_fd, "00000001.seg"));
    cr_assert(not(exists(t.dir_fd, "00000002.seg")));
    turns(4);
    cr_expect(eq(int, t.witness.snapshot_count, count));
}

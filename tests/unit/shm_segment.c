/* Rules of segments, the world, task memory, clocks and error words. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "shm/clock.h"
#include "shm/doorbell.h"
#include "shm/error.h"
#include "shm/log_segment.h"
#include "shm/segment.h"
#include "shm/world.h"

TestSuite(segment, .timeout = 300);

Test(segment, private_writers_segment_cannot_be_mapped_writable_again)
{
    struct pawl_segment mine, theirs;
    cr_assert(eq(int, pawl_segment_create(PAWL_SEGMENT_PRIVATE_WRITER, "t", 4096, false, &mine), 0));
    strcpy(mine.base, "seen");
    int fd = dup(mine.fd);
    cr_expect(eq(int, pawl_segment_attach(fd, 4096, true, &theirs), -EPERM));
    cr_assert(eq(int, pawl_segment_attach(fd, 4096, false, &theirs), 0));
    cr_expect(eq(str, (char *)theirs.base, "seen"));
    cr_expect(eq(int, mprotect(theirs.base, 4096, PROT_READ | PROT_WRITE), -1));
    strcpy(mine.base, "more");
    cr_expect(eq(str, (char *)theirs.base, "more"), "the first mapping stays writable");
}

Test(segment, size_cannot_change)
{
    struct pawl_segment mine;
    cr_assert(eq(int, pawl_segment_create(PAWL_SEGMENT_SHARED_WRITERS, "t", 8192, true, &mine), 0));
    cr_expect(eq(int, ftruncate(mine.fd, 4096), -1));
    cr_expect(eq(int, ftruncate(mine.fd, 16384), -1));
}

Test(segment, unsealed_memory_is_refused)
{
    struct pawl_segment theirs;
    int fd = memfd_create("t", MFD_ALLOW_SEALING);
    cr_assert(eq(int, ftruncate(fd, 4096), 0));
    cr_expect(eq(int, pawl_segment_attach(fd, 4096, false, &theirs), PAWL_E_BAD_MESSAGE));
}

Test(segment, too_small_memory_is_refused)
{
    struct pawl_segment mine, theirs;
    cr_assert(eq(int, pawl_segment_create(PAWL_SEGMENT_SHARED_WRITERS, "t", 4096, false, &mine), 0));
    cr_expect(eq(int, pawl_segment_attach(dup(mine.fd), 4097, false, &theirs), PAWL_E_BAD_MESSAGE));
}

Test(segment, writable_mapping_is_not_inherited_by_fork)
{
    struct pawl_segment mine;
    cr_assert(eq(int, pawl_segment_create(PAWL_SEGMENT_PRIVATE_WRITER, "t", 4096, false, &mine), 0));
    pid_t child = fork();
    if (child == 0) {
        unsigned char resident;
        _exit(mincore(mine.base, 4096, &resident) == -1 && errno == ENOMEM ? 0 : 1);
    }
    int status;
    waitpid(child, &status, 0);
    cr_expect(eq(int, status, 0));
}

TestSuite(world, .timeout = 300);

Test(world, other_layout_is_refused)
{
    struct pawl_segment mine, theirs;
    cr_assert(eq(int, pawl_world_create(1, &mine), 0));
    pawl_world_of(&mine)->layout_hash ^= 1;
    int fd = dup(mine.fd);
    cr_expect(eq(int, pawl_world_attach(fd, &theirs), PAWL_E_BAD_FORMAT));
    cr_expect(ge(int, fcntl(fd, F_GETFD), 0), "the descriptor stays the caller's");
    pawl_world_of(&mine)->layout_hash ^= 1;
    cr_expect(eq(int, pawl_world_attach(fd, &theirs), 0));
}

Test(world, counters_are_read_by_others_while_they_are_written)
{
    struct pawl_segment mine, theirs;
    cr_assert(eq(int, pawl_world_create(1, &mine), 0));
    cr_assert(eq(int, pawl_world_attach(dup(mine.fd), &theirs), 0));
    pawl_counter_add(&pawl_world_of(&mine)->counters, PAWL_COUNTER_TASKS_BEGUN, 3);
    pawl_counter_add(&pawl_world_of(&mine)->counters, PAWL_COUNTER_TASKS_BEGUN, 4);
    cr_expect(eq(u64, pawl_counter_read(&pawl_world_of(&theirs)->counters, PAWL_COUNTER_TASKS_BEGUN), 7));
}

TestSuite(task_memory, .timeout = 300);

static struct pawl_log_pool pool;
static struct pawl_log_view view;

Test(task_memory, bytes_are_read_where_they_lie_and_bounds_are_checked)
{
    uint32_t id, offset;
    bool is_new;
    pawl_log_pool_init(&pool, 64 << 20);
    pawl_log_view_init(&view);
    cr_assert(eq(int, pawl_log_pool_append(&pool, "one", 3, &id, &offset, &is_new), 0));
    cr_assert(is_new);
    cr_assert(eq(int, pawl_log_pool_append(&pool, "second", 6, &id, &offset, &is_new), 0));
    cr_expect(not(is_new));
    cr_assert(eq(int, pawl_log_view_attach(&view, id, dup(pool.segment[id]->segment.fd)), 0));
    const char *read = pawl_log_view_read(&view, id, offset, 6);
    cr_assert(ne(ptr, (void *)(uintptr_t)read, NULL));
    cr_expect(eq(int, memcmp(read, "second", 6), 0));
    cr_expect(eq(ptr, (void *)(uintptr_t)pawl_log_view_read(&view, id, PAWL_LOG_SEGMENT_BYTES - 8, 9), NULL));
    cr_expect(eq(ptr, (void *)(uintptr_t)pawl_log_view_read(&view, id, offset + 1, 1), NULL), "not aligned");
    cr_expect(eq(ptr, (void *)(uintptr_t)pawl_log_view_read(&view, id + 1, 0, 1), NULL), "unknown segment");
}

Test(task_memory, segment_is_refilled_only_when_nothing_in_it_is_outstanding)
{
    static char piece[400 << 10];
    uint32_t id[4], offset;
    bool is_new;
    pawl_log_pool_init(&pool, 64 << 20);
    for (int i = 0; i < 3; i++)
        cr_assert(eq(int, pawl_log_pool_append(&pool, piece, sizeof piece, &id[i], &offset, &is_new), 0));
    cr_expect(eq(u32, id[0], id[1]));
    cr_expect(ne(u32, id[2], id[0]), "the first has no room, and is in use");
    pawl_log_pool_release(&pool, id[0]);
    cr_assert(eq(int, pawl_log_pool_append(&pool, piece, sizeof piece, &id[3], &offset, &is_new), 0));
    cr_expect(eq(u32, id[3], id[2]));
    pawl_log_pool_release(&pool, id[1]);
    cr_assert(eq(int, pawl_log_pool_append(&pool, piece, sizeof piece, &id[3], &offset, &is_new), 0));
    cr_expect(eq(u32, id[3], id[0]));
    cr_expect(not(is_new), "readers know it already");
}

Test(task_memory, outsized_task_gets_a_segment_of_its_own_and_gives_it_back)
{
    size_t n = 3 << 20;
    char *big = malloc(n);
    uint32_t id, offset;
    bool is_new;
    memset(big, 'x', n);
    pawl_log_pool_init(&pool, 8 << 20);
    cr_assert(eq(int, pawl_log_pool_append(&pool, big, n, &id, &offset, &is_new), 0));
    cr_expect(is_new);
    cr_expect(ge(u64, pool.bytes, n));
    pawl_log_pool_release(&pool, id);
    cr_expect(eq(u64, pool.bytes, 0));
    free(big);
}

Test(task_memory, limit_is_told_not_passed)
{
    static char piece[900 << 10];
    uint32_t id, offset;
    bool is_new;
    pawl_log_pool_init(&pool, 2 << 20);
    cr_assert(eq(int, pawl_log_pool_append(&pool, piece, sizeof piece, &id, &offset, &is_new), 0));
    cr_assert(eq(int, pawl_log_pool_append(&pool, piece, sizeof piece, &id, &offset, &is_new), 0));
    cr_expect(eq(int, pawl_log_pool_append(&pool, piece, sizeof piece, &id, &offset, &is_new), PAWL_E_LIMIT));
    pawl_log_pool_release(&pool, id);
    cr_expect(eq(int, pawl_log_pool_append(&pool, piece, sizeof piece, &id, &offset, &is_new), 0));
}

TestSuite(ground, .timeout = 300);

Test(ground, doorbell_is_written_only_for_a_sleeper)
{
    _Atomic uint32_t flag = 0;
    int fd = pawl_doorbell_open();
    uint64_t count = 0;
    cr_expect(not(pawl_doorbell_ring(&flag, fd)));
    cr_expect(eq(int, (int)read(fd, &count, sizeof count), -1));
    pawl_doorbell_prepare(&flag);
    cr_expect(pawl_doorbell_ring(&flag, fd));
    pawl_doorbell_awake(&flag);
    cr_expect(not(pawl_doorbell_ring(&flag, fd)));
    cr_expect(eq(int, (int)read(fd, &count, sizeof count), (int)sizeof count));
}

Test(ground, every_own_error_has_words_and_a_name)
{
#define CHECK(name, value, text)                                                                             \
    cr_expect(eq(str, (char *)(uintptr_t)pawl_error_text(value), text));                                     \
    cr_expect(eq(str, (char *)(uintptr_t)pawl_error_name(value), #name));
    PAWL_ERROR_MAP(CHECK)
#undef CHECK
    cr_expect(eq(str, (char *)(uintptr_t)pawl_error_name(-ENOSPC), "ENOSPC"));
    cr_expect(eq(str, (char *)(uintptr_t)pawl_error_text(-ENOSPC), "No space left on device"));
}

Test(ground, boot_id_is_the_same_twice_and_not_zero)
{
    uint8_t a[16], b[16], zero[16] = {0};
    cr_assert(eq(int, pawl_clock_boot_id(a), 0));
    cr_assert(eq(int, pawl_clock_boot_id(b), 0));
    cr_expect(eq(int, memcmp(a, b, 16), 0));
    cr_expect(ne(int, memcmp(a, zero, 16), 0));
}

#ifndef CLONE_NEWTIME
#define CLONE_NEWTIME 0x80
#endif

/* In a child; not by root: in a user namespace of its own. */
static void boot_id_with_offset(const char *offset, int to_fd)
{
    uint8_t id[16];
    bool alone = unshare(CLONE_NEWTIME) == 0 || unshare(CLONE_NEWUSER | CLONE_NEWTIME) == 0;
    int fd = alone ? open("/proc/self/timens_offsets", O_WRONLY) : -1;
    if (fd < 0 || write(fd, offset, strlen(offset)) < 0)
        _exit(77);
    pid_t child = fork();
    if (child == 0) {
        bool told = pawl_clock_boot_id(id) == 0 && write(to_fd, id, sizeof id) == sizeof id;
        _exit(!told);
    }
    int status = 1;
    waitpid(child, &status, 0);
    _exit(WEXITSTATUS(status));
}

Test(ground, boot_id_is_another_where_the_boot_clock_counts_from_elsewhere)
{
    uint8_t outside[16], id[16];
    const char *const offsets[] = {"boottime 1000 0", "boottime 1000 5", "boottime -1 0"};
    int ends[2], status;
    cr_assert(eq(int, pawl_clock_boot_id(outside), 0));
    cr_assert(eq(int, pipe(ends), 0));
    for (int i = 0; i < 3; i++) {
        pid_t child = fork();
        if (child == 0)
            boot_id_with_offset(offsets[i], ends[1]);
        waitpid(child, &status, 0);
        cr_assert(eq(int, status, 0), "%s",
                  WEXITSTATUS(status) == 77 ? "no time namespace can be made here" : "");
        cr_assert(eq(sz, (size_t)read(ends[0], id, sizeof id), sizeof id));
        cr_expect(ne(int, memcmp(id, outside, sizeof id), 0), "%s", offsets[i]);
    }
}

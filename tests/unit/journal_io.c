/*
 * journal_io.c - rules of the I/O table, each proved on both implementations.
 */
#include "scheduler/io.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "tests/unit/io_kinds.h"

static struct {
    int32_t result[8];
    int count;
} seen;

static void on_done(struct pawl_io_request *request, int32_t result)
{
    seen.result[(uintptr_t)request->ctx] = result;
    seen.count++;
}

#define FOR_EACH_IO(io)                                                                                      \
    for (struct pawl_io *io = open_kind(0), *again = io; again; again = NULL, pawl_io_close(io))             \
        for (int kind_index_ = 0; kind_index_ < IO_KINDS;                                                    \
             kind_index_++, io = kind_index_ < IO_KINDS ? (pawl_io_close(io), open_kind(kind_index_)) : io)

static struct pawl_io *open_kind(int index)
{
    struct pawl_io *io = NULL;
    cr_assert(eq(int, io_kind_open(index, &io), 0));
    memset(&seen, 0, sizeof seen);
    return io;
}

static int new_file(void)
{
    int fd = open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    cr_assert(ge(int, fd, 0));
    return fd;
}

TestSuite(io, .timeout = 300);

Test(io, commit_writes_gathered_bytes_and_reports_zero)
{
    FOR_EACH_IO(io)
    {
        int fd = new_file();
        struct iovec iov[2] = {{"abc", 3}, {"defg", 4}};
        struct pawl_io_request request = {.done = on_done};
        cr_assert(eq(int, pawl_io_commit(io, &request, fd, iov, 2, 5), 0));
        cr_expect(eq(int, seen.count, 0), "done() runs only in a wait");
        while (seen.count == 0)
            cr_assert(ge(int, pawl_io_wait(io, UINT64_MAX), 0));
        cr_expect(eq(int, seen.result[0], 0));
        char bytes[8] = "";
        cr_expect(eq(int, (int)pread(fd, bytes, 7, 5), 7));
        cr_expect(eq(str, bytes, "abcdefg"));
        close(fd);
    }
}

Test(io, failed_write_names_its_half_and_does_not_sync)
{
    FOR_EACH_IO(io)
    {
        int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
        struct iovec iov = {"abc", 3};
        struct pawl_io_request request = {.done = on_done};
        cr_assert(eq(int, pawl_io_commit(io, &request, fd, &iov, 1, 0), 0));
        while (seen.count == 0)
            cr_assert(ge(int, pawl_io_wait(io, UINT64_MAX), 0));
        cr_expect(eq(int, seen.result[0], -EBADF));
        cr_expect(eq(int, (int)request.failure, PAWL_IO_FAILED_WRITE));
        close(fd);
    }
}

Test(io, failed_sync_names_its_half)
{
    FOR_EACH_IO(io)
    {
        struct iovec iov = {"abc", 3};
        struct pawl_io_request request = {.done = on_done};
        /* a character device takes the write and refuses the sync */
        int fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
        cr_assert(eq(int, pawl_io_commit(io, &request, fd, &iov, 1, 0), 0));
        while (seen.count == 0)
            cr_assert(ge(int, pawl_io_wait(io, UINT64_MAX), 0));
        cr_expect(eq(int, seen.result[0], -EINVAL));
        cr_expect(eq(int, (int)request.failure, PAWL_IO_FAILED_SYNC));
        close(fd);
    }
}

Test(io, short_write_is_an_error_and_cancels_the_sync)
{
    cr_assert(ne(ptr, (void *)signal(SIGXFSZ, SIG_IGN), (void *)SIG_ERR));
    struct rlimit limit = {.rlim_cur = 6000, .rlim_max = RLIM_INFINITY};
    cr_assert(eq(int, setrlimit(RLIMIT_FSIZE, &limit), 0));
    FOR_EACH_IO(io)
    {
        int fd = new_file();
        static char bytes[8192];
        struct iovec iov = {bytes, sizeof bytes};
        struct pawl_io_request request = {.done = on_done};
        cr_assert(eq(int, pawl_io_commit(io, &request, fd, &iov, 1, 0), 0));
        while (seen.count == 0)
            cr_assert(ge(int, pawl_io_wait(io, UINT64_MAX), 0));
        cr_expect(eq(int, seen.result[0], -EIO));
        cr_expect(eq(int, (int)request.failure, PAWL_IO_FAILED_SHORT_WRITE));
        close(fd);
    }
}

Test(io, overwrite_is_there_when_it_is_done)
{
    FOR_EACH_IO(io)
    {
        int fd = open("/tmp", O_TMPFILE | O_RDWR | O_DIRECT | O_CLOEXEC, 0600);
        static _Alignas(4096) char before[8192], bytes[4096], found[8192];
        struct iovec iov = {bytes, sizeof bytes};
        struct pawl_io_request request = {.done = on_done};
        memset(before, 'a', sizeof before);
        memset(bytes, 'b', sizeof bytes);
        cr_assert(eq(i64, pwrite(fd, before, sizeof before, 0), sizeof before));
        cr_assert(eq(int, fsync(fd), 0));
        cr_assert(eq(int, pawl_io_overwrite(io, &request, fd, &iov, 1, 4096), 0));
        while (seen.count == 0)
            cr_assert(ge(int, pawl_io_wait(io, UINT64_MAX), 0));
        cr_expect(eq(int, seen.result[0], 0));
        cr_expect(eq(i64, pread(fd, found, sizeof found, 0), sizeof found));
        cr_expect(eq(int, memcmp(found, before, 4096), 0));
        cr_expect(eq(int, memcmp(found + 4096, bytes, 4096), 0));
        close(fd);
    }
}

/* That it was the write is not known. */
Test(io, failed_overwrite_counts_as_a_failed_sync_unless_there_is_no_room)
{
    struct pawl_io *io;
    cr_assert(eq(int, pawl_io_open(PAWL_IO_URING, &io), 0));
    cr_assert(ne(ptr, (void *)signal(SIGXFSZ, SIG_IGN), (void *)SIG_ERR));
    struct rlimit limit = {.rlim_cur = 6000, .rlim_max = RLIM_INFINITY};
    cr_assert(eq(int, setrlimit(RLIMIT_FSIZE, &limit), 0));
    int read_only = open("/dev/null", O_RDONLY | O_CLOEXEC), limited = new_file();
    static char bytes[8192];
    const struct {
        int fd;
        uint64_t byte_offset;
        int32_t result;
        enum pawl_io_failure failure;
    } cases[] = {
        {read_only, 0, -EBADF, PAWL_IO_FAILED_SYNC},
        {limited, 6000, -EFBIG, PAWL_IO_FAILED_WRITE},
        {limited, 0, -EIO, PAWL_IO_FAILED_SHORT_WRITE},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct iovec iov = {bytes, sizeof bytes};
        struct pawl_io_request request = {.done = on_done};
        seen.count = 0;
        cr_assert(eq(int, pawl_io_overwrite(io, &request, cases[i].fd, &iov, 1, cases[i].byte_offset), 0));
        while (seen.count == 0)
            cr_assert(ge(int, pawl_io_wait(io, UINT64_MAX), 0));
        cr_expect(eq(int, seen.result[0], cases[i].result));
        cr_expect(eq(int, (int)request.failure, (int)cases[i].failure));
    }
    close(read_only);
    close(limited);
    pawl_io_close(io);
}

Test(io, eventfd_is_read_whether_it_blocks_or_not)
{
    FOR_EACH_IO(io)
    {
        for (int flags = 0; flags <= EFD_NONBLOCK; flags += EFD_NONBLOCK) {
            seen.count = 0;
            int fd = eventfd(0, EFD_CLOEXEC | flags);
            struct pawl_io_request request = {.done = on_done};
            cr_assert(eq(int, pawl_io_read8(io, &request, fd), 0));
            cr_expect(eq(int, pawl_io_wait(io, 1000000), 0), "nobody rang");
            uint64_t three = 3;
            cr_assert(eq(int, (int)write(fd, &three, 8), 8));
            for (int i = 0; i < 10 && seen.count == 0; i++)
                pawl_io_wait(io, 1000000000);
            cr_expect(eq(int, seen.count, 1));
            cr_expect(eq(int, seen.result[0], 8));
            cr_expect(eq(u64, request.value, 3));
            close(fd);
        }
    }
}

Test(io, poll_is_one_shot_and_can_be_armed_again_from_its_own_handler)
{
    FOR_EACH_IO(io)
    {
        int fds[2];
        cr_assert(eq(int, pipe(fds), 0));
        struct pawl_io_request request = {.done = on_done};
        for (int turn = 1; turn <= 3; turn++) {
            cr_assert(eq(int, pawl_io_poll(io, &request, fds[0], POLLIN), 0));
            cr_assert(eq(int, pawl_io_poll(io, &request, fds[0], POLLIN), -EBUSY));
            cr_expect(eq(int, pawl_io_wait(io, 0), 0));
            cr_assert(eq(int, (int)write(fds[1], "x", 1), 1));
            for (int i = 0; i < 10 && seen.count < turn; i++)
                pawl_io_wait(io, 1000000000);
            cr_expect(eq(int, seen.count, turn));
            cr_expect(eq(int, seen.result[0], POLLIN));
            char byte;
            cr_assert(eq(int, (int)read(fds[0], &byte, 1), 1));
        }
        close(fds[0]);
        close(fds[1]);
    }
}

Test(io, cancelled_poll_completes_once_with_ecanceled)
{
    FOR_EACH_IO(io)
    {
        for (int submitted = 0; submitted < 2; submitted++) {
            seen.count = 0;
            int fds[2];
            cr_assert(eq(int, pipe(fds), 0));
            struct pawl_io_request request = {.done = on_done};
            cr_expect(eq(int, pawl_io_poll_cancel(io, &request), -ENOENT));
            cr_assert(eq(int, pawl_io_poll(io, &request, fds[0], POLLIN), 0));
            if (submitted)
                cr_expect(eq(int, pawl_io_wait(io, 0), 0));
            cr_assert(eq(int, pawl_io_poll_cancel(io, &request), 0));
            for (int i = 0; i < 10 && seen.count == 0; i++)
                pawl_io_wait(io, 100000000);
            cr_expect(eq(int, pawl_io_wait(io, 1000000), 0));
            cr_expect(eq(int, seen.count, 1));
            cr_expect(eq(int, seen.result[0], -ECANCELED));
            close(fds[0]);
            close(fds[1]);
        }
    }
}

Test(io, wait_with_nothing_to_wait_for_is_refused_and_a_timeout_is_kept)
{
    FOR_EACH_IO(io)
    {
        cr_expect(eq(int, pawl_io_wait(io, UINT64_MAX), -EDEADLK));
        struct timespec before, after;
        clock_gettime(CLOCK_MONOTONIC, &before);
        cr_expect(eq(int, pawl_io_wait(io, 5000000), 0));
        clock_gettime(CLOCK_MONOTONIC, &after);
        int64_t waited = (after.tv_sec - before.tv_sec) * 1000000000 + after.tv_nsec - before.tv_nsec;
        cr_expect(ge(i64, waited, 4900000));
    }
}

Test(io, more_requests_than_ring_entries_all_complete)
{
    enum { COUNT = 1500 };
    FOR_EACH_IO(io)
    {
        int fd = new_file();
        struct pawl_io_request *requests = calloc(COUNT, sizeof *requests);
        struct iovec iov = {"0123456789abcdef", 16};
        for (int i = 0; i < COUNT; i++) {
            requests[i].done = on_done;
            cr_assert(eq(int, pawl_io_write(io, &requests[i], fd, iov.iov_base, 16, (uint64_t)i * 16), 0));
        }
        while (seen.count < COUNT)
            cr_assert(ge(int, pawl_io_wait(io, 1000000000), 0));
        cr_expect(eq(i64, lseek(fd, 0, SEEK_END), COUNT * 16));
        free(requests);
        close(fd);
    }
}

Test(io, long_timeout_does_not_outlive_the_event_that_ends_it)
{
    FOR_EACH_IO(io)
    {
        int fd = eventfd(1, EFD_CLOEXEC);
        struct pawl_io_request request = {.done = on_done};
        cr_assert(eq(int, pawl_io_read8(io, &request, fd), 0));
        cr_expect(eq(int, pawl_io_wait(io, 3600u * 1000000000ull), 1));
        cr_expect(eq(int, pawl_io_wait(io, 1000000), 0));
        close(fd);
    }
}

Test(io, close_waits_for_writes_that_still_read_the_buffer)
{
    FOR_EACH_IO(io)
    {
        int fd = new_file();
        char *bytes = malloc(1 << 20);
        memset(bytes, 'a', 1 << 20);
        struct iovec iov = {bytes, 1 << 20};
        struct pawl_io_request request = {.done = on_done};
        struct pawl_io *other = open_kind(kind_index_);
        cr_assert(eq(int, pawl_io_commit(other, &request, fd, &iov, 1, 0), 0));
        pawl_io_wait(other, 0);
        pawl_io_close(other);
        memset(bytes, 'b', 1 << 20);
        char last = 0;
        ssize_t got = pread(fd, &last, 1, (1 << 20) - 1);
        cr_expect(got == 0 || last == 'a');
        free(bytes);
        close(fd);
    }
}

/* In a process whose user has as many as its limit allows: the kernel can start no thread for us. 0:
 * committed. */
static int commit_without_threads(void)
{
    const struct rlimit none = {1, 1};
    struct pawl_io *io;
    struct pawl_io_request request = {.done = on_done};
    struct iovec iov = {"abc", 3};
    int fd = new_file();
    if ((geteuid() == 0 && setresuid(65534, 65534, 65534) != 0) || setrlimit(RLIMIT_NPROC, &none) != 0 ||
        pawl_io_open(PAWL_IO_AUTO, &io) != 0 || pawl_io_commit(io, &request, fd, &iov, 1, 0) != 0)
        return 1;
    while (seen.count == 0)
        if (pawl_io_wait(io, UINT64_MAX) < 0)
            return 2;
    pawl_io_close(io);
    return seen.result[0] == 0 ? 0 : 3;
}

Test(io, a_user_at_the_limit_of_processes_can_commit)
{
    int status = 0;
    memset(&seen, 0, sizeof seen);
    pid_t pid = fork();
    if (pid == 0)
        _exit(commit_without_threads());
    cr_assert(eq(int, waitpid(pid, &status, 0), pid));
    cr_expect(eq(int, status, 0));
}

Test(io, environment_chooses_the_implementation)
{
    struct pawl_io *io;
    setenv("PAWL_IO", "syscall", 1);
    cr_assert(eq(int, pawl_io_open(PAWL_IO_AUTO, &io), 0));
    cr_expect(eq(str, (char *)pawl_io_name(io), "syscall"));
    pawl_io_close(io);
    setenv("PAWL_IO", "nonsense", 1);
    cr_expect(eq(int, pawl_io_open(PAWL_IO_AUTO, &io), -EINVAL));
    unsetenv("PAWL_IO");
}

/*
 * wire_frame.c - messages and descriptors over a socket pair, whole, in pieces, and from a liar.
 */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shm/error.h"
#include "shm/wire.h"

static struct pawl_wire left, right;

static void make_pair(void)
{
    int fds[2];
    cr_assert(eq(int, socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0));
    cr_assert(eq(int, pawl_wire_init(&left, fds[0]), 0));
    cr_assert(eq(int, pawl_wire_init(&right, fds[1]), 0));
}

static void drop_pair(void)
{
    pawl_wire_fini(&left);
    pawl_wire_fini(&right);
}

TestSuite(wire, .init = make_pair, .fini = drop_pair);

static int open_fd_count(void)
{
    int count = 0;
    for (int fd = 0; fd < 256; fd++)
        count += fcntl(fd, F_GETFD) >= 0;
    return count;
}

Test(wire, body_arrives_whole_and_aligned_after_one_of_odd_length)
{
    struct pawl_wire_message message;
    uint64_t number = 42;

    cr_assert(eq(int, pawl_wire_queue_message(&left, PAWL_WIRE_TEXT, 7, "abc", 3, "de", 2, NULL, 0), 0));
    cr_assert(eq(int, pawl_wire_queue_message(&left, PAWL_WIRE_OK, 8, &number, 8, NULL, 0, NULL, 0), 0));
    cr_assert(eq(int, pawl_wire_flush(&left), 0));
    cr_assert(zero(sz, pawl_wire_pending(&left)));
    cr_assert(eq(int, pawl_wire_receive(&right, &message), 1));
    cr_assert(eq(u32, message.header.bytes, 5));
    cr_assert(eq(u64, message.header.tag, 7));
    cr_assert(eq(int, memcmp(message.body, "abcde", 5), 0));
    cr_assert(eq(int, pawl_wire_receive(&right, &message), 1));
    cr_assert(eq(u64, message.header.tag, 8));
    cr_assert(eq(u64, (uintptr_t)message.body % 8, 0));
    cr_assert(eq(int, memcmp(message.body, &number, 8), 0));
    cr_assert(eq(int, pawl_wire_receive(&right, &message), 0));
}

Test(wire, large_body_waits_for_a_slow_reader_and_arrives_in_order)
{
    struct pawl_wire_message message;
    size_t bytes = PAWL_WIRE_BYTES_MAX;
    unsigned char *big = malloc(bytes);
    int flushed, got = 0;

    for (size_t i = 0; i < bytes; i++)
        big[i] = (unsigned char)(i * 2654435761u >> 13);
    cr_assert(eq(int, pawl_wire_queue_message(&left, PAWL_WIRE_ITEMS, 1, big, bytes, NULL, 0, NULL, 0), 0));
    cr_assert(eq(int, flushed = pawl_wire_flush(&left), -EAGAIN));
    for (int turn = 0; got == 0 && turn < 1000; turn++) {
        got = pawl_wire_receive(&right, &message);
        flushed = pawl_wire_flush(&left);
    }
    cr_assert(eq(int, got, 1));
    cr_assert(eq(int, flushed, 0));
    cr_assert(eq(sz, message.header.bytes, bytes));
    cr_assert(eq(int, memcmp(message.body, big, bytes), 0));
    free(big);
}

Test(wire, body_above_the_limit_is_refused_by_the_sender)
{
    unsigned char *big = calloc(1, PAWL_WIRE_BYTES_MAX + 1);
    cr_assert(
        eq(int,
           pawl_wire_queue_message(&left, PAWL_WIRE_ITEMS, 1, big, PAWL_WIRE_BYTES_MAX + 1, NULL, 0, NULL, 0),
           PAWL_E_LIMIT));
    cr_assert(
        eq(int, pawl_wire_queue_message(&left, PAWL_WIRE_ITEMS, 1, big, PAWL_WIRE_BYTES_MAX, big, 1, NULL, 0),
           PAWL_E_LIMIT));
    cr_assert(zero(sz, pawl_wire_pending(&left)));
    free(big);
}

Test(wire, descriptors_come_with_their_own_message)
{
    struct pawl_wire_message message;
    struct stat sent[2], got;
    int files[2];

    for (int i = 0; i < 2; i++) {
        files[i] = memfd_create("test", MFD_CLOEXEC);
        cr_assert(eq(int, fstat(files[i], &sent[i]), 0));
    }
    pawl_wire_queue_message(&left, PAWL_WIRE_TEXT, 1, "plain", 5, NULL, 0, NULL, 0);
    pawl_wire_queue_message(&left, PAWL_WIRE_LANE, 2, NULL, 0, NULL, 0, &files[0], 1);
    pawl_wire_queue_message(&left, PAWL_WIRE_QUEUE, 3, NULL, 0, NULL, 0, (int[]){files[1], files[0]}, 2);
    cr_assert(eq(int, pawl_wire_flush(&left), 0));

    for (int number = 0; number < 3; number++) {
        int received;
        while (!(received = pawl_wire_receive(&right, &message)))
            ;
        cr_assert(eq(int, received, 1));
        cr_assert(eq(u64, message.header.tag, (uint64_t)number + 1));
        cr_assert(eq(u16, message.header.fd_count, (uint16_t)number));
        for (int i = 0; i < number; i++) {
            int which = number == 1 ? 0 : 1 - i;
            cr_assert(eq(int, fstat(message.fds[i], &got), 0));
            cr_assert(eq(u64, got.st_ino, sent[which].st_ino));
            cr_assert(ne(int, fcntl(message.fds[i], F_GETFD) & FD_CLOEXEC, 0));
        }
    }
}

Test(wire, taken_descriptor_stays_open_and_untaken_is_closed)
{
    struct pawl_wire_message message;
    int files[2] = {memfd_create("a", MFD_CLOEXEC), memfd_create("b", MFD_CLOEXEC)};

    pawl_wire_queue_message(&left, PAWL_WIRE_LANE, 1, NULL, 0, NULL, 0, files, 2);
    cr_assert(eq(int, pawl_wire_flush(&left), 0));
    int before = open_fd_count();
    cr_assert(eq(int, pawl_wire_receive(&right, &message), 1));
    cr_assert(eq(int, open_fd_count(), before + 2));
    int taken = message.fds[0];
    message.fds[0] = -1;
    cr_assert(eq(int, pawl_wire_receive(&right, &message), 0));
    cr_assert(eq(int, open_fd_count(), before + 1));
    cr_assert(ge(int, fcntl(taken, F_GETFD), 0));
}

Test(wire, undelivered_descriptors_are_closed_with_the_wire)
{
    int file = memfd_create("a", MFD_CLOEXEC);
    int before = open_fd_count();
    pawl_wire_queue_message(&left, PAWL_WIRE_LANE, 1, NULL, 0, NULL, 0, &file, 1);
    cr_assert(eq(int, open_fd_count(), before + 1));
    pawl_wire_fini(&left);
    cr_assert(eq(int, open_fd_count(), before - 1));
}

Test(wire, hostile_size_is_refused_before_anything_is_allocated_for_it)
{
    struct pawl_wire_message message;
    struct pawl_wire_header header = {.bytes = PAWL_WIRE_BYTES_MAX + 1, .type = PAWL_WIRE_TEXT};
    cr_assert(eq(int, (int)write(left.fd, &header, sizeof header), (int)sizeof header));
    cr_assert(eq(int, pawl_wire_receive(&right, &message), PAWL_E_BAD_MESSAGE));
}

Test(wire, promised_descriptors_that_did_not_come_are_refused)
{
    struct pawl_wire_message message;
    struct pawl_wire_header header = {.type = PAWL_WIRE_LANE, .fd_count = 2};
    cr_assert(eq(int, (int)write(left.fd, &header, sizeof header), (int)sizeof header));
    cr_assert(eq(int, pawl_wire_receive(&right, &message), PAWL_E_BAD_MESSAGE));
}

/* Plain bytes with descriptors, as no sender of ours would put them together. */
static void send_raw(const void *bytes, size_t n, int fd, size_t fd_count)
{
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(PAWL_WIRE_FDS_MAX * sizeof(int))];
    } control = {0};
    struct iovec iov = {.iov_base = (void *)(uintptr_t)bytes, .iov_len = n};
    struct msghdr message = {.msg_iov = &iov,
                             .msg_iovlen = 1,
                             .msg_control = control.space,
                             .msg_controllen = CMSG_SPACE(fd_count * sizeof(int))};
    struct cmsghdr *cmsg = CMSG_FIRSTHDR(&message);
    *cmsg = (struct cmsghdr){
        .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(fd_count * sizeof(int))};
    for (size_t i = 0; i < fd_count; i++)
        memcpy(CMSG_DATA(cmsg) + i * sizeof fd, &fd, sizeof fd);
    cr_assert(eq(i64, sendmsg(left.fd, &message, 0), (int64_t)n));
}

Test(wire, a_message_that_does_not_end_holds_no_more_descriptors_than_two_have)
{
    struct pawl_wire_message message;
    struct pawl_wire_header header = {.bytes = 4096, .type = PAWL_WIRE_TEXT, .fd_count = PAWL_WIRE_FDS_MAX};
    int file = memfd_create("a", MFD_CLOEXEC), before = open_fd_count(), got = 0, rounds = 0;
    send_raw(&header, sizeof header, file, PAWL_WIRE_FDS_MAX);
    for (; got == 0 && rounds < 100; rounds++) {
        got = pawl_wire_receive(&right, &message);
        cr_assert(le(int, open_fd_count(), before + 2 * PAWL_WIRE_FDS_MAX));
        send_raw("x", 1, file, PAWL_WIRE_FDS_MAX);
    }
    cr_expect(eq(int, got, PAWL_E_BAD_MESSAGE));
    cr_expect(le(int, rounds, 6));
    pawl_wire_fini(&right);
    cr_expect(eq(int, open_fd_count(), before - 1));
}

Test(wire, the_end_of_a_message_may_come_together_with_the_descriptors_of_the_next)
{
    struct pawl_wire_message message;
    struct pawl_wire_header header = {.bytes = 8, .type = PAWL_WIRE_TEXT, .fd_count = PAWL_WIRE_FDS_MAX};
    int file = memfd_create("a", MFD_CLOEXEC);
    send_raw(&header, sizeof header, file, PAWL_WIRE_FDS_MAX);
    cr_assert(eq(int, pawl_wire_receive(&right, &message), 0));
    cr_assert(eq(int, (int)write(left.fd, "12345678", 8), 8));
    header.bytes = 0;
    send_raw(&header, sizeof header, file, PAWL_WIRE_FDS_MAX);
    for (int given = 0; given < 2;) {
        int got = pawl_wire_receive(&right, &message);
        cr_assert(ge(int, got, 0));
        given += got;
        for (int i = 0; got == 1 && i < PAWL_WIRE_FDS_MAX; i++)
            cr_expect(ge(int, message.fds[i], 0));
    }
}

Test(wire, last_message_is_given_before_the_hangup)
{
    struct pawl_wire_message message;
    pawl_wire_queue_message(&left, PAWL_WIRE_OK, 5, NULL, 0, NULL, 0, NULL, 0);
    cr_assert(eq(int, pawl_wire_flush(&left), 0));
    close(left.fd);
    left.fd = -1;
    cr_assert(eq(int, pawl_wire_receive(&right, &message), 1));
    int got;
    while (!(got = pawl_wire_receive(&right, &message)))
        ;
    cr_assert(eq(int, got, PAWL_E_CLOSED));
    pawl_wire_queue_message(&right, PAWL_WIRE_OK, 5, NULL, 0, NULL, 0, NULL, 0);
    cr_assert(eq(int, pawl_wire_flush(&right), PAWL_E_CLOSED));
}

Test(wire, half_a_message_is_not_given)
{
    struct pawl_wire_message message;
    struct pawl_wire_header header = {.bytes = 5, .type = PAWL_WIRE_TEXT};
    (void)!write(left.fd, &header, sizeof header);
    (void)!write(left.fd, "abc", 3);
    cr_assert(eq(int, pawl_wire_receive(&right, &message), 0));
    (void)!write(left.fd, "de\0\0\0", 5);
    int got;
    while (!(got = pawl_wire_receive(&right, &message)))
        ;
    cr_assert(eq(int, got, 1));
    cr_assert(eq(int, memcmp(message.body, "abcde", 5), 0));
}

Test(wire, call_times_out_and_skips_answers_to_others)
{
    struct pawl_wire_message message;
    pawl_wire_queue_message(&right, PAWL_WIRE_OK, 1, NULL, 0, NULL, 0, NULL, 0);
    cr_assert(eq(int, pawl_wire_flush(&right), 0));
    cr_assert(eq(int, pawl_wire_call(&left, PAWL_WIRE_HEALTH, NULL, 0, NULL, 0, NULL, 0, 1000000, &message),
                 -ETIMEDOUT));
}

Test(wire, call_that_timed_out_is_gone_on_with_until_its_own_answer)
{
    struct pawl_wire_message message, request;
    cr_assert(
        eq(int, pawl_wire_call(&left, PAWL_WIRE_HEALTH, NULL, 0, NULL, 0, NULL, 0, 0, &message), -ETIMEDOUT));
    cr_assert(eq(int, pawl_wire_call_on(&left, 0, &message), -ETIMEDOUT));
    cr_assert(eq(int, pawl_wire_receive(&right, &request), 1));
    uint64_t tag = request.header.tag;
    cr_expect(zero(int, pawl_wire_receive(&right, &request)), "it is asked once");
    pawl_wire_queue_message(&right, PAWL_WIRE_OK, tag - 1, NULL, 0, NULL, 0, NULL, 0);
    pawl_wire_queue_message(&right, PAWL_WIRE_TEXT, tag, NULL, 0, NULL, 0, NULL, 0);
    cr_assert(eq(int, pawl_wire_flush(&right), 0));
    cr_assert(eq(int, pawl_wire_call_on(&left, UINT64_C(10000000000), &message), 1));
    cr_expect(eq(u16, message.header.type, PAWL_WIRE_TEXT));
}

Test(wire, call_takes_a_refusal_of_the_conversation_as_its_answer)
{
    struct pawl_wire_message message;
    struct pawl_wire_error refusal = {.error = PAWL_E_DAMAGED, .exit_code = 7};
    pawl_wire_queue_message(&right, PAWL_WIRE_ERROR, 0, &refusal, sizeof refusal, NULL, 0, NULL, 0);
    cr_assert(eq(int, pawl_wire_flush(&right), 0));
    cr_assert(eq(
        int,
        pawl_wire_call(&left, PAWL_WIRE_HEALTH, NULL, 0, NULL, 0, NULL, 0, UINT64_C(10000000000), &message),
        1));
    cr_assert(eq(u16, message.header.type, PAWL_WIRE_ERROR));
}

Test(wire, one_that_was_ended_is_closed_to_who_still_speaks_on_it)
{
    struct pawl_wire_message message;
    pawl_wire_fini(&left);
    cr_expect(
        eq(int, pawl_wire_queue_message(&left, PAWL_WIRE_OK, 1, NULL, 0, NULL, 0, NULL, 0), PAWL_E_CLOSED));
    cr_expect(eq(int, pawl_wire_flush(&left), 0));
    cr_expect(eq(int, pawl_wire_receive(&left, &message), PAWL_E_CLOSED));
    cr_expect(zero(sz, pawl_wire_pending(&left)));
    cr_expect(zero(sz, pawl_wire_pending_fds(&left)));
    cr_expect(
        eq(int, pawl_wire_call(&left, PAWL_WIRE_OK, NULL, 0, NULL, 0, NULL, 0, 0, &message), PAWL_E_CLOSED));
}

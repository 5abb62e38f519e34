/*
 * failing_disk.c - a disk that fails while FILE exists, for the command and all that it starts. What io_uring
 * asks of it is not seen.
 *
 *   failing_disk sync FILE COMMAND [ARGUMENT...]
 *       every fsync() and fdatasync() fails with EIO, and syncs nothing
 *
 *   failing_disk full FILE COMMAND [ARGUMENT...]
 *       every pwrite(), pwritev() and fallocate() fails with ENOSPC
 *
 * The command takes this process's place; a process beside it answers the kernel's questions
 * (seccomp_unotify(2), which needs no privilege) and ends with the last that asks.
 */
#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define ASK(number)                                                                                          \
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (number), 0, 1), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF)

static int listen_to_calls(bool full)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        ASK(full ? SYS_pwrite64 : SYS_fsync),
        ASK(full ? SYS_pwritev : SYS_fdatasync),
        ASK(full ? SYS_fallocate : SYS_fdatasync),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {.len = sizeof code / sizeof code[0], .filter = code};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return -1;
    return (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &program);
}

union control {
    char bytes[CMSG_SPACE(sizeof(int))];
    struct cmsghdr header;
};

static int give(int socket, int fd)
{
    union control control = {.bytes = {0}};
    struct iovec byte = {.iov_base = (char[1]){0}, .iov_len = 1};
    struct msghdr message = {
        .msg_iov = &byte, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    *header =
        (struct cmsghdr){.cmsg_len = CMSG_LEN(sizeof fd), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
    memcpy(CMSG_DATA(header), &fd, sizeof fd);
    return sendmsg(socket, &message, 0) == 1 ? 0 : -1;
}

static int take(int socket)
{
    union control control;
    struct iovec byte = {.iov_base = (char[1]){0}, .iov_len = 1};
    struct msghdr message = {
        .msg_iov = &byte, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    int fd = -1;
    if (recvmsg(socket, &message, MSG_CMSG_CLOEXEC) == 1 && CMSG_FIRSTHDR(&message))
        memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof fd);
    return fd;
}

static void answer(int listener, const char *file, int error)
{
    struct pollfd asked = {.fd = listener, .events = POLLIN};
    while (poll(&asked, 1, -1) > 0 && (asked.revents & POLLIN)) {
        struct seccomp_notif question = {0};
        if (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &question) < 0)
            continue; /* who asked was killed */
        struct seccomp_notif_resp words = {.id = question.id, .flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE};
        if (access(file, F_OK) == 0)
            words = (struct seccomp_notif_resp){.id = question.id, .error = -error};
        (void)ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &words);
    }
}

int main(int argc, char **argv)
{
    int pair[2];
    bool full = argc > 1 && strcmp(argv[1], "full") == 0;
    if (argc < 4 || (!full && strcmp(argv[1], "sync") != 0) ||
        socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        return 2;
    pid_t between = fork();
    if (between == 0) {
        if (fork() > 0)
            _exit(0);
        setsid();
        int listener = take(pair[0]);
        close(pair[0]);
        close(pair[1]);
        if (listener >= 0)
            answer(listener, argv[2], full ? ENOSPC : EIO);
        _exit(0);
    }
    waitpid(between, NULL, 0);
    int listener = listen_to_calls(full);
    if (listener < 0 || give(pair[1], listener) < 0) {
        perror("failing_disk");
        return 2;
    }
    close(listener);
    execvp(argv[3], argv + 3);
    perror(argv[3]);
    return 127;
}

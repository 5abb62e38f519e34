/*
 * serve_socket.c - sockets that are made or passed, and the words for a service manager, by hand: its
 * protocols are a few environment variables and a datagram.
 *
 * Runs in: the command, before it becomes the supervisor; notify in the supervisor.
 */
#include "runtime/cli/serve_socket.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum { BACKLOG = 256, PASSED_FIRST = 3 };

/* An address for a path of any length: through its directory's descriptor. Return: that descriptor or -errno.
 */
static int address_of(const char *path, struct sockaddr_un *address)
{
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    char directory[4096];
    snprintf(directory, sizeof directory, "%.*s", slash ? (int)(slash - path) + 1 : 1, slash ? path : ".");
    int dirfd = open(directory, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (dirfd < 0)
        return -errno;
    *address = (struct sockaddr_un){.sun_family = AF_UNIX};
    int bytes = snprintf(address->sun_path, sizeof address->sun_path, "/proc/self/fd/%d/%s", dirfd, name);
    if (name[0] != '\0' && bytes < (int)sizeof address->sun_path)
        return dirfd;
    close(dirfd);
    return name[0] == '\0' ? -EISDIR : -ENAMETOOLONG;
}

/* A socket that nobody listens at goes; anything else stays. */
static int make_way(const char *path, const struct sockaddr_un *address)
{
    struct stat status;
    if (lstat(path, &status) != 0)
        return errno == ENOENT ? 0 : -errno;
    if (!S_ISSOCK(status.st_mode))
        return -EEXIST;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    int error = connect(fd, (const struct sockaddr *)address, sizeof *address) == 0 ? -EADDRINUSE : -errno;
    close(fd);
    if (error != -ECONNREFUSED)
        return error;
    return unlink(path) == 0 ? 0 : -errno;
}

int pawl_serve_listen(const char *path, bool for_guests)
{
    struct sockaddr_un address;
    int dirfd = address_of(path, &address);
    if (dirfd < 0)
        return dirfd;
    int fd = -1, error = make_way(path, &address);
    if (error == 0) {
        fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        error = fd < 0 ? -errno : 0;
    }
    mode_t before = umask(for_guests ? 0111 : 0177);
    if (error == 0 && bind(fd, (const struct sockaddr *)&address, sizeof address) != 0)
        error = -errno;
    umask(before);
    if (error == 0 && listen(fd, BACKLOG) != 0)
        error = -errno;
    close(dirfd);
    if (error != 0 && fd >= 0)
        close(fd);
    return error != 0 ? error : fd;
}

int pawl_serve_admit(const char *path, bool guests)
{
    struct stat status;
    if (lstat(path, &status) != 0)
        return -errno;
    if (!S_ISSOCK(status.st_mode) || status.st_uid != geteuid())
        return -EEXIST;
    mode_t mode = guests ? 0666 : 0600;
    return (status.st_mode & 0777) == mode || chmod(path, mode) == 0 ? 0 : -errno;
}

static bool listens(int fd)
{
    int value = 0, type = 0;
    struct sockaddr_un address;
    socklen_t bytes = sizeof value, type_bytes = sizeof type, address_bytes = sizeof address;
    return getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &value, &bytes) == 0 && value == 1 &&
           getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &type_bytes) == 0 && type == SOCK_STREAM &&
           getsockname(fd, (struct sockaddr *)&address, &address_bytes) == 0 && address.sun_family == AF_UNIX;
}

int pawl_serve_passed(int *fds_out, unsigned max)
{
    const char *pid = getenv("LISTEN_PID"), *count = getenv("LISTEN_FDS");
    bool ours = pid != NULL && count != NULL && strtol(pid, NULL, 10) == (long)getpid();
    long passed = ours ? strtol(count, NULL, 10) : 0;
    /* What we start is not meant. */
    unsetenv("LISTEN_PID");
    unsetenv("LISTEN_FDS");
    unsetenv("LISTEN_FDNAMES");
    if (passed <= 0)
        return 0;
    if (passed > (long)max)
        return -E2BIG;
    for (int i = 0; i < (int)passed; i++) {
        int fd = PASSED_FIRST + i;
        if (fcntl(fd, F_SETFD, FD_CLOEXEC) != 0 || !listens(fd))
            return -EINVAL;
        fds_out[i] = fd;
    }
    return (int)passed;
}

bool pawl_serve_is_at(int fd, const char *path)
{
    struct sockaddr_un bound = {0};
    socklen_t bytes = sizeof bound - 1;
    struct stat a, b;
    return getsockname(fd, (struct sockaddr *)&bound, &bytes) == 0 && bound.sun_path[0] == '/' &&
           stat(bound.sun_path, &a) == 0 && stat(path, &b) == 0 && a.st_dev == b.st_dev &&
           a.st_ino == b.st_ino;
}

void pawl_serve_notify(const char *text)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    const char *path = getenv("NOTIFY_SOCKET");
    size_t bytes = path != NULL ? strlen(path) : 0;
    if (bytes < 2 || bytes >= sizeof address.sun_path || (path[0] != '/' && path[0] != '@'))
        return;
    memcpy(address.sun_path, path, bytes);
    if (path[0] == '@')
        address.sun_path[0] = '\0'; /* an abstract one */
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return;
    (void)sendto(fd, text, strlen(text), MSG_NOSIGNAL, (struct sockaddr *)&address,
                 (socklen_t)(offsetof(struct sockaddr_un, sun_path) + bytes));
    close(fd);
}

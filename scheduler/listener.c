/*
 * listener.c - accepts connections, and lets in who may.
 *
 * Runs in: scheduler. Bounded for each turn; a scheduler without descriptors pauses instead of spinning.
 */
#include "scheduler/listener.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "scheduler/bus/limits.h"
#include "scheduler/control.h"
#include "scheduler/loop.h"
#include "shm/error.h"
#include "shm/log.h"

enum {
    ACCEPTS_A_TURN = 64,
    /* workers, the supervisor, commands that only ask, who has not spoken yet */
    CONNECTIONS_BESIDE = 4096 + 64 + PAWL_ASKERS_BESIDE + PAWL_ASKERS_KEPT + 512,
    BACKLOG = 256,
    GROUPS_MAX = 1024,
    UNGREETED_MAX = 512,
    UNGREETED_KEPT = 64, /* more, for the owner */
};

#define ACCEPT_PAUSE_NS UINT64_C(200000000)
#define GREETING_NS     UINT64_C(2000000000)

/* ---- who ---- */

static bool has_gid(const struct pawl_config *config, gid_t gid)
{
    for (uint32_t i = 0; i < config->allow_gid_count; i++)
        if (config->allow_gids[i] == gid)
            return true;
    return false;
}

static bool in_allowed_group(int fd, const struct pawl_config *config, gid_t gid)
{
    gid_t groups[GROUPS_MAX];
    socklen_t bytes = sizeof groups;
    if (config->allow_gid_count == 0)
        return false;
    if (has_gid(config, gid))
        return true;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups, &bytes) != 0)
        return false;
    for (size_t i = 0; i < bytes / sizeof *groups; i++)
        if (has_gid(config, groups[i]))
            return true;
    return false;
}

enum pawl_peer pawl_peer_of(int fd, const struct pawl_config *config)
{
    struct ucred peer;
    socklen_t bytes = sizeof peer;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &bytes) != 0)
        return PAWL_PEER_STRANGER;
    if (peer.uid == geteuid() || peer.uid == 0)
        return PAWL_PEER_OWN;
    for (uint32_t i = 0; i < config->allow_uid_count; i++)
        if (config->allow_uids[i] == peer.uid)
            return PAWL_PEER_GUEST;
    return in_allowed_group(fd, config, peer.gid) ? PAWL_PEER_GUEST : PAWL_PEER_STRANGER;
}

/* ---- the sockets ---- */

static void on_poll(struct pawl_io_request *request, int32_t result)
{
    (void)request;
    (void)result; /* accepting shows what there is */
}

static void add(struct pawl_loop *loop, int fd, bool passed)
{
    loop->listeners.at[loop->listeners.count++] =
        (struct pawl_listener){.fd = fd, .passed = passed, .poll = {.done = on_poll, .ctx = loop}};
}

static int open_own(struct pawl_loop *loop)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    snprintf(address.sun_path, sizeof address.sun_path, "/proc/self/fd/%d/socket",
             loop->options->state_dirfd);
    /* Ours is the lock, so what lies there is a predecessor's. */
    int error = 0;
    if (unlinkat(loop->options->state_dirfd, "socket", 0) != 0 && errno != ENOENT)
        error = -errno;
    mode_t before = umask(0177);
    if (!error && bind(fd, (struct sockaddr *)&address, sizeof address) != 0)
        error = -errno;
    umask(before);
    if (!error && listen(fd, BACKLOG) != 0)
        error = -errno;
    if (error)
        close(fd);
    else
        add(loop, fd, false);
    return error;
}

int pawl_listeners_open(struct pawl_loop *loop)
{
    const struct pawl_scheduler_options *options = loop->options;
    for (unsigned i = 0; i < options->listen_count && loop->listeners.count + 1 < PAWL_LISTENERS_MAX; i++) {
        int fd = fcntl(options->listen_fds[i], F_DUPFD_CLOEXEC, 3);
        if (fd < 0 || fcntl(fd, F_SETFL, O_NONBLOCK) != 0)
            return -errno;
        add(loop, fd, true);
    }
    return options->listen_in_state_is_passed ? 0 : open_own(loop);
}

void pawl_listeners_close(struct pawl_loop *loop)
{
    for (unsigned i = 0; i < loop->listeners.count; i++) {
        if (!loop->listeners.at[i].passed)
            (void)unlinkat(loop->options->state_dirfd, "socket", 0);
        close(loop->listeners.at[i].fd);
    }
    loop->listeners.count = 0;
}

/* ---- accepting ---- */

static bool is_full(const struct pawl_loop *loop, enum pawl_peer peer)
{
    uint32_t kept = peer == PAWL_PEER_OWN ? UNGREETED_KEPT : 0;
    return loop->connection_count >= 2 * loop->config.bus.clients + CONNECTIONS_BESIDE + kept ||
           loop->ungreeted_count >= UNGREETED_MAX + kept;
}

/* A stranger is told that it is one: it would try again otherwise. A fresh socket has room for it. */
static void turn_away(int fd)
{
    static const char text[] = "this user may not connect";
    static const char hint[] =
        "let this user in: allow-uids or allow-gids in pawl.yaml of the state directory";
    struct {
        struct pawl_wire_header header;
        struct pawl_wire_error error;
        char words[(sizeof text + sizeof hint + 7) & ~(size_t)7];
    } message = {.header = {.type = PAWL_WIRE_ERROR}};
    message.error = (struct pawl_wire_error){.error = -EACCES,
                                             .exit_code = pawl_control_exit_code(-EACCES),
                                             .text_bytes = sizeof text - 1,
                                             .hint_bytes = sizeof hint - 1};
    memcpy(message.words, text, sizeof text - 1);
    memcpy(message.words + sizeof text - 1, hint, sizeof hint - 1);
    message.header.bytes = sizeof message - sizeof message.header;
    (void)send(fd, &message, sizeof message, MSG_DONTWAIT | MSG_NOSIGNAL);
    close(fd);
}

static void accept_some(struct pawl_loop *loop, const struct pawl_listener *listener)
{
    for (int i = 0; i < ACCEPTS_A_TURN; i++) {
        int fd = accept4(listener->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd < 0) {
            if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) {
                pawl_log(PAWL_LOG_ERROR, "cannot accept: %s", pawl_error_text(-errno));
                loop->listeners.accept_at_ns = loop->now.boottime_ns + ACCEPT_PAUSE_NS;
            }
            return;
        }
        enum pawl_peer peer = pawl_peer_of(fd, &loop->config);
        if (peer == PAWL_PEER_STRANGER) {
            turn_away(fd);
            continue;
        }
        if (is_full(loop, peer)) {
            close(fd);
            continue;
        }
        struct pawl_connection *connection = pawl_control_adopt_fd(loop, fd, 0);
        if (connection)
            connection->guest = peer == PAWL_PEER_GUEST;
    }
}

/* Who connects and says nothing may not keep others out. */
static void evict_silent(struct pawl_loop *loop)
{
    if (loop->ungreeted_count < UNGREETED_MAX)
        return;
    for (struct pawl_connection *connection = loop->connections; connection; connection = connection->next)
        if (!connection->greeted && !connection->closing &&
            loop->now.boottime_ns - connection->since_ns > GREETING_NS)
            pawl_control_end(connection);
}

void pawl_listeners_turn(struct pawl_loop *loop)
{
    evict_silent(loop);
    for (unsigned i = 0; i < loop->listeners.count; i++)
        if (!pawl_io_active(&loop->listeners.at[i].poll) &&
            loop->listeners.accept_at_ns <= loop->now.boottime_ns)
            accept_some(loop, &loop->listeners.at[i]);
}

void pawl_listeners_accept_all(struct pawl_loop *loop)
{
    loop->listeners.accept_at_ns = 0;
    for (unsigned i = 0; i < loop->listeners.count; i++)
        accept_some(loop, &loop->listeners.at[i]);
}

void pawl_listeners_arm(struct pawl_loop *loop)
{
    if (loop->listeners.accept_at_ns > loop->now.boottime_ns)
        return;
    for (unsigned i = 0; i < loop->listeners.count; i++) {
        struct pawl_listener *listener = &loop->listeners.at[i];
        if (!pawl_io_active(&listener->poll))
            (void)pawl_io_poll(loop->io, &listener->poll, listener->fd, POLLIN);
    }
}

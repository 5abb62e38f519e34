/*
 * serve_socket.h - the sockets of `pawl serve` beside the one in the state directory.
 */
#ifndef PAWL_RUNTIME_CLI_SERVE_SOCKET_H
#define PAWL_RUNTIME_CLI_SERVE_SOCKET_H

#include <stdbool.h>

/**
 * pawl_serve_listen - make a socket at @path and listen. One that nobody listens at any more is replaced
 * @for_guests: other users may connect; the scheduler looks at who they are
 *
 * Return: a descriptor; -EADDRINUSE (somebody listens there); -EEXIST (something else lies there); -errno.
 */
int pawl_serve_listen(const char *path, bool for_guests);

/**
 * pawl_serve_admit - other users may connect to the socket at @path from now on, or no more
 *
 * Who is connected stays. Return: 0; -EEXIST: what lies there now is not our socket; -errno.
 */
int pawl_serve_admit(const char *path, bool guests);

/**
 * pawl_serve_passed - sockets that a service manager passed (LISTEN_PID, LISTEN_FDS), at most @max
 *
 * Return: how many; -EINVAL: a passed descriptor is not a listening Unix stream socket; -E2BIG.
 */
int pawl_serve_passed(int *fds_out, unsigned max);

/** pawl_serve_is_at - is this listening socket the one at @path (as it was bound, or by another way)? */
bool pawl_serve_is_at(int fd, const char *path);

/** pawl_serve_notify - one message to the service manager, if there is one (NOTIFY_SOCKET). */
void pawl_serve_notify(const char *text);

#endif

/*
 * patience.c - looks at what a silent process does.
 *
 * Runs in: commands. Reads /proc.
 */
#include "runtime/patience.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* Its state, a letter of proc(5), and the ticks that it has used; 0 when it cannot be looked at. */
static char look(pid_t pid, uint64_t *ticks_out)
{
    char path[64], text[1024];
    snprintf(path, sizeof path, "/proc/%ld/stat", (long)pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    if (fd >= 0)
        close(fd);
    if (n <= 0)
        return 0;
    text[n] = '\0';
    /* "PID (NAME) STATE ...": the name may hold anything; the times are the fields 14 and 15. */
    const char *at = strrchr(text, ')');
    if (at == NULL || at[1] != ' ')
        return 0;
    char state = at[2], *end;
    at += 2;
    for (int field = 3; field < 14 && at != NULL; field++) {
        at = strchr(at, ' ');
        at = at != NULL ? at + 1 : NULL;
    }
    if (at == NULL)
        return 0;
    *ticks_out = strtoull(at, &end, 10);
    *ticks_out += strtoull(end, NULL, 10);
    return state;
}

void pawl_patience_of(struct pawl_patience *patience, pid_t pid)
{
    *patience = (struct pawl_patience){.pid = pid};
    if (pid > 0)
        (void)look(pid, &patience->ticks);
}

void pawl_patience_init(struct pawl_patience *patience, int fd)
{
    struct ucred peer;
    socklen_t bytes = sizeof peer;
    /* Of a pair made by whoever launched it, the peer is that process itself: who is busy asking. */
    bool known = getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &bytes) == 0;
    pawl_patience_of(patience, known ? peer.pid : 0);
}

bool pawl_patience_slice(struct pawl_patience *patience)
{
    uint64_t ticks = patience->ticks;
    char state = patience->pid > 0 ? look(patience->pid, &ticks) : 0;
    bool works = state == 'R' || ticks != patience->ticks;
    patience->ticks = ticks;
    patience->idle_count = works ? 0 : patience->idle_count + 1;
    return patience->idle_count >= PAWL_PATIENCE_SLICES;
}

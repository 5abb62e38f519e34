/*
 * proctitle.c - writes a title over the memory of the original arguments.
 *
 * Runs in: every process of pawl, one thread. The kernel shows the argument area as the command line; when
 * its last byte is not zero it takes the area for a title and shows the text up to the first zero, which may
 * reach into the environment's area. There our own variables are left alone: PAWL_MARK in /proc/PID/environ
 * is how an outer pawl finds us.
 */
#include "runtime/proctitle.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <sys/prctl.h>
#include <unistd.h>

static struct {
    char *begin;         /* first argument */
    char *arguments_end; /* behind the NUL of the last one */
    bool environ_moved;
} area;

void pawl_proctitle_init(int argc, char **argv)
{
    if (argc < 1 || !argv[0])
        return;
    char *end = argv[0];
    for (int i = 0; i < argc && argv[i] == end; i++)
        end += strlen(argv[i]) + 1;
    area.begin = argv[0];
    area.arguments_end = end;
}

/* Copies of the strings that the title may overwrite; the array itself stays. */
static bool move_environ(void)
{
    if (area.environ_moved)
        return true;
    for (char **variable = environ; variable && *variable; variable++) {
        char *copy = strdup(*variable);
        if (!copy)
            return false;
        *variable = copy;
    }
    area.environ_moved = true;
    return true;
}

/* Where a title must end at the latest. */
static char *limit(void)
{
    static char *found;
    if (found)
        return found;
    found = area.arguments_end;
    if (environ && *environ == found)
        for (char **variable = environ; *variable == found && strncmp(*variable, "PAWL_", 5) != 0; variable++)
            found += strlen(*variable) + 1;
    return found;
}

void pawl_proctitle_set(const char *title)
{
    prctl(PR_SET_NAME, title, 0, 0, 0);
    if (!area.begin)
        return;
    char *end = limit(); /* before the strings move away */
    if (!move_environ())
        end = area.arguments_end;
    size_t room = (size_t)(end - area.begin), used = (size_t)(area.arguments_end - area.begin);
    size_t length = strlen(title);
    if (length > room - 1)
        length = room - 1;
    memset(area.begin, 0, used);
    memcpy(area.begin, title, length);
    area.begin[length] = 0;
    if (length + 1 < used)
        area.begin[used - 1] = ' '; /* not zero: this is a title; never shown, it ends before */
}

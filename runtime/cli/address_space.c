/*
 * address_space.c - a limit (ulimit -v) that leaves no room for an allocator to begin is told in words:
 * jemalloc ends the process with SIGSEGV where its first mapping fails.
 *
 * Runs in: the command, before anything else. Never allocates.
 */
#include "runtime/cli/address_space.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "runtime/cli/cli.h"

enum { ROOM_BYTES_MIN = 6 << 20 }; /* of it jemalloc takes about 4 MiB before it can say that it has none */

int pawl_address_space_check(int argc, char **argv)
{
    char text[320];
    struct rlimit limit = {0};
    void *room = mmap(NULL, ROOM_BYTES_MIN, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (room != MAP_FAILED) {
        munmap(room, ROOM_BYTES_MIN);
        return 0;
    }
    bool json = false;
    for (int i = 1; i < argc; i++)
        json |= strcmp(argv[i], "--json") == 0;
    (void)getrlimit(RLIMIT_AS, &limit);
    const char *form =
        json ? "{\"error\":{\"code\":\"limit\",\"message\":\"too little memory may be mapped: %llu "
               "KiB\",\"hint\":\"raise it: ulimit -v\",\"file\":null,\"line\":null,"
               "\"column\":null}}\n"
             : "pawl: too little memory may be mapped: %llu KiB\n  raise it: ulimit -v\n";
    int bytes = snprintf(text, sizeof text, form, (unsigned long long)limit.rlim_cur / 1024);
    (void)!write(STDERR_FILENO, text, (size_t)bytes);
    return PAWL_EXIT_UNREACHABLE;
}

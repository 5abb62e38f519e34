/*
 * failing_memory.c - preloaded: the FAIL_AT-th allocation of a process that calls itself FAIL_IN fails, and
 * no other. The file FAIL_TOLD is made when that happens.
 *
 *   gcc -shared -fPIC -o failing_memory.so failing_memory.c
 *   FAIL_IN='pawl: scheduler' FAIL_AT=86 FAIL_TOLD=told LD_PRELOAD=./failing_memory.so COMMAND [ARGUMENT...]
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sys/prctl.h>

static void *(*next_malloc)(size_t bytes);
static void *(*next_calloc)(size_t count, size_t bytes);
static void *(*next_realloc)(void *old, size_t bytes);
static void *(*next_aligned_alloc)(size_t alignment, size_t bytes);

/* What dlsym() itself asks for before the others are known; never given back. */
static _Alignas(16) char early[4096];
static size_t early_bytes;

static void *take_early(size_t bytes)
{
    size_t at = early_bytes;
    early_bytes += (bytes + 15) & ~(size_t)15;
    return early_bytes <= sizeof early ? early + at : NULL;
}

static void find_next(void)
{
    static bool looking;
    if (next_malloc || looking)
        return;
    looking = true;
    *(void **)&next_calloc = dlsym(RTLD_NEXT, "calloc");
    *(void **)&next_realloc = dlsym(RTLD_NEXT, "realloc");
    *(void **)&next_aligned_alloc = dlsym(RTLD_NEXT, "aligned_alloc");
    *(void **)&next_malloc = dlsym(RTLD_NEXT, "malloc");
    looking = false;
}

static bool fails(void)
{
    static pid_t counted;
    static long count;
    const char *in = getenv("FAIL_IN"), *at = getenv("FAIL_AT"), *told = getenv("FAIL_TOLD");
    char name[17] = "";
    prctl(PR_GET_NAME, name);
    if (!in || !at || strncmp(name, in, 15) != 0)
        return false;
    if (counted != getpid()) { /* it was forked */
        counted = getpid();
        count = 0;
    }
    if (++count != strtol(at, NULL, 10))
        return false;
    close(open(told ? told : "/dev/null", O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
    errno = ENOMEM;
    return true;
}

void *malloc(size_t bytes)
{
    find_next();
    if (!next_malloc)
        return take_early(bytes);
    return fails() ? NULL : next_malloc(bytes);
}

void *calloc(size_t count, size_t bytes)
{
    find_next();
    if (!next_malloc)
        return take_early(count * bytes);
    return fails() ? NULL : next_calloc(count, bytes);
}

void *realloc(void *old, size_t bytes)
{
    find_next();
    return fails() ? NULL : next_realloc(old, bytes);
}

void *aligned_alloc(size_t alignment, size_t bytes)
{
    find_next();
    return fails() ? NULL : next_aligned_alloc(alignment, bytes);
}

/*
 * set_clock.c - preloaded: the wall clock is CLOCK_STEP seconds ahead (below 0: behind), the others are not.
 *
 *   gcc -shared -fPIC -o set_clock.so set_clock.c
 *   CLOCK_STEP=86400 LD_PRELOAD=./set_clock.so COMMAND [ARGUMENT...]
 */
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include <sys/syscall.h>

int clock_gettime(clockid_t id, struct timespec *time)
{
    const char *step = getenv("CLOCK_STEP");
    int result = (int)syscall(SYS_clock_gettime, id, time);
    if (result == 0 && id == CLOCK_REALTIME && step)
        time->tv_sec += strtol(step, NULL, 10);
    return result;
}

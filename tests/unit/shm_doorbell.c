/* Rules of the doorbell whose sleeper is not trusted. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <unistd.h>

#include "shm/doorbell.h"

static int ring_fd, sleep_fd;

static void set_up(void)
{
    cr_assert(eq(int, pawl_doorbell_open_pipe(&ring_fd, &sleep_fd), 0));
}

static void tear_down(void)
{
    close(ring_fd);
    close(sleep_fd);
}

TestSuite(doorbell, .init = set_up, .fini = tear_down, .timeout = 300);

static bool rings(void)
{
    struct pollfd fd = {.fd = sleep_fd, .events = POLLIN};
    return poll(&fd, 1, 0) == 1;
}

Test(doorbell, one_look_takes_all_rings_of_a_turn)
{
    cr_expect(not(rings()));
    for (int i = 0; i < 64; i++)
        pawl_doorbell_write(ring_fd);
    cr_expect(rings());
    pawl_doorbell_clear(sleep_fd);
    cr_expect(not(rings()));
    pawl_doorbell_clear(sleep_fd); /* does not wait */
}

Test(doorbell, a_sleeper_cannot_make_its_ringer_wait)
{
    cr_assert(eq(int, fcntl(sleep_fd, F_SETFL, 0), 0)); /* blocking, as far as it can say so */
    for (int i = 0; i < 100000; i++)                    /* more than a pipe holds; .timeout ends a hang */
        pawl_doorbell_write(ring_fd);
    cr_expect(rings());
    uint64_t count;
    cr_expect(lt(i64, write(sleep_fd, &count, sizeof count), 0));
}

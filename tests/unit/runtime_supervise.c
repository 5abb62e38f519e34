/* Rules of the supervisor's forking of workers. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "runtime/supervisor.h"

Test(supervise, a_pause_in_forking_says_when_it_ends_whenever_it_is_asked)
{
    struct pawl_supervisor supervisor = {.wanted = 1, .number_end = 1};
    cr_expect(eq(u64,
                 pawl_supervisor_fill_workers(&(struct pawl_supervisor){.wire = {.fd = -1}, .wanted = 1}),
                 UINT64_MAX),
              "without a scheduler nobody is forked");
    supervisor.fork_at_ns = UINT64_MAX - 1;
    cr_expect(eq(u64, pawl_supervisor_fill_workers(&supervisor), UINT64_MAX - 1));
    supervisor.alive = 1;
    cr_expect(eq(u64, pawl_supervisor_fill_workers(&supervisor), UINT64_MAX), "as many as are wanted");
    supervisor.leaving = 1;
    cr_expect(eq(u64, pawl_supervisor_fill_workers(&supervisor), UINT64_MAX - 1), "one that leaves is none");
}

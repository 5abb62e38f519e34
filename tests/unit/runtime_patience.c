/*
 * runtime_patience.c - who is waited for, and who no longer.
 */
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "runtime/patience.h"

static pid_t child;

static void end_child(void)
{
    if (child > 0) {
        kill(child, SIGKILL);
        waitpid(child, NULL, 0);
    }
    child = 0;
}

TestSuite(patience, .fini = end_child);

Test(patience, ends_after_so_many_slices_in_which_a_stopped_process_did_nothing)
{
    child = fork();
    if (child == 0)
        for (;;)
            pause();
    cr_assert(eq(int, kill(child, SIGSTOP), 0));
    cr_assert(eq(int, waitpid(child, NULL, WUNTRACED), child));
    struct pawl_patience patience = {.pid = child};
    cr_expect(not(pawl_patience_slice(&patience))); /* what it had used before is looked at */
    patience.idle_count = 0;
    for (int i = 1; i < PAWL_PATIENCE_SLICES; i++)
        cr_assert(not(pawl_patience_slice(&patience)), "slice %d", i);
    cr_expect(pawl_patience_slice(&patience));
}

Test(patience, has_no_end_with_a_process_that_works)
{
    child = fork();
    if (child == 0)
        for (volatile int i = 0;; i = !i)
            ;
    struct pawl_patience patience = {.pid = child};
    for (int i = 0; i < 10 * PAWL_PATIENCE_SLICES; i++)
        cr_assert(not(pawl_patience_slice(&patience)), "slice %d", i);
}

Test(patience, begins_anew_when_something_was_done)
{
    child = fork();
    if (child == 0)
        for (;;)
            pause();
    kill(child, SIGSTOP);
    waitpid(child, NULL, WUNTRACED);
    struct pawl_patience patience = {.pid = child, .idle_count = PAWL_PATIENCE_SLICES - 1, .ticks = 1 << 30};
    cr_expect(not(pawl_patience_slice(&patience)), "it has used another amount since");
    cr_expect(eq(uint, patience.idle_count, 0));
}

Test(patience, ends_with_who_cannot_be_looked_at)
{
    struct pawl_patience patience = {0};
    for (int i = 1; i < PAWL_PATIENCE_SLICES; i++)
        cr_assert(not(pawl_patience_slice(&patience)));
    cr_expect(pawl_patience_slice(&patience));
}

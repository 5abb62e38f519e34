/*
 * runtime_silence.c - how long a command waits for a scheduler that does not answer.
 */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "runtime/silence.h"
#include "shm/error.h"

static pid_t stopped; /* a process that does nothing */
static struct pawl_wire command, scheduler;
static struct pawl_silence silence;
static struct pawl_error_report report;

static void set_up(void)
{
    int fds[2];
    cr_assert(eq(int, socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds), 0));
    cr_assert(eq(int, pawl_wire_init(&command, fds[0]), 0));
    cr_assert(eq(int, pawl_wire_init(&scheduler, fds[1]), 0));
    stopped = fork();
    if (stopped == 0)
        for (;;)
            pause();
    cr_assert(eq(int, kill(stopped, SIGSTOP), 0));
    cr_assert(eq(int, waitpid(stopped, NULL, WUNTRACED), stopped));
}

static void tear_down(void)
{
    kill(stopped, SIGKILL);
    waitpid(stopped, NULL, 0);
    pawl_wire_fini(&command);
    pawl_wire_fini(&scheduler);
}

TestSuite(silence, .init = set_up, .fini = tear_down, .timeout = 300);

/* Another slice has passed. */
static int look(void)
{
    silence.due_ns = 0;
    return pawl_silence_look(&silence, &command, &report);
}

static int questions(void)
{
    struct pawl_wire_message message;
    int count = 0;
    while (pawl_wire_receive(&scheduler, &message) == 1) {
        cr_expect(eq(int, message.header.type, PAWL_WIRE_HEALTH));
        count++;
    }
    return count;
}

static void say(uint16_t type, uint64_t tag)
{
    struct pawl_wire_message message;
    cr_assert(eq(int, pawl_wire_queue_message(&scheduler, type, tag, NULL, 0, NULL, 0, NULL, 0), 0));
    cr_assert(eq(int, pawl_wire_flush(&scheduler), 0));
    cr_assert(eq(int, pawl_wire_receive(&command, &message), 1));
    cr_assert(eq(int, pawl_wire_receive(&command, &message), 0));
}

Test(silence, who_neither_answers_nor_does_anything_is_given_up_after_so_many_slices)
{
    pawl_silence_begin(&silence, &command, stopped);
    cr_expect(eq(int, pawl_silence_look(&silence, &command, &report), 0), "no time has passed");
    for (int i = 1; i < PAWL_PATIENCE_SLICES; i++)
        cr_assert(eq(int, look(), 0), "slice %d", i);
    cr_expect(eq(int, look(), -ETIMEDOUT));
    cr_expect(eq(int, report.exit_code, 4));
    cr_expect(ne(ptr, strstr(report.text, "does not answer"), NULL));
    cr_expect(eq(int, questions(), 1));
}

Test(silence, who_answers_another_question_is_waited_for_and_asked_again_later)
{
    pawl_silence_begin(&silence, &command, stopped);
    for (int i = 0; i < PAWL_PATIENCE_SLICES; i++) {
        cr_assert(eq(int, look(), 0));
        cr_assert(eq(int, questions(), 1), "%d", i);
        say(PAWL_WIRE_HEALTH_OK, PAWL_SILENCE_TAG);
        cr_assert(eq(int, look(), 0));
        cr_assert(eq(int, questions(), 0), "%d", i);
        cr_expect(eq(uint, silence.patience.idle_count, 0));
    }
}

Test(silence, who_says_what_it_waits_for_is_waited_for)
{
    pawl_silence_begin(&silence, &command, stopped);
    for (int i = 0; i < 3 * PAWL_PATIENCE_SLICES; i++) {
        if (i % (PAWL_PATIENCE_SLICES - 1) == 0)
            say(PAWL_WIRE_NOTICE, 0);
        cr_assert(eq(int, look(), 0), "slice %d", i);
    }
}

Test(silence, who_works_is_waited_for)
{
    pawl_silence_begin(&silence, &command, getpid());
    for (int i = 0; i < 3 * PAWL_PATIENCE_SLICES; i++)
        cr_assert(eq(int, look(), 0), "slice %d", i);
}

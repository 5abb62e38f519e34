/* Rules of how long libpawl waits for a scheduler that does not answer. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/lib/lib.h"
#include "tests/unit/lib_fixture.h"

static pid_t stopped; /* a process that does nothing */

static void set_up(void)
{
    fake_set_up();
    stopped = fork();
    if (stopped == 0)
        for (;;)
            pause();
    cr_assert(eq(int, kill(stopped, SIGSTOP), 0));
    cr_assert(eq(int, waitpid(stopped, NULL, WUNTRACED), stopped));
    client->welcome.scheduler_pid = (uint32_t)stopped;
}

static void tear_down(void)
{
    kill(stopped, SIGKILL);
    waitpid(stopped, NULL, 0);
    fake_tear_down();
}

TestSuite(lib_silence, .init = set_up, .fini = tear_down, .timeout = 300);

/* Another slice has passed. */
static int look(struct pawl_lib_silence *silence)
{
    silence->due_ns = 0;
    return pawl_lib_silence_look(client, silence);
}

Test(lib_silence, who_neither_answers_nor_does_anything_is_given_up_after_so_many_slices)
{
    struct pawl_lib_silence silence;
    fake_lock(&fake); /* it answers nobody */
    pawl_lib_silence_begin(client, &silence);
    cr_expect(eq(int, pawl_lib_silence_look(client, &silence), 0), "no time has passed");
    for (int i = 1; i < PAWL_PATIENCE_SLICES; i++)
        cr_assert(eq(int, look(&silence), 0), "slice %d", i);
    cr_expect(eq(int, look(&silence), -ETIMEDOUT));
    cr_expect(ne(ptr, strstr((char *)pawl_last_error(client), "does not answer"), NULL));
    fake_unlock(&fake);
}

Test(lib_silence, who_works_is_waited_for)
{
    struct pawl_lib_silence silence;
    client->welcome.scheduler_pid = (uint32_t)getpid();
    fake_lock(&fake);
    pawl_lib_silence_begin(client, &silence);
    for (int i = 0; i < 3 * PAWL_PATIENCE_SLICES; i++)
        cr_assert(eq(int, look(&silence), 0), "slice %d", i);
    fake_unlock(&fake);
}

Test(lib_silence, who_answers_another_question_is_waited_for_and_asked_again_later)
{
    struct pawl_lib_silence silence;
    fake.reply_json = "{}";
    pawl_lib_silence_begin(client, &silence);
    for (int i = 0; i < PAWL_PATIENCE_SLICES; i++) {
        cr_assert(eq(int, look(&silence), 0));
        while (client->beside_tag != 0)
            cr_assert(ge(int, pawl_dispatch(client, 10), 0));
        cr_assert(eq(int, look(&silence), 0));
        cr_expect(eq(uint, silence.patience.idle_count, 0));
    }
    fake_lock(&fake);
    cr_expect(eq(uint, fake.asked, PAWL_PATIENCE_SLICES));
    fake_unlock(&fake);
}

Test(lib_silence, a_question_whose_answer_takes_its_time_gets_it)
{
    char *reply = NULL;
    fake.reply_json = "{\"late\": 1}";
    fake.answers_second = true; /* the first question after the second, which is about its health */
    cr_expect(eq(int, pawl_request(client, "{}", &reply), 0), "%s", pawl_last_error(client));
    cr_expect(eq(str, reply, "{\"late\": 1}"));
    cr_expect(eq(uint, fake.asked, 2));
    free(reply);
}

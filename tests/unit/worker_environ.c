/*
 * worker_environ.c - a job's environment: the submitter's, then the task's, and pawl's own above all.
 */
#include "workers/environ.h"

#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

static struct pawl_environ *environ_of_job;
static char *const *envp;

static int build(struct pawl_task *task)
{
    const struct pawl_environ_names names = {.run_id = "run-1",
                                             .step = "s",
                                             .output_path = "/st/spool/w1.named",
                                             .dir_path = "/st/runs/r/work/s.1",
                                             .index = 4,
                                             .attempt = 2};
    return pawl_environ_build(environ_of_job, task, &names, &envp);
}

static void create(const char *env, uint32_t count)
{
    struct pawl_context context = {.env = env, .env_count = count};
    cr_assert(eq(int, pawl_environ_create(&context, "mark:1", &environ_of_job), 0));
}

static const char *get(const char *name)
{
    const char *value = pawl_environ_get(environ_of_job, name);
    return value ? value : "(unset)";
}

static unsigned times(const char *name)
{
    unsigned count = 0;
    for (char *const *entry = envp; *entry; entry++)
        count += strncmp(*entry, name, strlen(name)) == 0;
    return count;
}

Test(environ, mark_stands_first_and_pawls_own_replace_the_submitters)
{
    create("HOME=/root\0PAWL_MARK=outer\0PAWL_RUN=outer\0PAWL_STATE=/outer\0PAWL_ITEM=outer", 5);
    struct pawl_task task = {.env = ""};
    cr_assert(eq(int, build(&task), 0));
    cr_expect(eq(str, envp[0], "PAWL_MARK=mark:1"));
    cr_expect(eq(u32, times("PAWL_MARK="), 1));
    cr_expect(eq(str, (char *)get("PAWL_RUN"), "run-1"));
    cr_expect(eq(str, (char *)get("PAWL_STEP"), "s"));
    cr_expect(eq(str, (char *)get("PAWL_INDEX"), "4"));
    cr_expect(eq(str, (char *)get("PAWL_ATTEMPT"), "2"));
    cr_expect(eq(str, (char *)get("PAWL_OUTPUT"), "/st/spool/w1.named"));
    cr_expect(eq(str, (char *)get("PAWL_DIR"), "/st/runs/r/work/s.1"));
    cr_expect(eq(str, (char *)get("PAWL_STATE"), "/outer"));
    cr_expect(eq(str, (char *)get("PAWL_ITEM"), "(unset)"));
    cr_expect(eq(str, (char *)get("HOME"), "/root"));
    pawl_environ_destroy(environ_of_job);
}

Test(environ, task_entries_replace_or_add_but_not_pawls_own_and_do_not_stay)
{
    create("A=1\0AB=2", 2);
    struct pawl_task task = {.env = "A=task\0NEW=n\0PAWL_RUN=forged\0NEW=last", .envc = 4};
    cr_assert(eq(int, build(&task), 0));
    cr_expect(eq(str, (char *)get("A"), "task"));
    cr_expect(eq(str, (char *)get("AB"), "2"));
    cr_expect(eq(str, (char *)get("NEW"), "last"));
    cr_expect(eq(u32, times("NEW="), 1));
    cr_expect(eq(str, (char *)get("PAWL_RUN"), "run-1"));
    task.envc = 0;
    cr_assert(eq(int, build(&task), 0));
    cr_expect(eq(str, (char *)get("A"), "1"));
    cr_expect(eq(str, (char *)get("NEW"), "(unset)"));
    pawl_environ_destroy(environ_of_job);
}

Test(environ, item_is_set_unless_it_cannot_be)
{
    create("", 0);
    struct pawl_task task = {.env = "", .item = "it\nem", .item_bytes = 5};
    cr_assert(eq(int, build(&task), 0));
    cr_expect(eq(str, (char *)get("PAWL_ITEM"), "it\nem"));
    task.item_bytes = 0; /* an empty item is an item */
    cr_assert(eq(int, build(&task), 0));
    cr_expect(eq(str, (char *)get("PAWL_ITEM"), ""));
    task.item = "a\0b", task.item_bytes = 3;
    cr_assert(eq(int, build(&task), 0));
    cr_expect(eq(str, (char *)get("PAWL_ITEM"), "(unset)"));

    char *item = malloc(PAWL_ENVIRON_ITEM_BYTES_MAX + 1);
    memset(item, 'i', PAWL_ENVIRON_ITEM_BYTES_MAX + 1);
    task.item = item, task.item_bytes = PAWL_ENVIRON_ITEM_BYTES_MAX;
    cr_assert(eq(int, build(&task), 0));
    cr_expect(eq(sz, strlen(get("PAWL_ITEM")), PAWL_ENVIRON_ITEM_BYTES_MAX));
    task.item_bytes++;
    cr_assert(eq(int, build(&task), 0));
    cr_expect(eq(str, (char *)get("PAWL_ITEM"), "(unset)"));
    free(item);
    pawl_environ_destroy(environ_of_job);
}

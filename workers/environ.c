/*
 * environ.c - the environment of a job: the submitter's, the task's, and pawl's own variables.
 *
 * Runs in: worker. PAWL_MARK stands first in the block, so that a look at /proc/PID/environ finds it in its
 * first bytes. Then pawl's own, the submitter's, the task's. pawl's own cannot be replaced by a task.
 */
#include "workers/environ.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "workers/text.h"

enum { OWN_ENTRIES_MAX = 8, PATH_ENTRY_BYTES = 4400, NAME_ENTRY_BYTES = 160 };

struct pawl_environ {
    char *block; /* the submitter's strings */
    char **base; /* pointers into block */
    uint32_t base_count;
    char **envp; /* of the last build */
    size_t envp_capacity;
    char mark[NAME_ENTRY_BYTES], run[NAME_ENTRY_BYTES], step[NAME_ENTRY_BYTES];
    char index[48], attempt[48];
    char output[PATH_ENTRY_BYTES], dir[PATH_ENTRY_BYTES];
    char *item;
};

/* Set for each job by pawl, whatever submitter and task say. */
static bool is_own(const char *entry)
{
    static const char *const names[] = {
        "MARK=", "RUN=", "STEP=", "ITEM=", "INDEX=", "ATTEMPT=", "OUTPUT=", "DIR="};
    if (strncmp(entry, "PAWL_", 5) != 0)
        return false;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strncmp(entry + 5, names[i], strlen(names[i])) == 0)
            return true;
    return false;
}

static bool is_entry(const char *entry)
{
    return entry[0] != '=' && strchr(entry, '=') != NULL;
}

int pawl_environ_create(const struct pawl_context *context, const char *mark,
                        struct pawl_environ **environ_out)
{
    size_t bytes = 0;
    const char *at = context->env;
    for (uint32_t i = 0; i < context->env_count; i++)
        at += strlen(at) + 1;
    bytes = (size_t)(at - context->env);

    struct pawl_environ *environ = calloc(1, sizeof *environ);
    if (!environ)
        return -ENOMEM;
    environ->block = malloc(bytes + 1);
    environ->base = calloc((size_t)context->env_count + 1, sizeof *environ->base);
    environ->item = malloc(sizeof "PAWL_ITEM=" + PAWL_ENVIRON_ITEM_BYTES_MAX);
    if (!environ->block || !environ->base || !environ->item) {
        pawl_environ_destroy(environ);
        return -ENOMEM;
    }
    memcpy(environ->block, context->env, bytes);
    char *entry = environ->block;
    for (uint32_t i = 0; i < context->env_count; i++, entry += strlen(entry) + 1)
        if (is_entry(entry) && !is_own(entry))
            environ->base[environ->base_count++] = entry;
    snprintf(environ->mark, sizeof environ->mark, "PAWL_MARK=%s", mark);
    memcpy(environ->item, "PAWL_ITEM=", sizeof "PAWL_ITEM=");
    *environ_out = environ;
    return 0;
}

void pawl_environ_destroy(struct pawl_environ *environ)
{
    if (!environ)
        return;
    free(environ->block);
    free(environ->base);
    free(environ->envp);
    free(environ->item);
    free(environ);
}

static int reserve(struct pawl_environ *environ, size_t entries)
{
    if (entries <= environ->envp_capacity)
        return 0;
    char **grown = realloc(environ->envp, entries * sizeof *grown);
    if (!grown)
        return -ENOMEM;
    environ->envp = grown;
    environ->envp_capacity = entries;
    return 0;
}

/* @name: with its equals sign. */
static bool set(char *buffer, size_t bytes, const char *name, const char *value)
{
    struct pawl_text text = pawl_text_begin(buffer, bytes);
    pawl_text_add(&text, name);
    pawl_text_add(&text, value);
    return !text.cut;
}

static void set_number(char *buffer, size_t bytes, const char *name, uint64_t number)
{
    struct pawl_text text = pawl_text_begin(buffer, bytes);
    pawl_text_add(&text, name);
    pawl_text_add_number(&text, number);
}

/* Replaces the entry of the same name among envp[first..count), or adds one. Return: the new count. */
static size_t put(char **envp, size_t first, size_t count, const char *entry)
{
    size_t name_bytes = (size_t)(strchr(entry, '=') - entry) + 1;
    for (size_t i = first; i < count; i++) {
        if (strncmp(envp[i], entry, name_bytes) == 0) {
            envp[i] = (char *)(uintptr_t)entry;
            return count;
        }
    }
    envp[count] = (char *)(uintptr_t)entry;
    return count + 1;
}

int pawl_environ_build(struct pawl_environ *environ, const struct pawl_task *task,
                       const struct pawl_environ_names *names, char *const **envp_out)
{
    if (reserve(environ, (size_t)OWN_ENTRIES_MAX + environ->base_count + task->envc + 1) < 0)
        return -ENOMEM;
    if (!set(environ->run, sizeof environ->run, "PAWL_RUN=", names->run_id) ||
        !set(environ->step, sizeof environ->step, "PAWL_STEP=", names->step) ||
        !set(environ->output, sizeof environ->output, "PAWL_OUTPUT=", names->output_path) ||
        !set(environ->dir, sizeof environ->dir, "PAWL_DIR=", names->dir_path))
        return -ENAMETOOLONG;
    set_number(environ->index, sizeof environ->index, "PAWL_INDEX=", names->index);
    set_number(environ->attempt, sizeof environ->attempt, "PAWL_ATTEMPT=", names->attempt);

    char **envp = environ->envp;
    size_t count = 0;
    envp[count++] = environ->mark;
    envp[count++] = environ->run;
    envp[count++] = environ->step;
    envp[count++] = environ->index;
    envp[count++] = environ->attempt;
    envp[count++] = environ->output;
    envp[count++] = environ->dir;
    if (task->item && task->item_bytes <= PAWL_ENVIRON_ITEM_BYTES_MAX &&
        !memchr(task->item, '\0', task->item_bytes)) {
        char *value = environ->item + sizeof "PAWL_ITEM=" - 1;
        memcpy(value, task->item, task->item_bytes);
        value[task->item_bytes] = '\0';
        envp[count++] = environ->item;
    }
    size_t first = count;
    memcpy(envp + count, environ->base, environ->base_count * sizeof *envp);
    count += environ->base_count;
    const char *entry = task->env;
    for (uint32_t i = 0; i < task->envc; i++, entry += strlen(entry) + 1)
        if (is_entry(entry) && !is_own(entry))
            count = put(envp, first, count, entry);
    envp[count] = NULL;
    *envp_out = envp;
    return 0;
}

char *const *pawl_environ_block(const struct pawl_environ *environ)
{
    return environ->envp;
}

const char *pawl_environ_get(const struct pawl_environ *environ, const char *name)
{
    size_t n = strlen(name);
    for (char *const *entry = environ->envp; entry && *entry; entry++)
        if (strncmp(*entry, name, n) == 0 && (*entry)[n] == '=')
            return *entry + n + 1;
    return NULL;
}

/*
 * map_template.h - the command of `pawl map`: GNU parallel's placeholders, argv in and argv out.
 *
 * Pure. A placeholder is looked for in the command only: an argument's own braces are data. Without --shell
 * each word of the command becomes exactly one word of the task, but for a word that is nothing but a
 * placeholder for all arguments ({} {.} {/} {//} {/.}): it becomes one word for each argument of the task.
 * With --shell the words are joined with spaces into one text, and what a placeholder stands for is quoted
 * for sh.
 *
 *   {}  the argument      {.}  without extension   {/}  base name   {//}  directory   {/.}  base name, no
 * extension
 *   {#} number of the task   {%} number of the slot   {3} {3.} {3/} {3//} {3/.} of the third argument, {-1}
 * the last
 */
#ifndef PAWL_RUNTIME_CLI_MAP_TEMPLATE_H
#define PAWL_RUNTIME_CLI_MAP_TEMPLATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shm/task.h"

/* The arguments of one task. Not NUL-terminated; no NUL inside. */
struct pawl_map_args {
    uint32_t count;
    const char *const *values;
    const size_t *lengths;
};

/* What a task runs. Everything is valid until the next expansion, or until the template is destroyed. */
struct pawl_map_command {
    const char *const *argv; /* argc strings, NULL at the end */
    uint32_t argc;
    const struct pawl_slot_patch *patches;
    uint32_t patch_count;
};

struct pawl_map_template;

/**
 * pawl_map_template_create - read the command once
 * @argv:  at least one word; copied
 * @shell: join and quote, run by /bin/sh -c
 *
 * {} is appended when no placeholder stands in the command. Return: 0, -ENOMEM.
 */
int pawl_map_template_create(int argc, char *const *argv, bool shell,
                             struct pawl_map_template **template_out);
void pawl_map_template_destroy(struct pawl_map_template *map_template);

/**
 * pawl_map_template_expand - the command for these arguments
 * @number: of the task, from 1: {#}
 *
 * {%} is left out and told as patches: the worker inserts its slot's number. Return: 0, -ENOMEM.
 */
int pawl_map_template_expand(struct pawl_map_template *map_template, const struct pawl_map_args *args,
                             uint64_t number, struct pawl_map_command *command_out);

/** pawl_map_template_hash - of the command as it was written: what a map run is known by (--resume). */
uint64_t pawl_map_template_hash(const struct pawl_map_template *map_template);

/** pawl_map_template_task_hash - of the command and these arguments, without {#} and {%}: what --resume
 * compares. */
void pawl_map_template_task_hash(const struct pawl_map_template *map_template,
                                 const struct pawl_map_args *args, uint64_t hash_out[2]);

#endif

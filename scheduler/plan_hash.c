/*
 * plan_hash.c - what a step does, as 128 bits, so that a changed file can keep the successes that it did not
 * touch.
 *
 * Runs in clients (finish, bind). What is hashed is meaning, not layout: text instead of offsets, names
 * instead of indices, values of parameters instead of their names' places. The plan may not have been checked
 * yet but was just made by finish.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <xxhash.h>

#include "scheduler/plan_format.h"
#include "shm/error.h"

/* Bytes to be hashed; grows. After a failed allocation it only counts. */
struct digest_input {
    char *bytes;
    size_t length, capacity;
    bool failed;
};

static void feed(struct digest_input *input, const void *bytes, size_t length)
{
    if (input->capacity - input->length < length) {
        size_t capacity = (input->length + length) * 2 + 256;
        char *grown = input->failed ? NULL : realloc(input->bytes, capacity);
        if (!grown) {
            input->failed = true;
            return;
        }
        input->bytes = grown;
        input->capacity = capacity;
    }
    if (length)
        memcpy(input->bytes + input->length, bytes, length);
    input->length += length;
}

static void feed_u64(struct digest_input *input, uint64_t word)
{
    feed(input, &word, sizeof word);
}

/* Length first, so that two strings never run together. */
static void feed_string(struct digest_input *input, const char *bytes, size_t length)
{
    feed_u64(input, length);
    feed(input, bytes, length);
}

static XXH128_hash_t finish_digest(struct digest_input *input)
{
    XXH128_hash_t hash = XXH3_128bits(input->bytes ? input->bytes : "", input->length);
    input->length = 0;
    return hash;
}

static void feed_digest(struct digest_input *input, XXH128_hash_t hash)
{
    feed_u64(input, hash.low64);
    feed_u64(input, hash.high64);
}

static void feed_value(struct digest_input *input, const struct pawl_plan *plan, uint32_t index)
{
    const struct pawl_plan_value *value = &plan->values[index];
    feed_u64(input, value->kind);
    switch ((enum pawl_value_kind)value->kind) {
    case PAWL_VALUE_BOOL:
    case PAWL_VALUE_INT:
    case PAWL_VALUE_DOUBLE:
        feed_u64(input, (uint64_t)value->integer);
        return;
    case PAWL_VALUE_STRING:
        feed_string(input, plan->strings + value->first, value->count);
        return;
    case PAWL_VALUE_LIST:
    case PAWL_VALUE_MAP: {
        uint32_t children = value->count * (value->kind == PAWL_VALUE_MAP ? 2 : 1);
        feed_u64(input, children);
        for (uint32_t i = 0; i < children; i++)
            feed_value(input, plan, (uint32_t)value->first + i);
        return;
    }
    case PAWL_VALUE_NULL:
    case PAWL_VALUE_LINES:
    case PAWL_VALUE_VIRTUAL:
        return;
    }
}

struct digests {
    XXH128_hash_t *params, *templates;
    XXH128_hash_t env; /* the workflow's */
};

/* Each node with the number of its children: with the order of the nodes that is the tree. */
static void feed_template(struct digest_input *input, const struct pawl_plan *plan,
                          const struct digests *digests, const struct pawl_plan_template *template)
{
    for (uint32_t i = template->first_node; i <= template->root_node; i++) {
        const struct pawl_plan_node *node = &plan->nodes[i];
        uint64_t children = 0;
        for (uint32_t child = node->child; child != PAWL_PLAN_NONE; child = plan->nodes[child].next)
            children++;
        feed_u64(input, node->op | children << 8);
        switch ((enum pawl_op_data)pawl_op_shape(node->op)->data) {
        case PAWL_DATA_NONE:
            break;
        case PAWL_DATA_VALUE:
        case PAWL_DATA_TEXT:
            feed_value(input, plan, node->data);
            break;
        case PAWL_DATA_PARAM:
            feed_digest(input, digests->params[node->data]);
            break;
        case PAWL_DATA_TEMPLATE:
            feed_digest(input, digests->templates[node->data]);
            break;
        case PAWL_DATA_STEP: {
            struct pawl_plan_string name = plan->steps[node->data].name;
            feed_string(input, pawl_plan_text(plan, name), name.bytes);
            break;
        }
        }
    }
}

static void feed_optional(struct digest_input *input, const struct digests *digests, uint32_t template_index)
{
    feed_u64(input, template_index != PAWL_PLAN_NONE);
    if (template_index != PAWL_PLAN_NONE)
        feed_digest(input, digests->templates[template_index]);
}

static void feed_env(struct digest_input *input, const struct pawl_plan *plan, const struct digests *digests,
                     struct pawl_plan_run run)
{
    feed_u64(input, run.count);
    for (uint32_t i = run.first; i < run.first + run.count; i++) {
        feed_string(input, pawl_plan_text(plan, plan->env[i].name), plan->env[i].name.bytes);
        feed_digest(input, digests->templates[plan->env[i].value]);
    }
}

static void hash_step(struct digest_input *input, const struct pawl_plan *plan, const struct digests *digests,
                      struct pawl_plan_step *step)
{
    feed_u64(input, step->kind | (uint64_t)step->output << 8 | (uint64_t)step->flags << 16);
    feed_digest(input, digests->env);
    feed_env(input, plan, digests, step->env);
    feed_u64(input, step->argv.count);
    for (uint32_t i = 0; i < step->argv.count; i++)
        feed_digest(input, digests->templates[plan->argv[step->argv.first + i]]);
    feed_optional(input, digests, step->shell);
    feed_optional(input, digests, step->dir);
    feed_optional(input, digests, step->stdin_template);
    feed_optional(input, digests, step->when);
    feed_optional(input, digests, step->foreach);
    feed_u64(input, step->axes.count);
    for (uint32_t i = step->axes.first; i < step->axes.first + step->axes.count; i++) {
        feed_string(input, pawl_plan_text(plan, plan->axes[i].name), plan->axes[i].name.bytes);
        feed_digest(input, digests->templates[plan->axes[i].values]);
    }
    feed_u64(input, step->needs.count);
    for (uint32_t i = 0; i < step->needs.count; i++) {
        struct pawl_plan_string name = plan->steps[plan->edges[step->needs.first + i]].name;
        feed_string(input, pawl_plan_text(plan, name), name.bytes);
    }
    XXH128_hash_t hash = finish_digest(input);
    step->definition_hash[0] = hash.low64;
    step->definition_hash[1] = hash.high64;
}

int pawl_plan_hash(const struct pawl_plan *plan, struct pawl_plan_header *header,
                   struct pawl_plan_step *steps)
{
    struct digest_input input = {0};
    struct digests digests = {0};
    const uint32_t *counts = plan->counts;
    digests.params = calloc((size_t)counts[PAWL_SECTION_PARAMS] + 1, sizeof *digests.params);
    digests.templates = calloc((size_t)counts[PAWL_SECTION_TEMPLATES] + 1, sizeof *digests.templates);
    if (!digests.params || !digests.templates) {
        input.failed = true;
        goto free_all;
    }
    header->params_hash[0] = header->params_hash[1] = 0;
    for (uint32_t i = 0; i < counts[PAWL_SECTION_PARAMS]; i++) {
        const struct pawl_plan_param *param = &plan->params[i];
        feed_string(&input, pawl_plan_text(plan, param->name), param->name.bytes);
        feed_value(&input, plan, param->value);
        digests.params[i] = finish_digest(&input);
        header->params_hash[0] += digests.params[i].low64; /* a sum: any order gives the same */
        header->params_hash[1] += digests.params[i].high64;
    }
    for (uint32_t i = 0; i < counts[PAWL_SECTION_TEMPLATES]; i++) {
        feed_template(&input, plan, &digests, &plan->templates[i]);
        digests.templates[i] = finish_digest(&input);
    }
    feed_env(&input, plan, &digests, header->env);
    digests.env = finish_digest(&input);
    for (uint32_t i = 0; i < counts[PAWL_SECTION_STEPS]; i++)
        hash_step(&input, plan, &digests, &steps[i]);
free_all:
    free(digests.params);
    free(digests.templates);
    free(input.bytes);
    return input.failed ? -ENOMEM : 0;
}

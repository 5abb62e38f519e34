/*
 * fuzz_loader.c - workflow files and plan blobs from nowhere: they load or are refused, and what loads can be
 * read.
 *
 *   clang -std=c11 -D_GNU_SOURCE -I. -fsanitize=fuzzer,address,undefined tests/fuzz/fuzz_loader.c \
 *         scheduler/{arena,value*,plan*,expr*,suggest}.c runtime/{loader*,yaml,units,graph*}.c shm/error.c \
 *         -lfyaml -ljansson -lxxhash -lm
 *
 * Input: the first byte chooses. Even: the rest is a file. Odd: the rest is edits (offset, byte) of the blob
 * of a good plan, which is sealed again, so that the checks behind the checksum are reached.
 */
#include <stdlib.h>
#include <string.h>

#include "runtime/graph.h"
#include "runtime/loader.h"
#include "scheduler/expr.h"
#include "scheduler/plan_format.h"

static const char good[] =
    "pawl: 1\nparams: {dir: /tmp, n: 2, l: [1, {a: [b]}]}\nenv: {A: '${{ params.dir }}'}\nsteps:\n"
    "  last: {run: [cat, '${{ steps.mid.outputs }}', '${{ env.A }}'], needs: [mid, first], env: {C: '${{ "
    "env.A }}'}}\n"
    "  mid: {run: [echo, '${{ item.a + 1 }}', '${{ index }}'], needs: first, matrix: {a: [1, 2], b: '${{ "
    "params.l }}'}}\n"
    "  first: {shell: 'ls', output: lines, timeout: 5, retries: {limit: 1, on_exit: [1]}, when: '${{ "
    "len(params.l) > 1 }}'}\n";
static char *blob;
static size_t blob_bytes;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
/* LeakSanitizer's own name for it. */
const char *__lsan_default_suppressions(void); /* NOLINT(bugprone-reserved-identifier) */

/* libfyaml 0.7 never frees what it needs for a text in single quotes with more than a few '' in it. */
const char *__lsan_default_suppressions(void) /* NOLINT(bugprone-reserved-identifier) */
{
    return "leak:libfyaml.so\n";
}

static int drop(void *context, const void *bytes, size_t length)
{
    *(size_t *)context += length + (length ? ((const unsigned char *)bytes)[length - 1] : 0);
    return 0;
}

/* Evaluates and draws: all that a plan holds is read. */
static void read_plan(const struct pawl_plan *plan)
{
    static FILE *sink;
    struct pawl_value item = pawl_value_text("i"), value;
    struct pawl_expr_env env = {.run_id = "r", .run_id_bytes = 1, .item = &item};
    struct pawl_expr_error problem;
    struct pawl_arena arena;
    size_t sum = 0;
    pawl_arena_init(&arena, 4 << 20);
    for (uint32_t i = 0; i < pawl_plan_template_count(plan); i++) {
        if (pawl_template_eval(plan, i, &env, &arena, &value, &problem) == 0)
            pawl_value_write_json(&value, drop, &sum);
        pawl_arena_reset(&arena);
    }
    pawl_arena_fini(&arena);
    if (!sink)
        sink = fopen("/dev/null", "w");
    for (int format = PAWL_GRAPH_ASCII; sink && format <= PAWL_GRAPH_JSON; format++)
        pawl_graph_write(plan, (enum pawl_graph_format)format, sink);
}

static void try_file(const uint8_t *data, size_t size)
{
    static struct pawl_load_errors errors;
    struct pawl_plan *plan = NULL;
    int error = pawl_workflow_load_memory("f.yaml", (const char *)data, size, NULL, &plan, &errors);
    if ((error == 0) != (errors.count == 0))
        abort(); /* a refusal without a reason, or the other way round */
    if (error == 0)
        read_plan(plan);
    for (uint32_t i = 1; i < errors.count; i++)
        if (errors.errors[i - 1].line > errors.errors[i].line)
            abort();
    pawl_plan_close(plan);
}

static void try_blob(const uint8_t *data, size_t size)
{
    struct pawl_plan *plan = NULL;
    char *copy = malloc(blob_bytes);
    if (!copy)
        return;
    memcpy(copy, blob, blob_bytes);
    for (; size >= 3; data += 3, size -= 3)
        copy[PAWL_PLAN_CHECKED_FROM + (data[0] | data[1] << 8) % (blob_bytes - PAWL_PLAN_CHECKED_FROM)] =
            (char)data[2];
    pawl_plan_seal(copy, blob_bytes);
    if (pawl_plan_open(copy, blob_bytes, NULL, &plan, NULL) == 0)
        read_plan(plan);
    pawl_plan_close(plan);
    free(copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!blob) {
        static struct pawl_load_errors errors;
        struct pawl_plan *plan = NULL;
        if (pawl_workflow_load_memory("f.yaml", good, sizeof good - 1, NULL, &plan, &errors) != 0)
            abort();
        const void *bytes = pawl_plan_blob(plan, &blob_bytes);
        blob = malloc(blob_bytes);
        if (!blob)
            abort();
        memcpy(blob, bytes, blob_bytes);
        pawl_plan_close(plan);
    }
    if (size == 0)
        return 0;
    if (data[0] % 2 == 0)
        try_file(data + 1, size - 1);
    else
        try_blob(data + 1, size - 1);
    return 0;
}

/*
 * task_pack.c - what is packed is what is opened, and nothing else opens.
 */
#include "shm/task.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "shm/error.h"

static const char *const argv3[] = {"printf", "a\nb", "\xff\xfe slot "};
static const char *const env2[] = {"A=1", "EMPTY="};
static const struct pawl_slot_patch patches2[] = {{1, 0}, {2, 8}};

static struct pawl_task_spec full_spec(void)
{
    return (struct pawl_task_spec){
        .kind = PAWL_TASK_EXEC,
        .run_id = "run-1",
        .step = "count",
        .item = "x\0y",
        .item_bytes = 3,
        .argv = argv3,
        .argc = 3,
        .env = env2,
        .envc = 2,
        .dir = "sub dir",
        .stdin_kind = PAWL_STDIN_BYTES,
        .stdin_data = "in\0put",
        .stdin_bytes = 6,
        .timeout_ns = 5,
        .grace_ns = 6,
        .output_bytes_max = 7,
        .patches = patches2,
        .patch_count = 2,
    };
}

static void *pack(const struct pawl_task_spec *spec, size_t *n)
{
    *n = pawl_task_packed_bytes(spec);
    void *bytes = aligned_alloc(8, *n);
    memset(bytes, 0xee, *n);
    cr_assert(eq(i64, pawl_task_pack(spec, bytes, *n), (int64_t)*n));
    return bytes;
}

Test(task, every_field_survives_packing)
{
    struct pawl_task_spec spec = full_spec();
    size_t n;
    void *bytes = pack(&spec, &n);
    struct pawl_task task;
    cr_assert(eq(int, pawl_task_open(bytes, n, &task), 0));
    cr_expect(eq(int, task.kind, PAWL_TASK_EXEC));
    cr_expect(eq(str, (char *)task.run_id, "run-1"));
    cr_expect(eq(str, (char *)task.step, "count"));
    cr_expect(eq(str, (char *)task.dir, "sub dir"));
    cr_expect(eq(u32, task.item_bytes, 3));
    cr_expect(eq(int, memcmp(task.item, "x\0y", 3), 0));
    cr_assert(eq(u32, task.argc, 3));
    cr_expect(eq(int, memcmp(task.argv, "printf\0a\nb\0\xff\xfe slot ", 20), 0));
    cr_assert(eq(u32, task.envc, 2));
    cr_expect(eq(int, memcmp(task.env, "A=1\0EMPTY=", 11), 0));
    cr_expect(eq(u32, task.stdin_bytes, 6));
    cr_expect(eq(int, memcmp(task.stdin_data, "in\0put", 6), 0));
    cr_expect(eq(u64, task.timeout_ns, 5));
    cr_expect(eq(u64, task.grace_ns, 6));
    cr_expect(eq(u64, task.output_bytes_max, 7));
    cr_assert(eq(u32, task.patch_count, 2));
    cr_expect(eq(u32, task.patches[1].byte_offset, 8));
    cr_expect(eq(sz, n % 8, 0));
    free(bytes);
}

Test(task, who_hands_a_task_on_says_how_much_it_may_print)
{
    struct pawl_task_spec spec = full_spec();
    size_t n;
    void *bytes = pack(&spec, &n);
    pawl_task_limit_output(bytes, n, 1234);
    struct pawl_task task;
    cr_assert(eq(int, pawl_task_open(bytes, n, &task), 0));
    cr_expect(eq(u64, task.output_bytes_max, 1234));
    cr_expect(eq(u64, task.grace_ns, 6));
    cr_expect(eq(u32, task.patches[1].byte_offset, 8));
    free(bytes);
}

Test(task, bytes_that_are_no_task_are_not_written_to)
{
    char bytes[200], before[200];
    memset(bytes, 0x5a, sizeof bytes);
    memcpy(before, bytes, sizeof bytes);
    pawl_task_limit_output(bytes, sizeof bytes, 1);
    pawl_task_limit_output(bytes, 8, 1);
    cr_expect(eq(int, memcmp(bytes, before, sizeof bytes), 0));
}

Test(task, what_is_not_set_opens_as_not_set)
{
    struct pawl_task_spec spec = {.kind = PAWL_TASK_NOOP, .run_id = "", .step = "s"};
    size_t n;
    void *bytes = pack(&spec, &n);
    struct pawl_task task;
    cr_assert(eq(int, pawl_task_open(bytes, n, &task), 0));
    cr_expect(eq(ptr, (void *)task.dir, NULL));
    cr_expect(eq(ptr, (void *)task.item, NULL));
    cr_expect(eq(u32, task.argc, 0));
    cr_expect(eq(int, task.stdin_kind, PAWL_STDIN_NULL));
    free(bytes);
}

Test(task, empty_item_is_not_a_missing_item)
{
    struct pawl_task_spec spec = {.kind = PAWL_TASK_NOOP, .run_id = "", .step = "s", .item = ""};
    size_t n;
    void *bytes = pack(&spec, &n);
    struct pawl_task task;
    cr_assert(eq(int, pawl_task_open(bytes, n, &task), 0));
    cr_expect(ne(ptr, (void *)task.item, NULL));
    cr_expect(eq(u32, task.item_bytes, 0));
    free(bytes);
}

Test(task, exec_without_arguments_is_refused)
{
    struct pawl_task_spec spec = {.kind = PAWL_TASK_EXEC, .run_id = "", .step = "s"};
    uint64_t room[64];
    cr_expect(eq(i64, pawl_task_pack(&spec, room, sizeof room), -EINVAL));
}

Test(task, patch_beyond_its_argument_is_refused)
{
    static const struct pawl_slot_patch beyond[] = {{1, 4}}, no_argument[] = {{3, 0}},
                                        unordered[] = {{2, 0}, {1, 0}};
    struct pawl_task_spec spec = full_spec();
    uint64_t room[64];
    spec.patch_count = 1;
    spec.patches = beyond;
    cr_expect(eq(i64, pawl_task_pack(&spec, room, sizeof room), -EINVAL));
    spec.patches = no_argument;
    cr_expect(eq(i64, pawl_task_pack(&spec, room, sizeof room), -EINVAL));
    spec.patches = unordered;
    spec.patch_count = 2;
    cr_expect(eq(i64, pawl_task_pack(&spec, room, sizeof room), -EINVAL));
}

Test(task, too_little_room_or_too_large_a_task_is_e2big)
{
    struct pawl_task_spec spec = full_spec();
    uint64_t room[64];
    cr_expect(eq(i64, pawl_task_pack(&spec, room, pawl_task_packed_bytes(&spec) - 8), -E2BIG));
    spec.stdin_bytes = PAWL_TASK_BYTES_MAX;
    cr_expect(eq(sz, pawl_task_packed_bytes(&spec), 0));
    cr_expect(eq(i64, pawl_task_pack(&spec, room, sizeof room), -E2BIG));
}

Test(task, cut_at_any_byte_does_not_open)
{
    struct pawl_task_spec spec = full_spec();
    size_t n;
    char *bytes = pack(&spec, &n);
    struct pawl_task task;
    for (size_t cut = 0; cut < n; cut++) {
        char *piece =
            aligned_alloc(8, (cut + 8) & ~(size_t)7); /* ends where the piece ends: no slack to read */
        memcpy(piece, bytes, cut);
        cr_assert(eq(int, pawl_task_open(piece, cut, &task), PAWL_E_BAD_MESSAGE), "cut at %zu", cut);
        free(piece);
    }
    free(bytes);
}

/* Walk over everything that a view promises; a view that reaches outside its block dies here under a checker,
 * and breaks the assertions without one. */
static void use(const struct pawl_task *task, const char *bytes, size_t n)
{
    const char *end = bytes + n, *at = task->argv;
    for (uint32_t i = 0; i < task->argc; i++)
        at += strlen(at) + 1;
    cr_assert(at <= end);
    for (uint32_t i = 0, skipped = 0; i < task->patch_count; i++) {
        const char *arg = task->argv;
        for (skipped = 0; skipped < task->patches[i].arg_index; skipped++)
            arg += strlen(arg) + 1;
        cr_assert(task->patches[i].arg_index < task->argc && task->patches[i].byte_offset <= strlen(arg));
    }
    at = task->env;
    for (uint32_t i = 0; i < task->envc; i++)
        at += strlen(at) + 1;
    cr_assert(at <= end);
    cr_assert(task->stdin_data >= bytes && task->stdin_data + task->stdin_bytes < end);
    cr_assert(task->item == NULL || (task->item >= bytes && task->item + task->item_bytes < end));
    cr_assert(task->step + strlen(task->step) < end);
}

Test(task, any_changed_byte_opens_soundly_or_not_at_all)
{
    struct pawl_task_spec spec = full_spec();
    size_t n, refused = 0;
    char *bytes = pack(&spec, &n);
    struct pawl_task task;
    for (size_t at = 0; at < n; at++) {
        for (int value = 0; value < 256; value += 5) {
            char old = bytes[at];
            bytes[at] = (char)value;
            if (pawl_task_open(bytes, n, &task) == 0)
                use(&task, bytes, n);
            else
                refused++;
            bytes[at] = old;
        }
    }
    cr_expect(refused > n);
    free(bytes);
}

Test(task, block_that_its_sections_do_not_fill_does_not_open)
{
    struct pawl_task_spec spec = full_spec();
    size_t n;
    char *bytes = pack(&spec, &n);
    char *longer = aligned_alloc(8, n + 8);
    struct pawl_task task;
    uint32_t said = (uint32_t)n + 8;
    memcpy(longer, bytes, n);
    memset(longer + n, 0, 8);
    cr_expect(eq(int, pawl_task_open(longer, n + 8, &task), 0)); /* it may lie in a larger room */
    memcpy(longer + 4, &said, sizeof said);
    cr_expect(eq(int, pawl_task_open(longer, n + 8, &task), PAWL_E_BAD_MESSAGE));
    free(longer);
    free(bytes);
}

Test(task, unaligned_bytes_do_not_open)
{
    struct pawl_task_spec spec = full_spec();
    size_t n;
    char *bytes = pack(&spec, &n);
    char *shifted = aligned_alloc(8, n + 8);
    memcpy(shifted + 1, bytes, n);
    struct pawl_task task;
    cr_expect(eq(int, pawl_task_open(shifted + 1, n, &task), PAWL_E_BAD_MESSAGE));
    free(shifted);
    free(bytes);
}

Test(context, every_field_survives_packing)
{
    const char *const env[] = {"HOME=/root", "LINES=1\n2", NULL};
    struct pawl_context_spec spec = {.run_id = "r", .dir = "/tmp", .env = env, .umask = 027, .nice = -3};
    for (int i = 0; i < (int)RLIM_NLIMITS; i++)
        spec.limits[i] = (struct rlimit){(rlim_t)i, RLIM_INFINITY};
    size_t n = pawl_context_packed_bytes(&spec);
    void *bytes = malloc(n);
    cr_assert(eq(i64, pawl_context_pack(&spec, bytes, n), (int64_t)n));
    struct pawl_context context;
    cr_assert(eq(int, pawl_context_open(bytes, n, &context), 0));
    cr_expect(eq(str, (char *)context.run_id, "r"));
    cr_expect(eq(str, (char *)context.dir, "/tmp"));
    cr_expect(eq(u32, context.env_count, 2));
    cr_expect(eq(int, memcmp(context.env, "HOME=/root\0LINES=1\n2", 21), 0));
    cr_expect(eq(u32, context.umask, 027));
    cr_expect(eq(i32, context.nice, -3));
    cr_expect(eq(u64, context.limits[RLIMIT_NOFILE].rlim_cur, RLIMIT_NOFILE));
    cr_expect(eq(u64, context.limits[RLIMIT_NOFILE].rlim_max, RLIM_INFINITY));
    free(bytes);
}

Test(context, cut_at_any_byte_does_not_open)
{
    const char *const env[] = {"A=1", "B=2", NULL};
    struct pawl_context_spec spec = {.run_id = "", .dir = "/", .env = env};
    size_t n = pawl_context_packed_bytes(&spec);
    char *bytes = malloc(n);
    cr_assert(eq(i64, pawl_context_pack(&spec, bytes, n), (int64_t)n));
    struct pawl_context context;
    for (size_t cut = 0; cut < n; cut++) {
        char *piece = malloc(cut + 1);
        memcpy(piece, bytes, cut);
        cr_assert(eq(int, pawl_context_open(piece, cut, &context), PAWL_E_BAD_MESSAGE), "cut at %zu", cut);
        free(piece);
    }
    free(bytes);
}

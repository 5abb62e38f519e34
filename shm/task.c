/*
 * task.c - tasks and contexts as flat blocks of bytes: packing, and checking what somebody else packed.
 *
 * Used by clients and the scheduler (pack) and by scheduler and workers (open). Allocates nothing. An opened
 * block is accepted only when its sections fill it exactly and every string ends where its section says.
 *
 * Layout of a task, offsets in bytes:
 *     0  struct task_header
 *    88  patches        patch_count times 8
 *        run id, step, dir, item, argv, env, stdin     each section ends with a NUL; sizes include it
 *        zeros up to a multiple of 8
 * of a context:
 *     0  struct context_header
 *   296  run id, dir, env; zeros up to a multiple of 8
 */
#include "shm/task.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "shm/error.h"

enum { TASK_HAS_DIR = 1, TASK_HAS_ITEM = 2 };

struct task_header {
    uint32_t magic;
    uint32_t bytes; /* of the whole block */
    uint8_t kind;
    uint8_t stdin_kind;
    uint16_t flags;
    uint32_t argc, envc, patch_count;
    uint32_t run_id_bytes, step_bytes, dir_bytes, item_bytes, argv_bytes, env_bytes, stdin_bytes;
    uint32_t reserved;
    uint64_t timeout_ns, grace_ns, output_bytes_max;
    uint64_t reserved2;
};
static_assert(sizeof(struct task_header) == 88, "task format");
static_assert(offsetof(struct task_header, timeout_ns) == 56, "task format");
static_assert(sizeof(struct pawl_slot_patch) == 8, "task format");

enum { CONTEXT_MAGIC = 0x78746e63 /* "cntx" */, CONTEXT_BYTES_MAX = 64 << 20 };

struct context_header {
    uint32_t magic;
    uint32_t bytes;
    uint32_t run_id_bytes, dir_bytes, env_bytes, env_count;
    uint32_t umask;
    int32_t nice;
    uint32_t limit_count;
    uint32_t reserved;
    uint64_t limits[16][2]; /* RLIMIT_* order: soft, hard */
};
static_assert(sizeof(struct context_header) == 296, "context format");
static_assert(RLIM_NLIMITS == 16, "context format");

static size_t round_up(size_t n)
{
    return (n + 7) & ~(size_t)7;
}

static size_t strings_bytes(const char *const *strings, uint32_t count)
{
    size_t total = 0;
    for (uint32_t i = 0; i < count; i++)
        total += strlen(strings[i]) + 1;
    return total;
}

static size_t text_bytes(const char *text)
{
    return text ? strlen(text) + 1 : 1;
}

static char *put(char *at, const void *bytes, size_t n)
{
    if (n)
        memcpy(at, bytes, n);
    at[n] = '\0';
    return at + n + 1;
}

static char *put_strings(char *at, const char *const *strings, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        at = put(at, strings[i], strlen(strings[i]));
    return at;
}

/* Walks over a section of NUL-terminated strings. */
static bool is_strings(const char *at, size_t n, uint32_t count)
{
    const char *end = at + n;
    for (uint32_t i = 0; i < count; i++) {
        const char *nul = at < end ? memchr(at, '\0', (size_t)(end - at)) : NULL;
        if (!nul)
            return false;
        at = nul + 1;
    }
    return at == end;
}

static bool is_text(const char *at, size_t n)
{
    return n > 0 && is_strings(at, n, 1);
}

/* ---- tasks ---- */

/* In order of argument and offset, and inside their arguments: one walk over argv checks all of them. */
static bool patches_hold(const struct pawl_slot_patch *patch, uint32_t count, const char *argv)
{
    uint32_t arg = 0, byte_offset = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (patch[i].arg_index < arg || (patch[i].arg_index == arg && patch[i].byte_offset < byte_offset))
            return false;
        for (; arg < patch[i].arg_index; arg++)
            argv += strlen(argv) + 1;
        byte_offset = patch[i].byte_offset;
        if (byte_offset > strlen(argv))
            return false;
    }
    return true;
}

size_t pawl_task_packed_bytes(const struct pawl_task_spec *spec)
{
    if (spec->item_bytes > PAWL_TASK_BYTES_MAX || spec->stdin_bytes > PAWL_TASK_BYTES_MAX)
        return 0;
    size_t total = sizeof(struct task_header) + (size_t)spec->patch_count * sizeof *spec->patches;
    total += text_bytes(spec->run_id) + text_bytes(spec->step) + text_bytes(spec->dir);
    total += (spec->item ? spec->item_bytes : 0) + 1;
    total += strings_bytes(spec->argv, spec->argc) + strings_bytes(spec->env, spec->envc);
    total += spec->stdin_bytes + 1;
    total = round_up(total);
    return total <= PAWL_TASK_BYTES_MAX ? total : 0;
}

int64_t pawl_task_pack(const struct pawl_task_spec *spec, void *out, size_t out_bytes)
{
    size_t total = pawl_task_packed_bytes(spec);
    if (total == 0 || total > out_bytes)
        return -E2BIG;
    if ((spec->kind != PAWL_TASK_NOOP && spec->kind != PAWL_TASK_EXEC) ||
        (spec->kind == PAWL_TASK_EXEC && spec->argc == 0) || spec->stdin_kind > PAWL_STDIN_FILE)
        return -EINVAL;
    for (uint32_t i = 0; i < spec->patch_count; i++)
        if (spec->patches[i].arg_index >= spec->argc)
            return -EINVAL;
    if (spec->stdin_kind == PAWL_STDIN_FILE &&
        (spec->stdin_bytes == 0 || memchr(spec->stdin_data, '\0', spec->stdin_bytes)))
        return -EINVAL;

    struct task_header header = {
        .magic = PAWL_TASK_MAGIC,
        .bytes = (uint32_t)total,
        .kind = (uint8_t)spec->kind,
        .stdin_kind = (uint8_t)spec->stdin_kind,
        .flags = (uint16_t)((spec->dir ? TASK_HAS_DIR : 0) | (spec->item ? TASK_HAS_ITEM : 0)),
        .argc = spec->argc,
        .envc = spec->envc,
        .patch_count = spec->patch_count,
        .run_id_bytes = (uint32_t)text_bytes(spec->run_id),
        .step_bytes = (uint32_t)text_bytes(spec->step),
        .dir_bytes = (uint32_t)text_bytes(spec->dir),
        .item_bytes = (uint32_t)(spec->item ? spec->item_bytes : 0) + 1,
        .argv_bytes = (uint32_t)strings_bytes(spec->argv, spec->argc),
        .env_bytes = (uint32_t)strings_bytes(spec->env, spec->envc),
        .stdin_bytes = (uint32_t)spec->stdin_bytes + 1,
        .timeout_ns = spec->timeout_ns,
        .grace_ns = spec->grace_ns,
        .output_bytes_max = spec->output_bytes_max,
    };
    char *at = out;
    memcpy(at, &header, sizeof header);
    at += sizeof header;
    if (spec->patch_count)
        memcpy(at, spec->patches, (size_t)spec->patch_count * sizeof *spec->patches);
    at += (size_t)spec->patch_count * sizeof *spec->patches;
    at = put(at, spec->run_id, header.run_id_bytes - 1);
    at = put(at, spec->step, header.step_bytes - 1);
    at = put(at, spec->dir, header.dir_bytes - 1);
    at = put(at, spec->item, header.item_bytes - 1);
    const char *argv = at;
    at = put_strings(at, spec->argv, spec->argc);
    at = put_strings(at, spec->env, spec->envc);
    at = put(at, spec->stdin_data, header.stdin_bytes - 1);
    memset(at, 0, total - (size_t)(at - (char *)out));
    return patches_hold(spec->patches, spec->patch_count, argv) ? (int64_t)total : -EINVAL;
}

int pawl_task_open(const void *bytes, size_t n, struct pawl_task *task_out)
{
    struct task_header header;
    if (!bytes || (uintptr_t)bytes % 8 || n < sizeof header || n > PAWL_TASK_BYTES_MAX)
        return PAWL_E_BAD_MESSAGE;
    memcpy(&header, bytes, sizeof header);
    if (header.magic != PAWL_TASK_MAGIC || header.bytes > n || header.bytes % 8 ||
        (header.kind != PAWL_TASK_NOOP && header.kind != PAWL_TASK_EXEC) ||
        header.stdin_kind > PAWL_STDIN_FILE || (header.kind == PAWL_TASK_EXEC && header.argc == 0))
        return PAWL_E_BAD_MESSAGE;
    uint64_t total = sizeof header + (uint64_t)header.patch_count * sizeof(struct pawl_slot_patch);
    total += (uint64_t)header.run_id_bytes + header.step_bytes + header.dir_bytes + header.item_bytes;
    total += (uint64_t)header.argv_bytes + header.env_bytes + header.stdin_bytes;
    if (total > header.bytes || round_up(total) != header.bytes)
        return PAWL_E_BAD_MESSAGE;

    const char *at = (const char *)bytes + sizeof header;
    const struct pawl_slot_patch *patches = (const struct pawl_slot_patch *)(const void *)at;
    at += (size_t)header.patch_count * sizeof *patches;
    const char *run_id = at, *step = run_id + header.run_id_bytes, *dir = step + header.step_bytes;
    const char *item = dir + header.dir_bytes, *argv = item + header.item_bytes;
    const char *env = argv + header.argv_bytes, *input = env + header.env_bytes;
    if (!is_text(run_id, header.run_id_bytes) || !is_text(step, header.step_bytes) ||
        !is_text(dir, header.dir_bytes) || header.item_bytes == 0 || item[header.item_bytes - 1] != '\0' ||
        !is_strings(argv, header.argv_bytes, header.argc) ||
        !is_strings(env, header.env_bytes, header.envc) || header.stdin_bytes == 0 ||
        input[header.stdin_bytes - 1] != '\0' ||
        (header.stdin_kind == PAWL_STDIN_FILE &&
         (header.stdin_bytes == 1 || !is_text(input, header.stdin_bytes))))
        return PAWL_E_BAD_MESSAGE;
    for (uint32_t i = 0; i < header.patch_count; i++)
        if (patches[i].arg_index >= header.argc)
            return PAWL_E_BAD_MESSAGE;
    if (!patches_hold(patches, header.patch_count, argv))
        return PAWL_E_BAD_MESSAGE;

    *task_out = (struct pawl_task){
        .kind = (enum pawl_task_kind)header.kind,
        .run_id = run_id,
        .step = step,
        .dir = header.flags & TASK_HAS_DIR ? dir : NULL,
        .item = header.flags & TASK_HAS_ITEM ? item : NULL,
        .item_bytes = header.flags & TASK_HAS_ITEM ? header.item_bytes - 1 : 0,
        .argc = header.argc,
        .envc = header.envc,
        .argv = argv,
        .env = env,
        .stdin_kind = (enum pawl_stdin_kind)header.stdin_kind,
        .stdin_data = input,
        .stdin_bytes = header.stdin_bytes - 1,
        .timeout_ns = header.timeout_ns,
        .grace_ns = header.grace_ns,
        .output_bytes_max = header.output_bytes_max,
        .patches = patches,
        .patch_count = header.patch_count,
    };
    return 0;
}

void pawl_task_limit_output(void *bytes, size_t n, uint64_t output_bytes_max)
{
    struct task_header header;
    if (n < sizeof header)
        return;
    memcpy(&header, bytes, sizeof header);
    if (header.magic == PAWL_TASK_MAGIC)
        memcpy((char *)bytes + offsetof(struct task_header, output_bytes_max), &output_bytes_max,
               sizeof output_bytes_max);
}

/* ---- contexts ---- */

static uint32_t count_strings(const char *const *strings)
{
    uint32_t count = 0;
    while (strings && strings[count])
        count++;
    return count;
}

size_t pawl_context_packed_bytes(const struct pawl_context_spec *spec)
{
    size_t total = sizeof(struct context_header) + text_bytes(spec->run_id) + text_bytes(spec->dir);
    total = round_up(total + strings_bytes(spec->env, count_strings(spec->env)));
    return total <= CONTEXT_BYTES_MAX ? total : 0;
}

int64_t pawl_context_pack(const struct pawl_context_spec *spec, void *out, size_t out_bytes)
{
    size_t total = pawl_context_packed_bytes(spec);
    if (total == 0 || total > out_bytes)
        return -E2BIG;
    if (!spec->dir || spec->dir[0] == '\0')
        return -EINVAL;
    uint32_t env_count = count_strings(spec->env);
    struct context_header header = {
        .magic = CONTEXT_MAGIC,
        .bytes = (uint32_t)total,
        .run_id_bytes = (uint32_t)text_bytes(spec->run_id),
        .dir_bytes = (uint32_t)text_bytes(spec->dir),
        .env_bytes = (uint32_t)strings_bytes(spec->env, env_count),
        .env_count = env_count,
        .umask = spec->umask & 0777,
        .nice = spec->nice,
        .limit_count = RLIM_NLIMITS,
    };
    for (int i = 0; i < (int)RLIM_NLIMITS; i++) {
        header.limits[i][0] = spec->limits[i].rlim_cur;
        header.limits[i][1] = spec->limits[i].rlim_max;
    }
    char *at = out;
    memcpy(at, &header, sizeof header);
    at = put(at + sizeof header, spec->run_id, header.run_id_bytes - 1);
    at = put(at, spec->dir, header.dir_bytes - 1);
    at = put_strings(at, spec->env, env_count);
    memset(at, 0, total - (size_t)(at - (char *)out));
    return (int64_t)total;
}

int pawl_context_open(const void *bytes, size_t n, struct pawl_context *context_out)
{
    struct context_header header;
    if (!bytes || n < sizeof header || n > CONTEXT_BYTES_MAX)
        return PAWL_E_BAD_MESSAGE;
    memcpy(&header, bytes, sizeof header);
    uint64_t total = sizeof header + (uint64_t)header.run_id_bytes + header.dir_bytes + header.env_bytes;
    if (header.magic != CONTEXT_MAGIC || header.bytes > n || total > header.bytes ||
        round_up(total) != header.bytes || header.limit_count != RLIM_NLIMITS || header.umask > 0777)
        return PAWL_E_BAD_MESSAGE;
    const char *run_id = (const char *)bytes + sizeof header;
    const char *dir = run_id + header.run_id_bytes, *env = dir + header.dir_bytes;
    if (!is_text(run_id, header.run_id_bytes) || !is_text(dir, header.dir_bytes) || dir[0] == '\0' ||
        !is_strings(env, header.env_bytes, header.env_count))
        return PAWL_E_BAD_MESSAGE;
    *context_out = (struct pawl_context){
        .run_id = run_id,
        .dir = dir,
        .env = env,
        .env_count = header.env_count,
        .umask = header.umask,
        .nice = header.nice,
    };
    for (int i = 0; i < (int)RLIM_NLIMITS; i++) {
        context_out->limits[i].rlim_cur = header.limits[i][0];
        context_out->limits[i].rlim_max = header.limits[i][1];
    }
    return 0;
}

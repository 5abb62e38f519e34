/*
 * value.h - dynamically typed values, as JSON has them, with lists that need no node for each element.
 *
 * A value is 24 bytes, copied freely, and borrows what it points to: bytes and nodes live in an arena, in a
 * plan blob, or in a mapping of the caller, which must outlive it. Values are never changed once made.
 */
#ifndef PAWL_SCHEDULER_VALUE_H
#define PAWL_SCHEDULER_VALUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "scheduler/arena.h"

/* Stored in plan blobs (up to MAP): append only. LINES and VIRTUAL are lists to every rule of the language.
 */
enum pawl_value_kind {
    PAWL_VALUE_NULL = 0,
    PAWL_VALUE_BOOL = 1,
    PAWL_VALUE_INT = 2,
    PAWL_VALUE_DOUBLE = 3,
    PAWL_VALUE_STRING = 4, /* bytes: no encoding is promised, NULs are possible */
    PAWL_VALUE_LIST = 5,   /* an array of values */
    PAWL_VALUE_MAP = 6,    /* an array of pairs, in the order of the source */
    PAWL_VALUE_LINES = 7,  /* a list of text: the lines of a byte string */
    PAWL_VALUE_VIRTUAL = 8 /* a list served by a callback */
};

struct pawl_lines;
struct pawl_list_source;
struct pawl_pair;

struct pawl_value {
    enum pawl_value_kind kind;
    size_t count; /* STRING: bytes; LIST, MAP, LINES, VIRTUAL: elements; else 0 */
    union {
        bool boolean;
        int64_t integer;
        double real;
        const char *bytes;
        const struct pawl_value *items;
        const struct pawl_pair *pairs;
        const struct pawl_lines *lines;
        const struct pawl_list_source *source;
    };
};

struct pawl_pair {
    const char *key;
    size_t key_bytes;
    struct pawl_value value;
};

/* A list served on demand. Owned by the caller; must outlive each value made from it. */
struct pawl_list_source {
    uint64_t count;
    void *context;
    /* Element @index (< count) into *@value_out; may take memory from @arena. 0 or an error, which the
     * evaluation passes on. */
    int (*at)(const struct pawl_list_source *source, uint64_t index, struct pawl_arena *arena,
              struct pawl_value *value_out);
};

/* Lines of a byte string: one checkpoint for each PAWL_LINES_STRIDE lines, so a million lines cost 1 MB. */
enum { PAWL_LINES_STRIDE = 8 };
struct pawl_lines {
    const char *bytes;
    size_t length;
    uint64_t count;
    const uint64_t *checkpoints; /* byte offset of line 0, 8, 16, ... */
};

/* ---- making ---- */
struct pawl_value pawl_value_null(void);
struct pawl_value pawl_value_bool(bool boolean);
struct pawl_value pawl_value_int(int64_t integer);
struct pawl_value pawl_value_double(double real);
struct pawl_value pawl_value_bytes(const char *bytes, size_t length); /* borrows */
struct pawl_value pawl_value_text(const char *text);                  /* borrows; strlen */
struct pawl_value pawl_value_virtual(const struct pawl_list_source *source);

/**
 * pawl_lines_init - the list of the lines of @bytes, borrowed
 *
 * "a\nb\n" and "a\nb" have two lines, "" none, "\n" one empty one. A line's bytes come without its newline.
 * Reads all of
 * @bytes once; takes count/8 words from @arena.
 *
 * Return: 0, PAWL_E_LIMIT (arena).
 */
int pawl_lines_init(struct pawl_arena *arena, const char *bytes, size_t length, struct pawl_value *value_out);

/* ---- reading ---- */
bool pawl_value_is_list(const struct pawl_value *value); /* LIST, LINES or VIRTUAL */

/** pawl_value_at - element @index of any kind of list. Return: 0; PAWL_E_NOT_FOUND (beyond); the source's
 * error. */
int pawl_value_at(const struct pawl_value *list, uint64_t index, struct pawl_arena *arena,
                  struct pawl_value *value_out);

/** pawl_value_get - the value of a key of a MAP; NULL when absent or not a map. The last of equal keys
 * counts. */
const struct pawl_value *pawl_value_get(const struct pawl_value *map, const char *key, size_t key_bytes);

/** pawl_value_truth - false are null, false, 0, "", "false", and empty lists and maps; all else is true. */
bool pawl_value_truth(const struct pawl_value *value);

/** pawl_value_equal - deep; 1 == 1.0; text only with text. Return: 1, 0, or an error of a list source. */
int pawl_value_equal(const struct pawl_value *a, const struct pawl_value *b, struct pawl_arena *arena);

/** pawl_value_kind_name - "null", "bool", "int", "float", "text", "list" (all three kinds), "map". */
const char *pawl_value_kind_name(enum pawl_value_kind kind);

/* ---- writing ---- */

/* Takes the next @length bytes; 0, or an error that ends the writing and is returned by it. */
typedef int (*pawl_value_sink)(void *context, const void *bytes, size_t length);

enum { PAWL_VALUE_DEPTH_MAX = 64 }; /* nesting of lists and maps that JSON is read and written with */

/**
 * pawl_value_write_json - compact JSON (no newline), element by element, so a lazy list is never held whole
 *
 * Text that is not UTF-8 gets U+FFFD for each bad byte. A double that is no number (not finite) is written as
 * null.
 *
 * Return: 0; PAWL_E_LIMIT (deeper than PAWL_VALUE_DEPTH_MAX, or arena); the sink's or a source's error.
 */
int pawl_value_write_json(const struct pawl_value *value, pawl_value_sink sink, void *context);

/**
 * pawl_value_write_stdin - what a step reads: text as it is; a list as one element a line; null nothing; else
 * as text
 *
 * Elements of a list are written as pawl_value_to_text does.
 */
int pawl_value_write_stdin(const struct pawl_value *value, pawl_value_sink sink, void *context);

/**
 * pawl_value_to_text - how a value stands inside a text: null is empty, text is itself, the rest is compact
 * JSON
 * @limit_bytes: longest text allowed
 * @copy:        copy text too; without it, *@bytes_out of a text is the value's own bytes and has no NUL
 * behind it
 *
 * Return: 0; PAWL_E_LIMIT (longer than @limit_bytes, or arena); a source's error.
 */
int pawl_value_to_text(const struct pawl_value *value, size_t limit_bytes, bool copy,
                       struct pawl_arena *arena, const char **bytes_out, size_t *length_out);

struct pawl_json_error {
    size_t byte_offset; /* where in the source */
    char text[160];
};

/**
 * pawl_value_parse_json - one JSON value of any kind out of @bytes, copied into @arena
 * @depth_max: nesting allowed (at most PAWL_VALUE_DEPTH_MAX)
 * @error_out: may be NULL
 *
 * Whole numbers beyond int64 are an error. White space around is fine, anything else is not. NULs by \u0000
 * are refused.
 *
 * Return: 0; PAWL_E_INVALID (not JSON); PAWL_E_LIMIT (depth, arena); -ENOMEM.
 */
int pawl_value_parse_json(const char *bytes, size_t length, size_t depth_max, struct pawl_arena *arena,
                          struct pawl_value *value_out, struct pawl_json_error *error_out);

/** pawl_value_parse_params - the same of what a person wrote: a key that is in a map twice is PAWL_E_INVALID.
 */
int pawl_value_parse_params(const char *bytes, size_t length, size_t depth_max, struct pawl_arena *arena,
                            struct pawl_value *value_out, struct pawl_json_error *error_out);

#endif

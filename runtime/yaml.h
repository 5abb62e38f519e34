/*
 * yaml.h - a YAML document as a small tree with places, bounded in depth and nodes. For the loaders of files.
 *
 * Runs in clients. The tree lies in the caller's arena; texts too. Aliases share nodes, so the tree is a
 * graph without circles, whose expanded size is bounded.
 */
#ifndef PAWL_RUNTIME_YAML_H
#define PAWL_RUNTIME_YAML_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/loader.h"
#include "scheduler/arena.h"

enum pawl_yaml_kind { PAWL_YAML_SCALAR = 1, PAWL_YAML_SEQUENCE = 2, PAWL_YAML_MAPPING = 3 };

enum pawl_yaml_style {
    PAWL_YAML_PLAIN = 0,
    PAWL_YAML_SINGLE_QUOTED = 1,
    PAWL_YAML_DOUBLE_QUOTED = 2,
    PAWL_YAML_LITERAL = 3,
    PAWL_YAML_FOLDED = 4
};

struct pawl_yaml_node;

/* An element of a sequence (key NULL) or a pair of a mapping. */
struct pawl_yaml_item {
    struct pawl_yaml_node *key; /* a scalar */
    struct pawl_yaml_node *value;
    struct pawl_yaml_item *next;
};

struct pawl_yaml_node {
    uint8_t kind;                    /* enum pawl_yaml_kind */
    uint8_t style;                   /* enum pawl_yaml_style, of a scalar */
    uint16_t depth;                  /* levels below and with it: 1 for a scalar */
    uint32_t line;                   /* from 1 */
    uint32_t column;                 /* from 1 */
    uint32_t count;                  /* items */
    uint64_t expanded;               /* nodes below and with it, aliases counted each time */
    size_t source_start, source_end; /* bytes of the file that hold a scalar's text */
    const char *text;                /* SCALAR: NUL-terminated, without a NUL inside */
    size_t length;
    struct pawl_yaml_item *items, *last;
};

/**
 * pawl_yaml_parse - a tree out of bytes
 * @bytes:  without BOM
 * @root:   NULL for an empty document
 *
 * Mistakes go to @errors; what was read before a mistake is lost.
 *
 * Return: 0; PAWL_E_INVALID or PAWL_E_LIMIT (see @errors); -ENOMEM.
 */
int pawl_yaml_parse(const char *bytes, size_t length, const struct pawl_load_limits *limits,
                    struct pawl_arena *arena, struct pawl_yaml_node **root, struct pawl_load_errors *errors);

/** pawl_yaml_find - the value of a key of a mapping, and the key's node if @key_out is not NULL; NULL. */
struct pawl_yaml_node *pawl_yaml_find(const struct pawl_yaml_node *mapping, const char *key,
                                      struct pawl_yaml_node **key_out);

/** pawl_yaml_is - is it a scalar with this text? */
bool pawl_yaml_is(const struct pawl_yaml_node *node, const char *text);

/** pawl_yaml_is_null - an empty, `null` or `~` plain scalar? */
bool pawl_yaml_is_null(const struct pawl_yaml_node *node);

/** pawl_yaml_place - where byte @offset of a scalar's text stands in the file, as well as quoting and folding
 * let one tell. */
void pawl_yaml_place(const struct pawl_yaml_node *node, const char *source, size_t source_bytes,
                     size_t offset, uint32_t *line_out, uint32_t *column_out);

/** pawl_load_refuse - add a mistake, sorted by place; beyond PAWL_LOAD_ERRORS_MAX the first ones stay. */
__attribute__((format(printf, 6, 7))) void pawl_load_refuse(struct pawl_load_errors *errors, uint32_t line,
                                                            uint32_t column, const char *code,
                                                            const char *hint, const char *format, ...);

#endif

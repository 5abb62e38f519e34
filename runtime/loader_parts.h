/*
 * loader_parts.h - the state of one load. For loader*.c alone.
 */
#ifndef PAWL_RUNTIME_LOADER_PARTS_H
#define PAWL_RUNTIME_LOADER_PARTS_H

#include "runtime/yaml.h"
#include "scheduler/expr.h"
#include "scheduler/plan_builder.h"

/* A key that a mapping may have. */
struct pawl_loader_key {
    const char *name;
    uint8_t kinds; /* bits 1 << enum pawl_yaml_kind */
};
enum {
    PAWL_TAKES_SCALAR = 1u << PAWL_YAML_SCALAR,
    PAWL_TAKES_SEQUENCE = 1u << PAWL_YAML_SEQUENCE,
    PAWL_TAKES_MAPPING = 1u << PAWL_YAML_MAPPING,
    PAWL_TAKES_ANY = PAWL_TAKES_SCALAR | PAWL_TAKES_SEQUENCE | PAWL_TAKES_MAPPING
};

struct pawl_loader {
    const char *source; /* the file, without BOM */
    size_t source_bytes;
    struct pawl_arena arena;
    struct pawl_plan_builder *builder;
    struct pawl_load_errors *errors;
    const struct pawl_yaml_node *defaults; /* mapping or NULL */
    const struct pawl_yaml_node *steps_mapping;
    const struct pawl_yaml_node **steps; /* by step index: its mapping, NULL if it is none */
    uint32_t step_count;
    struct pawl_plan_run env; /* the workflow's, in the builder */
    int error;                /* what is not the file's fault: -ENOMEM, PAWL_E_LIMIT */
};

/* ---- mistakes ---- */

/** pawl_loader_refuse - a mistake at a node. */
__attribute__((format(printf, 5, 6))) void pawl_loader_refuse(struct pawl_loader *loader,
                                                              const struct pawl_yaml_node *node,
                                                              const char *code, const char *hint,
                                                              const char *format, ...);

/** pawl_loader_check_keys - unknown keys and values of a wrong kind; @what is "step `x`". Keys end with a
 * NULL name. */
void pawl_loader_check_keys(struct pawl_loader *loader, const struct pawl_yaml_node *mapping,
                            const struct pawl_loader_key *keys, const char *what);

/** pawl_loader_get - the value of a key if it has one of its kinds (mistakes were told by check_keys); NULL.
 */
const struct pawl_yaml_node *pawl_loader_get(const struct pawl_yaml_node *mapping, const char *key,
                                             uint8_t kinds);

/** pawl_loader_kind - "text", "a list", "a map". */
const char *pawl_loader_kind(const struct pawl_yaml_node *node);

/* ---- scalars: false after a mistake was told ---- */

bool pawl_loader_name(struct pawl_loader *loader, const struct pawl_yaml_node *node, const char *what);
bool pawl_loader_bool(struct pawl_loader *loader, const struct pawl_yaml_node *node, const char *key,
                      bool *value_out);
bool pawl_loader_int(struct pawl_loader *loader, const struct pawl_yaml_node *node, const char *key,
                     int64_t least, int64_t most, int64_t *value_out);
bool pawl_loader_double(struct pawl_loader *loader, const struct pawl_yaml_node *node, const char *key,
                        double least, double most, double *value_out);
bool pawl_loader_duration(struct pawl_loader *loader, const struct pawl_yaml_node *node, const char *key,
                          uint64_t *ns_out);

/** pawl_loader_scalar - the value that a scalar means: null, bool, int, float or text. */
bool pawl_loader_scalar(struct pawl_loader *loader, const struct pawl_yaml_node *node,
                        struct pawl_value *value_out);

/** pawl_loader_value - a node and all below it as a constant. */
bool pawl_loader_value(struct pawl_loader *loader, const struct pawl_yaml_node *node,
                       struct pawl_value *value_out);

/* ---- templates: PAWL_PLAN_NONE after a mistake was told ---- */

/** pawl_loader_text - a scalar as text with expressions ("5" stays "5"). */
uint32_t pawl_loader_text(struct pawl_loader *loader, const struct pawl_yaml_node *node,
                          const struct pawl_expr_scope *scope);

/** pawl_loader_template - a node of any kind; scalars keep the type that they mean. */
uint32_t pawl_loader_template(struct pawl_loader *loader, const struct pawl_yaml_node *node,
                              const struct pawl_expr_scope *scope);

/** pawl_loader_list - for foreach and matrix: a list, or one expression that may give one. */
uint32_t pawl_loader_list(struct pawl_loader *loader, const struct pawl_yaml_node *node, const char *key,
                          const struct pawl_expr_scope *scope);

/** pawl_loader_env - the entries of an env: mapping into the builder, for a step or the workflow
 * (PAWL_PLAN_NONE). */
void pawl_loader_env(struct pawl_loader *loader, const struct pawl_yaml_node *mapping, uint32_t step_index,
                     const struct pawl_expr_scope *scope);

/* ---- steps ---- */

void pawl_loader_check_defaults(struct pawl_loader *loader);
void pawl_loader_declare_steps(struct pawl_loader *loader, const struct pawl_yaml_node *mapping);
void pawl_loader_link_steps(struct pawl_loader *loader);
void pawl_loader_fill_steps(struct pawl_loader *loader);
bool pawl_loader_retries(struct pawl_loader *loader, uint32_t step_index,
                         const struct pawl_yaml_node *mapping);

#endif

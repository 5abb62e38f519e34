/*
 * plan_format.h - the inside of a plan blob: header, sections, expression nodes, constants. For plan*.c and
 * expr*.c alone.
 *
 *   0    header       magic, version, bytes, checksum over all that follows it
 *   32   ...          name, source, the workflow's env, hash of the parameters, table of sections
 *   248  sections     in the order of enum pawl_plan_section_id, each 8-aligned, together the rest of the
 * blob
 *
 * Runs of entries (argv, env, needs, ...) tile their section: each begins where the one before ended, in the
 * order of the steps, so no two owners share an entry and checking is linear. Templates tile the nodes in the
 * same way.
 */
#ifndef PAWL_SCHEDULER_PLAN_FORMAT_H
#define PAWL_SCHEDULER_PLAN_FORMAT_H

#include "scheduler/plan.h"

enum pawl_plan_section_id {
    PAWL_SECTION_STEPS = 0,
    PAWL_SECTION_TEMPLATES = 1,
    PAWL_SECTION_NODES = 2,
    PAWL_SECTION_VALUES = 3,
    PAWL_SECTION_PARAMS = 4,
    PAWL_SECTION_ENV = 5,      /* the workflow's, then each step's */
    PAWL_SECTION_AXES = 6,     /* each step's */
    PAWL_SECTION_ARGV = 7,     /* u32 template, each step's */
    PAWL_SECTION_EDGES = 8,    /* u32 step: the needs of each step, then the dependents of each */
    PAWL_SECTION_CODES = 9,    /* i32: on_exit and never_on_exit of each step */
    PAWL_SECTION_REFS = 10,    /* u32 step, each template's */
    PAWL_SECTION_ORDER = 11,   /* u32 step: topological */
    PAWL_SECTION_BY_NAME = 12, /* u32 step: rising by name */
    PAWL_SECTION_STRINGS = 13, /* bytes */
    PAWL_SECTION_COUNT = 14
};

struct pawl_plan_section {
    uint32_t byte_offset;
    uint32_t count; /* entries; bytes for STRINGS */
};

struct pawl_plan_header {
    uint64_t magic;
    uint32_t format_version;
    uint32_t header_bytes;
    uint64_t total_bytes;
    uint64_t checksum; /* XXH3, 64 bits, of everything from byte 32 on */
    struct pawl_plan_string name;
    struct pawl_plan_string source;
    struct pawl_plan_run env; /* the workflow's */
    uint64_t params_hash[2];
    uint64_t reserved[8];
    struct pawl_plan_section sections[PAWL_SECTION_COUNT];
};
enum { PAWL_PLAN_CHECKED_FROM = 32 };
static_assert(offsetof(struct pawl_plan_header, name) == PAWL_PLAN_CHECKED_FROM, "plan format");
static_assert(offsetof(struct pawl_plan_header, sections) == 136, "plan format");
static_assert(sizeof(struct pawl_plan_header) == 248, "plan format");

/* A constant. Elements of a list, and keys and values of a map in turns, stand together, behind their owner.
 */
struct pawl_plan_value {
    uint8_t kind; /* enum pawl_value_kind, up to MAP */
    uint8_t reserved[3];
    uint32_t count; /* STRING: bytes; LIST: elements; MAP: pairs */
    union {
        int64_t integer; /* INT, BOOL */
        double real;
        uint64_t first; /* STRING: byte offset in the strings; LIST, MAP: value index of the first element */
    };
};
static_assert(sizeof(struct pawl_plan_value) == 16, "plan format");

/* Operations: stored, append only. Children in brackets, data after the colon. */
enum pawl_op {
    PAWL_OP_CONST = 1,        /* : value */
    PAWL_OP_PARAM = 2,        /* : param */
    PAWL_OP_ENV_VAR = 3,      /* : value (STRING), a variable of the submitter */
    PAWL_OP_ENV_TEMPLATE = 4, /* : template with a smaller index, an entry of env: */
    PAWL_OP_ITEM = 5,
    PAWL_OP_INDEX = 6,
    PAWL_OP_RUN_ID = 7,
    PAWL_OP_STEP_OUTPUT = 8, /* : step */
    PAWL_OP_STEP_OUTPUTS = 9,
    PAWL_OP_STEP_EXIT_CODE = 10,
    PAWL_OP_STEP_STATE = 11,
    PAWL_OP_STEP_NAMED = 12, /* [CONST STRING] : step */
    PAWL_OP_CONCAT = 13,     /* [1..] text of all */
    PAWL_OP_LIST = 14,       /* [0..] */
    PAWL_OP_MAP = 15,        /* [key CONST STRING, value]... */
    PAWL_OP_NOT = 16,        /* [1] */
    PAWL_OP_NEGATE = 17,     /* [1] */
    PAWL_OP_AND = 18,        /* [2] from here to GET */
    PAWL_OP_OR = 19,
    PAWL_OP_EQ = 20,
    PAWL_OP_NE = 21,
    PAWL_OP_LT = 22,
    PAWL_OP_LE = 23,
    PAWL_OP_GT = 24,
    PAWL_OP_GE = 25,
    PAWL_OP_IN = 26,
    PAWL_OP_NOT_IN = 27,
    PAWL_OP_ADD = 28,
    PAWL_OP_SUB = 29,
    PAWL_OP_MUL = 30,
    PAWL_OP_DIV = 31,
    PAWL_OP_MOD = 32,
    PAWL_OP_GET = 33, /* container, index or key */
    PAWL_OP_LEN = 34, /* [1] */
    PAWL_OP_DEFAULT = 35,
    PAWL_OP_BASENAME = 36,
    PAWL_OP_DIRNAME = 37,
    PAWL_OP_JOIN = 38,
    PAWL_OP_SPLIT = 39,
    PAWL_OP_JSON = 40,
    PAWL_OP_LINES = 41,
    PAWL_OP_QUOTE = 42,
    PAWL_OP_SUCCESS = 43,
    PAWL_OP_FAILED = 44,
    PAWL_OP_ALWAYS = 45,
    PAWL_OP_END = 46
};

enum { PAWL_EXPR_TREE_DEPTH_MAX = 100 }; /* of a template: lists of a file around expressions included */

struct pawl_plan_node {
    uint8_t op;
    uint8_t types;   /* compile time: bit for each kind that it may give; 0 in blobs of no compiler */
    uint16_t column; /* byte in the template's source where it begins; 65535: that or beyond */
    uint32_t child;  /* first child or PAWL_PLAN_NONE; below this node's own index */
    uint32_t next;   /* next child of the same parent or PAWL_PLAN_NONE; above this node's index */
    uint32_t data;
};
static_assert(sizeof(struct pawl_plan_node) == 16, "plan format");

enum pawl_op_data {
    PAWL_DATA_NONE = 0,
    PAWL_DATA_VALUE = 1, /* a constant */
    PAWL_DATA_TEXT = 2,  /* a constant that is text */
    PAWL_DATA_PARAM = 3,
    PAWL_DATA_TEMPLATE = 4, /* one with a smaller index */
    PAWL_DATA_STEP = 5
};

/* Bits of enum pawl_value_kind, as far as the compiler can tell; lists of all kinds are LIST. */
enum {
    PAWL_TYPE_NULL = 1u << PAWL_VALUE_NULL,
    PAWL_TYPE_BOOL = 1u << PAWL_VALUE_BOOL,
    PAWL_TYPE_INT = 1u << PAWL_VALUE_INT,
    PAWL_TYPE_DOUBLE = 1u << PAWL_VALUE_DOUBLE,
    PAWL_TYPE_TEXT = 1u << PAWL_VALUE_STRING,
    PAWL_TYPE_LIST = 1u << PAWL_VALUE_LIST,
    PAWL_TYPE_MAP = 1u << PAWL_VALUE_MAP,
    PAWL_TYPE_NUMBER = PAWL_TYPE_INT | PAWL_TYPE_DOUBLE,
    PAWL_TYPE_ANY = 0x7f
};

struct pawl_op_shape {
    const char *name; /* of the function or operator; of others, what to call it in a message */
    uint32_t arguments_min, arguments_max;
    uint8_t data;  /* enum pawl_op_data */
    uint8_t takes; /* types of the children, if all are alike; ANY otherwise */
    uint8_t gives; /* types of the result */
    bool is_function;
    uint32_t uses; /* enum pawl_template_flags */
};
/** pawl_op_shape - what an operation is made of; NULL if there is no such. */
const struct pawl_op_shape *pawl_op_shape(uint32_t op);

size_t pawl_plan_entry_bytes(enum pawl_plan_section_id id);

struct pawl_plan {
    const uint8_t *blob;
    size_t bytes;
    void *owned; /* to free, or NULL */
    const struct pawl_plan_header *header;
    const struct pawl_plan_step *steps;
    const struct pawl_plan_template *templates;
    const struct pawl_plan_node *nodes;
    const struct pawl_plan_value *values;
    const struct pawl_plan_param *params;
    const struct pawl_plan_env *env;
    const struct pawl_plan_axis *axes;
    const uint32_t *argv;
    const uint32_t *edges;
    const int32_t *codes;
    const uint32_t *refs;
    const uint32_t *order;
    const uint32_t *by_name;
    const char *strings;
    uint32_t counts[PAWL_SECTION_COUNT];
};

/** pawl_plan_map - fill a handle's pointers from a blob whose header and section table have been checked, or
 * were just made. */
void pawl_plan_map(struct pawl_plan *plan, const void *blob, size_t bytes);

/** pawl_plan_check_header - may the sections be looked at at all? Return and *why_out as for pawl_plan_open.
 */
int pawl_plan_check_header(const void *blob, size_t bytes, const struct pawl_plan_limits *limits,
                           const char **why_out);

/** pawl_plan_check - does what the sections hold hold together? Return and *why_out as for pawl_plan_open. */
int pawl_plan_check(const struct pawl_plan *plan, const char **why_out);

/** pawl_plan_hash - digests of parameters and steps. @steps and @header are the (writable) ones of @plan.
 * Return: 0, -ENOMEM. */
int pawl_plan_hash(const struct pawl_plan *plan, struct pawl_plan_header *header,
                   struct pawl_plan_step *steps);

/** pawl_plan_seal - write the checksum into a finished blob. */
void pawl_plan_seal(void *blob, size_t bytes);

#endif

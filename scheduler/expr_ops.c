/*
 * expr_ops.c - the table of operations: what each is called, takes and gives.
 *
 * Read by the compiler, the validator and the evaluator. Constant data.
 */
#include "scheduler/plan_format.h"

#define NONE   PAWL_DATA_NONE
#define NULL_T PAWL_TYPE_NULL
#define BOOL   PAWL_TYPE_BOOL
#define INT    PAWL_TYPE_INT
#define NUMBER PAWL_TYPE_NUMBER
#define TEXT   PAWL_TYPE_TEXT
#define LIST   PAWL_TYPE_LIST
#define MAP    PAWL_TYPE_MAP
#define ANY    PAWL_TYPE_ANY
#define STEPS  PAWL_TEMPLATE_USES_STEPS

static const struct pawl_op_shape shapes[PAWL_OP_END] = {
    [PAWL_OP_CONST] = {"constant", 0, 0, PAWL_DATA_VALUE, ANY, ANY, false, 0},
    [PAWL_OP_PARAM] = {"params", 0, 0, PAWL_DATA_PARAM, ANY, ANY, false, PAWL_TEMPLATE_USES_PARAMS},
    [PAWL_OP_ENV_VAR] = {"env", 0, 0, PAWL_DATA_TEXT, ANY, TEXT | NULL_T, false, PAWL_TEMPLATE_USES_ENV},
    [PAWL_OP_ENV_TEMPLATE] = {"env", 0, 0, PAWL_DATA_TEMPLATE, ANY, TEXT, false, 0},
    [PAWL_OP_ITEM] = {"item", 0, 0, NONE, ANY, ANY, false, PAWL_TEMPLATE_USES_ITEM},
    [PAWL_OP_INDEX] = {"index", 0, 0, NONE, ANY, INT, false, PAWL_TEMPLATE_USES_INDEX},
    [PAWL_OP_RUN_ID] = {"run.id", 0, 0, NONE, ANY, TEXT, false, PAWL_TEMPLATE_USES_RUN},
    [PAWL_OP_STEP_OUTPUT] = {"output", 0, 0, PAWL_DATA_STEP, ANY, ANY, false, STEPS},
    [PAWL_OP_STEP_OUTPUTS] = {"outputs", 0, 0, PAWL_DATA_STEP, ANY, LIST, false, STEPS},
    [PAWL_OP_STEP_EXIT_CODE] = {"exit_code", 0, 0, PAWL_DATA_STEP, ANY, INT | NULL_T, false, STEPS},
    [PAWL_OP_STEP_STATE] = {"state", 0, 0, PAWL_DATA_STEP, ANY, TEXT, false, STEPS},
    [PAWL_OP_STEP_NAMED] = {"named output", 1, 1, PAWL_DATA_STEP, ANY, ANY, false, STEPS},
    [PAWL_OP_CONCAT] = {"text", 1, UINT32_MAX, NONE, ANY, TEXT, false, 0},
    [PAWL_OP_LIST] = {"list", 0, UINT32_MAX, NONE, ANY, LIST, false, 0},
    [PAWL_OP_MAP] = {"map", 0, UINT32_MAX, NONE, ANY, MAP, false, 0},
    [PAWL_OP_NOT] = {"not", 1, 1, NONE, ANY, BOOL, false, 0},
    [PAWL_OP_NEGATE] = {"-", 1, 1, NONE, NUMBER, NUMBER, false, 0},
    [PAWL_OP_AND] = {"and", 2, 2, NONE, ANY, ANY, false, 0},
    [PAWL_OP_OR] = {"or", 2, 2, NONE, ANY, ANY, false, 0},
    [PAWL_OP_EQ] = {"==", 2, 2, NONE, ANY, BOOL, false, 0},
    [PAWL_OP_NE] = {"!=", 2, 2, NONE, ANY, BOOL, false, 0},
    [PAWL_OP_LT] = {"<", 2, 2, NONE, NUMBER | TEXT, BOOL, false, 0},
    [PAWL_OP_LE] = {"<=", 2, 2, NONE, NUMBER | TEXT, BOOL, false, 0},
    [PAWL_OP_GT] = {">", 2, 2, NONE, NUMBER | TEXT, BOOL, false, 0},
    [PAWL_OP_GE] = {">=", 2, 2, NONE, NUMBER | TEXT, BOOL, false, 0},
    [PAWL_OP_IN] = {"in", 2, 2, NONE, ANY, BOOL, false, 0},
    [PAWL_OP_NOT_IN] = {"not in", 2, 2, NONE, ANY, BOOL, false, 0},
    [PAWL_OP_ADD] = {"+", 2, 2, NONE, NUMBER | TEXT, NUMBER | TEXT, false, 0},
    [PAWL_OP_SUB] = {"-", 2, 2, NONE, NUMBER, NUMBER, false, 0},
    [PAWL_OP_MUL] = {"*", 2, 2, NONE, NUMBER, NUMBER, false, 0},
    [PAWL_OP_DIV] = {"/", 2, 2, NONE, NUMBER, NUMBER, false, 0},
    [PAWL_OP_MOD] = {"%", 2, 2, NONE, NUMBER, NUMBER, false, 0},
    [PAWL_OP_GET] = {"[]", 2, 2, NONE, ANY, ANY, false, 0},
    [PAWL_OP_LEN] = {"len", 1, 1, NONE, TEXT | LIST | MAP, INT, true, 0},
    [PAWL_OP_DEFAULT] = {"default", 2, 2, NONE, ANY, ANY, true, 0},
    [PAWL_OP_BASENAME] = {"basename", 1, 2, NONE, TEXT, TEXT, true, 0},
    [PAWL_OP_DIRNAME] = {"dirname", 1, 1, NONE, TEXT, TEXT, true, 0},
    [PAWL_OP_JOIN] = {"join", 1, 2, NONE, ANY, TEXT, true, 0},
    [PAWL_OP_SPLIT] = {"split", 1, 2, NONE, TEXT, LIST, true, 0},
    [PAWL_OP_JSON] = {"json", 1, 1, NONE, ANY, ANY, true, 0},
    [PAWL_OP_LINES] = {"lines", 1, 1, NONE, TEXT, LIST, true, 0},
    [PAWL_OP_QUOTE] = {"quote", 1, 1, NONE, ANY, TEXT, true, 0},
    [PAWL_OP_SUCCESS] = {"success", 0, 0, NONE, ANY, BOOL, true, PAWL_TEMPLATE_USES_OUTCOME},
    [PAWL_OP_FAILED] = {"failed", 0, 0, NONE, ANY, BOOL, true, PAWL_TEMPLATE_USES_OUTCOME},
    [PAWL_OP_ALWAYS] = {"always", 0, 0, NONE, ANY, BOOL, true, PAWL_TEMPLATE_USES_OUTCOME},
};

const struct pawl_op_shape *pawl_op_shape(uint32_t op)
{
    return op < PAWL_OP_END && shapes[op].name ? &shapes[op] : NULL;
}

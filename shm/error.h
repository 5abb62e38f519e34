/*
 * error.h - one table of error codes: 0 is success, -errno is the system's, below -10000 is ours.
 */
#ifndef PAWL_SHM_ERROR_H
#define PAWL_SHM_ERROR_H

/* Said wherever a disk is called full: df shows free space then. Of the journal's default sizes (journal.h).
 */
#define PAWL_RESERVE_WORDS "16 MiB are kept back for results and acks"

#define PAWL_ERROR_MAP(X)                                                                                    \
    X(PAWL_E_QUEUE_FULL, -10001, "the queue is full: it has no room by its depth or its bytes")              \
    X(PAWL_E_QUEUE_EMPTY, -10002, "no delivery is ready")                                                    \
    X(PAWL_E_STALE_RECEIPT, -10003, "delivery was already settled or given again")                           \
    X(PAWL_E_BAD_FORMAT, -10004, "unknown format or format version")                                         \
    X(PAWL_E_DAMAGED, -10005, "journal is damaged")                                                          \
    X(PAWL_E_BAD_MESSAGE, -10006, "message from another process does not hold")                              \
    X(PAWL_E_LIMIT, -10007, "a stated limit was reached")                                                    \
    X(PAWL_E_INVALID, -10008, "argument, workflow or configuration is invalid")                              \
    X(PAWL_E_BUSY, -10009, "another scheduler owns the state directory")                                     \
    X(PAWL_E_NOT_FOUND, -10010, "no such object")                                                            \
    X(PAWL_E_STATE, -10011, "not possible in the present state")                                             \
    X(PAWL_E_NO_SPACE, -10012, "journal has no room for new work (" PAWL_RESERVE_WORDS ")")                  \
    X(PAWL_E_INDEFINITE, -10013, "fate unknown: it may or may not have become durable")                      \
    X(PAWL_E_SYNC_FAILED, -10014, "the journal could not be synced")                                         \
    X(PAWL_E_CLOSED, -10015, "the other side is gone")                                                       \
    X(PAWL_E_DUPLICATE, -10016, "this key was published before")                                             \
    X(PAWL_E_UNROUTED, -10017, "no queue wants this topic")                                                  \
    X(PAWL_E_INCOMPATIBLE, -10018, "the queue exists with settings that cannot be changed to these")

#ifndef PAWL_ERROR_SYMBOLS /* pawl.h has them too, for programs */
#define PAWL_ERROR_SYMBOLS
#define PAWL_ERROR_ENUM(name, value, text) name = value,
enum pawl_error { PAWL_ERROR_MAP(PAWL_ERROR_ENUM) };
#undef PAWL_ERROR_ENUM
#endif

/**
 * pawl_error_text - words for a code
 * @error: 0, -errno or PAWL_E_*
 *
 * Return: a static string (thread-local for system errors), never NULL.
 */
const char *pawl_error_text(int error);

/**
 * pawl_error_name - the symbol of a PAWL_E_* code or of an errno ("EIO"); "E_UNKNOWN" otherwise.
 */
const char *pawl_error_name(int error);

#endif

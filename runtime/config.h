/*
 * config.h - the configuration: flags, environment, file, defaults; checked, with the place of each mistake.
 *
 * The file is pawl.yaml in the state directory, or the one that --config names. Runs in the scheduler (which
 * reads it at its start and on SIGHUP), in `pawl serve` and in `pawl config show`.
 */
#ifndef PAWL_RUNTIME_CONFIG_H
#define PAWL_RUNTIME_CONFIG_H

#include <stdbool.h>

#include "runtime/loader.h"
#include "scheduler/bus/limits.h"

enum pawl_config_origin {
    PAWL_ORIGIN_DEFAULT = 0,
    PAWL_ORIGIN_FILE,
    PAWL_ORIGIN_ENVIRONMENT,
    PAWL_ORIGIN_FLAG,
};

enum {
    PAWL_CONFIG_LIMITS_MAX = 40,
    PAWL_CONFIG_QUEUES_MAX = 65536,
    PAWL_CONFIG_PATH_BYTES = 4096,
};

/* Where each entry of pawl_limit_table came from. */
struct pawl_config_origins {
    uint8_t limit[PAWL_CONFIG_LIMITS_MAX]; /* enum pawl_config_origin */
    bool file_read;
};

/* A flag of the command line that stands for a setting. */
struct pawl_config_flag {
    const char *name, *value;
};

struct pawl_config_source {
    int dirfd;        /* of the state directory; -1: none is there (only --config, environment, defaults) */
    const char *path; /* --config, absolute where the working directory may change; NULL: dirfd/pawl.yaml */
    const struct pawl_config_flag *flags; /* borrowed */
    size_t flag_count;
};

/**
 * pawl_config_load - all of it
 * @origins: may be NULL
 * @errors: mistakes: of the file with their places, of environment and flags with line 0
 *
 * A file named by source->path must exist; pawl.yaml need not.
 *
 * Return: 0 and a configuration (pawl_config_fini()), which refers to source->path; PAWL_E_INVALID,
 * PAWL_E_LIMIT, -errno with @errors. Then *config_out is the defaults.
 */
int pawl_config_load(const struct pawl_config_source *source, struct pawl_config *config_out,
                     struct pawl_config_origins *origins, struct pawl_load_errors *errors);

/** pawl_config_complain - the mistakes as lines of words, "pawl.yaml:3:5: what (hint)", cut to fit. */
void pawl_config_complain(const struct pawl_config_source *source, const struct pawl_load_errors *errors,
                          char *text, size_t bytes);

/** pawl_config_limit_text - a value as one would write it: "30s", "1MiB", "reject", "disk". */
const char *pawl_config_limit_text(const struct pawl_limit *limit, uint64_t value, char text[64]);

/** pawl_config_limit_parse - the reverse. 0; PAWL_E_INVALID; PAWL_E_LIMIT, with words that begin with the
 * value. */
int pawl_config_limit_parse(const struct pawl_limit *limit, const char *text, uint64_t *value_out,
                            char why[320]);

/** pawl_config_variable - "PAWL_ACK_WAIT" for "ack-wait". */
void pawl_config_variable(const struct pawl_limit *limit, char name[64]);

/** pawl_config_file_name - what people should call the file: the path, or "pawl.yaml". */
const char *pawl_config_file_name(const struct pawl_config_source *source);

#endif

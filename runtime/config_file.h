/*
 * config_file.h - the configuration file's own form. For config.c.
 */
#ifndef PAWL_RUNTIME_CONFIG_FILE_H
#define PAWL_RUNTIME_CONFIG_FILE_H

#include "runtime/config.h"

/** pawl_config_file_parse - its settings over those in @config. 0; PAWL_E_INVALID, PAWL_E_LIMIT (see
 * @errors); -ENOMEM. */
int pawl_config_file_parse(const char *bytes, size_t length, struct pawl_config *config,
                           struct pawl_config_origins *origins, struct pawl_load_errors *errors);

#endif

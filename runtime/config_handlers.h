/*
 * config_handlers.h - `handlers:` of the configuration: which queues have processes of `pawl serve`, and what
 * those do.
 *
 *   handlers:
 *     - {queue: orders, plugin: orders.so, config: {rate: 5}, processes: 2, prefetch: 16}
 *     - {queue: clicks, group: billing, exec: [./handle-click, --fast]}
 */
#ifndef PAWL_RUNTIME_CONFIG_HANDLERS_H
#define PAWL_RUNTIME_CONFIG_HANDLERS_H

#include "runtime/config.h"
#include "runtime/yaml.h"

enum { PAWL_HANDLER_PROCESSES_MAX = 4096 /* of one handler, and of all together */ };

/** pawl_config_handlers_take - the value of `handlers:` into @config. Mistakes go to @errors. 0 or -ENOMEM.
 */
int pawl_config_handlers_take(struct pawl_config *config, const struct pawl_yaml_node *node,
                              struct pawl_load_errors *errors);

/** pawl_config_handlers_resolve - paths that are relative are so to the directory of the file that is open at
 * @fd. 0; -errno. */
int pawl_config_handlers_resolve(struct pawl_config *config, int fd);

/** pawl_config_handler_processes - how many it has. */
uint32_t pawl_config_handler_processes(const struct pawl_config *config,
                                       const struct pawl_config_handler *handler);

/** pawl_config_handlers_check - do they fit? Mistakes go to @errors, without a place. */
void pawl_config_handlers_check(const struct pawl_config *config, struct pawl_load_errors *errors);

/** pawl_config_handler_same - would a process of one do as one of the other? */
bool pawl_config_handler_same(const struct pawl_config_handler *a, const struct pawl_config_handler *b);

/** pawl_config_handler_copy - 0 or -ENOMEM; then *copy_out has nothing. */
int pawl_config_handler_copy(const struct pawl_config_handler *handler, struct pawl_config_handler *copy_out);

#endif

/*
 * config.c - the configuration, as a command sees it: pawl.yaml of the state directory, if there is one, and
 * the environment.
 *
 * Runs in: the command.
 */
#include "runtime/cli/config.h"

#include <fcntl.h>
#include <unistd.h>

#include "runtime/cli/errors.h"
#include "runtime/config.h"

int pawl_cli_load_limits(const struct pawl_cli *cli, struct pawl_load_limits *limits_out)
{
    static struct pawl_load_errors errors;
    struct pawl_config config;
    const struct pawl_config_source source = {.dirfd = open(cli->state, O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
    int error = pawl_config_load(&source, &config, NULL, &errors);
    if (source.dirfd >= 0)
        close(source.dirfd);
    if (error != 0) {
        (void)pawl_fail_load(cli, pawl_config_file_name(&source), error, &errors);
        return PAWL_EXIT_INVALID;
    }
    *limits_out = (struct pawl_load_limits){.file_bytes_max = config.run.file_bytes,
                                            .depth_max = (uint32_t)config.run.file_depth,
                                            .nodes_max = (uint32_t)config.run.file_nodes};
    pawl_config_fini(&config);
    return 0;
}

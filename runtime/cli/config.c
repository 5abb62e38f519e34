/*
 * config.c - the configuration, as a command sees it: pawl.yaml of the state directory, if there is one, and
 * the environment.
 *
 * Runs in: the command.
 */
#include "runtime/cli/config.h"

#include <string.h>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/cli/errors.h"
#include "runtime/config.h"

void pawl_cli_tell_fifo(const struct pawl_cli *cli, const char *file)
{
    struct stat about;
    bool of_shell = strncmp(file, "/dev/fd/", 8) == 0 || strncmp(file, "/proc/", 6) == 0; /* <(...) */
    if (!of_shell && stat(file, &about) == 0 && S_ISFIFO(about.st_mode))
        pawl_note(cli, "%s is a FIFO: waiting for what is written into it", file);
}

int pawl_cli_load_workflow(const struct pawl_cli *cli, const char *file,
                           const struct pawl_load_limits *limits, struct pawl_plan **plan_out,
                           struct pawl_load_errors *errors)
{
    pawl_cli_tell_fifo(cli, file);
    return pawl_workflow_load(file, limits, plan_out, errors);
}

int pawl_cli_load_limits(const struct pawl_cli *cli, struct pawl_load_limits *limits_out)
{
    static struct pawl_load_errors errors;
    struct pawl_config config;
    const struct pawl_config_source source = {.dirfd = open(cli->state, O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
    int error = pawl_config_load(&source, &config, NULL, &errors);
    if (source.dirfd >= 0)
        close(source.dirfd);
    if (error != 0)
        return pawl_fail_config(cli, &source, error, &errors);
    *limits_out = (struct pawl_load_limits){.file_bytes_max = config.run.file_bytes,
                                            .depth_max = (uint32_t)config.run.file_depth,
                                            .nodes_max = (uint32_t)config.run.file_nodes};
    pawl_config_fini(&config);
    return 0;
}

/*
 * plugin.c - loads a handler from a shared object, and believes its descriptor only after a look.
 *
 * Runs in: handler processes. Never in supervisor or scheduler: an object may do anything.
 */
#include "runtime/plugin.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <dlfcn.h>
#include <unistd.h>

#include <jansson.h>

#include "shm/error.h"

__attribute__((format(printf, 3, 4))) static int refuse(char why[PAWL_PLUGIN_WHY_BYTES], int error,
                                                        const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(why, PAWL_PLUGIN_WHY_BYTES, format, arguments);
    va_end(arguments);
    return error;
}

static int check_config(const char *path, const char *config_json, char why[PAWL_PLUGIN_WHY_BYTES])
{
    json_error_t place;
    json_t *config = config_json ? json_loads(config_json, JSON_DECODE_ANY, &place) : NULL;
    if (config_json && !config)
        return refuse(why, PAWL_E_INVALID, "%.200s: its configuration is no JSON: %s", path, place.text);
    json_decref(config);
    return 0;
}

/* The loader's words often begin with the path themselves. */
static const char *without_path(const char *words, const char *path)
{
    size_t bytes = strlen(path);
    return strncmp(words, path, bytes) == 0 && strncmp(words + bytes, ": ", 2) == 0 ? words + bytes + 2
                                                                                    : words;
}

static int check_descriptor(const char *path, const struct pawl_plugin *plugin,
                            char why[PAWL_PLUGIN_WHY_BYTES])
{
    /* abi and bytes stand at the same place in every version, the rest only in this one. */
    if (plugin->abi != PAWL_PLUGIN_ABI)
        return refuse(why, PAWL_E_BAD_FORMAT, "%.200s: it is made for ABI %u of plugins, this is ABI %u",
                      path, plugin->abi, (unsigned)PAWL_PLUGIN_ABI);
    if (plugin->bytes < sizeof *plugin)
        return refuse(why, PAWL_E_BAD_FORMAT, "%.200s: its descriptor has %u bytes, %zu are needed", path,
                      plugin->bytes, sizeof *plugin);
    if (!plugin->handle)
        return refuse(why, PAWL_E_INVALID, "%.200s: its descriptor has no handle()", path);
    return 0;
}

int pawl_plugin_load(const char *path, const char *config_json, struct pawl_plugin_instance *instance_out,
                     char why[PAWL_PLUGIN_WHY_BYTES])
{
    struct pawl_plugin_instance instance = {0};
    memset(instance_out, 0, sizeof *instance_out);
    why[0] = '\0';
    char *real = realpath(path, NULL); /* dlopen() would look for a name without a slash elsewhere */
    if (!real)
        return refuse(why, errno == ENOENT || errno == ENOTDIR ? PAWL_E_NOT_FOUND : -errno,
                      "%.200s: there is no such plugin: %s", path, strerror(errno));
    int error = check_config(path, config_json, why);
    if (error)
        goto free_real;
    instance.object = dlopen(real, RTLD_NOW | RTLD_LOCAL);
    if (!instance.object) {
        const char *words = dlerror();
        error = refuse(why, PAWL_E_BAD_FORMAT, "%.200s: it cannot be loaded: %.250s", path,
                       words ? without_path(words, real) : "no reason is known");
        goto free_real;
    }
    instance.plugin = dlsym(instance.object, "pawl_plugin");
    if (!instance.plugin)
        error = refuse(why, PAWL_E_BAD_FORMAT, "%.200s: it exports no descriptor `pawl_plugin`", path);
    else
        error = check_descriptor(path, instance.plugin, why);
    int code = !error && instance.plugin->init ? instance.plugin->init(config_json, &instance.context) : 0;
    if (code)
        error = refuse(why, PAWL_E_STATE, "%.200s: its init() failed with %d", path, code);
    if (error)
        dlclose(instance.object);
    else
        *instance_out = instance;
free_real:
    free(real);
    return error;
}

void pawl_plugin_unload(struct pawl_plugin_instance *instance)
{
    if (!instance->object)
        return;
    if (instance->plugin->fini)
        instance->plugin->fini(instance->context);
    dlclose(instance->object);
    memset(instance, 0, sizeof *instance);
}

int pawl_plugin_handle(struct pawl_consumer *consumer, const struct pawl_delivery *delivery, void *context)
{
    const struct pawl_plugin_instance *instance = context;
    (void)consumer;
    return instance->plugin->handle(delivery, instance->context);
}

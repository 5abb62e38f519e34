/*
 * plugin.h - handlers in shared objects (struct pawl_plugin of pawl.h): loaded, checked, made ready,
 * unloaded.
 *
 * Runs in: handler processes of `pawl serve` and `pawl consume`. The object runs with all rights of its
 * process, so nobody else loads one.
 */
#ifndef PAWL_RUNTIME_PLUGIN_H
#define PAWL_RUNTIME_PLUGIN_H

#include "runtime/pawl.h"

enum { PAWL_PLUGIN_WHY_BYTES = 512 };

struct pawl_plugin_instance {
    void *object;
    const struct pawl_plugin *plugin; /* in the object's memory */
    void *context;                    /* of its init() */
};

/**
 * pawl_plugin_load - load the object at @path, check its descriptor, call its init()
 * @config_json: for init(); NULL: none. It must be JSON
 * @why: words on failure, which begin with the path
 *
 * All symbols are bound at once, so that one that is missing fails here and not in a handler.
 *
 * Return: 0; PAWL_E_NOT_FOUND (no such file); PAWL_E_BAD_FORMAT (not a shared object, no descriptor, another
 * ABI); PAWL_E_INVALID (a descriptor without handle(), or @config_json is no JSON); PAWL_E_STATE (its init()
 * failed).
 */
int pawl_plugin_load(const char *path, const char *config_json, struct pawl_plugin_instance *instance_out,
                     char why[PAWL_PLUGIN_WHY_BYTES]);

/** pawl_plugin_unload - its fini(), and the object. A zeroed instance is fine. */
void pawl_plugin_unload(struct pawl_plugin_instance *instance);

/** pawl_plugin_handle - a pawl_handler whose context is the instance. */
int pawl_plugin_handle(struct pawl_consumer *consumer, const struct pawl_delivery *delivery, void *context);

#endif

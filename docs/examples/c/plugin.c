/*
 * plugin.c - a handler as a shared object, with a versioned descriptor.
 *
 *   cc -shared -fPIC -o plugin.so plugin.c $(pkg-config --cflags pawl)
 */
#include <stdio.h>
#include <stdlib.h>

#include <pawl.h>

struct counter {
    unsigned long events;
};

static int init(const char *config_json, void **context_out)
{
    (void)config_json;
    *context_out = calloc(1, sizeof(struct counter));
    return *context_out ? 0 : -1;
}

static int handle(const struct pawl_delivery *delivery, void *context)
{
    struct counter *counter = context;
    counter->events++;
    return delivery->data_bytes > 0 ? PAWL_HANDLER_ACK : PAWL_HANDLER_REJECT;
}

static void fini(void *context)
{
    free(context);
}

PAWL_API const struct pawl_plugin pawl_plugin = {
    .abi = PAWL_PLUGIN_ABI,
    .bytes = sizeof pawl_plugin,
    .name = "counter",
    .version = "1.0",
    .init = init,
    .handle = handle,
    .fini = fini,
};

/*
 * queue_settings.h - the settings of a queue as people write them, for `pawl queue declare` and the
 * configuration file alike, and the JSON that the scheduler takes.
 *
 * One table: the flag --ack-wait D is the key `ack-wait: D`. Pure but for memory.
 */
#ifndef PAWL_RUNTIME_QUEUE_SETTINGS_H
#define PAWL_RUNTIME_QUEUE_SETTINGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

enum { PAWL_QUEUE_SETTING_WHY_BYTES = 320 };

enum pawl_queue_setting_kind {
    PAWL_SETTING_FLAG,     /* without a value; in a file true or false */
    PAWL_SETTING_COUNT,    /* within minimum..maximum */
    PAWL_SETTING_BYTES,    /* the same, written as a size */
    PAWL_SETTING_DURATION, /* ns */
    PAWL_SETTING_OTHER,    /* has a form of its own */
};

struct pawl_queue_setting {
    const char *name; /* NULL ends the table */
    const char *json; /* key of the JSON configuration */
    enum pawl_queue_setting_kind kind;
    bool repeats; /* may be given several times; in a file a list */
    uint64_t minimum, maximum;
    int (*put)(json_t *config, const char *value, char why[PAWL_QUEUE_SETTING_WHY_BYTES]); /* OTHER */
};
extern const struct pawl_queue_setting pawl_queue_settings[];

/** pawl_queue_setting_find - by name; `topics` is as good as `topic`. NULL. */
const struct pawl_queue_setting *pawl_queue_setting_find(const char *name);

/**
 * pawl_queue_setting_put - one setting into the configuration
 * @value: as it was written; NULL for a flag
 *
 * Return: 0; PAWL_E_INVALID (not of its form); PAWL_E_LIMIT (beyond its maximum). @why says it, beginning
 * with what is wrong with the value, without the setting's name.
 */
int pawl_queue_setting_put(json_t *config, const struct pawl_queue_setting *setting, const char *value,
                           char why[PAWL_QUEUE_SETTING_WHY_BYTES]);

/** pawl_queue_name_check - NULL, or what is wrong with a name ([A-Za-z0-9_.-]{1,64}, no leading . or -). */
const char *pawl_queue_name_check(const char *name);

#endif

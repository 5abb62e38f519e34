/*
 * config.c - one value after the other, from the weakest origin to the strongest.
 *
 * Runs in: the scheduler, `pawl serve`, `pawl config`. Reads the file and the environment, changes nothing.
 */
#include "runtime/config.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <fcntl.h>
#include <unistd.h>

#include "runtime/config_file.h"
#include "runtime/config_handlers.h"
#include "runtime/units.h"
#include "runtime/yaml.h"
#include "runtime/yaml_text.h"
#include "shm/error.h"

/* ---- values as text ---- */

const char *pawl_config_limit_text(const struct pawl_limit *limit, uint64_t value, char text[64])
{
    if (value == PAWL_LIMIT_DISK)
        return "disk";
    switch (limit->kind) {
    case PAWL_LIMIT_COUNT:
        snprintf(text, 64, "%" PRIu64, value);
        return text;
    case PAWL_LIMIT_BYTES:
        return pawl_bytes_text(value, text);
    case PAWL_LIMIT_DURATION:
        return pawl_duration_text(value, text);
    case PAWL_LIMIT_OVERFLOW:
        return pawl_overflow_name(value) != NULL ? pawl_overflow_name(value) : "?";
    case PAWL_LIMIT_DURABILITY:
        return pawl_durability_name(value) != NULL ? pawl_durability_name(value) : "?";
    }
    return "?";
}

static int parse_count(const char *text, uint64_t *value_out)
{
    char *end;
    if (text[0] < '0' || text[0] > '9')
        return PAWL_E_INVALID;
    errno = 0;
    *value_out = strtoull(text, &end, 10);
    return *end != '\0' ? PAWL_E_INVALID : errno == ERANGE ? PAWL_E_LIMIT : 0;
}

int pawl_config_limit_parse(const struct pawl_limit *limit, const char *text, uint64_t *value_out,
                            char why[320])
{
    static const char *const forms[] = {
        [PAWL_LIMIT_COUNT] = "is not a number",
        [PAWL_LIMIT_BYTES] = "is not a size: write 64KiB, 10MB or 1GiB",
        [PAWL_LIMIT_DURATION] = "is not a duration: write 250ms, 10s, 5m, 1h30m or 2d",
        [PAWL_LIMIT_OVERFLOW] = "is no policy: block, drop_newest, drop_oldest, reject or dead_letter",
        [PAWL_LIMIT_DURABILITY] = "is no durability: memory, async or fsync",
    };
    char bound[64];
    uint64_t value = 0;
    int error = PAWL_E_INVALID;
    why[0] = '\0';
    if (limit->maximum == PAWL_LIMIT_DISK && strcmp(text, "disk") == 0) {
        *value_out = PAWL_LIMIT_DISK;
        return 0;
    }
    switch (limit->kind) {
    case PAWL_LIMIT_COUNT:
        error = parse_count(text, &value);
        break;
    case PAWL_LIMIT_BYTES:
        error = pawl_parse_bytes(text, strlen(text), &value);
        break;
    case PAWL_LIMIT_DURATION:
        error = pawl_parse_duration_ns(text, strlen(text), &value);
        break;
    case PAWL_LIMIT_OVERFLOW:
        error = pawl_overflow_parse(text, &value);
        break;
    case PAWL_LIMIT_DURABILITY:
        error = pawl_durability_parse(text, &value);
        break;
    }
    if (error == PAWL_E_LIMIT || (error == 0 && value > limit->maximum)) {
        snprintf(why, 320, "'%.80s' is beyond the maximum of %s", text,
                 pawl_config_limit_text(limit, limit->maximum, bound));
        return PAWL_E_LIMIT;
    }
    if (error != 0) {
        snprintf(why, 320, "'%.80s' %s", text, forms[limit->kind]);
        return PAWL_E_INVALID;
    }
    if (value < limit->minimum) {
        snprintf(why, 320, "'%.80s' is below the minimum of %s", text,
                 pawl_config_limit_text(limit, limit->minimum, bound));
        return PAWL_E_LIMIT;
    }
    *value_out = value;
    return 0;
}

void pawl_config_variable(const struct pawl_limit *limit, char name[64])
{
    size_t used = (size_t)snprintf(name, 64, "PAWL_%s", limit->name);
    for (size_t i = 5; i < used && i < 64; i++)
        name[i] = (char)(name[i] == '-' ? '_' : name[i] >= 'a' && name[i] <= 'z' ? name[i] - 32 : name[i]);
}

const char *pawl_config_file_name(const struct pawl_config_source *source)
{
    return source->path != NULL ? source->path : "pawl.yaml";
}

void pawl_config_complain(const struct pawl_config_source *source, const struct pawl_load_errors *errors,
                          char *text, size_t bytes)
{
    size_t used = 0;
    text[0] = '\0';
    for (uint32_t i = 0; i < errors->count && used + 1 < bytes; i++) {
        const struct pawl_load_error *error = &errors->errors[i];
        bool hinted = error->hint[0] != '\0';
        char place[PAWL_CONFIG_PATH_BYTES + 32] = "";
        if (error->line != 0)
            snprintf(place, sizeof place, "%s:%u:%u: ", pawl_config_file_name(source), error->line,
                     error->column);
        else if (strcmp(error->code, "unreadable") == 0)
            snprintf(place, sizeof place, "%s: ", pawl_config_file_name(source));
        int n = snprintf(text + used, bytes - used, "%s%s%s%s%s%s", used > 0 ? "\n" : "", place, error->text,
                         hinted ? " (" : "", error->hint, hinted ? ")" : "");
        used += n > 0 ? (size_t)n : 0;
    }
}

/* ---- origins ---- */

static void take(struct pawl_config *config, const struct pawl_limit *limit, const char *name,
                 const char *text, enum pawl_config_origin origin, struct pawl_config_origins *origins,
                 struct pawl_load_errors *errors)
{
    char why[320];
    uint64_t value;
    int error = pawl_config_limit_parse(limit, text, &value, why);
    if (error != 0) {
        pawl_load_refuse(errors, 0, 0, error == PAWL_E_LIMIT ? "limit" : "type", "", "%s: %s", name, why);
        return;
    }
    *pawl_limit_value(config, limit) = value;
    origins->limit[limit - pawl_limit_table] = (uint8_t)origin;
}

static void take_environment(struct pawl_config *config, struct pawl_config_origins *origins,
                             struct pawl_load_errors *errors)
{
    for (const struct pawl_limit *limit = pawl_limit_table; limit->name != NULL; limit++) {
        char name[64];
        pawl_config_variable(limit, name);
        const char *value = getenv(name);
        if (value != NULL && value[0] != '\0')
            take(config, limit, name, value, PAWL_ORIGIN_ENVIRONMENT, origins, errors);
    }
}

static void take_flags(struct pawl_config *config, const struct pawl_config_source *source,
                       struct pawl_config_origins *origins, struct pawl_load_errors *errors)
{
    for (size_t i = 0; i < source->flag_count; i++) {
        char name[64];
        const struct pawl_limit *limit = pawl_limit_find(source->flags[i].name);
        snprintf(name, sizeof name, "--%s", source->flags[i].name);
        if (limit != NULL)
            take(config, limit, name, source->flags[i].value, PAWL_ORIGIN_FLAG, origins, errors);
    }
}

static int read_file(const struct pawl_config_source *source, struct pawl_config *config,
                     struct pawl_config_origins *origins, struct pawl_load_errors *errors)
{
    const uint64_t bytes_max = PAWL_LOAD_LIMITS_DEFAULT.file_bytes_max;
    char *bytes = NULL;
    size_t length = 0;
    int fd = source->path != NULL ? open(source->path, O_RDONLY | O_CLOEXEC)
             : source->dirfd >= 0 ? openat(source->dirfd, "pawl.yaml", O_RDONLY | O_CLOEXEC)
                                  : -1;
    if (fd < 0 && source->path == NULL && (source->dirfd < 0 || errno == ENOENT))
        return 0;
    int error = fd < 0 ? -errno : pawl_text_read(fd, bytes_max, &bytes, &length);
    if (error < 0) {
        pawl_load_refuse(errors, 0, 0, "unreadable", "", "cannot read it: %s", pawl_error_text(error));
    } else if (length > bytes_max) {
        error = PAWL_E_LIMIT;
        pawl_load_refuse(errors, 0, 0, "limit", "", "the file is larger than 1 MiB");
    } else {
        origins->file_read = true;
        error = pawl_config_file_parse(bytes, length, config, origins, errors);
    }
    if (error == 0)
        error = pawl_config_handlers_resolve(config, fd);
    free(bytes);
    if (fd >= 0)
        close(fd);
    return error;
}

int pawl_config_load(const struct pawl_config_source *source, struct pawl_config *config_out,
                     struct pawl_config_origins *origins, struct pawl_load_errors *errors)
{
    struct pawl_config_origins unseen;
    if (origins == NULL)
        origins = &unseen;
    memset(origins, 0, sizeof *origins);
    errors->count = errors->dropped = 0;
    pawl_config_default(config_out);
    int error = read_file(source, config_out, origins, errors);
    if (error == 0 || error == PAWL_E_INVALID) {
        take_environment(config_out, origins, errors);
        take_flags(config_out, source, origins, errors);
        pawl_config_handlers_check(config_out, errors);
    }
    if (error == 0 && errors->count > 0)
        error = PAWL_E_INVALID;
    if (error != 0) {
        pawl_config_fini(config_out);
        pawl_config_default(config_out);
    } else if (origins->file_read) {
        config_out->file = pawl_config_file_name(source);
    }
    return error;
}

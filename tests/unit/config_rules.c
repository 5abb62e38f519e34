/*
 * config_rules.c - the configuration: every limit at its bounds and beyond, places of mistakes, who beats
 * whom.
 */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/config.h"
#include "runtime/config_file.h"
#include "shm/client_lane.h"
#include "shm/error.h"

static struct pawl_config config;
static struct pawl_config_origins origins;
static struct pawl_load_errors errors;

static void begin(void)
{
    for (const struct pawl_limit *limit = pawl_limit_table; limit->name != NULL; limit++) {
        char name[64];
        pawl_config_variable(limit, name);
        unsetenv(name);
    }
}

static void end(void)
{
    pawl_config_fini(&config);
}

TestSuite(config, .init = begin, .fini = end);

static int parse(const char *text)
{
    memset(&errors, 0, sizeof errors);
    memset(&origins, 0, sizeof origins);
    pawl_config_fini(&config);
    pawl_config_default(&config);
    return pawl_config_file_parse(text, strlen(text), &config, &origins, &errors);
}

static int parse_setting(const char *name, const char *value)
{
    char text[256];
    snprintf(text, sizeof text, "%s: %s\n", name, value);
    return parse(text);
}

/* What SPEC 7 says, written once more. */
static const struct {
    const char *name, *initial, *maximum;
} promised[] = {
    {"event-payload", "1MiB", "64MiB"},
    {"event-headers", "16KiB", "64KiB"},
    {"queue-patterns", "16", "256"},
    {"queues", "1024", "65536"},
    {"stream-groups", "64", "1024"},
    {"clients", "1024", "65536"},
    {"ack-wait", "30s", "7d"},
    {"max-deliver", "5", "4095"},
    {"interruptions", "5", "1000"},
    {"queue-depth", "1000000", "disk"},
    {"queue-bytes", "1GiB", "disk"},
    {"dlq-depth", "100000", "disk"},
    {"dlq-bytes", "1GiB", "disk"},
    {"dedupe-keys", "1000000", "100000000"},
    {"queue-delayed", "1000000", "100000000"},
    {"dedupe-age", "10m", "7d"},
    {"publish-delay", "3650d", "3650d"},
};

Test(config, defaults_and_maxima_are_those_that_are_promised)
{
    for (size_t i = 0; i < sizeof promised / sizeof *promised; i++) {
        char text[64];
        const struct pawl_limit *limit = pawl_limit_find(promised[i].name);
        cr_assert(limit != NULL, "no setting %s", promised[i].name);
        cr_expect(eq(str, (char *)pawl_config_limit_text(limit, limit->initial, text),
                     (char *)promised[i].initial));
        cr_expect(eq(str, (char *)pawl_config_limit_text(limit, limit->maximum, text),
                     (char *)promised[i].maximum));
    }
}

Test(config, every_limit_is_taken_at_its_maximum_and_refused_one_beyond)
{
    for (const struct pawl_limit *limit = pawl_limit_table; limit->name != NULL; limit++) {
        char text[64], beyond[64];
        cr_expect(eq(int, parse_setting(limit->name, pawl_config_limit_text(limit, limit->maximum, text)), 0),
                  "%s at its maximum", limit->name);
        cr_expect(eq(u64, *pawl_limit_value(&config, limit), limit->maximum));
        if (limit->kind == PAWL_LIMIT_OVERFLOW || limit->kind == PAWL_LIMIT_DURABILITY)
            continue;
        snprintf(beyond, sizeof beyond, "%llu%s", (unsigned long long)limit->maximum + 1,
                 limit->kind == PAWL_LIMIT_DURATION ? "ns" : "");
        cr_expect(eq(int, parse_setting(limit->name, beyond), PAWL_E_INVALID), "%s beyond", limit->name);
        cr_assert(eq(int, (int)errors.count, 1));
        cr_expect(eq(str, errors.errors[0].code, "limit"));
        cr_expect(strstr(errors.errors[0].text, limit->name) != NULL);
        cr_expect(strstr(errors.errors[0].text, "maximum") != NULL);
    }
}

Test(config, every_limit_is_taken_at_its_minimum_and_refused_below)
{
    for (const struct pawl_limit *limit = pawl_limit_table; limit->name != NULL; limit++) {
        char text[64], below[64];
        cr_expect(eq(int, parse_setting(limit->name, pawl_config_limit_text(limit, limit->minimum, text)), 0),
                  "%s at its minimum", limit->name);
        if (limit->minimum == 0 || limit->kind == PAWL_LIMIT_OVERFLOW || limit->kind == PAWL_LIMIT_DURABILITY)
            continue;
        snprintf(below, sizeof below, "%llu%s", (unsigned long long)limit->minimum - 1,
                 limit->kind == PAWL_LIMIT_DURATION ? "ns" : "");
        cr_expect(eq(int, parse_setting(limit->name, below), PAWL_E_INVALID), "%s below", limit->name);
    }
}

Test(config, the_limits_of_the_bus_alone_have_the_same_defaults)
{
    struct pawl_bus_limits limits;
    pawl_config_default(&config);
    pawl_bus_limits_default(&limits);
    cr_expect(eq(int, memcmp(&limits, &config.bus, sizeof limits), 0));
    cr_expect(eq(u64, limits.durability, PAWL_DURABILITY_FSYNC));
}

Test(config, each_mistake_has_its_place_and_the_first_hides_none)
{
    cr_assert(eq(int,
                 parse("ack-wait: 1m\n"
                       "max-delivr: 3\n"
                       "queue-bytes: many\n"
                       "queues:\n"
                       "  orders: {topic: order.*, akc-wait: 3s}\n"
                       "  .bad: {topic: x}\n"
                       "  none: {ack-wait: 3s}\n"
                       "allow-uids: [1000, root]\n"),
                 PAWL_E_INVALID));
    static const struct {
        uint32_t line, column;
        const char *code, *hint;
    } wanted[] = {{2, 1, "unknown_key", "max-deliver"}, {3, 14, "type", ""},
                  {5, 28, "unknown_key", "ack-wait"},   {6, 3, "name", ""},
                  {7, 3, "no_topic", "topic"},          {8, 20, "type", ""}};
    cr_assert(eq(int, (int)errors.count, 6));
    for (unsigned i = 0; i < 6; i++) {
        cr_expect(eq(u32, errors.errors[i].line, wanted[i].line), "mistake %u", i);
        cr_expect(eq(u32, errors.errors[i].column, wanted[i].column), "mistake %u", i);
        cr_expect(eq(str, errors.errors[i].code, (char *)wanted[i].code));
        cr_expect(strstr(errors.errors[i].hint, wanted[i].hint) != NULL, "hint %u: %s", i,
                  errors.errors[i].hint);
    }
}

Test(config, a_file_is_a_map_and_may_be_empty)
{
    cr_expect(eq(int, parse(""), 0));
    cr_expect(eq(int, parse("# nothing yet\n"), 0));
    cr_expect(eq(int, parse("[1, 2]\n"), PAWL_E_INVALID));
    cr_expect(eq(int, parse("just words\n"), PAWL_E_INVALID));
    cr_expect(eq(int, parse("a: {b\n"), PAWL_E_INVALID));
    cr_expect(eq(int, parse("ack-wait: 1s\nack-wait: 2s\n"), PAWL_E_INVALID));
    cr_expect(eq(int, parse("ack-wait:\n"), PAWL_E_INVALID));
    cr_expect(eq(int, parse("ack-wait: [1s]\n"), PAWL_E_INVALID));
}

Test(config, queues_keep_their_settings_as_the_scheduler_takes_them)
{
    cr_assert(eq(int,
                 parse("queues:\n"
                       "  orders: {topic: order.*, ack-wait: 30s, stream: true, max-deliver: 7}\n"
                       "  both: {topics: [a, b.#]}\n"),
                 0));
    cr_assert(eq(sz, config.queue_count, 2));
    cr_expect(eq(str, config.queues[0].name, "orders"));
    cr_expect(
        eq(str, config.queues[0].json,
           "{\"topics\":[\"order.*\"],\"ack_wait_ns\":30000000000,\"stream\":true,\"retry\":{\"limit\":7}}"));
    cr_expect(eq(str, config.queues[1].json, "{\"topics\":[\"a\",\"b.#\"]}"));
}

Test(config, queues_may_also_be_the_limit_of_that_name)
{
    cr_assert(eq(int, parse("queues: 7\n"), 0));
    cr_expect(eq(u64, config.bus.queues, 7));
    cr_assert(eq(int, parse("max-queues: 8\nqueues: {q: {topic: a}}\n"), 0));
    cr_expect(eq(u64, config.bus.queues, 8));
    cr_expect(eq(sz, config.queue_count, 1));
}

Test(config, ids_are_numbers_and_bounded)
{
    cr_assert(eq(int, parse("allow-uids: [1000, 1001]\nallow-gids: [50]\n"), 0));
    cr_expect(eq(u32, config.allow_uid_count, 2));
    cr_expect(eq(u32, config.allow_uids[1], 1001));
    cr_expect(eq(u32, config.allow_gids[0], 50));
    cr_expect(eq(int, parse("allow-uids: [4294967295]\n"), PAWL_E_INVALID));
    cr_expect(eq(int, parse("allow-uids: [-1]\n"), PAWL_E_INVALID));
    cr_expect(eq(int, parse("allow-uids: 1000\n"), PAWL_E_INVALID));
    char text[4096] = "allow-gids: [1";
    for (int i = 1; i < PAWL_ALLOWED_MAX; i++)
        strcat(text, ",1");
    char beyond[sizeof text + 4];
    snprintf(beyond, sizeof beyond, "%s,1]\n", text);
    strcat(text, "]\n");
    cr_expect(eq(int, parse(text), 0));
    cr_expect(eq(int, parse(beyond), PAWL_E_INVALID));
}

static char path[] = "/tmp/pawl-config.XXXXXX";

static void write_file(const char *text)
{
    int fd = mkstemp(path);
    cr_assert(fd >= 0);
    cr_assert(eq(sz, (size_t)write(fd, text, strlen(text)), strlen(text)));
    close(fd);
}

Test(config, a_flag_beats_the_environment_which_beats_the_file_which_beats_the_default)
{
    const struct pawl_config_flag flag = {"workers", "3"};
    const struct pawl_config_source source = {.dirfd = -1, .path = path, .flags = &flag, .flag_count = 1};
    write_file("workers: 1\nack-wait: 1m\nmax-deliver: 9\n");
    setenv("PAWL_WORKERS", "2", 1);
    setenv("PAWL_ACK_WAIT", "2m", 1);
    int error = pawl_config_load(&source, &config, &origins, &errors);
    unlink(path);
    cr_assert(eq(int, error, 0));
    cr_expect(eq(u64, config.run.workers, 3));
    cr_expect(eq(u64, config.bus.ack_wait_ns, UINT64_C(120000000000)));
    cr_expect(eq(u64, config.bus.max_deliver, 9));
    cr_expect(eq(u64, config.bus.interruptions, 5));
    static const struct {
        const char *name;
        enum pawl_config_origin origin;
    } wanted[] = {{"workers", PAWL_ORIGIN_FLAG},
                  {"ack-wait", PAWL_ORIGIN_ENVIRONMENT},
                  {"max-deliver", PAWL_ORIGIN_FILE},
                  {"interruptions", PAWL_ORIGIN_DEFAULT}};
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++)
        cr_expect(
            eq(int, origins.limit[pawl_limit_find(wanted[i].name) - pawl_limit_table], (int)wanted[i].origin),
            "%s", wanted[i].name);
}

Test(config, a_wrong_variable_is_named_and_the_result_is_the_defaults)
{
    const struct pawl_config_source source = {.dirfd = -1};
    setenv("PAWL_ACK_WAIT", "8d", 1);
    cr_assert(eq(int, pawl_config_load(&source, &config, NULL, &errors), PAWL_E_INVALID));
    cr_expect(strstr(errors.errors[0].text, "PAWL_ACK_WAIT") != NULL);
    cr_expect(eq(u64, config.bus.ack_wait_ns, UINT64_C(30000000000)));
    char text[512];
    pawl_config_complain(&source, &errors, text, sizeof text);
    cr_expect(strncmp(text, "PAWL_ACK_WAIT: '8d'", 19) == 0, "%s", text);
}

Test(config, complaints_are_cut_to_fit_and_say_the_place)
{
    const struct pawl_config_source source = {.dirfd = -1, .path = "x.yaml"};
    char text[512], small[16];
    cr_assert(eq(int, parse("foo: 1\nbar: 2\n"), PAWL_E_INVALID));
    pawl_config_complain(&source, &errors, text, sizeof text);
    cr_expect(strncmp(text, "x.yaml:1:1: ", 12) == 0, "%s", text);
    cr_expect(strstr(text, "\nx.yaml:2:1: ") != NULL, "%s", text);
    pawl_config_complain(&source, &errors, small, sizeof small);
    cr_expect(eq(sz, strlen(small), sizeof small - 1));
}

Test(config, a_named_file_must_be_there)
{
    const struct pawl_config_source source = {.dirfd = -1, .path = "/nonexistent/pawl.yaml"};
    cr_expect(eq(int, pawl_config_load(&source, &config, NULL, &errors), -ENOENT));
    cr_expect(eq(str, errors.errors[0].code, "unreadable"));
}

# bus_plugin.t.sh - handlers in shared objects: of pawl consume --plugin, and beside commands in pawl serve.

# The plugin that most tests use: what it does with an event is the event's text. A line in `handled` for each.
plugin() {
    write "${1:-plugin}.c" <<'C'
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <pawl.h>

static const char *config = "none";

static int init(const char *config_json, void **context_out)
{
    if (config_json)
        config = strdup(config_json);
    *context_out = &config;
    return strstr(config, "\"fail\"") ? 7 : 0;
}

static int handle(const struct pawl_delivery *delivery, void *context)
{
    char word[64] = "", line[256];
    const char *directory = getenv("T") ? getenv("T") : ".";
    size_t bytes = delivery->data_bytes < 63 ? delivery->data_bytes : 63;
    memcpy(word, delivery->data, bytes);
    snprintf(line, sizeof line, "%s/handled", directory);
    FILE *file = fopen(line, "a");
    fprintf(file, "%s %u %d %s\n", word, delivery->attempt, (int)getpid(), *(const char **)context);
    fclose(file);
    if (strcmp(word, "crash") == 0)
        raise(SIGSEGV);
    if (strcmp(word, "wait") == 0) {
        snprintf(line, sizeof line, "%s/go", directory);
        while (access(line, F_OK) != 0)
            usleep(10000);
    }
    if (strcmp(word, "ack") == 0) /* by itself, through the tool's own library */
        return pawl_ack(delivery) == 0 ? 99 : 1;
    return strcmp(word, "reject") == 0 ? PAWL_HANDLER_REJECT
           : strcmp(word, "nack") == 0 ? PAWL_HANDLER_NACK
           : strcmp(word, "odd") == 0  ? 3
                                       : PAWL_HANDLER_ACK;
}

PAWL_API const struct pawl_plugin pawl_plugin = {
    .abi = ABI, .bytes = BYTES, .name = "test", .version = "1", .init = init, .handle = handle};
C
    gcc -shared -fPIC -Wall -Wextra -Werror -DABI="${2:-PAWL_PLUGIN_ABI}" -DBYTES="${3:-sizeof pawl_plugin}" \
        -I"$E2E_TOP/runtime" -o "${1:-plugin}.so" "${1:-plugin}.c"
}
# interruptible ARG...: pawl in the background, where it hears ^C; consumer is its pid.
interruptible() {
    background pawl "$@"
    consumer=$!
}
depth() { pawl queue show "$1" --json | jq .depth; }
dead() { pawl dlq list "$1" --json | jq -r "$2"; }
handled() { cut -d' ' -f"${1:-1}" handled 2>/dev/null | sort -u | wc -l; }

test_a_plugins_result_acks_rejects_or_fails() {
    plugin
    pawl queue declare q --topic a --backoff fixed:0s --max-deliver 2
    printf '%s\n' good reject nack odd | pawl publish a --lines >/dev/null
    expect_exit 1 pawl consume q --plugin ./plugin.so --wait 1s
    expect_eq "$(cut -d' ' -f1,2 handled | sort | tr '\n' ';')" 'good 1;nack 1;nack 2;odd 1;odd 2;reject 1;'
    expect_eq "$(depth q) $(pawl queue show q.dlq --json | jq .depth)" '0 3'
}

test_a_plugin_gets_its_configuration() {
    plugin
    pawl queue declare q --topic a
    pawl publish a good >/dev/null
    expect_exit 0 pawl consume q --plugin './plugin.so,{"a":[1,2]}' --count 1 --wait 20s
    expect_eq "$(cut -d' ' -f4 handled)" '{"a":[1,2]}'
}

test_a_plugin_may_settle_by_itself() {
    plugin
    pawl queue declare q --topic a
    pawl publish a ack >/dev/null
    expect_exit 0 pawl consume q --plugin ./plugin.so --count 1 --wait 20s
    expect_eq "$(depth q) $(dead q length)" '0 '
}

test_a_crash_of_a_plugin_costs_its_event_an_attempt_and_no_other_event_anything() {
    plugin
    pawl queue declare q --topic a --backoff fixed:0s --max-deliver 3
    printf '%s\n' one crash two three | pawl publish a --lines >/dev/null
    expect_exit 1 pawl consume q --plugin ./plugin.so --wait 1s
    expect_stderr 'killed by signal 11'
    expect_eq "$(cut -d' ' -f1,2 handled | sort | tr '\n' ';')" 'crash 1;crash 2;crash 3;one 1;three 1;two 1;'
    expect_eq "$(depth q)" 0
}

test_each_concurrent_plugin_has_a_process_of_its_own() {
    plugin
    pawl queue declare q --topic a
    printf '%s\n' wait wait wait | pawl publish a --lines >/dev/null
    interruptible consume q --plugin ./plugin.so --concurrency 3 --count 3
    wait_until '[ "$(handled 3)" = 3 ]'
    touch go
    expect_end 0 "$consumer"
}

test_no_more_events_are_handled_than_were_asked_for() {
    plugin
    pawl queue declare q --topic a
    seq 20 | pawl publish a --lines >/dev/null
    expect_exit 0 pawl consume q --plugin ./plugin.so --concurrency 4 --count 7
    expect_eq "$(wc -l <handled) $(depth q)" '7 13'
}

test_an_interrupt_lets_a_plugin_end_what_it_handles() {
    plugin
    pawl queue declare q --topic a
    printf '%s\n' wait two | pawl publish a --lines >/dev/null
    interruptible consume q --plugin ./plugin.so
    wait_until '[ -e handled ]'
    kill -INT "$consumer"
    wait_until 'grep -q stopping background.err'
    touch go
    expect_end 5 "$consumer"
    expect_eq "$(wc -l <handled) $(depth q)" '1 1'
}

test_a_second_interrupt_ends_a_plugin_that_hangs() {
    plugin
    pawl queue declare q --topic a
    pawl publish a wait >/dev/null
    interruptible consume q --plugin ./plugin.so
    wait_until '[ -e handled ]'
    kill -INT "$consumer"
    wait_until 'grep -q stopping background.err'
    kill -INT "$consumer"
    expect_end 5 "$consumer"
    expect_eq "$(depth q)" 1
}

test_a_plugin_that_cannot_be_used_is_told_in_words_and_touches_no_event() {
    plugin
    plugin other 7
    plugin short PAWL_PLUGIN_ABI 8
    echo 'int nothing;' >bare.c
    gcc -shared -fPIC -o bare.so bare.c
    echo 'text' >text.so
    pawl queue declare q --topic a
    pawl publish a good >/dev/null
    local flag words
    while IFS='|' read -r flag words; do
        expect_exit 2 pawl consume q --plugin "$flag" --concurrency 3
        expect_stderr "$words"
        expect_eq "$(grep -c "^pawl consume: " "$T/err")" 1
    done <<'CASES'
./nosuch.so|there is no such plugin
./bare.so|exports no descriptor
./text.so|cannot be loaded
./other.so|made for ABI 7 of plugins, this is ABI 1
./short.so|descriptor has 8 bytes
./plugin.so,"fail"|init() failed with 7
./plugin.so,{|configuration is no JSON
CASES
    [ ! -e handled ] || fail 'an event was handled'
    expect_eq "$(depth q)" 1
}

test_a_plugin_for_a_queue_that_does_not_exist_is_told() {
    plugin
    pawl queue declare q --topic a
    expect_exit 2 pawl consume nosuch --plugin ./plugin.so --concurrency 2
    expect_stderr nosuch
}

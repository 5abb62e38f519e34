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
    if (strstr(config, "\"abort\""))
        abort();
    if (strstr(config, "\"exit\""))
        _exit(0);
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
    expect_exit 1 pawl consume q --plugin ./plugin.so --count 6
    expect_eq "$(cut -d' ' -f1,2 handled | sort | tr '\n' ';')" 'good 1;nack 1;nack 2;odd 1;odd 2;reject 1;'
    expect_eq "$(depth q) $(pawl queue show q.dlq --json | jq .depth)" '0 3'
}

test_a_plugin_gets_its_configuration() {
    plugin
    pawl queue declare q --topic a
    pawl publish a good >/dev/null
    expect_exit 0 pawl consume q --plugin './plugin.so,{"a":[1,2]}' --count 1 --wait 2m
    expect_eq "$(cut -d' ' -f4 handled)" '{"a":[1,2]}'
}

test_a_plugin_may_settle_by_itself() {
    plugin
    pawl queue declare q --topic a
    pawl publish a ack >/dev/null
    expect_exit 0 pawl consume q --plugin ./plugin.so --count 1 --wait 2m
    expect_eq "$(depth q) $(dead q length)" '0 '
}

test_a_crash_of_a_plugin_costs_its_event_an_attempt_and_no_other_event_anything() {
    plugin
    pawl queue declare q --topic a --backoff fixed:0s --max-deliver 3
    printf '%s\n' one crash two three | pawl publish a --lines >/dev/null
    expect_exit 1 pawl consume q --plugin ./plugin.so --count 6
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

# late_in NAME ARG...: pawl in the background; when it calls itself so its first child, whose pid is in born, begins when
# the file go is there. late: as a plain command.
late_in() {
    gcc -std=gnu11 -Wall -Wextra -shared -fPIC -o late_child.so "$E2E_TOP/tests/e2e/late_child.c"
    background env LATE_IN="$1" LATE_BORN="$T/born" LATE_GO="$T/go" LD_PRELOAD="$T/late_child.so" "$PAWL" "${@:2}"
    wait_until '[ -e born ]'
}
late() {
    late_in pawl "$@"
    consumer=$!
}
# The first has been sent a signal that it holds back.
holds_back() { awk -v parent="$consumer" '/^PPid/ { ours = $2 == parent } /^(Sig|Shd)Pnd/ && $2 !~ /^0*$/ { held = 1 } END { exit !(ours && held) }' "/proc/$(cat born)/status"; }

test_an_interrupt_reaches_a_plugins_process_that_has_just_been_born() {
    plugin
    serve
    pawl queue declare q --topic a
    late consume q --plugin ./plugin.so
    kill -INT "$consumer"
    wait_until holds_back
    touch go
    expect_end 5 "$consumer"
    end_serve
}

test_a_command_that_is_told_to_end_when_it_has_just_been_born_does_not_run() {
    serve
    pawl queue declare q --topic a
    pawl publish a x >/dev/null
    late consume q --exec touch ran
    kill -TERM "$consumer"
    wait_until holds_back
    touch go
    expect_end 5 "$consumer"
    [ ! -e ran ] || fail 'it ran'
    expect_exit 0 pawl consume q --count 1 --wait 2m --auto-ack
    expect_json .failures 0
    end_serve
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
./plugin.so,"abort"|killed by signal 6 (Aborted) in init()
./plugin.so,"exit"|ended with exit code 0 in init()
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

# ---- handlers of pawl serve ----

workers() { pid_of 'worker' | sort | tr '\n' ' '; }
worker_count() { pid_of worker | wc -l; }
# reload: standard input is the new my.yaml.
reload() {
    local before
    before=$(grep -c 'read again' state/scheduler.log || true)
    cat >my.yaml
    kill -HUP "$SERVE"
    wait_until '[ "$(grep -c "read again" state/scheduler.log)" -gt '"$before"' ]'
}

test_a_count_loses_nothing_of_an_at_most_once_queue_to_a_plugin() {
    plugin
    serve
    pawl queue declare q --topic a --guarantee at_most_once
    seq 12 | pawl publish a --lines >/dev/null
    pawl consume q --count 1 --plugin ./plugin.so
    pawl consume q --count 3 --plugin ./plugin.so --concurrency 2
    pawl consume q --count 2 --plugin ./plugin.so --concurrency 5
    expect_eq "$(wc -l <handled) $(depth q)" '6 6'
    pawl consume q --count 6 --wait 2m --auto-ack | jq -r .data >rest
    expect_eq "$({ cut -d ' ' -f 1 handled; cat rest; } | sort -n | paste -sd ' ')" '1 2 3 4 5 6 7 8 9 10 11 12'
    end_serve
}

test_a_plugin_that_is_killed_while_it_waits_leaves_what_it_had_asked_for_to_the_next() {
    local consumer first
    plugin
    serve
    pawl queue declare q --topic a --guarantee at_most_once
    background pawl consume q --count 2 --plugin ./plugin.so
    consumer=$!
    wait_until '[ "$(pawl queue show q --json | jq .consumers)" = 1 ]'
    first=$(the_pid_of 'handler 1')
    kill -KILL "$first"
    # When the next has its lane, the scheduler knows that the first one is gone.
    wait_until '! kill -0 '"$first"' && grep -q memfd "/proc/$(pid_of "handler 1")/maps"'
    wait_until '[ "$(pawl queue show q --json | jq .consumers)" = 1 ]'
    seq 4 | pawl publish a --lines >/dev/null
    expect_end 0 "$consumer"
    expect_eq "$(wc -l <handled) $(depth q)" '2 2'
    end_serve
}

test_handlers_of_the_configuration_do_the_work_and_health_lists_them() {
    plugin
    write my.yaml <<'YAML'
queues: {q: {topic: a}, r: {topic: b}}
handlers:
  - {queue: q, plugin: plugin.so, config: {rate: 5, to: [x, "7"]}, processes: 1}
  - {queue: r, exec: [sh, -c, 'cat >>"$T/done"'], processes: 2, prefetch: 1}
YAML
    serve --config my.yaml
    pawl publish a good >/dev/null
    pawl publish b text >/dev/null
    wait_until '[ -s handled ] && [ -s done ]'
    expect_eq "$(cat ./done)" text
    expect_eq "$(cut -d' ' -f1,4- handled)" 'good {"rate":5,"to":["x","7"]}'
    wait_until '[ "$(depth q) $(depth r)" = "0 0" ]'
    expect_exit 0 pawl health --json
    expect_json '[.processes[] | select(.role == "worker") | .number] | sort | join(" ")' '1 2 3'
    expect_eq "$(json '.processes[] | select(.role == "worker") | .pid' | sort | tr '\n' ' ')" "$(workers)"
    local pid
    for pid in $(workers); do
        expect_eq "$(awk '/^PPid/ {print $2}' "/proc/$pid/status")" "$SERVE"
        expect_match_text "$(tr '\0' ' ' <"/proc/$pid/cmdline")" '^pawl: worker [1-3] *$'
    done
    end_serve
}
expect_match_text() { [[ $1 =~ $2 ]] || fail "'$1' does not match $2"; }

test_handlers_wait_for_a_scheduler_that_needs_long_to_start() {
    plugin
    write my.yaml <<'YAML'
queues: {q: {topic: a}, r: {topic: b}}
handlers:
  - {queue: q, plugin: plugin.so, processes: 1}
  - {queue: r, exec: [sh, -c, 'touch "$T/done"'], processes: 1}
YAML
    late_in 'pawl: superviso' serve --config my.yaml # as long as a name may be
    local server=${BACKGROUND[-1]}
    sleep 11 # a client that says nothing else gives up after ten seconds
    touch go
    wait_until 'grep -q "serving /" background.err'
    pawl publish a good >/dev/null
    pawl publish b x >/dev/null
    wait_until '[ -e handled ] && [ -e done ]'
    expect_eq "$(a_metric pawl_worker_restarts_total)" 0
    kill -TERM "$server"
    expect_end 0 "$server"
}

test_a_stop_ends_handlers_whose_scheduler_has_not_started() {
    plugin
    write my.yaml <<'YAML'
handlers:
  - {queue: q, plugin: plugin.so, processes: 1}
  - {queue: r, exec: ['true'], processes: 1}
YAML
    late_in 'pawl: superviso' serve --config my.yaml
    local server=${BACKGROUND[-1]}
    wait_until '[ "$(worker_count)" = 2 ]'
    kill -TERM "$server"
    touch go
    expect_end 0 "$server"
    ! grep -q 'killed by signal 9' state/scheduler.log || fail 'they did not hear of it'
}

# As in a container. Where a user may not, root of a namespace of its own.
test_plugins_handle_events_where_who_forks_them_is_process_1() {
    local alone=(unshare -pf --mount-proc) unshared
    [ "$(id -u)" -eq 0 ] || alone=(unshare -rpf --mount-proc)
    "${alone[@]}" true 2>/dev/null || alone+=(--propagation unchanged)
    plugin
    write my.yaml <<<'{queues: {q: {topic: a}, r: {topic: b}}, handlers: [{queue: q, plugin: plugin.so, processes: 1}]}'
    serve_by "${alone[@]}" "$PAWL" serve --config my.yaml
    pawl publish a good >/dev/null
    wait_until 'grep -q "^good 1" handled'
    unshared=$SERVE
    SERVE=$(the_pid_of supervisor)
    kill -TERM "$SERVE"
    expect_end 0 "$unshared"
    serve
    pawl publish b better >/dev/null
    expect_exit 0 "${alone[@]}" "$PAWL" consume r --plugin ./plugin.so --count 1
    grep -q "^better 1" handled
    end_serve
}

test_workers_says_how_many_processes_a_handler_has_that_does_not_say_it() {
    plugin
    write my.yaml <<'YAML'
handlers:
  - {queue: q, plugin: plugin.so}
  - {queue: r, plugin: plugin.so, processes: 1}
YAML
    serve --config my.yaml --workers 3
    wait_until '[ "$(worker_count)" = 4 ]'
    end_serve
}

test_a_handler_waits_for_its_queue() {
    plugin
    write my.yaml <<<'handlers: [{queue: q, plugin: plugin.so, processes: 1}, {queue: r, exec: [touch, done], processes: 1}]'
    sed -i "s|touch, done|touch, $T/done|" my.yaml
    serve --config my.yaml
    pawl queue declare q --topic a
    pawl queue declare r --topic a
    pawl publish a good >/dev/null
    wait_until '[ -e handled ] && [ -e done ]'
    end_serve
}

test_a_handler_that_crashes_is_there_again_and_its_event_has_another_attempt() {
    plugin
    write my.yaml <<'YAML'
queues: {q: {topic: a, backoff: 'fixed:0s', max-deliver: 3}}
handlers: [{queue: q, plugin: plugin.so, processes: 1}]
YAML
    serve --config my.yaml
    printf '%s\n' crash good | pawl publish a --lines >/dev/null
    wait_until '[ "$(depth q)" = 0 ]' 30
    expect_eq "$(cut -d' ' -f1,2 handled | sort | tr '\n' ';')" 'crash 1;crash 2;crash 3;good 1;'
    grep -q 'handler process .* killed by signal 11' state/scheduler.log || fail 'the crash is not in the log'
    end_serve
}

# a_metric NAME
a_metric() { pawl metrics | awk -v name="$1" '$1 == name { print $2; found = 1 } END { exit !found }'; }

test_handlers_are_among_the_workers_in_the_figures_and_those_that_die_are_counted() {
    plugin
    write my.yaml <<'YAML'
queues: {q: {topic: a, max-deliver: 1}, r: {topic: b}}
handlers:
  - {queue: q, plugin: plugin.so, processes: 1}
  - {queue: r, exec: [sh, -c, 'touch "$T/live"; while [ ! -e "$T/go" ]; do sleep 0.02; done'], processes: 1}
YAML
    export T
    serve --config my.yaml
    wait_until '[ "$(a_metric '\''pawl_workers{state="idle"}'\'')" = 2 ]' 30
    expect_eq "$(a_metric pawl_worker_restarts_total)" 0
    pawl publish b x >/dev/null
    wait_until '[ -e live ] && [ "$(a_metric '\''pawl_workers{state="busy"}'\'')" = 1 ]' 30
    pawl publish a crash >/dev/null
    wait_until '[ "$(a_metric pawl_worker_restarts_total)" = 1 ]' 30
    touch go
    wait_until '[ "$(a_metric '\''pawl_workers{state="idle"}'\'')" = 2 ]' 30
    echo 'handlers: []' | reload
    wait_until '[ "$(a_metric '\''pawl_workers{state="idle"}'\'')" = 0 ]' 30
    expect_eq "$(a_metric pawl_worker_restarts_total)" 1
    end_serve
}

test_a_reload_adds_removes_and_changes_handlers_and_leaves_the_others_alone() {
    plugin
    write my.yaml <<'YAML'
handlers:
  - {queue: q, plugin: plugin.so, processes: 2}
  - {queue: r, exec: ['true'], processes: 1}
YAML
    serve --config my.yaml
    wait_until '[ "$(worker_count)" = 3 ]'
    local before kept
    before=$(workers)
    reload <<'YAML'
handlers:
  - {queue: q, plugin: plugin.so, processes: 2}
  - {queue: s, exec: ['true'], processes: 2}
YAML
    wait_until '[ "$(worker_count)" = 4 ] && [ "$(comm -12 <(tr " " "\n" <<<"'"$before"'" | sort -u) <(pid_of worker | sort -u) | grep -c .)" = 2 ]'
    kept=$(workers)
    # a change of its configuration is a change, a changed file too
    reload <<'YAML'
handlers: [{queue: q, plugin: plugin.so, config: 5, processes: 1}]
YAML
    wait_until '[ "$(worker_count)" = 1 ] && [[ " $kept" != *" $(pid_of worker) "* ]]' # a process of its own
    kept=$(the_pid_of worker)
    plugin # again: another file
    cp my.yaml same.yaml
    reload <same.yaml
    wait_until '[ "$(worker_count)" = 1 ] && [ "$(pid_of worker)" != '"$kept"' ]'
    reload <<<'{}'
    wait_until '[ "$(worker_count)" = 0 ]'
    end_serve
}

test_a_mistake_in_a_reload_leaves_the_handlers_as_they_are() {
    plugin
    write my.yaml <<<'handlers: [{queue: q, plugin: plugin.so, processes: 2}]'
    serve --config my.yaml
    wait_until '[ "$(worker_count)" = 2 ]'
    local before
    before=$(workers)
    echo 'handlers: [{queue: q, plugn: plugin.so}]' >my.yaml
    kill -HUP "$SERVE"
    wait_until 'grep -q "not taken up" state/scheduler.log'
    grep -q 'my.yaml:1:23: .*plugn.*plugin' state/scheduler.log || fail "no place, or no hint"
    expect_eq "$(workers)" "$before"
    end_serve
}

test_a_queue_that_cannot_be_changed_so_leaves_the_handlers_as_they_are() {
    plugin
    write my.yaml <<<'{queues: {q: {topic: a}}, handlers: [{queue: q, plugin: plugin.so, processes: 2}]}'
    serve --config my.yaml
    wait_until '[ "$(worker_count)" = 2 ]'
    local before
    before=$(workers)
    echo '{queues: {q: {topic: a, stream: true}}, handlers: [{queue: q, plugin: plugin.so, processes: 1}]}' >my.yaml
    kill -HUP "$SERVE"
    wait_until 'grep -q "not taken up" state/scheduler.log'
    # The next one is taken up, and only it: the process that it adds comes to those of before.
    reload <<<'{queues: {q: {topic: a}}, handlers: [{queue: q, plugin: plugin.so, processes: 3}]}'
    wait_until '[ "$(worker_count)" = 3 ]'
    local pid
    for pid in $before; do [[ " $(workers)" = *" $pid "* ]] || fail "worker $pid of $before has ended: $(workers)"; done
    end_serve
}

test_handlers_go_on_when_the_scheduler_is_restarted() {
    plugin
    write my.yaml <<<'{queues: {q: {topic: a}}, handlers: [{queue: q, plugin: plugin.so, processes: 1}]}'
    serve --config my.yaml
    pawl publish a one >/dev/null
    wait_until '[ -e handled ]'
    local worker
    worker=$(the_pid_of worker)
    kill_scheduler
    pawl publish a two >/dev/null
    wait_until 'grep -q "^two 1" handled'
    expect_eq "$(the_pid_of worker)" "$worker"
    wait_until '[ "$(pawl health --json | jq -c "[.processes[] | select(.role == \"worker\") | .pid]")" = "['"$worker"']" ]'
    end_serve
}

test_a_stop_lets_handlers_end_what_they_do_and_begins_nothing_new() {
    plugin
    write my.yaml <<'YAML'
queues: {q: {topic: a}, r: {topic: b}}
handlers:
  - {queue: q, plugin: plugin.so, processes: 1}
  - {queue: r, exec: [sh, -c, 'echo >>"$T/began"; while [ ! -e "$T/go" ]; do sleep 0.02; done'], processes: 1}
YAML
    serve --config my.yaml
    printf '%s\n' wait two | pawl publish a --lines >/dev/null
    printf '%s\n' one two | pawl publish b --lines >/dev/null
    wait_until '[ -e handled ] && [ -e began ]'
    kill -TERM "$SERVE"
    wait_until 'grep -q "asked to stop" state/scheduler.log'
    touch go
    expect_end 0 "$SERVE"
    expect_eq "$(wc -l <handled) $(wc -l <began)" '1 1'
    expect_eq "$(depth q) $(depth r)" '1 1'
}

test_workers_of_runs_and_handlers_have_numbers_of_their_own() {
    plugin
    write my.yaml <<<'handlers: [{queue: q, plugin: plugin.so, processes: 2}]'
    write flow.yaml <<'YAML'
pawl: 1
steps: {one: {shell: 'touch began; while [ ! -e go ]; do sleep 0.02; done'}}
YAML
    serve --config my.yaml
    wait_until '[ "$(worker_count)" = 2 ]'
    background pawl run -j 1 flow.yaml
    local run=$!
    wait_until '[ -e began ]'
    expect_exit 0 pawl health --json
    expect_json '[.processes[] | select(.role == "worker") | .number] | sort | join(" ")' '1 2 3'
    touch go
    expect_end 0 "$run"
    end_serve
}

test_serve_does_not_start_with_a_handler_that_is_of_no_use() {
    plugin
    plugin other 7
    local handler words
    while IFS='|' read -r handler words; do
        echo "handlers: [{queue: q, $handler}]" >my.yaml
        expect_exit 3 pawl serve --config my.yaml
        expect_stderr "$words"
    done <<'CASES'
plugin: nosuch.so|there is no such plugin
plugin: other.so|ABI 7
plugin: plugin.so, config: fail|is a map, a list, or JSON
plugin: plugin.so, config: [fail]|init() failed with 7
plugin: plugin.so, config: [abort]|it ended the process that loaded it
exec: [nosuch-command]|there is no command nosuch-command
exec: ./nosuch|takes a list
processes: 1|`plugin` or `exec`, one of them
plugin: plugin.so, exec: [ls]|`plugin` or `exec`, one of them
exec: [ls], config: {}|`config` is for a plugin
plugin: plugin.so, processes: 0|not within 1 and 4096
plugin: plugin.so, processes: 4097|not within 1 and 4096
plugin: plugin.so, prefetch: 16385|not within 1 and 16384
plugin: plugin.so, processes: many|takes a number
plugin: plugin.so, group: "-x"|`group`
CASES
    echo 'handlers: [{plugin: plugin.so}]' >my.yaml
    expect_exit 3 pawl serve --config my.yaml
    expect_stderr 'without `queue`'
    expect_stderr 'my.yaml:1:12'
    echo 'handlers: [{queue: q, plugin: plugin.so, processes: 4096}, {queue: r, plugin: plugin.so, processes: 1}]' >my.yaml
    expect_exit 3 pawl serve --config my.yaml
    expect_stderr '4097 processes together: at most 4096'
}

test_config_show_lists_handlers_and_takes_as_many_processes_as_may_be() {
    mkdir -m 700 state
    echo 'handlers: [{queue: q, plugin: x.so, processes: 4096}]' >state/pawl.yaml
    expect_exit 0 pawl config show --json
    expect_json '.settings[] | select(.name == "handler q") | .value' "plugin $T/state/x.so, 4096 processes"
}

test_a_plugins_consumer_ends_with_an_error_when_its_queue_is_deleted_and_a_served_handler_waits_for_it_again() {
    plugin
    write my.yaml <<<'handlers: [{queue: q, plugin: plugin.so, processes: 1}]'
    serve --config my.yaml
    pawl queue declare q --topic a
    pawl queue declare own --topic b
    local consumer worker
    worker=$(the_pid_of worker)
    background pawl consume own --plugin ./plugin.so --concurrency 2
    consumer=$!
    pawl publish a one >/dev/null
    pawl publish b two >/dev/null
    wait_until '[ "$(depth q) $(depth own) $(handled)" = "0 0 2" ]'
    pawl queue delete own
    pawl queue delete q
    expect_end 1 "$consumer"
    grep -q 'own is not there any more' background.err || fail "no words: $(cat background.err)"
    pawl queue declare q --topic a
    pawl publish a three >/dev/null
    wait_until 'grep -q "^three 1" handled'
    expect_eq "$(the_pid_of worker)" "$worker"
    end_serve
}

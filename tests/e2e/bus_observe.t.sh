# bus_observe.t.sh - figures, health, HTTP, top: what can be seen of a scheduler from outside, and that it is true.

# serve_figures: with --metrics. PORT is where it answers.
serve_figures() {
    serve --metrics 0
    wait_until 'grep -q "figures at " serve.err'
    PORT=$(sed -n 's|.*figures at http://[^ ]*:\([0-9]*\)/metrics.*|\1|p' serve.err | tail -n 1)
}
# request TEXT: sent as it is (\r\n may be written so); the whole answer goes to the file http.
request() {
    exec 3<>"/dev/tcp/127.0.0.1/$PORT"
    # shellcheck disable=SC2059  # it is a format by intent
    printf "$1" >&3
    at_most 10 cat <&3 >"$T/http" || true
    exec 3>&- 3<&-
}
get() { request "${2:-GET} $1 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"; }
http_code() { head -n 1 "$T/http" | cut -d' ' -f2; }
http_body() { sed '1,/^\r$/d' "$T/http"; }
expect_body() { grep -qE -e "$1" <(http_body) || fail "the answer has no line: $1"; }
# metric 'NAME{LABELS}': its value.
metric() { pawl metrics | awk -v name="$1" '$1 == name { print $2; found = 1 } END { exit !found }'; }
expect_metric() { expect_eq "$1 $(metric "$1")" "$1 $2"; }
part() { jq -r ".components[] | select(.name == \"$1\") | .$2" "$T/out"; }

# --- figures ----------------------------------------------------------------------------------------------------

test_every_promised_metric_is_there() {
    local name
    serve
    pawl queue declare q --topic a
    expect_exit 0 pawl metrics
    for name in pawl_events_published_total 'pawl_deliveries_total{queue="q"}' 'pawl_acks_total{queue="q"}' \
        'pawl_nacks_total{queue="q"}' 'pawl_redeliveries_total{queue="q",cause="nack"}' \
        'pawl_dead_letters_total{queue="q",reason="rejected"}' 'pawl_queue_depth{queue="q"}' \
        'pawl_queue_in_flight{queue="q"}' 'pawl_queue_bytes{queue="q"}' 'pawl_dlq_depth{queue="q"}' \
        'pawl_breaker_state{queue="q"}' pawl_delivery_latency_seconds_count 'pawl_handler_seconds_count{queue="q"}' \
        pawl_journal_bytes_total pawl_journal_syncs_total pawl_journal_sync_seconds_count \
        pawl_journal_batch_records_count 'pawl_workers{state="idle"}' pawl_worker_restarts_total \
        'pawl_memory_bytes{kind="scheduler"}'; do
        expect_contains "$name "
    done
}

test_what_is_done_is_counted_where_it_happens() {
    local i
    serve
    pawl queue declare q --topic 'a.*' --max-deliver 2 --backoff fixed:10ms
    for i in 1 2 3; do pawl publish a.x "$i" >/dev/null; done
    pawl publish nobody.wants x >/dev/null
    expect_metric pawl_events_published_total 3
    expect_metric pawl_events_unrouted_total 1
    expect_metric 'pawl_queue_depth{queue="q"}' 3
    expect_exit 0 pawl consume q --count 1 --exec true
    expect_metric 'pawl_acks_total{queue="q"}' 1
    expect_metric 'pawl_handler_seconds_count{queue="q"}' 1
    capture pawl consume q --count 4 --exec false # two events, each nacked twice
    expect_metric 'pawl_deliveries_total{queue="q"}' 5
    expect_metric 'pawl_nacks_total{queue="q"}' 4
    expect_metric 'pawl_redeliveries_total{queue="q",cause="exit"}' 2
    expect_metric 'pawl_dead_letters_total{queue="q",reason="delivery-limit"}' 2
    expect_metric 'pawl_dlq_depth{queue="q"}' 2
    expect_metric 'pawl_queue_depth{queue="q"}' 0
    # Retries do not count; what was given ahead to the first consumer and went back may count again.
    metric pawl_delivery_latency_seconds_count | grep -qE '^[34]$'
    pawl dlq redrive q >/dev/null
    expect_metric 'pawl_dlq_depth{queue="q"}' 0
    expect_metric 'pawl_queue_depth{queue="q"}' 2
}

test_a_deadline_is_no_nack_and_is_told_as_the_cause() {
    serve
    pawl queue declare q --topic a --backoff fixed:10ms
    pawl publish a x >/dev/null
    expect_exit 0 pawl consume q --count 1 --wait 2m # shown, not settled
    expect_exit 0 pawl extend "$(json .delivery)" --by 1ms
    wait_until '[ "$(metric '\''pawl_queue_in_flight{queue="q"}'\'')" = 0 ]'
    expect_exit 0 pawl consume q --count 1 --wait 2m
    expect_json .attempt 2
    expect_metric 'pawl_nacks_total{queue="q"}' 0
    expect_metric 'pawl_redeliveries_total{queue="q",cause="deadline"}' 1
}

test_depth_of_a_shared_dead_letter_queue_is_that_of_each_that_uses_it_even_after_a_restart() {
    serve
    pawl queue declare one --topic one --max-deliver 1 --dlq graves
    pawl queue declare two --topic two --max-deliver 1 --dlq graves
    pawl publish one x >/dev/null
    capture pawl consume one --count 1 --exec false
    expect_metric 'pawl_dlq_depth{queue="one"}' 1
    kill -KILL "$(the_pid_of scheduler)"
    wait_until 'pawl metrics'
    expect_metric 'pawl_dlq_depth{queue="one"}' 1
    expect_metric 'pawl_dlq_depth{queue="two"}' 1
    expect_metric 'pawl_dlq_depth{queue="graves"}' 0
}

test_after_a_restart_depths_are_known_and_counters_begin_anew() {
    serve
    pawl queue declare q --topic a
    pawl publish a x >/dev/null
    kill -KILL "$(the_pid_of scheduler)"
    wait_until 'pawl metrics'
    expect_metric 'pawl_queue_depth{queue="q"}' 1
    expect_metric 'pawl_queue_published_total{queue="q"}' 0
    expect_metric pawl_events_published_total 0
}

test_a_breaker_is_seen_to_open_and_by_time_alone_to_open_halfway() {
    local queue
    serve
    pawl queue declare patient --topic patient --breaker 1,1h,1 --backoff fixed:10ms
    pawl queue declare q --topic q --breaker 1,1s,1 --backoff fixed:10ms
    for queue in patient q; do
        pawl publish "$queue" x >/dev/null
        capture pawl consume "$queue" --count 1 --exec false
    done
    expect_metric 'pawl_breaker_state{queue="patient"}' 1
    wait_until '[ "$(metric '\''pawl_breaker_state{queue="q"}'\'')" = 2 ]'
    expect_metric 'pawl_breaker_state{queue="patient"}' 1
}

test_consumers_and_clients_are_counted_while_they_are_there() {
    serve
    pawl queue declare q --topic a
    background pawl consume q --exec true
    wait_until '[ "$(metric '\''pawl_queue_consumers{queue="q"}'\'')" = 1 ]'
    wait_until '[ "$(metric pawl_clients)" = 1 ]'
    kill "${BACKGROUND[-1]}"
    wait_until '[ "$(metric '\''pawl_queue_consumers{queue="q"}'\'')" = 0 ]'
    wait_until '[ "$(metric pawl_clients)" = 0 ]'
}

test_memory_is_told_by_kind() {
    local kind
    serve
    pawl queue declare q --topic a --durability memory
    expect_metric 'pawl_memory_bytes{kind="kept"}' 0
    head -c 100000 /dev/zero | tr '\0' x | pawl publish a >/dev/null
    for kind in scheduler supervisor shared kept; do
        [ "$(metric "pawl_memory_bytes{kind=\"$kind\"}")" -gt 0 ] || fail "nothing of $kind"
    done
    [ "$(metric 'pawl_memory_bytes{kind="kept"}')" -ge 100000 ]
    if ldd "$PAWL" | grep -q jemalloc; then
        [ "$(metric 'pawl_memory_bytes{kind="allocated"}')" -gt 100000 ]
    fi
}

test_a_worker_that_is_lost_is_counted() {
    write flow.yaml <<'YAML'
pawl: 1
steps:
  block: {shell: 'touch live; while [ ! -e go ]; do sleep 0.02; done', retries: 2}
YAML
    serve
    pawl run --detach -j1 --run-id h flow.yaml >/dev/null 2>&1
    wait_until '[ -e live ]'
    wait_until '[ "$(metric '\''pawl_workers{state="busy"}'\'')" = 1 ]'
    expect_metric pawl_worker_restarts_total 0
    kill -KILL "$(the_pid_of 'worker 1')"
    wait_until '[ "$(metric pawl_worker_restarts_total)" = 1 ]'
    touch go
    expect_exit 0 pawl wait h --timeout 5m
}

# switches: how often the scheduler has gone to sleep.
switches() { awk '/^voluntary/ { print $2 }' "/proc/$(the_pid_of scheduler)/status"; }

test_an_idle_scheduler_is_not_woken_by_its_figures() {
    serve_figures
    pawl queue declare q --topic a
    pawl publish a x >/dev/null
    get /metrics
    # Whatever follows the last work (the watermark, a last look at memory) is over when two seconds bring nothing.
    wait_until 'before=$(switches); sleep 2; [ "$(switches)" = "$before" ]' 20
}

# --- HTTP -------------------------------------------------------------------------------------------------------

test_http_answers_metrics_health_and_nothing_else() {
    serve_figures
    pawl queue declare q --topic a
    get /metrics
    expect_eq "$(http_code)" 200
    grep -q '^Content-Type: text/plain; version=0.0.4' http
    expect_body '^pawl_queue_depth\{queue="q"\} 0$'
    expect_eq "$(http_body | wc -c)" "$(sed -n 's/^Content-Length: \([0-9]*\)\r$/\1/p' http)"
    wait_until 'get /health; [ "$(http_code)" = 200 ]'
    grep -q '^Content-Type: application/json' http
    expect_eq "$(http_body | jq -r '.status, .ready, .components[0].name')" $'serving\ntrue\nscheduler'
    get /metrics HEAD
    expect_eq "$(http_code)" 200
    expect_eq "$(http_body)" ''
    get /
    expect_eq "$(http_code)" 404
    get /metrics/
    expect_eq "$(http_code)" 404
    get /metrics DELETE
    expect_eq "$(http_code)" 405
    grep -q '^Allow: GET, HEAD' http
    request 'POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello'
    expect_eq "$(http_code)" 405
    request 'garbage\r\n\r\n'
    [ "$(http_code)" != 200 ]
    get /metrics
    expect_eq "$(http_code)" 200
}

test_http_is_on_loopback_unless_another_address_is_named() {
    local local_address
    serve_figures
    # As the kernel has it: 127.0.0.1 is 0100007F, state 0A listens.
    local_address=$(printf '0100007F:%04X' "$PORT")
    grep -q " $local_address .* 0A " /proc/net/tcp
    expect_exit 2 pawl --state other serve --metrics '*:0'
    expect_stderr 0.0.0.0
    expect_exit 2 pawl --state other serve --metrics host.example:9187
    expect_exit 2 pawl --state other serve --metrics nine
    [ ! -e other/lock ]
}

test_a_port_that_is_taken_is_named_and_nothing_is_served() {
    serve_figures
    expect_exit 4 pawl --state other serve --metrics "$PORT"
    expect_stderr "--metrics $PORT: Address already in use"
}

test_http_goes_on_when_the_scheduler_is_started_again() {
    serve_figures
    pawl queue declare q --topic a
    pawl publish a x >/dev/null
    get /metrics
    kill -KILL "$(the_pid_of scheduler)"
    wait_until 'get /metrics; grep -q "^pawl_events_published_total 0$" http && grep -q "^pawl_queue_depth{queue=.q.} 1$" http'
    wait_until 'get /health; [ "$(http_code) $(http_body | jq .epoch)" = "200 2" ]'
}

test_a_scheduler_that_does_not_answer_is_unhealthy_and_its_figures_can_be_read() {
    serve_figures
    pawl queue declare q --topic a
    get /metrics
    kill -STOP "$(the_pid_of scheduler)"
    wait_until 'get /health; [ "$(http_code)" = 503 ]' 20
    expect_eq "$(http_body | jq -r '.overall, .components[0].status')" $'unhealthy\nunhealthy'
    get /metrics
    expect_eq "$(http_code)" 200
    expect_body '^pawl_queue_depth\{queue="q"\} 0$'
    kill -CONT "$(the_pid_of scheduler)"
    wait_until 'get /health; [ "$(http_code)" = 200 ]'
}

metrics_in_health() { pawl health --json | jq -r '.processes[] | select(.role == "metrics") | "\(.pid) \(.state)"'; }

test_the_process_that_answers_is_one_of_its_own_and_is_started_again() {
    local before
    serve_figures
    before=$(the_pid_of metrics)
    wait_until '[ "$(metrics_in_health)" = "'"$before serving"'" ]'
    expect_eq "$(pawl metrics --format json | jq -c '[.workers[]] | add')" 0 # it is none of them
    kill -KILL "$before"
    wait_until '[ -n "$(pid_of metrics)" ] && [ "$(pid_of metrics)" != '"$before"' ]'
    wait_until '[ "$(metrics_in_health)" = "$(pid_of metrics) serving" ]'
    kill -KILL "$(the_pid_of scheduler)"
    wait_until '[ "$(metrics_in_health)" = "$(pid_of metrics) serving" ]'
    wait_until 'get /metrics; [ "$(http_code)" = 200 ]'
    end_serve
    wait_until '[ -z "$(processes)" ]' 5
}

once test_connections_that_say_nothing_keep_nobody_out_for_long # a process of its own answers, which does no such I/O
test_connections_that_say_nothing_keep_nobody_out_for_long() {
    local i fds=()
    serve_figures
    for ((i = 0; i < 40; i++)); do
        exec {fd}<>"/dev/tcp/127.0.0.1/$PORT"
        fds+=("$fd")
    done
    # 32 are held at most, each for 10 s.
    wait_until 'get /metrics; [ "$(http_code)" = 200 ]' 30
    expect_eq "${#fds[@]}" 40
}

# --- health -----------------------------------------------------------------------------------------------------

test_health_says_by_its_exit_how_it_is() {
    expect_exit 4 pawl health
    expect_stderr 'nothing runs'
    expect_exit 4 pawl health --json
    expect_json .status stopped
    expect_json .overall unknown
    serve
    expect_exit 0 pawl health
    expect_match '^scheduler +healthy'
    expect_match '^scheduler +[0-9]+ +serving'
    expect_exit 0 pawl health --json
    expect_json .status serving
    expect_json .ready true
    expect_json '[.components[].name] | join(" ")' 'scheduler journal workers queues disk memory'
    expect_eq "$(part memory critical) $(part journal critical)" 'false true'
    expect_eq "$(part scheduler status) $(part scheduler consecutive_failures)" 'healthy 0'
    kill -STOP "$(the_pid_of scheduler)"
    expect_exit 1 pawl health --json
    expect_json .overall unhealthy
    expect_json .ready false
    expect_eq "$(part scheduler message)" 'does not answer'
    kill -CONT "$(the_pid_of scheduler)"
}

test_a_full_queue_and_an_open_breaker_degrade_and_are_named() {
    serve
    pawl queue declare tight --topic tight --max-depth 1
    expect_exit 0 pawl health --json
    expect_eq "$(part queues status)" healthy
    pawl publish tight x >/dev/null
    expect_exit 0 pawl health --json
    expect_json .overall degraded
    expect_json .ready true
    expect_eq "$(part queues status)" degraded
    part queues message | grep -q tight
    pawl queue purge tight >/dev/null
    expect_exit 0 pawl health --json
    expect_eq "$(part queues status)" healthy
    pawl queue declare broken --topic broken --breaker 1,1h,1 --backoff fixed:1h
    pawl publish broken x >/dev/null
    capture pawl consume broken --count 1 --exec false
    expect_exit 0 pawl health --json
    part queues message | grep -q broken
}

# --- top --------------------------------------------------------------------------------------------------------

# top_on_terminal KEYS...: pawl top on a terminal of 80x24; a key each, when the one before has had its effect:
# KEYS alternate with conditions to wait for.
top_on_terminal() {
    mkfifo keys
    # shellcheck disable=SC2094
    TERM=xterm COLUMNS=80 LINES=24 at_most 60 script -qefc "stty rows 24 cols 80; '$PAWL' top --interval 100ms; echo exit \$?" \
        screen <keys >/dev/null 2>&1 &
    BACKGROUND+=($!)
    exec {keys}>keys
    wait_until 'grep -aq "q quit" screen'
    while [ $# -gt 0 ]; do
        printf '%s' "$1" >&"$keys"
        wait_until "$2"
        shift 2
    done
    printf q >&"$keys"
    wait_until 'grep -aq "exit 0" screen'
    exec {keys}>&-
}

test_top_needs_a_terminal_and_says_what_does_not() {
    serve
    expect_exit 2 pawl top
    expect_stderr 'pawl metrics'
    expect_exit 2 pawl top --json
    expect_exit 2 pawl top --once --sort nothing
    expect_exit 2 pawl top --once --interval 1ms
    expect_exit 4 pawl --state nowhere top --once
}

test_top_once_prints_a_row_for_each_queue() {
    serve
    pawl queue declare orders --topic order.new --max-depth 2
    pawl queue declare mails --topic mail.new
    pawl queue pause mails
    pawl publish order.new x >/dev/null
    pawl publish order.new y >/dev/null
    pawl publish mail.new z >/dev/null
    expect_exit 0 pawl top --once --interval 100ms --sort depth
    expect_match '^orders +2 +2 +0 .* full +0$'
    expect_match '^mails +1 +1 +0 .* paused +0$'
    expect_eq "$(grep -nE '^(orders|mails)' out | cut -d' ' -f1 | cut -d: -f2 | tr '\n' ' ')" 'orders mails '
    ! grep -qE '.{81}' out
    expect_eq "$(COLUMNS=120 "$PAWL" top --once --interval 100ms | grep '^orders' | wc -L)" 120
}

test_keys_of_top_pause_redrive_and_purge() {
    serve
    pawl queue declare q --topic a --max-deliver 1
    pawl publish a x >/dev/null
    capture pawl consume q --count 1 --exec false
    pawl queue show q --json | jq -e '.dlq_depth == 1' >/dev/null
    # What is not confirmed is not done.
    top_on_terminal \
        p '[ "$(pawl queue show q --json | jq -r .state)" = paused ]' \
        p '[ "$(pawl queue show q --json | jq -r .state)" = active ]' \
        d 'grep -aq "redrive all dead letters of q" screen' \
        n 'grep -aq "nothing was done" screen' \
        d 'true' \
        y '[ "$(pawl queue show q --json | jq -r ".depth, .dlq_depth" | tr "\n" " ")" = "1 0 " ]' \
        P 'grep -aq "drop all that waits in q" screen' \
        y '[ "$(pawl queue show q --json | jq -r .depth)" = 0 ]'
    grep -aq '1 redriven' screen
}

test_top_on_a_terminal_that_cannot_be_drawn_on_says_so() {
    local kind
    serve
    for kind in nonsense dumb ''; do
        TERM=$kind at_most 10 script -qec "'$PAWL' top; echo exit \$?" screen </dev/null >/dev/null 2>&1
        grep -aq 'exit 2' screen || fail "TERM='$kind'"
        grep -aq 'pawl top --once' screen
    done
}

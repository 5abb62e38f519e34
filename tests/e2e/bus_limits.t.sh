# bus_limits.t.sh - limits of the configuration: at each, and one beyond, with its own error.

configured() {
    mkdir -p -m 700 state
    printf '%s\n' "$@" >state/pawl.yaml
}

bytes() { head -c "$1" /dev/zero | tr '\0' "${2:-x}"; }

expect_refused_as() {
    expect_exit 1 "$PAWL" publish a --json <beyond
    expect_json_err .error.code "$1"
}

test_an_event_may_be_as_large_as_the_setting_says_and_not_larger() {
    configured 'event-payload: 1000'
    pawl queue declare q --topic a
    bytes 1000 | pawl publish a >id
    bytes 1001 >beyond
    expect_refused_as limit
    expect_exit 0 pawl consume q --peek
    expect_json '.data | length' 1000
}

test_the_default_is_1_mib_and_the_maximum_64() {
    pawl queue declare q --topic a
    bytes 1048576 | pawl publish a >id
    bytes 1048577 >beyond
    expect_exit 1 "$PAWL" publish a <beyond
    configured 'event-payload: 64MiB'
    wait_until '[ -z "$(processes)" ]'
    bytes 67108864 | pawl publish a >id
    bytes 67108865 >beyond
    expect_exit 1 "$PAWL" publish a <beyond
    configured 'event-payload: 67108865'
    wait_until '[ -z "$(processes)" ]'
    expect_exit 3 pawl publish a x
    expect_stderr 'pawl.yaml:1:16'
}

test_an_event_larger_than_a_message_of_the_socket_is_taken_looked_at_and_settled() {
    configured 'event-payload: 16MiB' 'ack-wait: 1h'
    pawl queue declare q --topic a
    bytes 5242880 | pawl publish a >id
    pawl publish a small >>id
    expect_exit 0 pawl consume q --peek --json
    expect_eq "$(json '.data | length' | tr '\n' ' ')" '5242880 5 '
    expect_exit 0 pawl consume q --count 2 --wait 2m --json
    expect_eq "$(json '.data | length' | tr '\n' ' ')" '5242880 5 '
    expect_eq "$(json .attempt | tr '\n' ' ')" '1 1 '
    json .delivery | xargs "$PAWL" reject
    expect_exit 0 pawl dlq show q 1 --json
    expect_json '.data | length' 5242880
    expect_exit 0 pawl dlq list q --json
    expect_eq "$(json .seq | tr '\n' ' ')" '1 2 '
    expect_exit 0 pawl dlq redrive q
    expect_stdout 2
}

test_an_event_from_before_the_limit_was_lowered_is_taken_whole() {
    configured 'event-payload: 16MiB'
    pawl queue declare q --topic a
    for _ in 1 2 3; do bytes 5242880 | pawl publish a >>id; done
    wait_until '[ -z "$(processes)" ]'
    configured 'event-payload: 1MiB'
    expect_exit 0 pawl consume q --count 3 --wait 2m --json
    expect_eq "$(json '.data | length' | tr '\n' ' ')" '5242880 5242880 5242880 '
    expect_eq "$(json .attempt | tr '\n' ' ')" '1 1 1 '
}

test_headers_together_are_bounded() {
    configured 'event-headers: 100'
    pawl queue declare q --topic a
    # names and values
    expect_exit 0 pawl publish a x --header "n=$(bytes 49)" --header "m=$(bytes 49)"
    expect_exit 1 pawl publish a x --header "n=$(bytes 49)" --header "m=$(bytes 50)"
    expect_stderr event-headers
}

test_headers_have_16_kib_by_default_and_64_at_most() {
    pawl queue declare q --topic a
    expect_exit 0 pawl publish a x --header "n=$(bytes 16383)"
    expect_exit 1 pawl publish a x --header "n=$(bytes 16384)"
    wait_until '[ -z "$(processes)" ]'
    configured 'event-headers: 64KiB'
    local most=(--header "n=$(bytes 32767)" --header "m=$(bytes 32767)")
    expect_exit 0 pawl publish a x "${most[@]}"
    expect_exit 1 pawl publish a x "${most[@]}" --header k=
    expect_exit 0 pawl consume q --count 2 --wait 2m --auto-ack
    expect_eq "$(json '.headers | [.[] | length] | add' | tr '\n' ' ')" '16383 65534 '
    configured 'event-headers: 65KiB'
    expect_exit 3 pawl config show
}

test_topics_have_255_bytes() {
    local most
    most=$(bytes 255 t)
    pawl queue declare q --topic '#'
    expect_exit 0 pawl publish "$most" x
    expect_exit 2 pawl publish "${most}t" x
    expect_exit 0 pawl queue declare r --topic "$most"
    expect_exit 2 pawl queue declare s --topic "${most}t"
}

test_a_queue_has_so_many_patterns() {
    local i topics=()
    for i in $(seq 16); do topics+=(--topic "t$i"); done
    expect_exit 0 pawl queue declare q "${topics[@]}"
    expect_exit 3 pawl queue declare r "${topics[@]}" --topic t17
    expect_stderr 16
    configured 'queue-patterns: 256'
    wait_until '[ -z "$(processes)" ]'
    for i in $(seq 17 256); do topics+=(--topic "t$i"); done
    expect_exit 0 pawl queue declare r "${topics[@]}"
    expect_exit 2 pawl queue declare s "${topics[@]}" --topic t257
}

test_there_are_so_many_queues() {
    configured 'queues: 2'
    pawl queue declare one --topic a
    pawl queue declare two --topic a
    expect_exit 3 pawl queue declare three --topic a --json
    expect_json_err .error.code limit
    expect_stderr 'limit is 2'
    expect_exit 0 pawl queue declare two --topic a
}

test_a_stream_has_so_many_groups() {
    configured 'stream-groups: 2'
    pawl queue declare s --topic a --stream
    pawl group create s one
    pawl group create s two
    expect_exit 3 pawl group create s three
    expect_stderr 2
}

test_a_queue_takes_as_many_events_as_the_default_depth_says() {
    configured 'queue-depth: 3'
    pawl queue declare q --topic a
    expect_exit 1 sh -c 'seq 4 | "$1" publish a --lines' sh "$PAWL"
    expect_lines 3
    expect_exit 0 pawl queue list --json
    expect_json '.queues[0].depth' 3
}

test_an_ack_wait_and_a_limit_of_failures_that_nobody_set_are_the_settings() {
    configured 'ack-wait: 7d' 'max-deliver: 4095' 'overflow: drop_oldest' 'durability: async'
    pawl queue declare q --topic a
    expect_exit 0 pawl queue show q --json
    expect_json '.config | "\(.ack_wait_ns) \(.retry.limit) \(.overflow) \(.durability)"' '604800000000000 4095 drop_oldest async'
}

test_a_dead_letter_queue_drops_its_oldest_beyond_its_depth() {
    configured 'dlq-depth: 2' 'max-deliver: 1'
    pawl queue declare q --topic a
    seq 3 | pawl publish a --lines >ids
    expect_exit 1 pawl consume q --count 3 --wait 2m --exec false
    expect_eq "$(pawl dlq list q --json | jq -r .data | sort | tr '\n' ' ')" '2 3 '
}

test_keys_beyond_the_window_are_forgotten_oldest_first() {
    configured 'dedupe-keys: 2'
    pawl queue declare q --topic a
    local key
    for key in k1 k2 k3; do pawl publish a x --id $key >/dev/null; done
    expect_exit 0 pawl publish a x --id k3 --json
    expect_json .duplicate true
    expect_exit 0 pawl publish a x --id k1 --json
    expect_json .duplicate false
}

# A server with so many clients, all of whose places are taken by consumers of q; their pids are in $clients.
serve_full_house() {
    configured "clients: $1" "${@:2}"
    serve
    pawl queue declare q --topic a
    clients=()
    while [ ${#clients[@]} -lt "$1" ]; do
        background pawl consume q --auto-ack
        clients+=($!)
    done
    wait_until 'pawl metrics | grep -qx "pawl_clients '"$1"'"'
}

test_there_are_so_many_clients() {
    local clients
    serve_full_house 2
    expect_exit 4 pawl consume q
    expect_stderr clients
    expect_exit 4 pawl consume q --auto-ack
    expect_stderr clients
    expect_exit 4 pawl publish a x
    expect_stderr clients
    kill -INT "${clients[0]}"
    wait "${clients[0]}" || true
    wait_until 'pawl publish a x'
    end_serve
}

test_verbs_that_ask_or_settle_take_no_place_of_a_client() {
    local clients delivery
    pawl queue declare other --topic b
    pawl publish b x
    delivery=$(pawl consume other --count 1 | jq -r .delivery)
    serve_full_house 1
    expect_exit 0 pawl health
    expect_exit 0 pawl metrics
    expect_exit 0 pawl top --once --interval 250ms
    expect_exit 0 pawl queue list
    expect_exit 0 pawl queue pause q
    expect_exit 0 pawl dlq list q
    expect_exit 0 pawl consume other --peek
    expect_lines 1
    expect_exit 0 pawl ack "$delivery"
    expect_exit 0 pawl runs
    end_serve
}

# Raw connections that say they only ask, as many as are let in; the file "more" is made when no more are.
cat_askers() {
    cat <<'PY'
import os, socket, struct, sys
held = []
while len(held) < 2000:
    s = socket.socket(socket.AF_UNIX)
    s.connect(sys.argv[1])
    s.sendall(struct.pack("<IHHQ", 16, 1, 0, 7) + struct.pack("<IIII", 1, 1, 1, os.getpid()))
    size, kind, _, _ = struct.unpack("<IHHQ", s.recv(16, socket.MSG_WAITALL))
    s.recv((size + 7) // 8 * 8, socket.MSG_WAITALL)
    if kind == 3:
        break
    held.append(s)
print(len(held), flush=True)
sys.stdin.read()
PY
}

# As root the guest is somebody else; as a user there is nobody else to be.
test_commands_that_ask_are_bounded_and_some_places_are_the_owners() {
    local as=() least=250 most=257
    public_directory
    if [ "$(id -u)" = 0 ]; then
        as=(setpriv --reuid=65534 --regid=65534 --clear-groups)
    else
        least=310 most=321
    fi
    configured 'clients: 1' 'allow-uids: [65534]'
    serve --socket "$PUBLIC/socket"
    mkfifo stay
    cat_askers >askers.py
    "${as[@]}" /usr/bin/python3 -c "$(cat askers.py)" "$PUBLIC/socket" <stay >held &
    exec 9>stay
    wait_until '[ -s held ]' 30
    if [ "$(cat held)" -lt $least ] || [ "$(cat held)" -gt $most ]; then fail "$(cat held) were let in"; fi
    if [ "$(id -u)" = 0 ]; then
        expect_exit 0 pawl health
        expect_exit 0 pawl queue list
    else
        expect_exit 3 pawl health
        expect_stderr 'commands are connected'
    fi
    exec 9>&-
    wait_until 'pawl health'
    end_serve
    rmdir "$PUBLIC"
}

test_a_publish_may_be_delayed_for_so_long() {
    configured 'publish-delay: 1h'
    pawl queue declare q --topic a
    expect_exit 0 pawl publish a x --delay 1h
    expect_exit 1 pawl publish a x --delay 3601s --json
    expect_json_err .error.code limit
    expect_stderr publish-delay
    expect_eq "$(pawl queue show q --json | jq .depth)" 1
}

test_so_many_delayed_and_prioritised_events_wait_in_a_queue() {
    configured 'queue-delayed: 2'
    pawl queue declare q --topic a
    expect_exit 0 pawl publish a x --delay 1h
    expect_exit 0 pawl publish a x --priority 1
    expect_exit 1 pawl publish a x --delay 1h --json
    expect_json_err .error.code limit
    expect_stderr queue-delayed
    expect_exit 1 pawl publish a x --priority 1
    expect_exit 0 pawl publish a plain
    expect_eq "$(pawl queue show q --json | jq .depth)" 3
}

test_a_key_has_255_bytes() {
    local most
    most=$(bytes 255 k)
    pawl queue declare q --topic a
    expect_exit 0 pawl publish a x --id "$most" --json
    expect_exit 0 pawl publish a x --id "$most" --json
    expect_json .duplicate true
    capture pawl publish a x --id "${most}k"
    [ "$rc" -ne 0 ] || fail 'a key of 256 bytes was taken'
    expect_stderr 255
    expect_eq "$(pawl queue show q --json | jq .depth)" 1
}

test_a_stream_that_has_its_groups_is_not_consumed_by_another() {
    configured 'stream-groups: 1'
    pawl queue declare s --topic a --stream
    pawl publish a x >id
    expect_exit 0 pawl consume s --group one --auto-ack --wait 2m --count 1
    expect_exit 3 pawl consume s --group two --auto-ack --wait 2m --count 1
    expect_stderr stream-groups
    expect_exit 3 pawl consume s --group two --wait 2m --count 1 --json
    expect_stderr stream-groups
}

test_dead_letters_are_bounded_by_bytes_too() {
    configured 'dlq-bytes: 4KiB' 'max-deliver: 1'
    pawl queue declare q --topic a
    local i
    for i in 1 2 3 4; do bytes 1000 $i | pawl publish a >id; done
    expect_exit 1 pawl consume q --count 4 --wait 2m --exec false
    expect_eq "$(pawl dlq list q --json | jq -r '.data[0:1]' | sort | tr '\n' ' ')" '2 3 4 '
}

test_config_show_lists_every_setting_with_its_origin() {
    configured 'ack-wait: 1m'
    PAWL_MAX_DELIVER=9 expect_exit 0 pawl config show --origin --json
    expect_json '.settings[] | select(.name == "ack-wait") | "\(.value) \(.origin) \(.maximum)"' '1m file 7d'
    expect_json '.settings[] | select(.name == "max-deliver") | "\(.value) \(.origin) \(.maximum)"' '9 environment 4095'
    expect_json '.settings[] | select(.name == "queues") | "\(.value) \(.origin)"' '1024 default'
    expect_exit 0 pawl config show --origin
    expect_match '^ack-wait +1m +file +7d$'
    configured 'ack-wiat: 1m'
    expect_exit 3 pawl config show
    expect_stderr 'pawl.yaml:1:1'
}

# As lines of the file. Those of a command are said elsewhere, and the file says so.
settings_of_the_file() {
    pawl config show --json | jq -r '.settings[] | select(.name | IN("state", "jobs", "color", "progress") | not) |
        "\(.name): \(.value)"'
}

test_what_config_show_prints_says_the_same_in_the_file_and_in_the_environment() {
    local name
    settings_of_the_file >default.yaml
    configured 'allow-uids: [1, 4294967294]' 'allow-gids: [7]' 'ack-wait: 1500ms' 'grace: 5400' 'event-payload: 1500000' \
        'queue-depth: disk' 'overflow: block' 'durability: async' 'max-deliver: 0'
    settings_of_the_file >other.yaml
    for name in default other; do
        cp $name.yaml "$PAWL_STATE/pawl.yaml"
        expect_eq "$(settings_of_the_file)" "$(cat $name.yaml)"
        expect_exit 0 pawl config show --json
        expect_eq "$(json '.settings[] | select(.name == "ack-wait").origin')" file
    done
    for name in color progress jobs; do
        export PAWL_"${name^^}"="$(pawl config show --json | jq -r ".settings[] | select(.name == \"$name\").value")"
        expect_exit 0 pawl config show --json
        expect_json ".settings[] | select(.name == \"$name\").origin" environment
    done
}

test_a_mistake_in_the_environment_is_not_called_one_of_the_file() {
    write flow.yaml <<<$'pawl: 1\nsteps: {a: {use: noop}}'
    configured 'run-instances: 3'
    local verb
    for verb in 'check flow.yaml' 'run flow.yaml' 'config show' serve; do
        # shellcheck disable=SC2086  # words
        PAWL_RUN_INSTANCES=0 expect_exit 3 pawl $verb
        expect_stderr "PAWL_RUN_INSTANCES: '0' is below the minimum of 1"
        refute_stderr 'pawl.yaml'
    done
    configured 'run-instances: 0'
    expect_exit 3 pawl check flow.yaml
    expect_stderr 'pawl.yaml:1:'
}

test_limits_of_workflow_files_and_runs_are_settings_too() {
    write flow.yaml <<'YAML'
pawl: 1
steps:
  many: {foreach: [1, 2, 3, 4], run: [sh, -c, 'echo 12345678']}
YAML
    configured 'run-instances: 3'
    expect_exit 1 pawl run flow.yaml
    expect_exit 0 pawl why last many
    expect_contains '4 instances: the limit run-instances is 3; run-instances in pawl.yaml or PAWL_RUN_INSTANCES raises it'
    expect_exit 3 pawl map true ::: 1 2 3 4
    expect_stderr 'has more tasks than the limit run-instances, 3'
    expect_stderr 'run-instances in pawl.yaml or PAWL_RUN_INSTANCES raises it'
    expect_exit 0 pawl map true ::: 1 2 3
    configured 'workflow-file: 20'
    wait_until '[ -z "$(processes)" ]'
    expect_exit 3 pawl check flow.yaml
    expect_exit 3 pawl run flow.yaml
    configured 'attempt-output: 5'
    wait_until '[ -z "$(processes)" ]'
    expect_exit 1 pawl run flow.yaml
    expect_exit 0 pawl steps last --json
    expect_contains output
    configured 'attempt-output: 1MiB'
    wait_until '[ -z "$(processes)" ]'
    expect_exit 0 pawl why last many
    expect_contains 'more than is kept of an attempt (the setting attempt-output): 5 bytes of it are kept'
    configured 'workers: 3' 'run-instances: 4'
    wait_until '[ -z "$(processes)" ]'
    expect_exit 0 pawl run flow.yaml --json
    expect_exit 0 pawl run flow.yaml -j 1
}

# 15 MB of steps and 20 MB of one value: neither fits where most plans do.
test_a_workflow_within_raised_limits_is_run_where_check_takes_it() {
    export PAWL_WORKFLOW_FILE=64MiB PAWL_WORKFLOW_NODES=1000000
    {
        printf 'pawl: 1\nsteps:\n'
        seq -f '  s%.0f: {use: noop}' 70000
        printf '  last: {use: noop, env: {A: "'
        head -c 20000000 /dev/zero | tr '\0' x
        printf '"}}\n'
    } >wide.yaml
    expect_exit 0 pawl check wide.yaml
    expect_exit 0 pawl run wide.yaml --run-id wide --json
    expect_eq "$(run_state wide)" succeeded
    expect_exit 0 pawl journal verify
}

test_the_limit_of_captured_output_holds_for_a_map_as_for_a_run() {
    export PAWL_ATTEMPT_OUTPUT=10KiB
    expect_exit 1 pawl map -k sh -c 'head -c "$0" /dev/zero | tr "\0" x' ::: 10240 10241
    expect_exit 0 pawl steps last --json
    expect_eq "$(json '"\(.index) \(.state) \(.reason)"')" $'0 succeeded null\n1 failed output'
    expect_exit 0 pawl why last map --item 1
    expect_contains 'attempt-output'
    refute_contains GiB
    unset PAWL_ATTEMPT_OUTPUT
    configured 'attempt-output: 5'
    wait_until '[ -z "$(processes)" ]'
    expect_exit 1 pawl map --resume -k sh -c 'head -c "$0" /dev/zero | tr "\0" x' ::: 10241
    serve
    expect_exit 1 pawl map echo ::: 12345
    expect_exit 0 pawl map echo ::: 1234
}

test_a_run_that_does_not_say_j_has_as_many_slots_as_the_server_was_given() {
    write flow.yaml <<'YAML'
pawl: 1
steps:
  many:
    foreach: [1, 2, 3, 4, 5]
    shell: 'touch "here.$$"; until [ "$(ls here.* | wc -l)" -ge 5 ]; do sleep 0.01; done'
    timeout: 5m
YAML
    serve --workers 5
    expect_exit 0 pawl run flow.yaml
    end_serve
}

# bus_queue.t.sh - queues: declared, listed, shown, paused, purged, deleted; each flag reaches the queue.

config_of() { pawl queue show "$1" --json | jq -c ".config.$2"; }

test_a_declared_queue_is_listed_and_shown() {
    expect_exit 0 pawl queue declare orders --topic 'order.*'
    expect_exit 0 pawl queue list --json
    expect_json .schema 1
    expect_json '.queues[0].name' orders
    expect_json '.queues[0].state' active
    expect_json '.queues[0].depth' 0
    expect_exit 0 pawl queue list
    expect_match '^orders +active +0 '
    expect_exit 0 pawl queue show orders --json
    expect_json '.config.topics[0]' 'order.*'
    expect_exit 0 pawl queue show orders
    expect_contains 'order.*'
}

test_a_pattern_of_nats_is_literal_and_a_note_says_so() {
    expect_exit 0 pawl queue declare q --topic 'a.>'
    expect_stderr "'a.>': > is a segment as any other; # is the rest of a topic"
    expect_exit 0 pawl queue declare other --topic 'a.#' --topic 'b>'
    refute_stderr '>'
    expect_exit 0 pawl publish a.b x
    expect_exit 0 pawl publish 'a.>' y
    expect_exit 0 pawl queue list --json
    expect_json '[.queues[] | "\(.name) \(.depth)"] | sort | join(", ")' 'other 2, q 1'
}

test_declaring_the_same_again_is_fine() {
    expect_exit 0 pawl queue declare orders --topic 'order.*' --ack-wait 1m --json
    expect_json .created true
    expect_exit 0 pawl queue declare orders --topic 'order.*' --ack-wait 1m --json
    expect_json .created false
    expect_exit 0 pawl queue list --json
    expect_json '.queues | length' 1
}

test_a_second_declaration_changes_what_it_says_and_keeps_the_rest() {
    pawl queue declare orders --topic 'order.*' --ack-wait 1m --max-deliver 7
    expect_exit 0 pawl queue declare orders --max-deliver 9
    expect_eq "$(config_of orders ack_wait_ns)" 60000000000
    expect_eq "$(config_of orders retry.limit)" 9
    expect_eq "$(config_of orders topics)" '["order.*"]'
}

test_limit_backoff_and_rules_of_retries_change_one_by_one() {
    pawl queue declare q --topic a --max-deliver 7 --backoff fixed:3s --retry nack=2
    expect_exit 0 pawl queue declare q --retry deadline=1
    expect_eq "$(config_of q retry.limit)" 7
    expect_eq "$(config_of q retry.backoff.initial_ns)" 3000000000
    expect_exit 0 pawl queue declare q --backoff fixed:4s
    expect_exit 0 pawl queue declare q --max-deliver 8
    expect_eq "$(config_of q retry.limit)" 8
    expect_eq "$(config_of q retry.backoff.initial_ns)" 4000000000
    expect_eq "$(config_of q retry.causes.deadline.limit)" 1
}

test_a_backoff_leaves_the_limit_of_the_configuration() {
    mkdir -m 700 "$PAWL_STATE"
    echo 'max-deliver: 9' >"$PAWL_STATE/pawl.yaml"
    pawl queue declare q --topic a --backoff fixed:1s
    expect_eq "$(config_of q retry.limit)" 9
}

test_what_was_bounded_can_be_unbounded_again() {
    pawl queue declare q --topic a --max-in-flight 1 --ttl 1h
    expect_exit 0 pawl queue declare q --max-in-flight 0 --ttl 0
    expect_eq "$(config_of q max_in_flight) $(config_of q ttl_ns)" '0 0'
    pawl queue declare q --rate 1/s
    expect_exit 0 pawl queue declare q --rate 0
    expect_eq "$(config_of q rate.count)" 0
    pawl queue declare s --topic a --stream --retain 1h --retain 1MiB
    expect_exit 0 pawl queue declare s --retain none
    expect_eq "$(config_of s retain_ns) $(config_of s retain_bytes)" '0 0'
}

test_a_bound_that_there_is_not_is_shown_as_none() {
    pawl queue declare s --topic a --stream
    expect_exit 0 pawl queue show s
    expect_match '^ +max_depth +none$'
    expect_match '^ +max_bytes +none$'
    expect_match '^ +max_in_flight +none$'
    expect_match '^ +rate +none$'
    pawl queue declare q --topic a --max-in-flight 3 --rate 5/s --max-depth 7
    expect_exit 0 pawl queue show q
    expect_match '^ +max_depth +7$'
    expect_match '^ +max_in_flight +3$'
    expect_match '^ +count +5$'
}

test_retention_is_for_streams() {
    expect_exit 3 pawl queue declare q --topic a --retain 1d
    expect_stderr stream
    expect_exit 0 pawl queue declare q --topic a --stream --retain 1d
}

test_a_state_directory_that_is_not_there_has_no_queues() {
    expect_exit 0 pawl queue list --json
    expect_json '.queues | length' 0
    expect_exit 2 pawl consume q --wait 0s
    expect_exit 2 pawl queue show q --json
    expect_json_err .error.code not_found
    [ ! -e "$PAWL_STATE" ] || fail 'looking made it'
}

test_a_declaration_that_cannot_be_met_is_refused_and_changes_nothing() {
    pawl queue declare orders --topic 'order.*'
    expect_exit 3 pawl queue declare orders --topic 'order.*' --stream
    expect_stderr stream
    expect_eq "$(config_of orders stream)" false
}

test_a_new_queue_needs_a_topic() {
    expect_exit 3 pawl queue declare orders
    expect_stderr --topic
    expect_exit 0 pawl queue list --json
    expect_json '.queues | length' 0
}

test_every_flag_of_declare_reaches_the_queue() {
    expect_exit 0 pawl queue declare q --topic 'a.*' --topic 'b.#' --ack-wait 90s --max-deliver 3 \
        --backoff 1s,5s,30s --retry deadline=2 --retry exit:75=0,1s --dlq graves --max-depth 10 --max-bytes 64KiB \
        --overflow drop_oldest --topic-overflow 'a.x=block' --max-in-flight 4 --rate 100/s --ttl 1h --strict-attempts \
        --guarantee at_least_once --durability async --ordering-key customer --breaker 5,30s,3
    expect_exit 0 pawl queue show q --json
    expect_json '.config.topics | join(" ")' 'a.* b.#'
    expect_json .config.ack_wait_ns 90000000000
    expect_json .config.retry.limit 3
    expect_json .config.retry.backoff.kind list
    expect_json '.config.retry.backoff.delays_ns | join(",")' 1000000000,5000000000,30000000000
    expect_json .config.retry.causes.deadline.limit 2
    expect_json '.config.retry.causes."exit:75" | has("backoff")' true
    expect_json .config.dlq graves
    expect_json .config.max_depth 10
    expect_json .config.max_bytes 65536
    expect_json .config.overflow drop_oldest
    expect_json '.config.overflow_topics."a.x"' block
    expect_json .config.max_in_flight 4
    expect_json '.config.rate | "\(.count) \(.per_ns)"' '100 1000000000'
    expect_json .config.ttl_ns 3600000000000
    expect_json .config.strict_attempts true
    expect_json .config.durability async
    expect_json .config.ordering_key customer
    expect_json '.config.breaker | "\(.failures) \(.cooldown_ns) \(.probes)"' '5 30000000000 3'
    expect_exit 0 pawl queue show q
    expect_match '^ +delays +1\.0 s, 5\.0 s, 30\.0 s$' # and not as nanoseconds
}

test_a_backoff_of_four_numbers_is_exponential() {
    expect_exit 0 pawl queue declare q --topic a --backoff 200ms,2,10s,0.1
    expect_exit 0 pawl queue show q --json
    expect_json '.config.retry.backoff | "\(.kind) \(.initial_ns) \(.max_ns)"' 'exponential 200000000 10000000000'
}

test_wrong_values_name_the_flag_and_the_value() {
    local flags
    for flags in '--ack-wait=soon' '--ack-wait=8d' '--max-deliver=4096' '--overflow=explode' '--rate=100' '--durability=disk' \
        '--breaker=many' '--retry=fate=3' '--max-bytes=big' '--backoff=1x' '--guarantee=exactly_once' '--topic=a..b' \
        '--topic-overflow=a' '--retain=much' '--dlq=-x'; do
        expect_exit 2 pawl queue declare q --topic a "$flags"
        expect_stderr "${flags%%=*}"
    done
    [ ! -e "$PAWL_STATE" ] || expect_exit 0 pawl queue list
    refute_contains q
}

test_a_name_that_cannot_be_one_is_refused() {
    local name
    for name in .hidden 'a b' "$(printf 'x%.0s' {1..65})" ''; do
        expect_exit 2 pawl queue declare "$name" --topic a
    done
    expect_exit 0 pawl queue declare "$(printf 'x%.0s' {1..64})" --topic a
}

test_unknown_queues_are_an_error_of_their_own() {
    pawl queue declare known --topic a
    local what
    for what in show pause resume purge delete; do
        expect_exit 2 pawl queue $what nosuch
        expect_stderr nosuch
    done
    expect_exit 2 pawl queue show nosuch --json
    expect_json_err .error.code not_found
}

test_a_paused_queue_takes_events_and_delivers_none() {
    pawl queue declare q --topic a
    expect_exit 0 pawl queue pause q
    pawl publish a one
    expect_exit 0 pawl queue list --json
    expect_json '.queues[0] | "\(.state) \(.depth)"' 'paused 1'
    expect_exit 0 pawl consume q --count 1 --wait 300ms
    expect_stdout ''
    expect_exit 0 pawl queue resume q
    expect_exit 0 pawl consume q --count 1 --wait 2m --auto-ack
    expect_json .data one
}

test_purge_drops_what_waits_and_says_how_many() {
    pawl queue declare q --topic a
    seq 5 | pawl publish a --lines >ids
    expect_exit 0 pawl queue purge q
    expect_stdout 5
    expect_exit 0 pawl consume q --peek
    expect_stdout ''
}

test_a_deleted_queue_is_gone_with_its_events() {
    pawl queue declare q --topic a
    pawl publish a one
    expect_exit 0 pawl queue delete q
    expect_exit 2 pawl queue show q
    pawl queue declare q --topic a
    expect_exit 0 pawl consume q --peek
    expect_stdout ''
}

test_what_was_declared_and_published_is_there_in_the_next_life() {
    pawl queue declare q --topic a --ack-wait 77s
    pawl publish a kept
    wait_until '[ -z "$(processes)" ]'
    expect_eq "$(config_of q ack_wait_ns)" 77000000000
    expect_exit 0 pawl consume q --count 1 --wait 2m --auto-ack
    expect_json .data kept
}

test_events_that_no_queue_wants_go_where_unrouted_to_says() {
    pawl queue declare q --topic a --unrouted-to lost
    pawl publish b stray
    expect_exit 0 pawl consume lost --count 1 --wait 2m --auto-ack
    expect_json '"\(.topic) \(.data)"' 'b stray'
}

test_what_was_declared_by_a_flag_without_a_value_is_taken_back_by_its_false() {
    pawl queue declare q --topic a --strict-attempts --unrouted
    expect_eq "$(pawl queue show q --json | jq -c '.config | [.strict_attempts, .unrouted]')" '[true,true]'
    pawl queue declare q --ack-wait 1m
    expect_eq "$(pawl queue show q --json | jq -c '.config | [.strict_attempts, .unrouted]')" '[true,true]'
    expect_exit 0 pawl queue declare q --strict-attempts=false --unrouted=false
    expect_eq "$(pawl queue show q --json | jq -c '.config | [.strict_attempts, .unrouted]')" '[false,false]'
    expect_exit 1 pawl publish stray x --expect-routed
    expect_exit 2 pawl queue declare q --strict-attempts=no
    expect_stderr 'neither true nor false'
}

test_verbs_of_several_say_what_there_is_and_guess_typos() {
    local verb
    for verb in queue dlq group; do
        expect_exit 2 pawl $verb
        expect_exit 0 pawl $verb --help
        expect_contains "usage: pawl $verb"
    done
    expect_exit 2 pawl queue delcare q
    expect_stderr 'queue declare'
    expect_exit 2 pawl queue declare q --topik a
    expect_stderr --topic
    expect_exit 0 pawl help queue declare
    expect_contains --max-in-flight
}

test_what_neighbours_call_it_gets_a_hint() {
    expect_exit 2 pawl queue declare q --topic a --exclusive
    expect_stderr --temporary
    expect_exit 2 pawl queue declare q --topic a --single-active-consumer
    expect_stderr '--max-in-flight 1'
    expect_exit 2 pawl queue declare q --topic a --alternate-exchange lost
    expect_stderr --unrouted-to
    expect_exit 2 pawl publish a --reply-to b
    expect_stderr reply-to=
    expect_exit 2 pawl xread clicks
    expect_stderr --peek
    expect_exit 2 pawl queue create q
    expect_stderr 'queue declare'
    expect_exit 2 pawl queue bind q a
    expect_stderr --topic
    expect_exit 2 pawl dlq replay q
    expect_stderr 'dlq redrive'
    expect_exit 2 pawl group list s
    expect_stderr 'group lag'
    expect_exit 2 pawl publish a --cron '* * * * *'
    expect_stderr --delay
    expect_exit 2 pawl subscribe a
    expect_stderr consume
}

test_a_dump_of_the_journal_names_the_records_of_the_bus() {
    pawl queue declare q --topic a
    pawl publish a one >/dev/null
    pawl nack "$(pawl consume q --count 1 --wait 2m | jq -r .delivery)"
    pawl queue delete q
    wait_until '[ -z "$(processes)" ]'
    expect_exit 0 pawl journal dump --json
    expect_eq "$(json 'select(.type_number >= 64 and .type_number < 80) | .type' | tr '\n' ' ')" \
        'queue events event_claim retry delete '
}

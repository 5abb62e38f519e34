# bus_consume.t.sh - consume: as a stream, detached, with a command; ack, nack, reject, extend; retries and dead letters.

# Only where a test says so is a delivery given again because time passed: half a minute may pass on a slow machine.
export PAWL_ACK_WAIT=1h

depth() { pawl queue show "$1" --json | jq .depth; }
in_flight() { pawl queue show "$1" --json | jq .in_flight; }
# take QUEUE: the tag of its next delivery.
take() { pawl consume "$1" --count 1 --wait 2m | jq -r .delivery; }
dead() { pawl dlq list "$1" --json | jq -r "$2"; }

test_a_detached_delivery_stays_in_flight_until_it_is_acked() {
    pawl queue declare q --topic a
    pawl publish a one >/dev/null
    local tag
    tag=$(take q)
    expect_eq "$(in_flight q)" 1
    expect_exit 0 pawl consume q --count 1 --wait 300ms
    expect_stdout ''
    expect_exit 0 pawl ack "$tag"
    expect_eq "$(in_flight q) $(depth q)" '0 0'
}

# paused_says NAME...: one that has been told of the pause before it began, and one that is told while it waits.
paused_says() {
    pawl queue pause q
    expect_exit 0 pawl consume q --wait 50ms "$@"
    expect_stdout ''
    expect_eq "$(stderr)" 'pawl consume: queue q is paused: nothing is delivered until somebody says: pawl queue resume q'
    expect_exit 0 pawl consume q --json --wait 50ms "$@"
    expect_eq "$(stderr)" ''
    pawl queue resume q
    pawl publish a one
    background pawl consume q --count 2 "$@"
    wait_until '[ -s background.out ]'
    pawl queue pause q
    wait_until '[ -s background.err ]'
    pawl publish a two
    pawl queue resume q
    expect_end 0 "${BACKGROUND[-1]}"
    expect_file background.err 'pawl consume: queue q is paused: nothing is delivered until somebody says: pawl queue resume q'
}

test_a_consume_that_waits_for_a_paused_queue_says_so_once() {
    leave_running
    pawl queue declare q --topic a
    paused_says
    paused_says --auto-ack
    paused_says --exec cat
}

test_a_late_or_second_ack_is_refused_with_its_own_error() {
    pawl queue declare q --topic a
    pawl publish a one >/dev/null
    local tag
    tag=$(take q)
    expect_exit 0 pawl ack "$tag"
    expect_exit 1 pawl ack "$tag"
    expect_stderr "$tag"
    expect_exit 1 pawl ack "$tag" --json
    expect_json_err .error.code stale_receipt
}

test_several_deliveries_are_acked_at_once_and_one_that_fails_keeps_no_other() {
    pawl queue declare q --topic a
    seq 3 | pawl publish a --lines >/dev/null
    pawl consume q --count 3 --wait 2m | jq -r .delivery >tags
    pawl ack "$(sed -n 2p tags)"
    # shellcheck disable=SC2046
    expect_exit 1 pawl ack $(cat tags)
    expect_eq "$(depth q)" 0
}

test_tags_that_are_none_are_refused() {
    pawl queue declare q --topic a
    local tag
    for tag in nonsense q q:1:1 q:x:1:1 :1:1:1; do
        expect_exit 2 pawl ack "$tag"
        expect_stderr QUEUE:SEQ:ATTEMPT:EPOCH
    done
    expect_exit 2 pawl ack nosuch:1:1:1
    expect_stderr 'no queue is called nosuch'
    expect_exit 2 pawl ack q:99:1:1
    expect_stderr 'queue q has no event 99'
}

test_a_detached_delivery_is_settled_by_its_own_tag_only_also_in_later_lives() {
    pawl queue declare q --topic a
    pawl publish a one >/dev/null
    local tag life
    tag=$(take q)
    life=${tag##*:}
    wait_until '[ -z "$(processes)" ]'
    expect_exit 1 pawl ack "${tag%:*}:$((life - 1))"
    wait_until '[ -z "$(processes)" ]'
    expect_exit 1 pawl ack "${tag%:*}:$((life + 1))"
    expect_eq "$(in_flight q)" 1
    expect_exit 0 pawl ack "$tag"
    expect_eq "$(depth q)" 0
}

test_a_nack_delivers_again_with_the_next_attempt() {
    pawl queue declare q --topic a --backoff fixed:0s
    pawl publish a one >/dev/null
    expect_exit 0 pawl nack "$(take q)"
    expect_exit 0 pawl consume q --count 1 --wait 2m --auto-ack
    expect_json '"\(.attempt) \(.failures)"' '2 1'
}

test_a_nack_with_a_delay_waits_that_long() {
    pawl queue declare q --topic a
    pawl publish a one >/dev/null
    local tag begin
    tag=$(take q)
    begin=$(now_ms)
    pawl nack "$tag" --delay 1s
    expect_exit 0 pawl consume q --count 1 --wait 2m --auto-ack
    expect_json .attempt 2
    [ $(($(now_ms) - begin)) -ge 1000 ] || fail 'too early'
}

test_a_newline_in_a_topic_or_reason_breaks_no_row_of_dead_letters() {
    pawl queue declare q --topic '#'
    pawl publish $'a\nb' bad >/dev/null
    pawl reject "$(take q)" --reason $'first\nsecond\ttabbed\033[2J'
    expect_exit 0 pawl dlq list q
    expect_lines 2
    expect_contains 'a\nb  first\nsecond\ttabbed\x1b[2J'
    expect_exit 0 pawl dlq show q
    expect_match '^topic +a\\nb$'
}

test_a_rejected_delivery_is_a_dead_letter_with_its_reason() {
    pawl queue declare q --topic a
    pawl publish a bad >/dev/null
    expect_exit 0 pawl reject "$(take q)" --reason 'no such customer'
    expect_exit 0 pawl dlq list q --json
    expect_json '"\(.reason)|\(.error)|\(.attempts)|\(.data)|\(.topic)"' 'rejected|no such customer|1|bad|a'
    expect_exit 0 pawl dlq list q
    expect_match 'rejected .*no such customer'
    expect_eq "$(depth q)" 0
}

test_after_the_limit_of_failures_an_event_is_dead() {
    pawl queue declare q --topic a --max-deliver 2 --backoff fixed:0s
    pawl publish a x >/dev/null
    pawl nack "$(take q)"
    pawl nack "$(take q)"
    expect_eq "$(dead q '"\(.reason) \(.attempts)"')" 'delivery-limit 2'
    expect_exit 0 pawl consume q --count 1 --wait 200ms
    expect_stdout ''
}

test_a_delivery_that_is_not_settled_in_its_ack_wait_comes_again_and_its_tag_is_stale() {
    pawl queue declare q --topic a --ack-wait 300ms --backoff fixed:0s
    pawl publish a x >/dev/null
    local tag
    tag=$(take q)
    expect_exit 0 pawl consume q --count 1 --wait 2m
    expect_json .attempt 2
    expect_exit 1 pawl ack "$tag"
}

test_extending_keeps_a_delivery() {
    serve
    pawl queue declare q --topic a --ack-wait 2s --backoff fixed:0s --max-deliver 0
    pawl publish a x >/dev/null
    local tag extended=no
    for _ in {1..20}; do # on a slow machine the ack wait may be over before it is extended: then it comes again
        tag=$(take q)
        ! pawl extend "$tag" --by 1h || { extended=yes && break; }
    done
    expect_eq "$extended" yes
    expect_exit 0 pawl consume q --count 1 --wait 3s
    expect_stdout ''
    expect_exit 0 pawl ack "$tag"
    end_serve
}

test_auto_ack_leaves_in_the_queue_what_was_not_asked_for() {
    pawl queue declare q --topic a
    seq 10 | pawl publish a --lines >/dev/null
    expect_exit 0 pawl consume q --count 3 --wait 2m --auto-ack
    expect_eq "$(json .data | tr '\n' ' ')" '1 2 3 '
    expect_eq "$(depth q)" 7
    expect_exit 0 pawl consume q --count 7 --wait 2m --auto-ack
    expect_eq "$(json '"\(.data):\(.attempt)"' | tr '\n' ' ')" '4:1 5:1 6:1 7:1 8:1 9:1 10:1 '
    expect_eq "$(depth q)" 0
}

test_what_a_reader_that_left_did_not_get_stays() {
    pawl queue declare q --topic a
    seq 20000 | pawl publish a --lines >/dev/null
    capture sh -c '"$1" consume q --auto-ack | head -n 1' sh "$PAWL"
    expect_json .data 1
    [ "$(depth q)" -gt 0 ] || fail 'all of it is gone'
}

test_peek_shows_all_and_takes_nothing() {
    pawl queue declare q --topic a
    seq 700 | pawl publish a --lines >/dev/null
    expect_exit 0 pawl consume q --peek
    expect_eq "$(json .data)" "$(seq 700)"
    expect_json '.delivery' "$(yes null | head -n 700)"
    expect_exit 0 pawl consume q --peek --from 698
    expect_lines 3
    expect_exit 0 pawl consume q --peek --count 2
    expect_lines 2
    expect_eq "$(depth q) $(in_flight q)" '700 0'
}

test_a_command_gets_data_and_environment_and_acks_with_0() {
    pawl queue declare q --topic 'order.*'
    pawl publish order.new 'the data' --header 'x-Customer.id=7' >id
    expect_exit 0 pawl consume q --count 1 --wait 2m --exec sh -c \
        'echo "$(cat)|$PAWL_QUEUE|$PAWL_TOPIC|$PAWL_EVENT|$PAWL_ATTEMPT|$PAWL_HEADER_X_CUSTOMER_ID|$PAWL_DELIVERY|$1"' sh 'an arg'
    expect_match "^the data\|q\|order.new\|$(cat id)\|1\|7\|q:1:1:[0-9]+\|an arg$"
    expect_eq "$(depth q)" 0
}

test_of_headers_with_one_variable_the_first_is_in_the_environment() {
    pawl queue declare q --topic a
    pawl publish a x --header a-b=1 --header a-b=2 --header a.b=3 --header c=4 >/dev/null
    expect_exit 0 pawl consume q --count 1 --wait 2m --exec sh -c 'tr "\0" "\n" </proc/$$/environ | grep ^PAWL_HEADER_'
    expect_stdout $'PAWL_HEADER_A_B=1\nPAWL_HEADER_C=4'
}

test_exit_65_rejects_and_others_are_tried_again_till_the_limit() {
    pawl queue declare q --topic a --max-deliver 3 --backoff fixed:0s
    pawl publish a reject >/dev/null
    pawl publish a fail >/dev/null
    expect_exit 1 pawl consume q --count 4 --wait 2m --exec sh -c 'read -r word; echo "$word $PAWL_ATTEMPT"; [ "$word" != reject ] || exit 65; exit 3'
    expect_sorted $'fail 1\nfail 2\nfail 3\nreject 1'
    expect_eq "$(dead q '"\(.data) \(.reason) \(.error)"' | sort)" $'fail delivery-limit exit code 3\nreject rejected exit code 65'
}

test_a_rule_for_an_exit_code_beats_the_queues_limit() {
    pawl queue declare q --topic a --max-deliver 5 --backoff fixed:0s --retry exit:9=never
    pawl publish a x >/dev/null
    expect_exit 1 pawl consume q --count 1 --wait 2m --exec sh -c 'echo "$PAWL_ATTEMPT"; exit 9'
    expect_stdout 1
    expect_eq "$(dead q .reason)" delivery-limit
}

test_a_command_that_is_killed_has_failed() {
    pawl queue declare q --topic a --max-deliver 1
    pawl publish a x >/dev/null
    expect_exit 1 pawl consume q --count 1 --wait 2m --exec sh -c 'kill -9 $$'
    expect_eq "$(dead q .error)" 'killed by signal 9 (Killed)'
}

test_75_spares_the_breaker_and_other_failures_trip_it() {
    local code state
    serve
    for code in 75 1; do
        pawl queue declare "q$code" --topic "t$code" --breaker 2,1h,1 --backoff fixed:0s --max-deliver 0
        pawl publish "t$code" x >/dev/null
        capture pawl consume "q$code" --count 2 --wait 2m --exec sh -c "exit $code"
        state=$(pawl queue show "q$code" --json | jq -r .breaker)
        [ "$code:$state" = 75:closed ] || [ "$code:$state" = 1:open ] || fail "after exit $code the breaker is $state"
    done
    end_serve
}

test_no_more_commands_run_at_a_time_than_was_said_and_as_many() {
    pawl queue declare q --topic a
    seq 4 | pawl publish a --lines >/dev/null
    mkdir here
    # Each waits until two are there at once; a third would be seen.
    expect_exit 0 pawl consume q --count 4 --wait 2m --concurrency 2 --exec sh -c '
        touch "here/$$"
        while [ "$(ls here | wc -l)" -lt 2 ] && [ ! -e met ]; do sleep 0.01; done
        touch met
        ls here | wc -l
        rm "here/$$"'
    expect_lines 4
    expect_match '^2$'
    ! grep -qE '^[3-9]' out || fail 'three at a time'
}

test_a_command_that_is_not_there_touches_no_event() {
    pawl queue declare q --topic a
    pawl publish a x >/dev/null
    expect_exit 2 pawl consume q --exec nosuchcommand-at-all
    expect_stderr nosuchcommand-at-all
    expect_exit 2 pawl consume q --exec ./nosuch
    expect_eq "$(depth q) $(in_flight q)" '1 0'
}

test_a_consumer_that_is_killed_gives_its_events_to_the_next_with_another_attempt() {
    serve
    pawl queue declare q --topic a --backoff fixed:0s
    pawl publish a x >/dev/null
    background pawl consume q --exec sh -c 'touch began; while :; do sleep 0.05; done'
    local consumer=$!
    wait_until '[ -e began ]'
    kill -9 "$consumer"
    expect_exit 0 pawl consume q --count 1 --wait 2m --auto-ack
    expect_json .attempt 2
    end_serve
}

test_an_interrupt_lets_the_command_end_and_a_second_one_gives_its_event_back_uncounted() {
    local consumer
    pawl queue declare q --topic a
    seq 2 | pawl publish a --lines >/dev/null
    background pawl consume q --exec sh -c 'touch began; while [ ! -e go ]; do sleep 0.02; done'
    consumer=$!
    wait_until '[ -e began ]'
    kill -INT "$consumer"
    wait_until 'grep -q stopping background.err'
    touch go
    expect_end 5 "$consumer"
    expect_eq "$(depth q)" 1
    rm began go
    background pawl consume q --exec sh -c 'touch began; while :; do sleep 0.02; done'
    consumer=$!
    wait_until '[ -e began ]'
    kill -TERM "$consumer"
    expect_end 5 "$consumer"
    expect_exit 0 pawl consume q --count 1 --wait 2m --auto-ack
    expect_json '"\(.data) \(.failures)"' '2 0'
}

test_a_plain_consumer_ends_at_an_interrupt() {
    pawl queue declare q --topic a
    background pawl consume q
    local consumer=$!
    wait_until 'pawl queue list --json | jq -e .queues'
    pawl publish a x >/dev/null
    wait_until '[ -s background.out ]'
    kill -INT "$consumer"
    expect_end 5 "$consumer"
    jq -e '.data == "x"' background.out >/dev/null || fail 'the event was not printed'
}

test_a_plain_consumer_goes_on_when_its_server_was_killed_and_another_serves() {
    local consumer
    serve
    pawl queue declare q --topic a
    background pawl consume q
    consumer=$!
    pawl publish a x >/dev/null
    wait_until '[ -s background.out ]'
    kill -KILL "$SERVE"
    wait "$SERVE" || true
    serve
    pawl publish a y >/dev/null
    wait_until '[ "$(wc -l <background.out)" -eq 2 ]' 20
    kill -INT "$consumer"
    expect_end 5 "$consumer"
    expect_eq "$(jq -r .data background.out | xargs)" 'x y'
    end_serve
}

test_ways_of_consuming_exclude_one_another() {
    pawl queue declare q --topic a
    expect_exit 2 pawl consume q --peek --auto-ack
    expect_exit 2 pawl consume q --auto-ack --exec true
    expect_exit 2 pawl consume q --concurrency 2
    expect_exit 2 pawl consume q --from 3
    expect_exit 2 pawl consume nosuch --count 1 --wait 1s
    expect_exit 2 pawl consume q --group g --count 1 --wait 1s
}

# ---- dead letters ----

three_dead() {
    pawl queue declare q --topic 'a.*' --max-deliver 1
    pawl publish a.1 one >/dev/null
    pawl publish a.2 two >/dev/null
    pawl publish a.1 three >/dev/null
    pawl reject "$(take q)" --reason bad
    pawl nack "$(take q)"
    pawl reject "$(take q)" --reason worse
}

test_redrive_gives_all_dead_letters_back_counted_from_the_start() {
    three_dead
    expect_exit 0 pawl dlq redrive q
    expect_stdout 3
    expect_exit 0 pawl consume q --count 3 --wait 2m --auto-ack
    expect_eq "$(json '"\(.data):\(.attempt):\(.failures)"' | sort | tr '\n' ' ')" 'one:1:0 three:1:0 two:1:0 '
    expect_exit 0 pawl dlq list q --json
    expect_stdout ''
}

test_redrive_and_purge_take_some_by_filter_or_number() {
    three_dead
    expect_exit 0 pawl dlq list q --filter reason=rejected --json
    expect_lines 2
    expect_exit 0 pawl dlq redrive q --filter reason=delivery-limit
    expect_stdout 1
    expect_exit 0 pawl dlq redrive q "$(dead q 'select(.data == "one") | .seq')"
    expect_stdout 1
    expect_eq "$(dead q .data)" three
    expect_exit 0 pawl dlq purge q --filter topic=a.2
    expect_stdout 0
    expect_exit 0 pawl dlq purge q
    expect_stdout 1
    expect_eq "$(dead q .data)" ''
}

test_redrive_to_another_queue() {
    three_dead
    pawl queue declare byhand --topic never
    expect_exit 0 pawl dlq redrive q --to byhand
    expect_stdout 3
    expect_eq "$(depth q) $(depth byhand)" '0 3'
}

test_show_has_all_of_one_dead_letter() {
    three_dead
    local seq
    seq=$(dead q 'select(.data == "one") | .seq')
    expect_exit 0 pawl dlq show q "$seq" --json
    expect_json '"\(.data) \(.reason) \(.error) \(.queue)"' 'one rejected bad q'
    expect_keys . 'first_at last_at published_at attempts headers event'
    expect_exit 0 pawl dlq show q "$seq"
    expect_match '^reason +rejected'
    expect_exit 2 pawl dlq show q 9999
}

test_show_without_numbers_has_all_or_what_a_filter_chooses() {
    pawl queue declare q --topic a
    seq 3 | pawl publish a --lines >/dev/null
    pawl consume q --count 3 --wait 2m | jq -r .delivery | xargs "$PAWL" reject
    expect_exit 0 pawl dlq show q --json
    expect_json .data $'1\n2\n3'
    expect_exit 0 pawl dlq show q --filter reason=expired --json
    expect_stdout ''
    expect_exit 0 pawl dlq show q
    expect_match '^data +3$'
}

test_a_number_of_no_dead_letter_is_told() {
    pawl queue declare q --topic a
    pawl publish a one >/dev/null
    pawl reject "$(take q)"
    local what
    for what in show redrive purge; do
        expect_exit 2 pawl dlq "$what" q 77
        expect_stderr 'no dead letter has that number'
    done
    expect_exit 2 pawl dlq redrive q 1 77
    expect_stdout 1
    expect_eq "$(depth q)" 1
}

test_queues_that_share_a_dead_letter_queue_see_their_own_dead_letters() {
    pawl queue declare p --topic a --dlq dead
    pawl queue declare q --topic a --dlq dead
    pawl publish a one >/dev/null
    pawl reject "$(take p)"
    pawl reject "$(take q)"
    expect_eq "$(dead p .queue) $(dead q .queue)" 'p q'
    expect_eq "$(dead dead .queue)" $'p\nq'
    expect_exit 0 pawl dlq purge p
    expect_stdout 1
    expect_eq "$(dead dead .queue)" q
    expect_exit 0 pawl dlq redrive q
    expect_eq "$(depth p) $(depth q)" '0 1'
}

test_a_filter_that_is_not_known_is_told() {
    three_dead
    expect_exit 2 pawl dlq list q --filter cause=x
    expect_exit 2 pawl dlq list q --filter reason=rejectd
    expect_stderr rejected
    expect_exit 2 pawl dlq redrive q notanumber
}

test_dead_letters_may_go_to_a_queue_of_another_name() {
    pawl queue declare q --topic a --dlq graves
    pawl publish a x >/dev/null
    pawl reject "$(take q)"
    expect_eq "$(dead q .data)" x
    expect_exit 0 pawl queue list --json
    expect_json '[.queues[].name] | sort | join(" ")' 'graves q'
}

# ---- a queue that goes ----

test_a_consumer_whose_queue_is_deleted_ends_with_an_error() {
    local way
    for way in '' '--auto-ack' '--exec true'; do
        pawl queue declare q --topic a
        pawl publish a one >/dev/null
        # shellcheck disable=SC2086
        background pawl consume q $way
        local consumer=$!
        wait_until '[ "$(pawl queue show q --json | jq .depth)" = 0 ] || [ "$(in_flight q)" = 1 ]'
        pawl queue delete q
        expect_end 1 "$consumer"
        grep -q 'queue.* q' background.err || fail "no words: $(cat background.err)"
    done
}

test_a_rejection_with_its_words_is_durable_when_consume_has_ended() {
    local i
    serve
    pawl queue declare q --topic a
    for i in 1 2 3; do
        pawl publish a "$i" >/dev/null
        expect_exit 1 pawl consume q --count 1 --exec sh -c 'exit 65'
        kill_scheduler
        expect_eq "$(depth q) $(depth q.dlq)" "0 $i"
    done
    end_serve
}

test_what_is_settled_while_the_server_drains_is_told_durable() {
    local consumer
    serve
    pawl queue declare q --topic a
    pawl publish a 1 >/dev/null
    "$PAWL" consume q --count 1 --exec sh -c 'touch begun; until [ -e go ]; do sleep 0.02; done' 2>said &
    consumer=$!
    wait_until '[ -e begun ]'
    kill -TERM "$SERVE"
    wait_until 'grep -q "asked to stop" state/scheduler.log'
    touch go
    wait "$consumer" || fail "exit $?: $(cat said)"
    expect_end 0 "$SERVE"
}

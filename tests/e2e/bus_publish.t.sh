# bus_publish.t.sh - publish: data, headers, keys, delays, lines; what is refused and how that is told.

depth() { pawl queue show "$1" --json | jq .depth; }

test_an_event_comes_out_as_it_went_in() {
    pawl queue declare q --topic 'order.*'
    expect_exit 0 pawl publish order.new '{"id": 7}' --header source=shop --header 'note=a=b c'
    local id
    id=$(stdout)
    [[ $id =~ ^[0-9]+$ ]] || fail "no id: $id"
    expect_exit 0 pawl consume q --count 1 --wait 2m --auto-ack
    expect_lines 1
    expect_json .queue q
    expect_json .event "$id"
    expect_json .attempt 1
    expect_json .topic order.new
    expect_json .data '{"id": 7}'
    expect_json '.headers | "\(.source)|\(.note)"' 'shop|a=b c'
    expect_json '.delivery | test("^q:1:1:[0-9]+$")' true
    expect_json '.published_at | test("^20[0-9-]+T[0-9:.]+Z$")' true
}

test_data_comes_from_standard_input_without_an_operand() {
    pawl queue declare q --topic a
    printf 'two\nlines\n' | pawl publish a >id
    expect_exit 0 pawl consume q --count 1 --wait 2m --auto-ack
    expect_json .data $'two\nlines'
    printf '' | pawl publish a >id
    expect_exit 0 pawl consume q --count 1 --wait 2m --auto-ack
    expect_json '.data | length' 0
}

test_data_that_is_not_text_comes_as_base64() {
    pawl queue declare q --topic a
    printf '\377\000\001' | pawl publish a >id
    expect_exit 0 pawl consume q --count 1 --wait 2m --auto-ack
    expect_json .data_base64 /wAB
    expect_json 'has("data")' false
}

test_every_matching_queue_gets_its_own_copy() {
    pawl queue declare one --topic 'order.*'
    pawl queue declare all --topic '#'
    pawl queue declare other --topic 'invoice.*'
    expect_exit 0 pawl publish order.new x --json
    expect_json .routed 2
    expect_eq "$(depth one) $(depth all) $(depth other)" '1 1 0'
    pawl consume one --count 1 --wait 2m --auto-ack >/dev/null
    expect_eq "$(depth one) $(depth all)" '0 1'
}

test_an_event_that_nobody_wants_is_fine_unless_a_route_is_expected() {
    pawl queue declare q --topic a
    expect_exit 0 pawl publish b x --json
    expect_json .routed 0
    expect_json .event null
    expect_eq "$(stderr)" ''
    expect_exit 1 pawl publish b x --expect-routed
    expect_stderr 'no queue'
    expect_exit 0 pawl publish a x --expect-routed
}

test_a_refusal_has_its_own_words_though_the_scheduler_was_slow_before() {
    serve
    local publisher scheduler
    scheduler=$(the_pid_of scheduler)
    mkfifo data
    background sh -c 'exec "$1" publish nobody --expect-routed <data' sh "$PAWL"
    publisher=$!
    exec 7>data
    head -c 200000 /dev/zero >&7 # more than a pipe holds: when it is written the publisher reads, and is connected
    kill -STOP "$scheduler"
    exec 7>&-
    sleep 0.5 # several of the slices in which it waits for its lane
    kill -CONT "$scheduler"
    expect_end 1 "$publisher"
    grep -q 'no queue' background.err || fail "other words: $(cat background.err)"
    end_serve
}

test_an_event_that_came_into_no_queue_is_told() {
    pawl queue declare q --topic a --max-depth 1 --overflow drop_newest
    expect_exit 0 pawl publish b x
    expect_stdout 0
    expect_stderr 'b: the event is in no queue: none wants its topic'
    expect_exit 0 pawl publish a x
    expect_eq "$(stderr)" ''
    seq 3 >input
    expect_exit 0 "$PAWL" publish a --lines <input
    expect_stdout "$(printf '0\n0\n0')"
    expect_eq "$(stderr)" 'pawl publish: a: 3 of 3 events are in no queue: it was full and dropped the newest (--overflow drop_newest)'
}

test_a_key_is_stored_once_even_over_a_restart() {
    pawl queue declare q --topic a
    expect_exit 0 pawl publish a x --id order-7 --json
    expect_json .duplicate false
    expect_exit 0 pawl publish a x --id order-7 --json
    expect_json .duplicate true
    wait_until '[ -z "$(processes)" ]'
    expect_exit 0 pawl publish a x --id order-7 --json
    expect_json .duplicate true
    expect_eq "$(depth q)" 1
}

test_each_line_is_an_event_in_order_and_the_last_needs_no_newline() {
    pawl queue declare q --topic a
    { seq 1 999; printf last; } | pawl publish a --lines >ids
    expect_eq "$(wc -l <ids)" 1000
    expect_eq "$(sort -nu ids | wc -l)" 1000
    expect_exit 0 pawl consume q --count 1000 --wait 2m --auto-ack
    expect_eq "$(json .data)" "$({ seq 1 999; echo last; })"
}

test_lines_are_published_as_they_come() {
    pawl queue declare q --topic a
    leave_running
    mkfifo pipe
    background sh -c '"$1" publish a --lines <pipe' sh "$PAWL"
    local publisher=$!
    exec 7>pipe
    echo one >&7
    expect_exit 0 pawl consume q --count 1 --wait 2m --auto-ack
    expect_json .data one
    wait_until '[ "$(wc -l <background.out)" = 1 ]'
    exec 7>&-
    expect_end 0 "$publisher"
}

test_a_delayed_event_comes_when_it_is_due() {
    pawl queue declare q --topic a
    local begin
    pawl publish a tomorrow --delay 1d
    begin=$(now_ms)
    pawl publish a later --delay 1s
    expect_exit 0 pawl consume q --count 1 --wait 2m --auto-ack
    expect_json .data later
    [ $(($(now_ms) - begin)) -ge 1000 ] || fail 'too early'
    pawl publish a now
    expect_exit 0 pawl consume q --count 1 --wait 2m --auto-ack
    expect_json .data now
}

test_an_event_expires_after_its_ttl() {
    pawl queue declare q --topic a
    pawl publish a old --ttl 100ms
    local published
    published=$(now_ms)
    pawl publish a young
    wait_until "[ \$((\$(now_ms) - $published)) -gt 200 ]"
    expect_exit 0 pawl consume q --count 1 --wait 2m --auto-ack
    expect_json .data young
    expect_exit 0 pawl dlq list q --json
    expect_json '"\(.reason) \(.data)"' 'expired old'
}

test_higher_priorities_come_first_and_equal_ones_in_order() {
    pawl queue declare q --topic a
    local i
    for i in 0a 5b 9c 5d 0e; do
        pawl publish a "$i" --priority "${i:0:1}" >/dev/null
    done
    expect_exit 0 pawl consume q --count 5 --wait 2m --auto-ack
    expect_eq "$(json .data | tr '\n' ' ')" '9c 5b 5d 0a 0e '
}

test_the_confirm_names_its_durability() {
    pawl queue declare q --topic a
    local mode
    for mode in memory async fsync; do
        expect_exit 0 pawl publish a x --durability $mode --json
        expect_json .durability $mode
    done
    expect_exit 2 pawl publish a x --durability forever
}

test_wrong_usage_of_publish_is_told() {
    expect_exit 2 pawl publish
    expect_exit 2 pawl publish 'a..b' x
    expect_stderr 'a..b'
    expect_exit 2 pawl publish a x --header nothing
    expect_exit 2 pawl publish a x --priority 10
    expect_exit 2 pawl publish a x --delay 4000d
    expect_exit 2 pawl publish a x --lines
    expect_exit 2 pawl publish a --lines --id k
    expect_exit 2 pawl publish "$(printf 'x%.0s' {1..256})" y
}

test_a_full_queue_rejects_and_the_exit_code_says_so() {
    pawl queue declare q --topic a --max-depth 2 --overflow reject
    expect_exit 0 pawl publish a 1
    expect_exit 0 pawl publish a 2
    expect_exit 1 pawl publish a 3
    expect_stderr 'a: queue q refused the event: the queue is full: it has no room by its depth or its bytes'
    expect_exit 1 pawl publish a 3 --json
    expect_json_err .error.code queue_full
    json_err .error.message | grep -q 'queue q refused'
    expect_eq "$(depth q)" 2
    capture sh -c 'seq 3 | "$1" publish a --lines' sh "$PAWL"
    expect_eq "$rc" 1
    expect_stdout ''
    expect_stderr '3 of 3 events were refused: the queue is full: it has no room by its depth or its bytes; the last by queue q'
    pawl queue declare other --topic a
    expect_exit 1 pawl publish a 4
    expect_stderr '1 of its queues refused it: q'
}

test_a_full_queue_that_drops_keeps_the_newest_or_the_oldest() {
    pawl queue declare newest --topic a --max-depth 2 --overflow drop_oldest
    pawl queue declare oldest --topic a --max-depth 2 --overflow drop_newest
    local i
    for i in 1 2 3; do pawl publish a $i >/dev/null; done
    expect_eq "$(pawl consume newest --peek | jq -r .data | tr '\n' ' ')" '2 3 '
    expect_eq "$(pawl consume oldest --peek | jq -r .data | tr '\n' ' ')" '1 2 '
}

test_a_full_queue_may_send_what_does_not_fit_to_its_dead_letters() {
    pawl queue declare q --topic a --max-depth 1 --overflow dead_letter
    pawl publish a 1
    expect_exit 0 pawl publish a 2
    expect_exit 0 pawl dlq list q --json
    expect_json '"\(.reason) \(.data)"' 'overflow 2'
}

test_an_event_that_no_room_would_do_for_is_refused_at_once_and_costs_nothing() {
    local policy
    leave_running
    head -c 2000 /dev/zero | tr '\0' x >large
    for policy in reject block drop_newest drop_oldest; do
        pawl queue declare "$policy" --topic "$policy" --max-bytes 1000 --overflow "$policy"
        pawl publish "$policy" 1
        expect_exit 1 pawl publish "$policy" "$(cat large)" --json
        expect_json_err .error.code limit
        expect_stderr "queue $policy refused the event, which is larger than its max-bytes"
        expect_exit 0 pawl publish "$policy" 2
        expect_eq "$(depth "$policy")" 2
    done
}

test_a_dropped_publish_does_not_look_like_a_stored_one_and_a_dead_letter_does() {
    leave_running
    pawl queue declare newest --topic a --max-depth 1 --overflow drop_newest
    pawl queue declare dead --topic b --max-depth 1 --overflow dead_letter
    pawl publish a 1
    pawl publish b 1
    expect_exit 0 pawl publish a 2
    expect_stdout 0
    expect_stderr 'a: the event is in no queue: it was full and dropped the newest'
    expect_exit 0 pawl publish a 2 --json
    expect_json '"\(.routed) \(.refused)"' '0 1'
    expect_exit 0 pawl publish b 2
    cp out dead.id
    expect_eq "$(pawl dlq list dead --json | jq -r .event)" "$(cat dead.id)"
    expect_exit 0 pawl publish nobody 1
    expect_stderr 'nobody: the event is in no queue: none wants its topic'
}

test_values_beyond_a_limit_have_an_error_code_of_their_own() {
    local long
    long=$(head -c 256 /dev/zero | tr '\0' t)
    leave_running
    pawl queue declare q --topic a
    expect_exit 2 pawl publish "$long" x --json
    expect_json_err .error.code limit
    expect_exit 2 pawl publish a x --delay 3651d --json
    expect_json_err .error.code limit
    expect_exit 2 pawl extend q:1:1:1 --by 8d --json
    expect_json_err .error.code limit
    expect_exit 2 pawl queue declare r --topic "$long" --json
    expect_json_err .error.code limit
    expect_exit 2 pawl publish a x --delay soon --json
    expect_json_err .error.code usage
}

test_a_dead_letter_that_its_queue_can_never_hold_costs_no_other() {
    leave_running
    pawl queue declare letters --topic none --max-bytes 1500 --overflow drop_oldest
    pawl queue declare q --topic a --dlq letters
    pawl publish a 1
    head -c 3000 /dev/zero | tr '\0' x >large
    pawl publish a "$(cat large)"
    pawl consume q --count 2 >deliveries
    pawl reject "$(jq -r .delivery deliveries | sed -n 1p)"
    pawl reject "$(jq -r .delivery deliveries | sed -n 2p)"
    expect_eq "$(depth letters)" 1
    expect_eq "$(depth q)" 1
}

test_a_publish_into_a_queue_that_blocks_waits_for_room() {
    leave_running
    pawl queue declare q --topic a --max-depth 1 --overflow block
    pawl publish a 1
    background pawl publish a 2
    local waiting=$!
    expect_exit 0 pawl queue list --json
    wait_until '[ "$(pawl queue show q --json | jq .blocked_publishes)" = 1 ]'
    pawl consume q --count 1 --wait 2m --auto-ack >/dev/null
    expect_end 0 "$waiting"
    expect_eq "$(depth q)" 1
}

test_a_publish_that_waits_for_room_says_so_once() {
    leave_running
    pawl queue declare q --topic a --max-depth 1 --overflow block
    pawl publish a 1
    seq 3 >input
    background sh -c '"$1" publish a --lines <input' sh "$PAWL"
    local waiting=$!
    wait_until '[ -s background.err ]'
    expect_exit 0 pawl consume q --count 4 --wait 2m --auto-ack
    expect_end 0 "$waiting"
    expect_file background.err 'pawl publish: queue q is full (overflow: block): what it does not take waits for room'
    pawl publish a 1
    background pawl publish a 2 --json
    waiting=$!
    wait_until '[ "$(pawl queue show q --json | jq .blocked_publishes)" = 1 ]'
    expect_exit 0 pawl consume q --count 1 --wait 2m --auto-ack
    expect_end 0 "$waiting"
    expect_file background.err ''
}

test_an_interrupted_publish_that_waits_for_room_says_that_it_is_unknown() {
    local signal
    leave_running
    pawl queue declare q --topic a --max-depth 1 --overflow block
    pawl publish a 1
    for signal in INT TERM; do
        background pawl publish a 2
        wait_until '[ "$(pawl queue show q --json | jq .blocked_publishes)" = 1 ]'
        kill -"$signal" "${BACKGROUND[-1]}"
        expect_end 5 "${BACKGROUND[-1]}"
        expect_eq "$(tail -n 2 background.err)" 'pawl publish: interrupted: not confirmed, it may be stored or not
  what has an --id can be published again, and is not stored twice'
        wait_until '[ "$(pawl queue show q --json | jq .blocked_publishes)" = 0 ]'
    done
    expect_eq "$(depth q)" 1
}

# interrupted SIGNAL: a publisher of lines that waits for room ends at once, and says what is stored and what not.
interrupted() {
    background sh -c 'exec "$1" publish a --lines <input' sh "$PAWL"
    wait_until '[ "$(wc -l <background.out)" = 3 ]'
    kill -"$1" "${BACKGROUND[-1]}"
    expect_end 5 "${BACKGROUND[-1]}"
}

test_an_interrupted_publish_of_lines_tells_what_is_confirmed_and_what_is_unknown() {
    pawl queue declare q --topic a --max-depth 3 --overflow block
    seq 5 >input
    interrupted INT
    expect_eq "$(tail -n 2 background.err)" \
        'pawl publish: interrupted: 3 events confirmed, 2 unknown (stored or not)
  to go on, publish from line 4 on: what is unknown may then be stored twice'
    pawl queue purge q
    interrupted TERM
    pawl queue purge q
    seq 300000 >input # more than the lane holds: it waits for room in there
    interrupted INT
    grep -qE 'interrupted: 3 events confirmed, [0-9]+ unknown' background.err
}

test_an_idle_publish_of_lines_ends_with_a_signal_and_nothing_is_unknown() {
    pawl queue declare q --topic a
    mkfifo pipe
    background sh -c 'exec "$1" publish a --lines --json <pipe' sh "$PAWL"
    local publisher=$!
    exec 7>pipe
    echo one >&7
    wait_until '[ "$(wc -l <background.out)" = 1 ]'
    kill -TERM "$publisher"
    expect_end 5 "$publisher"
    exec 7>&-
    expect_eq "$(jq -r .error.code background.err)" interrupted
    expect_eq "$(jq -r .error.message background.err)" 'interrupted: 1 events confirmed, 0 unknown (stored or not)'
}

test_a_publish_of_lines_stops_when_its_ids_cannot_be_written() {
    pawl queue declare q --topic a
    mkfifo pipe
    background sh -c '"$1" publish a --lines <pipe >/dev/full' sh "$PAWL"
    local publisher=$!
    exec 7>pipe
    echo one >&7
    expect_end 1 "$publisher"
    exec 7>&-
    grep -q 'standard output cannot be written: 1 events confirmed, 0 unknown' background.err
    expect_eq "$(depth q)" 1
}

test_each_refused_line_is_told_by_its_number_and_in_its_place() {
    pawl queue declare q --topic a --max-depth 3
    {
        echo one
        head -c 1048577 /dev/zero | tr '\0' x
        echo
        printf '%s\n' three four five
    } >lines
    expect_exit 1 pawl publish a --lines --json <lines
    expect_eq "$(json '.error // "stored"' | cut -c1-13 | tr '\n' ' ')" 'stored event of 1048 stored stored the queue is  '
    expect_exit 1 pawl publish a --lines <lines
    expect_stderr 'event 2 was refused: event of 1048577 bytes: the limit is 1048576'
    expect_stderr 'event 5 was refused'
    expect_stderr '5 of 5 events were refused'
}

test_more_refusals_than_the_ring_of_replies_holds_all_arrive() {
    pawl queue declare q --topic a --max-depth 10
    seq 50000 >lines
    expect_exit 1 "$PAWL" publish a --lines --json <lines
    expect_lines 50000
    expect_eq "$(grep -c '"error":null' out)" 10
}

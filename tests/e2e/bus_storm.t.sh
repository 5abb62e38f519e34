# kill -9 at random instants of publishers, consumers and the scheduler, and consumers that are stopped; then the books
# are compared with the marks that all of them left outside the state directory.

KILLS=${STORM_KILLS:-10} # of each kind, at least
slow test_storm_over_the_bus_loses_no_confirmed_event_and_gives_no_delivery_twice 400

one_of() { shuf -n 1 -e -- "$@"; }

# What is written to the marks is one short line by one write, so that a kill leaves all of it or nothing.
publisher() {
    local n=0 key
    while [ ! -e "$T/enough" ]; do
        n=$((n + 1))
        key=$1.$n
        echo "$key" >>"$T/tried"
        # A publish that was killed or refused is tried again under its key, until it is confirmed.
        until "$PAWL" publish "work.$1" "$key" --id "$key" >/dev/null 2>>"$T/publisher.err"; do
            [ ! -e "$T/enough" ] || return 0
            sleep 0.05
        done
        echo "$key" >>"$T/confirmed"
    done
}

start_publisher() {
    publisher "$1" &
    BACKGROUND+=($!)
    PUBLISHERS+=($!)
}

start_consumer() {
    # shellcheck disable=SC2016 # the handler's own words
    env --default-signal=INT,QUIT "$PAWL" consume work --concurrency 2 --exec sh -c '
        read -r key
        echo "$key $PAWL_DELIVERY" >>"$MARKS/begun"
        sleep 0.0$(($$ % 9))
        echo "$key" >>"$MARKS/ended"' >/dev/null 2>>"$T/consumer.err" &
    BACKGROUND+=($!)
    CONSUMERS[$1]=$!
}

test_storm_over_the_bus_loses_no_confirmed_event_and_gives_no_delivery_twice() {
    local rounds=0 victims which lost doubled
    local -A kills=([scheduler]=0 [publish]=0 [consumer]=0 [stopped]=0)
    PUBLISHERS=() CONSUMERS=()
    export MARKS=$T
    : >"$T/tried" && : >"$T/confirmed" && : >"$T/begun" && : >"$T/ended"
    serve
    pawl queue declare work --topic 'work.*' --ack-wait 3s --max-deliver 0 --backoff 10ms,20ms
    for which in 1 2 3; do start_publisher "$which"; done
    for which in 0 1 2; do start_consumer "$which"; done
    while [ "$(printf '%s\n' "${kills[@]}" | sort -n | head -n 1)" -lt "$KILLS" ] || [ "$(wc -l <"$T/confirmed")" -lt 50 ]; do
        sleep "0.$((RANDOM % 5 + 1))"
        case $((rounds++ % 4)) in
        0)
            victims=$(pid_of scheduler)
            [ -z "$victims" ] || { kill -KILL "$victims" 2>/dev/null && kills[scheduler]=$((kills[scheduler] + 1)); } || true
            ;;
        1)
            # The command that publishes right now; its loop lives on and tries again.
            which=$(one_of "${PUBLISHERS[@]}")
            victims=$(cut -d' ' -f1 "/proc/$which/task/$which/children" 2>/dev/null || true)
            [ -z "$victims" ] || { kill -KILL "$victims" 2>/dev/null && kills[publish]=$((kills[publish] + 1)); } || true
            ;;
        2)
            which=$((RANDOM % 3))
            ! kill -KILL "${CONSUMERS[$which]}" 2>/dev/null || kills[consumer]=$((kills[consumer] + 1))
            start_consumer $which
            ;;
        3)
            # It sleeps beyond its deadlines, then goes on where it was.
            which=$((RANDOM % 3))
            victims=${CONSUMERS[$which]}
            if kill -STOP "$victims" 2>/dev/null; then
                kills[stopped]=$((kills[stopped] + 1))
                (sleep 4; kill -CONT "$victims" 2>/dev/null) &
                BACKGROUND+=($!)
            fi
            ;;
        esac
        for which in 0 1 2; do
            kill -0 "${CONSUMERS[$which]}" 2>/dev/null || start_consumer $which
        done
    done
    : >"$T/enough"
    for which in "${CONSUMERS[@]}"; do kill -CONT "$which" 2>/dev/null || true; done
    wait "${PUBLISHERS[@]}" || true
    echo "kills: scheduler ${kills[scheduler]}, publish ${kills[publish]}, consumer ${kills[consumer]};" \
        "stopped ${kills[stopped]}; tried $(wc -l <"$T/tried"), confirmed $(wc -l <"$T/confirmed"), begun" \
        "$(wc -l <"$T/begun"), ended $(wc -l <"$T/ended")"

    # Nothing more is published: what is left comes, and the queue is empty in the end.
    wait_until '[ "$(pawl queue show work --json | jq .depth)" = 0 ]' 90
    lost=$(comm -23 <(sort -u "$T/confirmed") <(sort -u "$T/ended"))
    [ -z "$lost" ] || fail "confirmed and never handled: $(echo "$lost" | head -n 5)"
    lost=$(comm -13 <(sort -u "$T/tried") <(cut -d' ' -f1 "$T/begun" | sort -u))
    [ -z "$lost" ] || fail "handled and never published: $lost"
    doubled=$(cut -d' ' -f2 "$T/begun" | sort | uniq -d)
    [ -z "$doubled" ] || fail "one delivery was given to two handlers: $doubled"
    # A key is one event, however often its publish was tried: all its deliveries have one number in the queue.
    doubled=$(tr ':' ' ' <"$T/begun" | awk '{print $1, $3}' | sort -u | cut -d' ' -f1 | uniq -d)
    [ -z "$doubled" ] || fail "a key became two events: $doubled"
    expect_exit 0 pawl journal verify
}

slow test_redrives_whose_scheduler_is_killed_move_each_dead_letter_once 200
test_redrives_whose_scheduler_is_killed_move_each_dead_letter_once() {
    local round=0 scheduler killed=0 tried=0 redrive
    local count=4000
    serve
    pawl queue declare q --topic t --ttl 1ms
    pawl queue declare byhand --topic never
    while [ "$killed" -lt 4 ] && [ "$round" -lt 30 ]; do
        round=$((round + 1))
        # They are dead as soon as somebody asks for one.
        seq "${round}0000" $((round * 10000 + count - 1)) | pawl publish t --lines >/dev/null
        expect_exit 0 pawl consume q --count 1 --wait 200ms
        wait_until '[ "$(pawl queue show q --json | jq ".depth, .dlq_depth" | xargs)" = "0 '$count'" ]'
        until [ "$(pawl queue show q --json | jq .dlq_depth)" = 0 ]; do
            scheduler=$(pid_of scheduler)
            "$PAWL" dlq redrive q --to byhand >/dev/null 2>&1 &
            redrive=$!
            sleep "0.0$((RANDOM % 4))"
            # Every fourth is let go on, so that each round comes to its end. One that is over already is no kill.
            if [ $((tried % 4)) -ne 3 ] && [ -n "$scheduler" ] && kill -0 "$redrive" 2>/dev/null &&
                kill -KILL "$scheduler" 2>/dev/null; then
                killed=$((killed + 1))
            fi
            tried=$((tried + 1))
            wait "$redrive" || true
        done
    done
    expect_eq "$(pawl queue show byhand --json | jq .depth)" $((round * count))
    expect_exit 0 pawl consume byhand --auto-ack --count $((round * count)) --wait 2m
    json .data | sort -n >got
    for round in $(seq "$round"); do seq "${round}0000" $((round * 10000 + count - 1)); done >wanted
    cmp got wanted || fail "$(diff got wanted | head)"
    expect_eq "$(pawl queue show byhand --json | jq .depth)" 0
    [ "$killed" -ge 4 ] || fail "only $killed kills"
    expect_exit 0 pawl journal verify
}

# The lane of the command with this pid, as /proc/PID/fd/N.
lane_of() {
    local fd
    for fd in "/proc/$1/fd"/*; do
        case $(readlink "$fd" || true) in *memfd:pawl-client-lane*) echo "$fd" ;; esac
    done
}

# scribble LANE OFFSET BYTES: whatever comes.
scribble() { head -c "$3" /dev/urandom | dd of="$1" bs=64k seek="$2" oflag=seek_bytes conv=notrunc status=none; }

slow test_a_client_that_scribbles_over_its_lane_harms_itself_alone 120
test_a_client_that_scribbles_over_its_lane_harms_itself_alone() {
    local round scheduler liar lane
    # cursors one by one, all of them, the settle ring, the submit ring, everything
    local -a where=('128 8' '256 8' '384 8' '512 8' '640 8' '768 4' '128 700' '4096 32768' '36864 65536' '128 500000')
    export MARKS=$T
    : >"$T/ended"
    serve
    pawl queue declare work --topic 'work' --ack-wait 2s --max-deliver 0 --backoff 10ms
    scheduler=$(the_pid_of scheduler)
    for round in "${!where[@]}"; do
        # The liar holds a delivery that never ends; its lane is known once it has begun.
        rm -f "$T/held"
        pawl publish work "held $round" >/dev/null
        "$PAWL" consume work --exec sh -c 'touch "$MARKS/held"; exec sleep 60' >/dev/null 2>&1 &
        liar=$!
        BACKGROUND+=($!)
        wait_until '[ -e "$T/held" ]'
        lane=$(lane_of "$liar")
        lane=${lane%%$'\n'*}
        [ -n "$lane" ] || fail "the liar has no lane"
        # shellcheck disable=SC2086 # offset and bytes
        scribble "$lane" ${where[$round]}
        # Meanwhile honest ones go on, and what the liar held comes to them when it is gone or too late.
        seq 1 50 | sed "s/^/honest $round./" | expect_exit 0 pawl publish work --lines
        kill -KILL "$liar" 2>/dev/null || true
        background pawl consume work --exec sh -c 'cat >>"$MARKS/ended"; echo >>"$MARKS/ended"'
        wait_until '[ "$(pawl queue show work --json | jq .depth)" = 0 ]'
        kill -TERM "${BACKGROUND[-1]}"
        wait "${BACKGROUND[-1]}" || true
    done
    expect_eq "$(sort -u "$T/ended" | grep -c honest)" $((50 * ${#where[@]}))
    expect_eq "$(sort -u "$T/ended" | grep -c held)" ${#where[@]}
    expect_eq "$(the_pid_of scheduler)" "$scheduler"
}

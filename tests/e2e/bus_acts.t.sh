# bus_acts.t.sh - what people do to queues and groups while the scheduler is killed: each act is whole or not there.

EVENTS=300 # of the queue that is purged and deleted, and of the stream
ROUNDS=${STORM_KILLS:-2} # of all six acts, with a kill in each
KILLS=0
RC=0

depth() { pawl queue show "$1" --json | jq .depth; }
setting() { pawl queue show "$1" --json | jq -r "$2"; }
committed() { pawl group lag log --json | jq -r ".groups[] | select(.group == \"$1\").committed"; }

# A fresh one, with as many events.
fill() {
    pawl queue declare doomed --topic doomed --ack-wait 10m --max-depth 1000 >/dev/null
    seq "$EVENTS" | pawl publish doomed --lines >/dev/null
    expect_eq "$(depth doomed)" "$EVENTS"
}

# A supervisor gives up at the fifth death of its scheduler in a minute, so there is a new one before. Meanwhile nothing is
# published, which would start one of its own.
serve_anew() {
    : >"$T/pause"
    wait_until '[ -e "$T/paused" ]'
    end_serve
    serve
    rm "$T/pause" "$T/paused"
}

# killed COMMAND...: the scheduler is killed at some instant of it; $RC is how it ended.
killed() {
    local scheduler act
    scheduler=$(the_pid_of scheduler)
    "$@" >/dev/null 2>>"$T/acts.err" &
    act=$!
    sleep "0.0$((RANDOM % 3))$((RANDOM % 10))"
    kill -KILL "$scheduler"
    KILLS=$((KILLS + 1))
    RC=0
    wait "$act" || RC=$?
}

# whole WHAT OLD NEW IS: an act that was answered has been done; any other is done, or nothing of it is.
whole() {
    [ "$4" = "$3" ] || { [ "$RC" -ne 0 ] && [ "$4" = "$2" ]; } ||
        fail "$1 ended with $RC, and then it is '$4': neither '$2' nor '$3'"
}

act_purge() {
    local held=3
    expect_exit 0 pawl consume doomed --count $held --wait 2m
    killed "$PAWL" queue purge doomed
    whole purge "$EVENTS" $held "$(depth doomed)"
    expect_eq "$(setting doomed .in_flight)" $held
    pawl queue delete doomed >/dev/null
    fill
}

act_delete() {
    local left
    killed "$PAWL" queue delete doomed
    left=$(pawl queue list --json | jq -r '[.queues[] | select(.name == "doomed").depth] | .[0] // "gone"')
    whole delete "$EVENTS" gone "$left"
    [ "$left" != gone ] || fill
}

act_settings() {
    local before
    before=$(setting doomed .config.max_depth)
    killed "$PAWL" queue declare doomed --max-depth $((before + 1)) --ttl $((before + 1))h
    whole declare "$before" $((before + 1)) "$(setting doomed .config.max_depth)"
    [ "$(setting doomed .config.max_depth)" = "$before" ] ||
        expect_eq "$(setting doomed .config.ttl_ns)" "$(((before + 1) * 3600))000000000"
    expect_eq "$(depth doomed)" "$EVENTS"
}

act_seek() {
    local before after
    before=$(committed g)
    after=$((before == 1 ? EVENTS + 1 : 1))
    killed "$PAWL" group seek log g "$after"
    whole seek "$before" "$after" "$(committed g)"
}

act_commit() {
    pawl group seek log g 1 >/dev/null
    killed "$PAWL" group commit log g $((EVENTS + 1))
    whole commit 1 $((EVENTS + 1)) "$(committed g)"
}

act_create() {
    killed "$PAWL" group create log "new$1" --from latest
    whole create '' $((EVENTS + 1)) "$(committed "new$1")"
}

# One that is killed or refused is tried again under its key, until it is confirmed.
publish_all_the_while() {
    local n=0
    while [ ! -e "$T/enough" ]; do
        if [ -e "$T/pause" ]; then
            : >"$T/paused"
            while [ -e "$T/paused" ]; do sleep 0.02; done
        fi
        n=$((n + 1))
        echo $n >>"$T/tried"
        until "$PAWL" publish kept $n --id $n >/dev/null 2>>"$T/publisher.err"; do
            [ ! -e "$T/enough" ] || return 0
            sleep 0.05
        done
        echo $n >>"$T/confirmed"
    done
}

slow test_what_is_done_to_queues_and_groups_while_the_scheduler_is_killed_is_whole_or_not_there 300
test_what_is_done_to_queues_and_groups_while_the_scheduler_is_killed_is_whole_or_not_there() {
    local round act publisher
    serve
    pawl queue declare kept --topic kept
    pawl queue declare log --topic log --stream
    seq "$EVENTS" | pawl publish log --lines >/dev/null
    pawl group create log g --from earliest
    fill
    publish_all_the_while &
    publisher=$!
    BACKGROUND+=("$publisher")
    for round in $(seq "$ROUNDS"); do
        for act in purge delete settings seek commit create; do
            [ "$KILLS" -eq 0 ] || [ $((KILLS % 4)) -ne 0 ] || serve_anew
            "act_$act" "$round"
        done
    done
    : >"$T/enough"
    wait "$publisher" || true
    echo "kills: $KILLS; published meanwhile: $(wc -l <confirmed)"
    expect_eq "$KILLS" $((6 * ROUNDS))
    expect_eq "$(pawl group lag log --json | jq '.end - .first')" "$EVENTS"

    # Nothing that was confirmed outside of them is lost, and nothing is there twice.
    expect_exit 0 pawl consume kept --auto-ack --count "$(depth kept)" --wait 2m
    json .data | sort >got
    expect_eq "$(uniq -d got)" ''
    expect_eq "$(sort confirmed | comm -23 - got)" ''
    expect_eq "$(sort tried | comm -13 - got)" ''
    [ -s got ] || fail "nothing was published"
    expect_exit 0 pawl journal verify
}

# bus_stream.t.sh - streams: groups with offsets, lag, commit, seek, replay, retention.

lag() { pawl group lag clicks "$1" --json | jq ".groups[0].lag"; }
committed() { pawl group lag clicks "$1" --json | jq ".groups[0].committed"; }

stream_of() {
    pawl queue declare clicks --topic 'click.*' --stream
    seq "$1" | pawl publish click.x --lines >/dev/null
}

test_each_group_reads_all_of_a_stream() {
    stream_of 5
    local group
    for group in billing search; do
        expect_exit 0 pawl group create clicks $group --from earliest
        expect_exit 0 pawl consume clicks --group $group --count 5 --wait 2m --auto-ack
        expect_eq "$(json .data | tr '\n' ' ')" '1 2 3 4 5 '
        expect_eq "$(lag $group)" 0
    done
}

test_a_group_begins_at_the_end_unless_told_otherwise() {
    stream_of 3
    pawl group create clicks late
    expect_eq "$(lag late)" 0
    pawl publish click.x new >/dev/null
    expect_exit 0 pawl consume clicks --group late --count 1 --wait 2m --auto-ack
    expect_json .data new
}

test_a_consumer_may_make_its_group_where_it_wants() {
    stream_of 4
    expect_exit 0 pawl consume clicks --group a --from earliest --count 1 --wait 2m --auto-ack
    expect_json .data 1
    expect_exit 0 pawl consume clicks --group b --from 3 --count 1 --wait 2m --auto-ack
    expect_json .data 3
    # It is there already: it goes on.
    expect_exit 0 pawl consume clicks --group a --from earliest --count 1 --wait 2m --auto-ack
    expect_json .data 2
}

test_the_lag_falls_with_each_ack_and_outlives_the_scheduler() {
    stream_of 10
    pawl group create clicks g --from earliest
    expect_eq "$(lag g)" 10
    pawl consume clicks --group g --count 4 --wait 2m --auto-ack >/dev/null
    wait_until '[ -z "$(processes)" ]'
    expect_eq "$(lag g)" 6
    expect_exit 0 pawl group lag clicks
    expect_match '^g +5 '
    expect_eq "$(pawl group lag clicks g --json | jq -c '[(keys | join(",")), (.groups[0] | keys | join(","))]')" \
        '["committed,consumers,end,group,groups,in_flight,lag,queue,schema","committed,consumers,end,group,in_flight,lag"]'
}

test_seek_goes_to_earliest_latest_an_offset_and_a_time() {
    stream_of 5
    sleep 0.01 # another millisecond
    local between
    between=$(date -u +%Y-%m-%dT%H:%M:%S.%NZ)
    seq 6 8 | pawl publish click.x --lines >/dev/null
    pawl group create clicks g --from latest
    expect_exit 0 pawl group seek clicks g earliest
    expect_eq "$(lag g)" 8
    expect_exit 0 pawl group seek clicks g 4
    expect_stdout 4
    expect_exit 0 pawl consume clicks --group g --count 1 --wait 2m --auto-ack
    expect_json .data 4
    expect_exit 0 pawl group seek clicks g "$between"
    expect_stdout 6
    expect_exit 0 pawl group seek clicks g latest
    expect_eq "$(lag g)" 0
    expect_exit 0 pawl group seek clicks g '1h ago'
    expect_eq "$(lag g)" 8
    expect_exit 2 pawl group seek clicks g yesterday-ish
}

test_commit_moves_a_group_forward() {
    stream_of 6
    pawl group create clicks g --from earliest
    expect_exit 0 pawl group commit clicks g 4 --json
    expect_json '"\(.schema) \(.queue) \(.group) \(.offset) \(.lag)"' '1 clicks g 4 3'
    expect_eq "$(committed g) $(lag g)" '4 3'
    expect_exit 0 pawl consume clicks --group g --count 1 --wait 2m --auto-ack
    expect_json .data 4
    expect_exit 2 pawl group commit clicks g many
}

test_a_place_beyond_the_end_of_a_stream_is_wrong_usage_and_told_the_end() {
    local words
    stream_of 6
    pawl group create clicks g --from earliest
    for words in 'commit clicks g 8' 'seek clicks g 8' 'create clicks h --from 8'; do
        # shellcheck disable=SC2086  # several words
        expect_exit 2 pawl group $words
        expect_stderr 'offset 8 is beyond the end of clicks, which is 7'
        refute_stderr 'pawl queue list'
        expect_stderr 'pawl group lag STREAM shows where it ends'
    done
    expect_exit 0 pawl group commit clicks g 7
}

test_what_a_group_verb_prints_has_the_schema() {
    local words
    stream_of 2
    for words in 'create clicks g' 'lag clicks g' 'lag clicks' 'seek clicks g earliest' 'commit clicks g 1'; do
        # shellcheck disable=SC2086  # several words
        expect_exit 0 pawl group $words --json
        expect_json .schema 1
    done
    expect_exit 2 pawl group lag clicks nosuch
    expect_stderr 'stream clicks has no group nosuch'
    expect_stderr 'pawl group lag STREAM shows its groups'
    refute_stderr 'pawl queue list'
}

test_groups_are_of_streams_only() {
    pawl queue declare q --topic a
    expect_exit 2 pawl group create q g
    expect_exit 2 pawl group lag q
    expect_stderr 'not a stream'
    expect_exit 2 pawl consume q --group g
    expect_stderr stream
    expect_exit 2 pawl group lag nosuch
    pawl queue declare clicks --topic 'click.*' --stream
    expect_exit 2 pawl group seek clicks nosuch earliest
}

test_a_stream_keeps_what_was_acked_until_retention_ends_it() {
    pawl queue declare clicks --topic 'click.*' --stream --retain 4KiB
    pawl group create clicks g --from earliest
    for i in 1 2 3 4 5 6 7 8; do
        head -c 1000 /dev/zero | tr '\0' "$i" | pawl publish click.x >/dev/null
    done
    expect_exit 0 pawl consume clicks --peek
    [ "$(wc -l <out)" -lt 8 ] || fail 'all is kept'
    [ "$(wc -l <out)" -ge 2 ] || fail 'too little is kept'
    expect_eq "$(json '.data[0:1]' | tail -n 1)" 8
}

test_retention_by_size_cuts_a_burst_and_does_not_wait_for_the_age() {
    pawl queue declare clicks --topic 'click.*' --stream --retain 7d --retain 2KiB
    pawl publish click.x first >/dev/null
    seq 200 | pawl publish click.x --lines >/dev/null
    pawl publish click.x last >/dev/null
    expect_exit 0 pawl queue show clicks --json
    [ "$(json .bytes)" -le 2200 ] || fail "it holds $(json .bytes) bytes"
    [ "$(json .bytes)" -ge 1500 ] || fail "it holds $(json .bytes) bytes"
    expect_exit 0 pawl consume clicks --peek
    expect_eq "$(json .data | tail -n 2 | tr '\n' ' ')" '200 last '
}

test_a_consumer_without_from_begins_its_group_at_the_earliest() {
    stream_of 3
    expect_exit 0 pawl consume clicks --group a --count 1 --wait 2m --auto-ack
    expect_json .data 1
}

test_a_stream_is_consumed_by_group_and_a_queue_is_not() {
    stream_of 1
    pawl queue declare plain --topic a
    expect_exit 2 pawl consume clicks --wait 0s
    expect_stderr --group
    expect_exit 2 pawl consume clicks --wait 0s --auto-ack
    expect_exit 2 pawl consume plain --group g --wait 0s
    expect_stderr 'no stream'
}

test_a_stream_that_is_trimmed_again_and_again_counts_what_it_keeps() {
    pawl queue declare clicks --topic 'click.*' --stream --retain 3s
    # One scheduler, and several trims within one stretch of the journal. What is there after the sixtieth stays.
    (for i in $(seq 70); do
        echo "$i"
        sleep 0.1
        [ "$i" != 60 ] || pawl queue declare clicks --retain 1d >/dev/null
    done) | pawl publish click.x --lines >/dev/null
    expect_exit 0 pawl consume clicks --peek
    local kept
    kept=$(wc -l <out)
    [ "$kept" -lt 70 ] || fail 'all is kept'
    [ "$kept" -ge 10 ] || fail 'what is young is gone'
    expect_eq "$(json .data)" "$(seq $((71 - kept)) 70)"
    expect_exit 0 pawl queue show clicks --json
    expect_json .depth "$kept"
    expect_json .bytes $((kept * 72))
}

test_a_group_that_is_deleted_is_gone_and_makes_room_for_another() {
    stream_of 3
    pawl group create clicks g --from earliest
    pawl consume clicks --group g --count 2 --wait 2m --auto-ack >/dev/null
    expect_exit 0 pawl group delete clicks g --json
    expect_json '[.queue, .group] | join(" ")' 'clicks g'
    expect_eq "$(pawl group lag clicks --json | jq '.groups | length')" 0
    expect_exit 2 pawl group delete clicks g
    expect_stderr 'no group g'
    pawl group create clicks g --from earliest
    expect_eq "$(lag g)" 3
}

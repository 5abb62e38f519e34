# kill -9 at random instants of the command, the supervisor, the scheduler, a worker, and all at once; then the books
# are compared with the marks that the steps left outside the state directory.

KILLS=${STORM_KILLS:-6} # of each of the five
COUNT=$((KILLS * 250))  # of tasks
HELD=$((COUNT - 100))   # the first of those that wait for the storm's end: there is work for as long as it takes
slow test_storm_of_kills_loses_nothing_and_repeats_no_recorded_success 500

storm_flow() {
    write flow.yaml <<'EOF'
pawl: 1
name: storm
params: {count: 1}
defaults: {retries: {limit: 50, backoff: {initial: 10ms, max: 100ms}}}
steps:
  list:
    run: [seq, "1", "${{ params.count }}"]
    output: lines
  work:
    needs: [list]
    foreach: ${{ steps.list.output }}
    shell: |
      printf 'start %s %s\n' "$PAWL_INDEX" "$PAWL_ATTEMPT" >>"$MARKS"
      sleep 0.0$((PAWL_INDEX % 9 + 1))
      [ "$PAWL_INDEX" -lt "$HELD" ] || until [ -e "$ENOUGH" ]; do echo waiting >>"$MARKS"; sleep 0.05; done
      printf 'end %s %s\n' "$PAWL_INDEX" "$PAWL_ATTEMPT" >>"$MARKS"
      echo "out $PAWL_INDEX"
  sum:
    needs: [work]
    run: [sort, -u]
    stdin: ${{ steps.work.outputs }}
EOF
}

# What the journal vouches for now: "index attempts" of each recorded success. Nothing when nobody answers.
recorded() {
    at_most 10 "$PAWL" steps last --filter state=succeeded --json 2>/dev/null |
        jq -r 'select(.step == "work") | "\(.index) \(.attempts)"' 2>/dev/null || true
}

one_of() { shuf -n 1 -e -- "$@"; }

test_storm_of_kills_loses_nothing_and_repeats_no_recorded_success() {
    local role victims command='' rounds=0 pid
    local -A kills=([command]=0 [supervisor]=0 [scheduler]=0 [worker]=0 [all]=0)
    export MARKS=$T/marks ENOUGH=$T/enough HELD
    : >"$MARKS"
    : >"$T/recorded"
    storm_flow
    local roles=(command scheduler worker all supervisor worker scheduler command all supervisor)
    while [ "$rounds" -lt $((KILLS * 5)) ]; do
        if [ -z "$command" ] || ! kill -0 "$command" 2>/dev/null; then
            [ -z "$command" ] || wait "$command" 2>/dev/null || true
            "$PAWL" run flow.yaml --resume -j 4 --set count="$COUNT" >"$T/run.out" 2>"$T/run.err" &
            command=$!
        fi
        # Some progress between two kills: marks are the clock, not the wall.
        local before
        before=$(wc -l <"$MARKS")
        wait_until "[ \$(wc -l <'$MARKS') -gt $((before + 4)) ] || ! kill -0 $command" 30
        recorded >>"$T/recorded"
        role=${roles[rounds % ${#roles[@]}]}
        case $role in
        command) victims=$command ;;
        all) victims="$command $(pid_of supervisor) $(pid_of scheduler) $(pid_of worker)" ;;
        worker)
            # shellcheck disable=SC2046
            victims=$(one_of $(pid_of worker))
            ;;
        *) victims=$(pid_of "$role") ;;
        esac
        for pid in $victims; do
            kill -KILL "$pid" 2>/dev/null || true
        done
        if [ -n "$victims" ]; then # else: they were just being born; the same role again
            kills[$role]=$((kills[$role] + 1))
            rounds=$((rounds + 1))
        fi
        sleep "0.$((RANDOM % 4 + 1))"
    done
    : >"$ENOUGH"
    kill -KILL "$command" 2>/dev/null || true
    wait "$command" 2>/dev/null || true

    expect_exit 0 at_most 200 "$PAWL" run flow.yaml --resume -j 4 --set count="$COUNT"
    echo "rounds $rounds; kills: command ${kills[command]}, supervisor ${kills[supervisor]}," \
        "scheduler ${kills[scheduler]}, worker ${kills[worker]}, all ${kills[all]}"
    for role in command supervisor scheduler worker all; do
        expect_eq "$role ${kills[$role]}" "$role $KILLS"
    done

    expect_eq "$(run_state)" succeeded
    pawl steps last --json | jq -r 'select(.step == "work") | "\(.index) \(.attempts) \(.state)"' >"$T/final"
    expect_eq "$(wc -l <"$T/final")" "$COUNT"
    expect_eq "$(grep -c ' succeeded$' "$T/final")" "$COUNT"
    # Nothing lost: each instance's recorded attempt did reach its end, outside the state directory.
    sed -n 's/^end //p' "$MARKS" | sort -u >"$T/ended"
    cut -d' ' -f1,2 "$T/final" | sort -u >"$T/successes"
    expect_eq "$(comm -13 "$T/ended" "$T/successes" | wc -l)" 0
    # No attempt number was given twice.
    expect_eq "$(sed -n 's/^start //p' "$MARKS" | sort | uniq -d)" ""
    # What was once a recorded success was never run again: its attempt is still the one that counts, and the last.
    sort -u "$T/recorded" | comm -23 - "$T/successes" >"$T/repeated"
    expect_eq "$(cat "$T/repeated")" ""
    [ "$(wc -l <"$T/recorded")" -gt 0 ] || fail "no recorded success was seen in between"
    sed -n 's/^start //p' "$MARKS" | sort -k1,1n -k2,2n | awk '{last[$1] = $2} END {for (i in last) print i, last[i]}' |
        sort -u | comm -23 - "$T/successes" >"$T/later"
    expect_eq "$(cat "$T/later")" ""
    # The output of the last step was made from all of them.
    expect_exit 0 pawl logs last sum
    expect_lines "$COUNT"
}

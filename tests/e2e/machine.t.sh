# machine.t.sh - looking after pawl: gc, doctor, journal, health.

three_runs() {
    local id
    write flow.yaml <<'YAML'
pawl: 1
steps:
  talk: {shell: 'seq 1 20000'}
YAML
    for id in one two three; do
        pawl run --run-id "$id" flow.yaml >/dev/null 2>&1
    done
    wait_until '[ "$(pawl health --json | jq -r .status)" = stopped ]' # it closes its journal as it leaves
}

# A byte of FILE at OFFSET becomes another.
damage() {
    local byte
    byte=$(od -An -tu1 -j "$2" -N 1 "$1")
    # shellcheck disable=SC2059
    printf "\\x$(printf %x $((byte ^ 255)))" | dd of="$1" bs=1 seek="$2" conv=notrunc status=none
}

test_gc_keeps_as_many_runs_as_told_and_says_what_it_freed() {
    three_runs
    expect_exit 0 pawl gc --keep-runs 1
    [ -s "$T/out" ] || [ -s "$T/err" ] || fail 'it says nothing'
    expect_exit 0 pawl runs --json
    expect_json '[.. | objects | select(has("workflow")) | .run] | join(" ")' three
    [ ! -e "$PAWL_STATE/runs/one" ] || fail 'files of the first run are still there'
    expect_exit 0 pawl logs three talk
    expect_lines 20000
}

test_gc_by_age_keeps_what_is_younger() {
    three_runs
    expect_exit 0 pawl gc --older-than 1h
    expect_exit 0 pawl runs --json
    expect_json '[.. | objects | select(has("workflow"))] | length' 3
}

test_gc_keeps_runs_that_are_not_over() {
    write flow.yaml <<'YAML'
pawl: 1
steps:
  block: {shell: 'touch live; while [ ! -e go ]; do sleep 0.02; done'}
YAML
    pawl run --detach --run-id live flow.yaml >/dev/null 2>&1
    wait_until '[ -e live ]'
    expect_exit 0 pawl gc --keep-runs 0
    expect_eq "$(run_state live)" running
    touch go
    expect_exit 0 pawl wait live --timeout 5m
}

test_gc_counts_finished_runs_only_among_those_to_keep() {
    local pid
    three_runs
    write block.yaml <<'YAML'
pawl: 1
steps:
  block: {shell: 'touch live; exec sleep 60'}
YAML
    background pawl run --run-id stopped block.yaml
    pid=$!
    wait_until '[ -e live ]'
    kill -TERM "$pid"
    expect_end 5 "$pid"
    expect_eq "$(run_state stopped)" interrupted
    expect_exit 0 pawl gc --keep-runs 1
    expect_exit 0 pawl runs --json
    expect_json '[.. | objects | select(has("workflow")) | .run] | sort | join(" ")' 'stopped three'
}

test_doctor_checks_the_machine() {
    local word
    capture pawl doctor
    [ "$rc" -eq 0 ] || [ "$rc" -eq 1 ] || fail "exit $rc"
    for word in io_uring sync shm limit cgroup clock; do
        grep -qi -e "$word" "$T/out" || fail "nothing said of: $word"
    done
}

test_doctor_has_a_json_form() {
    capture pawl doctor --json
    [ "$rc" -eq 0 ] || [ "$rc" -eq 1 ] || fail "exit $rc"
    expect_json .schema 1
}

test_journal_of_a_healthy_state_verifies() {
    three_runs
    expect_exit 0 pawl journal verify
    expect_exit 0 pawl journal verify "$PAWL_STATE"
    expect_exit 0 pawl journal dump
    [ -s "$T/out" ] || fail 'the dump is empty'
    expect_exit 0 pawl journal dump --json
    expect_eq "$(jq -s 'map(.schema == 1) | all' "$T/out")" true
}

test_damage_of_confirmed_records_is_found_with_its_place_and_stops_the_start() {
    three_runs
    local segment
    segment=$(find "$PAWL_STATE/journal" -name '*.seg' | sort | head -n 1)
    damage "$segment" $((4096 + 200))
    expect_exit 7 pawl journal verify
    cat "$T/out" "$T/err" >said
    grep -qF "$(basename "$segment")" said || fail 'the file is not named'
    grep -qi offset said || fail 'no offset'
    grep -qi lsn said || fail 'no lsn'
    expect_exit 7 pawl run flow.yaml
}

test_the_error_of_damage_names_the_file() {
    three_runs
    local segment
    segment=$(find "$PAWL_STATE/journal" -name '*.seg' | sort | head -n 1)
    damage "$segment" $((4096 + 200))
    expect_exit 7 pawl journal verify --json
    expect_json_err .error.file "$(basename "$segment")"
    expect_exit 7 pawl journal verify
    expect_stderr "$(basename "$segment"): offset "
}

test_a_journal_that_cannot_be_opened_is_not_called_an_empty_one() {
    mkdir broken
    ln -s journal broken/journal # names itself: nobody can open it, root neither
    expect_exit 2 pawl journal verify broken
    expect_stderr 'the journal in broken may not be read'
    refute_stderr 'holds no segment'
}

test_doctor_says_how_much_shared_memory_there_may_be() {
    capture pawl doctor --json
    expect_json '.checks[] | select(.check == "shm") | .detail | test("[0-9]+ MiB of memory are available")' true
}

test_a_file_of_the_journal_that_cannot_be_opened_is_named_and_the_start_has_failed_whoever_starts() {
    local verb
    pawl map true ::: 1
    wait_until 'flock -n state/lock true' 60 # the scheduler that has the journal open is gone
    rm state/journal/*.seg
    mkdir state/journal/00000001.seg # nobody can write to it, root neither
    for verb in 'map true ::: 1' 'publish t x' 'queue list' 'consume q --count 1' serve; do
        # shellcheck disable=SC2086 # words
        expect_exit 4 at_most 20 "$PAWL" $verb
        expect_stderr 'journal/00000001.seg: Is a directory'
    done
}

test_a_journal_that_is_missing_as_a_whole_is_damage_and_no_new_one_begins() {
    local what verb
    expect_exit 0 pawl queue declare q --topic t
    expect_exit 0 pawl publish t kept
    wait_until 'flock -n state/lock true' 60
    cp -a state used
    for what in 'rm state/journal/*' 'rm -r state/journal' 'mv state/journal elsewhere'; do
        rm -rf state elsewhere
        cp -a used state
        eval "$what"
        for verb in 'publish t x' 'map true ::: 1' serve; do
            # shellcheck disable=SC2086 # words
            expect_exit 7 at_most 20 "$PAWL" $verb
            expect_stderr "the journal of $T/state is missing"
            expect_stderr 'move it away'
        done
        [ -z "$(find state/journal -name '*.seg')" ] || fail "$what: a journal has begun"
    done
    mv elsewhere/* state/journal/ # and it is there again
    expect_exit 0 pawl consume q --count 1 --auto-ack
    expect_json .data kept
}

test_sealed_runs_without_a_journal_are_damage_whoever_made_them() {
    expect_exit 0 pawl map echo ::: a
    wait_until 'flock -n state/lock true' 60
    rm -r state/journal state/journal.begun # as by a pawl that made no such mark
    expect_exit 7 at_most 20 "$PAWL" map echo ::: b
    expect_stderr "the journal of $T/state is missing"
    rm state/runs/*/image # what is left may be anything
    expect_exit 0 pawl map echo ::: b
    expect_stdout b
}

test_a_first_start_that_came_to_no_journal_is_made_again() {
    local made=() name
    mkdir -m 700 state
    pawl map --state other true ::: 1
    for name in nothing format runs/ spool/ journal/ journal/segment.new journal/reserve.1 lock scheduler.log; do
        case $name in
        nothing) ;;
        format) cp other/format state/ ;;
        */) mkdir -m 700 "state/$name" ;;
        *) echo half >"state/$name" ;;
        esac
        made+=("$name")
        [[ $name =~ ^(nothing|format|journal/|scheduler.log)$ ]] || continue
        rm -rf tried
        cp -a state tried
        expect_exit 0 pawl map --state tried echo ::: a
        expect_stdout a
    done
    expect_eq "${#made[@]}" 9
}

test_verify_changes_nothing() {
    three_runs
    wait_until '[ -z "$(processes)" ]' # the last scheduler closes the journal after its command has ended
    local before
    before=$(find "$PAWL_STATE/journal" -type f -exec cksum {} + | sort)
    expect_exit 0 pawl journal verify
    expect_eq "$(find "$PAWL_STATE/journal" -type f -exec cksum {} + | sort)" "$before"
}

test_health_lists_role_pid_and_state_of_each_process() {
    write flow.yaml <<'YAML'
pawl: 1
steps:
  block: {shell: 'touch live; while [ ! -e go ]; do sleep 0.02; done'}
YAML
    pawl run --detach -j2 --run-id h flow.yaml >/dev/null 2>&1
    wait_until '[ -e live ]'
    expect_exit 0 pawl health --json
    expect_json .schema 1
    expect_json '[.. | objects | select(has("role")) | .role] | unique | join(" ")' 'scheduler supervisor worker'
    expect_json '[.. | objects | select(has("role")) | (.pid > 0 and has("state"))] | all' true
    # shellcheck disable=SC2046
    kill -0 $(json '.. | objects | select(has("role")) | .pid')
    touch go
    expect_exit 0 pawl wait h --timeout 5m
}

test_processes_say_what_they_are() {
    local role
    write flow.yaml <<'YAML'
pawl: 1
steps:
  block: {shell: 'touch live; while [ ! -e go ]; do sleep 0.02; done'}
YAML
    pawl run --detach -j1 --run-id h flow.yaml >/dev/null 2>&1
    wait_until '[ -e live ]'
    for role in supervisor scheduler 'worker 1'; do
        the_pid_of "$role"
    done
    touch go
    expect_exit 0 pawl wait h --timeout 5m
}

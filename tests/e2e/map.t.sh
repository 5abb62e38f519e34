# map.t.sh - one task for each argument. Placeholders and sources mean what GNU parallel's manual says they mean.

# mapped WANT ARGS...: `pawl map -k -j1 ARGS` prints WANT.
mapped() {
    local want=$1
    shift
    expect_exit 0 pawl map -k -j1 "$@"
    expect_stdout "$want"
}

test_argument_is_appended_when_the_command_has_no_placeholder() {
    mapped $'a\nb' echo ::: a b
    mapped $'x a\nx b' echo x ::: a b
}

test_placeholders_take_an_argument_apart() {
    mapped 'dir/sub.d/name.tar.gz' echo '{}' ::: dir/sub.d/name.tar.gz
    mapped 'dir/sub.d/name.tar' echo '{.}' ::: dir/sub.d/name.tar.gz
    mapped 'name.tar.gz' echo '{/}' ::: dir/sub.d/name.tar.gz
    mapped 'dir/sub.d' echo '{//}' ::: dir/sub.d/name.tar.gz
    mapped 'name.tar' echo '{/.}' ::: dir/sub.d/name.tar.gz
}

test_placeholders_of_an_argument_without_folder_or_extension() {
    mapped 'name' echo '{.}' ::: name
    mapped '.' echo '{//}' ::: name
    mapped 'name' echo '{/}' ::: name
    mapped 'sub.d/name' echo '{.}' ::: sub.d/name
}

test_several_placeholders_in_one_word() {
    mapped $'a-a/a\nb-b/b' echo '{}-{}/{}' ::: a b
    mapped 'in.jpg out/in.png' echo '{} out/{.}.png' ::: in.jpg
}

test_sequence_numbers_count_from_one() {
    mapped $'1:a\n2:b\n3:c' echo '{#}:{}' ::: a b c
}

test_slot_numbers_stay_within_the_slots() {
    # Both are in use: the first two tasks wait for each other.
    expect_exit 0 pawl map -j2 sh -c 'echo "$0"; touch "here.$1"; until [ "$(ls here.* | wc -l)" -ge 2 ]; do sleep 0.02; done' \
        '{%}' '{}' ::: a b c d
    expect_eq "$(sort -u "$T/out" | tr '\n' ' ')" '1 2 '
}

test_several_sources_give_all_combinations_last_fastest() {
    mapped $'a 1\na 2\nb 1\nb 2' echo ::: a b ::: 1 2
    mapped $'1-a\n2-a\n1-b\n2-b' echo '{2}-{1}' ::: a b ::: 1 2
}

test_arguments_come_from_lines_of_stdin() {
    printf 'one\ntwo words\n\nlast' >lines
    pawl map -k -j1 printf '<%s>\n' <lines >out 2>err
    expect_file out $'<one>\n<two words>\n<>\n<last>'
}

test_arguments_come_from_files() {
    printf 'x\ny\n' >f
    printf '1\n2\n' >g
    mapped $'x\ny' echo :::: f
    mapped $'x\ny' -a f echo
    mapped $'x 1\nx 2\ny 1\ny 2' echo :::: f :::: g
    mapped $'x a\nx b\ny a\ny b' echo :::: f ::: a b
}

test_null_separated_arguments() {
    printf 'a\nb\0c' >f
    pawl map -0 -k -j1 printf '<%s>' <f >out 2>err
    expect_file out $'<a\nb><c>'
}

test_columns_of_a_line_are_arguments() {
    printf 'a,1\nb,2\n' >f
    mapped $'1=a\n2=b' --colsep , -a f echo '{2}={1}'
}

test_max_args_gives_several_arguments_to_one_task() {
    mapped $'1 2\n3' --max-args 2 echo ::: 1 2 3
}

once test_placeholders_agree_with_gnu_parallel # the command puts the arguments together
test_placeholders_agree_with_gnu_parallel() {
    local template
    local -a arguments=(plain a.b a.b.c dir/f dir/f.x dir.d/f a/b/c.d 'with space.x' .hidden dir/.hidden trailing.)
    for template in '{}' '{.}' '{/}' '{//}' '{/.}' '{#}' 'x{}y{.}z' '{1}' '{/}{//}'; do
        parallel --will-cite -k -j1 printf '%s\\n' "$template" ::: "${arguments[@]}" </dev/null >want
        expect_eq "$(wc -l <want)" "${#arguments[@]}"
        expect_exit 0 pawl map -k -j1 printf '%s\n' "$template" ::: "${arguments[@]}"
        diff want "$T/out" || fail "'$template': above, GNU parallel's on the left"
    done
}

test_combinations_and_files_agree_with_gnu_parallel() {
    printf 'p q\nr\n' >f
    parallel --will-cite -k -j1 echo '{2}{1}{#}' :::: f ::: 1 2 3 </dev/null >want
    expect_exit 0 pawl map -k -j1 echo '{2}{1}{#}' :::: f ::: 1 2 3
    expect_stdout "$(cat want)"
}

test_an_argument_is_one_argument_whatever_it_holds() {
    mapped $'<a b>\n<$HOME>\n<*>\n<it\'s "x">\n<>\n<-n>' printf '<%s>\n' '{}' ::: 'a b' '$HOME' '*' "it's \"x\"" '' -n
}

test_braces_in_an_argument_are_data() {
    mapped $'{}\n{#}\n{1}' echo ::: '{}' '{#}' '{1}'
    mapped '{.} x' echo '{}' x ::: '{.}'
}

test_shell_runs_through_sh_with_the_argument_quoted() {
    mapped $'6' --shell 'printf %s {} | wc -c' ::: "a b'c\"" 
    mapped '$(echo bad);' --shell 'echo {}' ::: '$(echo bad);'
}

test_keep_order_prints_in_input_order() {
    expect_exit 0 pawl map -k -j3 sh -c 'sleep "$0"; echo "$0"' ::: 0.3 0.15 0.01
    expect_stdout $'0.3\n0.15\n0.01'
}

test_tag_prefixes_each_line_with_the_argument() {
    mapped $'a\t1\na\t2\nb\t1\nb\t2' --tag sh -c 'echo 1; echo 2' '{}' ::: a b
}

test_output_of_tasks_is_never_mixed() {
    expect_exit 0 pawl map -j4 sh -c 'for i in 1 2 3 4 5; do echo "$0"; sleep 0.01; done' ::: a b c d e f g h
    expect_lines 40
    # Each letter stands in one block of five.
    expect_eq "$(uniq -c "$T/out" | awk '$1 != 5' | wc -l)" 0
}

test_output_is_kept_byte_for_byte() {
    mapped 'ab' printf %s ::: a b
    pawl map -k -j1 printf 'x\0\377%s' ::: 1 2 >out 2>err
    printf 'x\0\3771x\0\3772' | cmp - out
    pawl map -j2 sh -c 'seq 1 200000' ::: a b >big 2>err
    expect_eq "$(wc -l <big)" 400000
    expect_eq "$(sort -n big | uniq -c | awk '$1 != 2' | wc -l)" 0
}

test_stderr_of_tasks_goes_to_stderr() {
    expect_exit 0 pawl map sh -c 'echo "out $0"; echo "err $0" >&2' ::: a
    expect_stdout 'out a'
    expect_stderr 'err a'
    refute_contains err
}

test_tasks_have_an_empty_stdin() {
    printf 'a\nb\n' | at_most 20 "$PAWL" map -k -j1 sh -c 'cat; echo "$0"' >out 2>err
    expect_file out $'a\nb'
}

test_a_failing_task_makes_exit_1_and_the_others_still_run() {
    expect_exit 1 pawl map -k -j1 sh -c 'echo "$0"; [ "$0" != b ]' ::: a b c
    expect_stdout $'a\nb\nc'
}

test_no_arguments_run_nothing_and_succeed() {
    expect_exit 0 pawl map touch ran
    expect_stdout ''
    [ ! -e ran ] || fail 'it ran'
}

test_a_map_without_command_is_wrong_usage() {
    expect_exit 2 pawl map
    expect_exit 2 pawl map -j2 ::: a b
}

test_options_end_at_the_command() {
    mapped $'-n a\n-n b' printf '%s %s\n' -n ::: a b
}

test_dry_run_shows_the_commands_and_runs_none() {
    expect_exit 0 pawl map -n touch 'ran.{}' ::: 'a b' c
    expect_contains touch
    expect_lines 2
    expect_eq "$(find . -name 'ran.*' | wc -l)" 0
}

test_halt_soon_starts_nothing_after_the_nth_failure() {
    expect_exit 1 pawl map -j1 --halt soon,fail=2 sh -c 'echo "$0" >>ran; exit 1' ::: 1 2 3 4 5
    expect_file ran $'1\n2'
}

test_halt_now_ends_what_runs() {
    expect_exit 1 at_most 20 "$PAWL" map -j2 --halt now,fail=1 \
        sh -c 'if [ "$0" = bad ]; then until [ -e live ]; do sleep 0.02; done; exit 1; fi; touch live; sleep 300' ::: bad long
}

test_retries_run_a_failing_task_again() {
    expect_exit 0 pawl map -j1 --retries 3 sh -c 'echo x >>"tries.$0"; [ "$(wc -l <"tries.$0")" -ge 3 ]' ::: a b
    expect_eq "$(cat tries.a tries.b | wc -l)" 6
}

test_timeout_ends_a_task_that_takes_too_long() {
    expect_exit 1 at_most 20 "$PAWL" map --timeout 200ms sleep ::: 300
}

test_a_joblog_that_cannot_be_written_is_an_error() {
    expect_exit 1 pawl map --joblog /dev/full echo ::: a
    expect_stdout a
    expect_stderr '--joblog: /dev/full: not all of it could be written: No space left on device'
}

test_joblog_has_the_columns_of_gnu_parallel() {
    expect_exit 1 pawl map -j1 --joblog log sh -c 'exit "$0"' ::: 0 3
    expect_eq "$(head -n 1 log)" $'Seq\tHost\tStarttime\tJobRuntime\tSend\tReceive\tExitval\tSignal\tCommand'
    expect_eq "$(awk -F'\t' 'NR > 1 {print $1, $7, $8}' log)" $'1 0 0\n2 3 0'
}

test_results_are_files_in_a_tree_as_gnu_parallel_lays_it() {
    expect_exit 0 pawl map -j1 --results res sh -c 'echo "out $0"; echo "err $0" >&2' ::: a b
    expect_file res/1/a/stdout 'out a'
    expect_file res/1/b/stderr 'err b'
}

test_delay_spaces_the_starts() {
    local before
    before=$(now_ms)
    expect_exit 0 pawl map -j4 --delay 150ms true ::: 1 2 3
    [ $(($(now_ms) - before)) -ge 300 ] || fail 'three starts came too soon after one another'
}

test_memory_and_load_limits_that_hold_let_work_through() {
    expect_exit 0 pawl map --memfree 1MiB --load 10000 echo ::: a
    expect_stdout a
}

test_line_buffer_shows_lines_while_tasks_run() {
    background pawl map -j1 --line-buffer sh -c 'echo early; while [ ! -e go ]; do sleep 0.02; done; echo late' ::: x
    local mapping=$!
    wait_until 'grep -q early background.out'
    touch go
    expect_end 0 "$mapping"
    expect_file background.out $'early\nlate'
}

test_endless_input_works_and_a_closed_stdout_ends_it() {
    yes argument | at_most 40 "$PAWL" map -j2 echo 2>err | head -n 3 >out || true
    expect_file out $'argument\nargument\nargument'
    wait_until '[ -z "$(processes)" ]' 20
}

test_results_arrive_while_input_is_still_open() {
    mkfifo pipe
    background sh -c '"$0" map -j1 echo <pipe' "$PAWL"
    local mapping=$!
    exec 7>pipe
    echo one >&7
    wait_until 'grep -q one background.out'
    echo two >&7
    exec 7>&-
    expect_end 0 "$mapping"
    expect_file background.out $'one\ntwo'
}

test_resume_prints_the_same_and_runs_only_what_had_not_succeeded() {
    capture pawl map -k -j1 --resume sh -c 'echo "$0" >>ran; echo "out $0"; [ "$0" != b ] || [ -e fixed ]' ::: a b c
    [ "$rc" -eq 1 ] || fail "exit $rc"
    touch fixed
    expect_exit 0 pawl map -k -j1 --resume sh -c 'echo "$0" >>ran; echo "out $0"; [ "$0" != b ] || [ -e fixed ]' ::: a b c
    expect_stdout $'out a\nout b\nout c'
    expect_file ran $'a\nb\nc\nb'
}

test_resume_counts_equal_arguments_as_often_as_they_stand() {
    expect_exit 0 pawl map -k -j1 --resume sh -c 'echo "$0" >>ran; echo "$0"' ::: a a b
    expect_exit 0 pawl map -k -j1 --resume sh -c 'echo "$0" >>ran; echo "$0"' ::: b a a a
    expect_stdout $'b\na\na\na'
    expect_file ran $'a\na\nb\na'
}

test_new_only_prints_only_what_ran_now() {
    expect_exit 0 pawl map -k -j1 --resume echo ::: a b
    expect_exit 0 pawl map -k -j1 --resume --new-only echo ::: a b c
    expect_stdout c
}

test_a_foreign_flag_gets_a_hint() {
    expect_exit 2 pawl map --pipe wc
    expect_stderr split
    expect_exit 2 pawl map -r echo
    expect_stderr 'without arguments nothing runs'
    expect_exit 2 pawl map -n1 echo
    expect_stderr 'one argument a task is the default'
    expect_exit 2 pawl map --sshlogin host echo
    [ -s "$T/err" ] || fail 'no hint'
}

test_a_program_that_is_not_there_is_a_failed_task_that_names_it() {
    expect_exit 1 pawl map no-such-program-here ::: a
    expect_stderr no-such-program-here
}

test_ten_thousand_tasks_all_arrive_once() {
    seq 1 10000 | pawl map echo >out 2>err
    sort -n out >sorted
    seq 1 10000 | cmp - sorted
}
slow test_ten_thousand_tasks_all_arrive_once 180

test_a_newline_in_an_argument_breaks_no_line_of_its_failure_or_of_steps() {
    expect_exit 1 pawl map false ::: $'one\ntwo'
    expect_stderr 'task 1 (one\ntwo) failed: exit 1'
    expect_exit 0 pawl steps last
    expect_lines 2
    expect_contains 'one\ntwo'
}

test_a_background_child_of_a_finished_task_goes_on_and_is_not_of_the_task() {
    # shellcheck disable=SC2016
    expect_exit 0 pawl map sh -c '(until [ -e go ]; do sleep 0.02; done; echo late; touch "$0.done") & echo early' ::: child
    expect_stdout early
    [ ! -e child.done ]
    touch go
    wait_until '[ -e child.done ]'
    expect_exit 0 pawl logs last map --item 0
    expect_stdout early
}

# Nobody reads what the old ones had printed: that must not keep the new one from starting.
test_resume_starts_new_work_before_it_prints_what_is_old() {
    local mapping task='printf "%3000s\n" "$0"; [ "$0" != new ] || touch ran'
    seq 1 1200 >lines
    pawl map --resume sh -c "$task" <lines >expected 2>err
    echo new >>lines
    printf '%3000s\n' new >>expected
    mkfifo pipe
    exec 8<>pipe
    "$PAWL" map --resume sh -c "$task" <lines >pipe 8>&- 2>err &
    mapping=$!
    wait_until '[ -e ran ]' 60
    exec 9<pipe 8>&-
    cat <&9 >printed
    exec 9<&-
    wait "$mapping"
    cmp <(sort expected) <(sort printed)
}
slow test_resume_starts_new_work_before_it_prints_what_is_old 180

test_why_says_that_a_task_waits_for_memory_or_for_the_time_between_starts() {
    background pawl map --run-id poor --memfree 1000TiB echo ::: 1
    wait_until 'pawl why poor map --item 0 | grep -q "It waits for memory: [0-9]* MiB are available, starts are made from 1048576000 (--memfree)"' 30
    kill -INT "${BACKGROUND[-1]}" && expect_end 5 "${BACKGROUND[-1]}"
    background pawl map -j2 --run-id slow --delay 1h echo ::: 1 2
    wait_until 'pawl why slow map --item 1 | grep -q "the time between two starts (--delay): the next one is due in 3[56][0-9][0-9]"' 30
    kill -INT "${BACKGROUND[-1]}" && expect_end 5 "${BACKGROUND[-1]}"
}

# install.t.sh - what `make install` lays down, manual pages, completions.

VERBS='run map check graph runs status steps logs why resume retry cancel wait gc doctor journal health config bench serve queue publish consume ack nack reject extend dlq group metrics top'

test_install_lays_everything_below_prefix_and_destdir() {
    local verb
    capture make_install DESTDIR="$T/root" PREFIX=/opt/pawl
    [ "$rc" -eq 0 ] || fail "exit $rc"
    cd "$T/root/opt/pawl"
    expect_exit 0 bin/pawl --version
    for verb in $VERBS; do
        [ -s "share/man/man1/pawl-$verb.1" ] || fail "no manual page for $verb"
    done
    [ -s share/man/man1/pawl.1 ] && [ -s share/man/man5/pawl-workflow.5 ]
    [ -s share/bash-completion/completions/pawl ]
    [ -s share/zsh/site-functions/_pawl ]
    [ -s share/fish/vendor_completions.d/pawl.fish ]
    [ -s share/doc/pawl/examples/word-count.yaml ]
    [ -s share/doc/pawl/bus.md ] && [ -s share/doc/pawl/guarantees.md ]
}

test_what_is_installed_is_everybodys_to_read_under_any_umask() {
    umask 077
    capture make_install DESTDIR="$T/root" PREFIX=/opt/pawl
    [ "$rc" -eq 0 ] || fail "exit $rc"
    expect_eq "$(find "$T/root/opt" -type d ! -perm -755 -o -type f ! -perm -644)" ''
}

test_an_install_into_the_system_tells_the_linker_and_one_for_a_package_does_not() {
    write bin/id <<<'echo 0'
    write bin/ldconfig <<<"echo told >>'$T/told'"
    chmod +x bin/id bin/ldconfig
    export PATH="$T/bin:$PATH"
    capture make_install DESTDIR="$T/root" PREFIX=/usr
    expect_eq "$rc $(cat told 2>/dev/null)" '0 '
    capture make_install PREFIX="$T/system"
    expect_eq "$rc $(cat told)" '0 told'
}

test_manual_page_of_a_verb_names_every_flag_of_its_help() {
    local verb flag missing=
    for verb in $VERBS; do
        for flag in $(pawl "$verb" --help | grep -oE -e '--[a-z][a-z-]+' | sort -u); do
            grep -qF -e "$flag" "$E2E_TOP/docs/man/pawl-$verb.1.scd" "$E2E_TOP/docs/man/pawl.1.scd" || missing="$missing $verb:$flag"
        done
    done
    expect_eq "$missing" ''
}

# complete_for WORD...: what bash offers for the last of these words.
complete_for() {
    COMP_WORDS=(pawl "$@")
    COMP_CWORD=$#
    COMP_LINE="${COMP_WORDS[*]}"
    COMP_POINT=${#COMP_LINE}
    COMPREPLY=()
    _pawl pawl "${*: -1}" pawl
    printf '%s\n' "${COMPREPLY[@]}" | sed 's/ *$//' | sort
}

test_bash_completes_verbs_flags_runs_and_steps() {
    # shellcheck disable=SC1091
    . "$E2E_TOP/runtime/completion/pawl.bash"
    expect_eq "$(complete_for re | tr '\n' ' ')" 'reject resume retry '
    complete_for run --keep | grep -qx -e '--keep-going'
    write flow.yaml <<'YAML'
pawl: 1
steps: {build-it: {run: ["true"]}}
YAML
    expect_exit 0 pawl run --run-id my-run flow.yaml
    complete_for status my | grep -qx my-run
    complete_for logs my-run bu | grep -qx build-it
    complete_for check fl | grep -qx flow.yaml
}

test_every_completion_offers_all_that_bench_measures_and_that_groups_can() {
    local shell name benches deeds
    expect_exit 2 pawl bench nope
    benches=$(sed -n 's/^ *there are: //p' "$T/err" | tr -d ,)
    deeds=$(pawl help group | sed -n 's/^  \([a-z]*\)   *[a-z].*/\1/p' | tr '\n' ' ')
    expect_eq "$(wc -w <<<"$benches $deeds")" 11
    for shell in bash zsh fish; do
        for name in $benches $deeds; do
            grep -E 'ring.*flow|create.*lag' "$E2E_TOP/runtime/completion/pawl.$shell" | sed 's/\\n/ /g' |
                grep -qw -e "$name" || fail "pawl.$shell does not offer $name"
        done
    done
}

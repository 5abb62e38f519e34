#!/usr/bin/env bash
# lib.sh - what a test file finds at hand, and the two commands by which run.sh uses it.
#
#   lib.sh list FILE            "seconds once|each file function" for each test of FILE, named without its directory
#   lib.sh test SECONDS IO FILE FUNCTION   one test, in a directory of its own; FILE lies beside lib.sh; IO: what
#                                          PAWL_IO is to be, or as-it-is
#
# A test is a function test_*, whose name is the rule it proves. It starts in an empty directory $T with
# PAWL_STATE=$T/state, under `set -e`: any command that fails, fails the test. When it ends nothing that it started
# may still live, unless it called leave_running or started it by `background`.
# shellcheck disable=SC2034  # variables here are for the tests
set -Eeuo pipefail
ulimit -c 0

# Seconds are said here as an idle machine would need them at the very most. A busy one gets so many times more before
# anything is taken for hung: a limit guards against waiting for ever, and a test that passes never waits for one.
PATIENCE=6

# --- for test files ---------------------------------------------------------------------------------------------

declare -A SECONDS_OF=()

# slow NAME SECONDS: this test may take longer than the usual 60 s. Said at the top level of the file.
slow() { SECONDS_OF[$1]=$2; }

# once NAME: this test does not depend on the kind of I/O, so that one kind proves its rule. Said at the top level.
declare -A ONCE=()
once() { ONCE[$1]=once; }

# The tool under test. `pawl` in a test is this function, $PAWL the path (for env, setsid and such).
PAWL=${PAWL_BIN:-}
pawl() { "$PAWL" "$@"; }

EXAMPLES=${E2E_TOP:-}/docs/examples

fail() {
    {
        echo "FAIL at $(caller_line): $*"
        show_last
    } >&2
    exit 1
}

# write FILE <<EOF: a file from standard input, its folders too.
write() {
    mkdir -p "$(dirname "$1")"
    cat >"$1"
}

# capture COMMAND...: run it; $rc is its status, $T/out and $T/err what it said. Never fails by itself.
capture() {
    LAST=("$@")
    rc=0
    "$@" >"$T/out" 2>"$T/err" || rc=$?
}

# expect_exit N COMMAND...: capture, and the status must be N.
expect_exit() {
    local want=$1
    shift
    capture "$@"
    [ "$rc" -eq "$want" ] || fail "exit $rc, expected $want: $*"
}

# What the last captured command printed. Trailing newlines do not count in the exact comparisons.
stdout() { cat "$T/out"; }
stderr() { cat "$T/err"; }
expect_stdout() { [ "$(cat "$T/out")" = "$1" ] || fail "stdout is not: $1"; }
expect_sorted() { [ "$(sort "$T/out")" = "$1" ] || fail "sorted stdout is not: $1"; }
expect_contains() { grep -qF -e "$1" "$T/out" || fail "stdout does not contain: $1"; }
expect_match() { grep -qE -e "$1" "$T/out" || fail "no line of stdout matches: $1"; }
expect_stderr() { grep -qF -e "$1" "$T/err" || fail "stderr does not contain: $1"; }
expect_stderr_match() { grep -qE -e "$1" "$T/err" || fail "no line of stderr matches: $1"; }
refute_contains() { ! grep -qF -e "$1" "$T/out" || fail "stdout contains: $1"; }
refute_stderr() { ! grep -qF -e "$1" "$T/err" || fail "stderr contains: $1"; }
expect_lines() { [ "$(wc -l <"$T/out")" -eq "$1" ] || fail "stdout has $(wc -l <"$T/out") lines, expected $1"; }
expect_eq() { [ "$1" = "$2" ] || fail "'$1' is not '$2'"; }
expect_file() { [ "$(cat "$1")" = "$2" ] || fail "$1 holds '$(cat "$1")', expected '$2'"; }

# json FILTER: jq -r over the last stdout, a document or a stream. json_err: over stderr.
json() { jq -r "$1" "$T/out" || fail "stdout is no JSON"; }
json_err() { jq -r "$1" "$T/err" || fail "stderr is no JSON"; }
# expect_json FILTER VALUE: as text, so true, 3 and null are written plainly.
expect_json() {
    local got
    got=$(json "$1")
    [ "$got" = "$2" ] || fail "JSON $1 is '$got', expected '$2'"
}
expect_json_err() {
    local got
    got=$(json_err "$1")
    [ "$got" = "$2" ] || fail "JSON error $1 is '$got', expected '$2'"
}
# expect_keys FILTER "a b c": the object that FILTER names has at least these keys.
expect_keys() {
    local key
    for key in $2; do
        jq -e "$1 | has(\"$key\")" "$T/out" >/dev/null || fail "JSON $1 has no key '$key'"
    done
}

# Shortest ways to what a run says of itself. The newest run unless an id is given.
run_id() { pawl runs --json | jq -rs 'map(if type == "object" and has("runs") then .runs[] else . end) | .[0].run // .[0].id'; }
run_state() { pawl status ${1:+"$1"} --json | jq -r .state; }
step_count() { pawl status --json | jq -r ".steps.$1"; }
# step_field STEP FIELD [RUN]: of the step's first instance.
step_field() { pawl steps "${3:-last}" --json | jq -rs "map(select(.step == \"$1\"))[0].$2"; }

now_ms() { echo $((${EPOCHREALTIME/[.,]/} / 1000)); }

# wait_until 'CONDITION' [SECONDS]: look again every 20 ms until the shell condition holds; 10 s unless told, and
# PATIENCE times as long before it fails.
wait_until() {
    local seconds=$((${2:-10} * PATIENCE))
    local deadline=$(($(now_ms) + seconds * 1000))
    until eval "$1" >/dev/null 2>&1; do
        [ "$(now_ms)" -lt "$deadline" ] || fail "not within $seconds s: $1"
        sleep 0.02
    done
}

# at_most SECONDS COMMAND...: killed, as hung, after PATIENCE times as long.
at_most() { timeout -s KILL "$(($1 * PATIENCE))" "${@:2}"; }

# background COMMAND...: start it; $! and BACKGROUND hold its pid, its words go to background.out and .err. It can be
# interrupted (a shell's background commands otherwise ignore SIGINT). What is left of it at the end is killed.
BACKGROUND=()
background() {
    [ "$1" != pawl ] || set -- "$PAWL" "${@:2}"
    # This shell opens the files: nobody can find an earlier one's words in them, or no file, until it has begun.
    { env --default-signal=INT,QUIT "$@" & } >"$T/background.out" 2>"$T/background.err"
    BACKGROUND+=($!)
}

# expect_end N PID: the background command ends by itself with status N.
expect_end() {
    local status=0
    wait "$2" || status=$?
    [ "$status" -eq "$1" ] || fail "exit $status, expected $1, of background command; it said: $(tail -n 5 "$T/background.err")"
}

# serve FLAGS...: `pawl serve` in the background, until it says that it serves: a verb that asked before could start a
# scheduler of its own. SERVE is its pid; its words are in serve.out and serve.err.
serve() { serve_by "$PAWL" serve "$@"; }

# serve_by COMMAND...: the same of a command that becomes `pawl serve`.
serve_by() {
    { env --default-signal=INT,QUIT "$@" & } >"$T/serve.out" 2>"$T/serve.err" # empty from here on, as of background
    SERVE=$!
    BACKGROUND+=("$SERVE")
    wait_until 'grep -q "serving /" "$T/serve.err" || ! kill -0 "$SERVE"'
    kill -0 "$SERVE" 2>/dev/null || fail "it does not serve: $(cat "$T/serve.err")"
}

# build_failing_disk: ./failing_disk, which failing_disk.c describes.
build_failing_disk() { gcc -std=gnu11 -Wall -Wextra -o failing_disk "$E2E_TOP/tests/e2e/failing_disk.c"; }

# end_serve [SIGNAL]: it ends well at SIGTERM, or at this signal.
end_serve() {
    kill -"${1:-TERM}" "$SERVE"
    local status=0
    wait "$SERVE" || status=$?
    [ "$status" -eq 0 ] || fail "pawl serve ended with $status: $(tail -n 5 "$T/serve.err")"
}

# Processes of this test that live now. By the mark in their environment, or, since a process that has named itself
# may have overwritten that, by what it holds open below $T.
processes() {
    local named found
    # Few programs for them all, however many processes other tests have: this is asked again and again.
    mapfile -t named < <(grep -ls '^pawl' /proc/[0-9]*/comm || true)
    mapfile -t found < <({
        grep -lsaF "E2E_MARK=$T;" /proc/[0-9]*/environ || true
        [ "${#named[@]}" -eq 0 ] || find "${named[@]/%comm/fd}" -lname "$T/*" 2>/dev/null || true
    } | cut -d/ -f1-3 | sort -t/ -k3,3n -u)
    [ "${#found[@]}" -eq 0 ] || grep -Ls '^State:.[ZX]' "${found[@]/%//status}" | cut -d/ -f3 || true
}

# pid_of ROLE: the processes of this test that call themselves `pawl: ROLE...` (supervisor, scheduler, worker): none,
# one or several lines.
pid_of() {
    local pid
    for pid in $(processes); do
        case $(tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null || true) in
        "pawl: $1"*) echo "$pid" ;;
        esac
    done
}

# the_pid_of ROLE: of the one that there must be. Waited for, since one that has just ended may still be seen.
the_pid_of() {
    local pids deadline=$(($(now_ms) + 10000 * PATIENCE))
    while pids=$(pid_of "$1") && [[ ! $pids =~ ^[0-9]+$ ]]; do
        [ "$(now_ms)" -lt "$deadline" ] || fail "not one process calls itself 'pawl: $1', but: ${pids:-none}"
        sleep 0.02
    done
    echo "$pids"
}

# kill_scheduler: the one that is there, with SIGKILL, until the supervisor has started another.
kill_scheduler() {
    local old new
    old=$(the_pid_of scheduler)
    kill -KILL "$old"
    # shellcheck disable=SC2016  # for wait_until
    wait_until 'new=$(pid_of scheduler) && [ -n "$new" ] && [ "$new" != "$old" ]'
}

# installed: sets $INSTALLED, a directory with what `make install` lays down (PREFIX=/usr), made once for all tests.
installed() {
    INSTALLED=$E2E_DIR/installed
    (
        flock 9
        [ -e "$E2E_DIR/installed.done" ] || {
            make_install DESTDIR="$INSTALLED" PREFIX=/usr >"$T/install.log" 2>&1 && touch "$E2E_DIR/installed.done"
        }
    ) 9>"$E2E_DIR/installed.lock" || fail "$(cat "$T/install.log")"
}
make_install() {
    local build # relative: where the tree lies may hold spaces, and make knows no names with spaces
    build=$(realpath --relative-to="$E2E_TOP" "$(dirname "$PAWL")")
    make -C "$E2E_TOP" --no-print-directory install AS_BUILT=1 BUILD="$build" "$@"
}

# public_directory: sets $PUBLIC, a directory of this test that everybody may enter: what leads to $T may be private.
public_directory() {
    PUBLIC=$(public_name)
    mkdir -m 755 "$PUBLIC"
}
public_name() { echo "/tmp/$(basename "$E2E_DIR").$(basename "$T")"; }

# leave_running: this test means to leave a scheduler or jobs behind; they are killed after it.
LEAVE=no
leave_running() { LEAVE=yes; }

# --- what run.sh calls ------------------------------------------------------------------------------------------

caller_line() {
    local i
    for ((i = 1; i < ${#BASH_SOURCE[@]}; i++)); do
        case ${BASH_SOURCE[i]} in
        *.t.sh)
            echo "$(basename "${BASH_SOURCE[i]}"):${BASH_LINENO[i - 1]}"
            return
            ;;
        esac
    done
}

LAST=()
show_last() {
    if [ "${#LAST[@]}" -gt 0 ] && [ -e "$T/out" ]; then
        echo "  last command: ${LAST[*]}"
        show_words "its stdout" "$T/out"
        show_words "its stderr" "$T/err"
    fi
    local words
    for words in background.out background.err serve.out serve.err; do
        [ ! -s "$T/$words" ] || show_words "$words" "$T/$words"
    done
}

show_words() { echo "  $1:" && head -c 4000 "$2" | head -n 40 | sed 's/^/    |/'; }

on_error() {
    local rc=$? command=$BASH_COMMAND
    # A subshell's failure is told once, by the shell that sees it.
    [ "$BASH_SUBSHELL" -eq 0 ] || exit "$rc"
    echo "FAIL at $(caller_line): exit $rc from: $command"
    show_last
    exit 1
}

kill_marked() {
    local pids tries
    for tries in 1 2 3 4 5; do
        pids=$(processes)
        [ -n "$pids" ] || return 0
        # shellcheck disable=SC2086
        kill -KILL $pids 2>/dev/null || true
        sleep 0.05
    done
}

describe_processes() {
    local pid
    for pid in "$@"; do
        echo "  left: $pid $(tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null || true)"
    done
}

# In the test's own process, after the function returned.
check_leftovers() {
    local pid deadline left
    for pid in ${BACKGROUND[@]+"${BACKGROUND[@]}"}; do
        # One that has ended gave its number back: it may be another test's by now.
        ! grep -qs "^PPid:[[:space:]]*$$\$" "/proc/$pid/status" || kill -KILL "$pid" 2>/dev/null || true
    done
    [ "$LEAVE" = no ] || return 0
    deadline=$(($(now_ms) + 5000 * PATIENCE))
    while left=$(processes) && [ -n "$left" ]; do
        if [ "$(now_ms)" -ge "$deadline" ]; then
            echo "FAIL: processes outlived the test"
            # shellcheck disable=SC2086
            describe_processes $left
            exit 1
        fi
        sleep 0.02
    done
}

list_tests() {
    local name
    # shellcheck disable=SC1090
    . "$1"
    sed -n 's/^\(test_[A-Za-z0-9_]*\)() *{.*/\1/p' "$1" | while read -r name; do
        echo "${SECONDS_OF[$name]:-60} ${ONCE[$name]:-each} ${1##*/} $name"
    done
}

# The inner half: the process that is the test.
run_body() {
    T=$3
    # Exported only now: /proc shows the mark for all that this shell starts, and not for the shell itself.
    export T E2E_MARK="$T;" PAWL_STATE=$T/state HOME=$T
    umask 022
    trap on_error ERR
    # shellcheck disable=SC1090
    . "$1"
    cd "$T"
    "$2"
    check_leftovers
}

# The outer half: directory, time limit, verdict, cleaning.
run_test() {
    local seconds=$(($1 * PATIENCE)) kind=$2 name=$4 file title log rc started took verdict
    file=$(dirname "${BASH_SOURCE[0]}")/$3
    title="${3%.t.sh}: ${name#test_}"
    title=${title//_/ }
    if [ "$kind" = as-it-is ]; then
        kind=
    else
        export PAWL_IO=$kind
    fi
    T=$(mktemp -d "$E2E_DIR/XXXXXX")
    log=$T.log
    started=$(now_ms)
    rc=0
    timeout -k 5 "$seconds" bash "${BASH_SOURCE[0]}" body "$file" "$name" "$T" >"$log" 2>&1 </dev/null || rc=$?
    took=$(($(now_ms) - started))
    kill_marked
    verdict='ok     '
    if [ $rc -eq 0 ]; then
        : >"$T.passed"
    else
        verdict='FAILED '
        [ $rc -ne 124 ] || echo "FAIL: not done after $seconds s" >>"$log"
    fi
    # One write, so that tests running side by side do not mix their reports.
    {
        echo "$verdict $title ($took ms${kind:+, $kind})"
        if [ $rc -ne 0 ] || [ "$E2E_VERBOSE" = yes ]; then
            sed 's/^/    /' "$log"
        fi
    } >"$T.report"
    cat "$T.report"
    if [ $rc -eq 0 ] || [ "${KEEP:-0}" != 1 ]; then
        rm -rf "$T" "$(public_name)"
    fi
}

command=${1:-}
shift || true
case $command in
list) list_tests "$1" ;;
test) run_test "$@" ;;
body) run_body "$@" ;;
*) echo "lib.sh is used by run.sh" >&2 && exit 2 ;;
esac

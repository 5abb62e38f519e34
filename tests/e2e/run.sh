#!/usr/bin/env bash
# run.sh - the end-to-end tests: the built binary as a person or a script would use it.
#
#   bash tests/e2e/run.sh [-j N] [-v] [--io KINDS] [--sum FILE] [FILTER]
#
# FILTER is a part of "file: words of the name" as the report shows them, or of the function's name. Each function test_* of each *.t.sh file runs in its own bash and its own
# directory; lib.sh says what is at hand there. Output is shown for failures only (-v: always). Ends with
# `N passed, N failed`; exit 1 if any failed or none ran. --sum writes "PASSED FAILED" to FILE besides.
# KEEP=1 keeps the directories of failed tests. --io 'uring syscall': each test with each of these as PAWL_IO, all in
# one go; those that lib.sh's `once` names with the first alone. Without it all run once, as the caller has PAWL_IO.
set -u

# What a shell starts in the background ignores SIGINT and SIGQUIT, and would hand that on to the programs under test.
if [ -z "${PAWL_TESTS_SIGNALS:-}" ]; then
    PAWL_TESTS_SIGNALS=default exec env --default-signal=INT,QUIT,PIPE bash "$0" "$@"
fi

here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/../.." && pwd)
# A test waits for most of its time: all of them together want 2 minutes of CPU in 15 of their own.
jobs=$((4 * $(nproc 2>/dev/null || echo 2)))
verbose=no
sum_file=
filter=
kinds=as-it-is
while [ $# -gt 0 ]; do
    case $1 in
    -j) jobs=$2 && shift ;;
    -v) verbose=yes ;;
    --io) kinds=$2 && shift ;;
    --sum) sum_file=$2 && shift ;;
    -*) echo "usage: run.sh [-j N] [-v] [--io KINDS] [--sum FILE] [FILTER]" >&2 && exit 2 ;;
    *) filter=$1 ;;
    esac
    shift
done

PAWL_BIN=$(realpath -m "${PAWL_BIN:-$top/build/pawl}")
if [ ! -x "$PAWL_BIN" ]; then
    echo "e2e: $PAWL_BIN is not there: build it first (make)" >&2
    exit 1
fi
# Nothing of the caller's own pawl may leak in.
unset PAWL_STATE PAWL_RUN PAWL_STEP PAWL_ITEM PAWL_ATTEMPT PAWL_OUTPUT PAWL_DIR NO_COLOR MAKEFLAGS MAKELEVEL
export PAWL_BIN E2E_TOP=$top E2E_VERBOSE=$verbose LC_ALL=C TERM=dumb

E2E_DIR=$(mktemp -d "${TMPDIR:-/tmp}/pawl-e2e.XXXXXX")
export E2E_DIR
trap 'rm -rf "$E2E_DIR"' EXIT
trap 'exit 130' INT TERM

# Lines "seconds kind-of-io file function", one for each run of a test that the filter lets through; slow ones first.
# A file by its name alone: what leads to it may hold spaces.
for file in "$here"/*.t.sh; do
    [ -e "$file" ] || continue
    bash "$here/lib.sh" list "$file" || {
        echo "e2e: cannot read $file" >&2
        exit 1
    }
done >"$E2E_DIR/all" || exit 1
while read -r seconds often file name; do
    base=${file%.t.sh} words=${name//_/ }
    case "$base $words $name $base: ${words#test }" in # the last is how results name it
    *"$filter"*)
        for kind in $kinds; do
            echo "$seconds $kind $file $name"
            [ "$often" != once ] || break
        done
        ;;
    esac
done <"$E2E_DIR/all" | sort -s -k1,1nr >"$E2E_DIR/tests"

xargs -r -P "$jobs" -L 1 bash "$here/lib.sh" test <"$E2E_DIR/tests"

passed=$(find "$E2E_DIR" -maxdepth 1 -name '*.passed' | wc -l)
failed=$(($(wc -l <"$E2E_DIR/tests") - passed))
echo "$passed passed, $failed failed"
[ -z "$sum_file" ] || echo "$passed $failed" >"$sum_file"
if [ "${KEEP:-0}" = 1 ] && [ "$failed" -gt 0 ]; then
    trap - EXIT
    echo "kept: $E2E_DIR"
fi
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]

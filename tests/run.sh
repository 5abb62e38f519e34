#!/usr/bin/env bash
# run.sh - every test that is built, one sum at the end.
#
#   bash tests/run.sh [--only 'PHASE...'] BUILD_DIR      phases: unit stress e2e python
#
# The last line is `N passed, N failed`. Exit 1 if anything failed, or if nothing ran.
# PAWL_STRESS_SECONDS (default 3): how long each stress program is run again and again.
set -u

# What a shell starts in the background ignores SIGINT and SIGQUIT, and would hand that on to the programs under test.
if [ -z "${PAWL_TESTS_SIGNALS:-}" ]; then
    PAWL_TESTS_SIGNALS=default exec env --default-signal=INT,QUIT,PIPE bash "$0" "$@"
fi

phases='unit stress e2e python'
if [ "${1:-}" = --only ]; then
    phases=$2
    shift 2
fi
build=${1:?usage: run.sh [--only PHASES] BUILD_DIR}
here=$(dirname "$0")
export PAWL_STRESS_SECONDS=${PAWL_STRESS_SECONDS:-3}
# A sanitizer that found something says so by its exit status, also in a process that a test forked.
export ASAN_OPTIONS=${ASAN_OPTIONS:-abort_on_error=0:exitcode=99}
export UBSAN_OPTIONS=${UBSAN_OPTIONS:-print_stacktrace=1}
export TSAN_OPTIONS=${TSAN_OPTIONS:-exitcode=99}
scratch=$(mktemp -d "${TMPDIR:-/tmp}/pawl-tests.XXXXXX")
trap 'rm -rf "$scratch"' EXIT
passed=0
failed=0
pytest= # its process, when it runs beside others

# Criterion's runner forgets some bytes of its own when it ends: a report of leaks is a test's if one is named in it.
without_the_runners_leaks() {
    awk '/^=+$/ { next } # before each
        /ERROR: LeakSanitizer/ { report = ""; inside = 1 }
        inside { report = report $0 "\n"; if ($0 ~ /^SUMMARY: /) { inside = 0; if (report ~ /_impl tests\/unit\//) printf "%s", report }; next }
        { print }
        END { if (inside) printf "%s", report }'
}

run_unit() {
    local line rc tested good reports
    printf 'leak:%s\n' cri_assert_node_add cri_fmt_vbprintf >"$scratch/lsan" # Criterion's own, in tests
    LSAN_OPTIONS=${LSAN_OPTIONS:-exitcode=0:suppressions=$scratch/lsan:print_suppressions=0} "$build/unit" --color=never >"$scratch/unit.all" 2>&1 </dev/null
    rc=$?
    without_the_runners_leaks <"$scratch/unit.all" >"$scratch/unit"
    grep -v '^\[====\] \(Running\|Synthesis\)' "$scratch/unit" | grep -v '^\[\(RUN \|PASS\)\]'
    line=$(grep '^\[====\] Synthesis' "$scratch/unit" | tail -n 1)
    printf '%s\n' "$line"
    tested=$(printf '%s\n' "$line" | sed -n 's/.*Tested: *\([0-9]*\).*/\1/p')
    good=$(printf '%s\n' "$line" | sed -n 's/.*Passing: *\([0-9]*\).*/\1/p')
    if [ -z "$tested" ] || [ "$tested" -eq 0 ]; then
        echo "unit tests: no summary (exit $rc)"
        failed=$((failed + 1))
        return
    fi
    passed=$((passed + good))
    failed=$((failed + tested - good))
    # How a test's process ends says nothing once its assertions held: what a sanitizer reported then is counted here.
    reports=$(grep -cE 'ERROR: [A-Za-z]+Sanitizer|: runtime error: ' "$scratch/unit")
    if [ "$reports" -gt 0 ]; then
        echo "unit tests: $reports reports of a sanitizer"
        failed=$((failed + reports))
    fi
    # All green by count and yet a bad exit (a leak found at the end, say) is a failure too.
    if [ "$rc" -ne 0 ] && [ "$tested" -eq "$good" ]; then
        echo "unit tests: exit $rc though every test passed"
        failed=$((failed + 1))
    fi
}

# Each program again and again, with a new seed each time, until its seconds have passed.
run_stress() {
    local program name source rc rounds until
    for source in "$here"/stress/*.c; do
        [ -e "$source" ] || continue
        name=$(basename "$source" .c)
        program=$build/tests/stress/$name
        until=$((SECONDS + PAWL_STRESS_SECONDS))
        rounds=0
        rc=0
        while [ $rc -eq 0 ] && { [ $rounds -eq 0 ] || [ $SECONDS -lt $until ]; }; do
            timeout -k 5 300 "$program" >"$scratch/$name" 2>&1 </dev/null || rc=$?
            rounds=$((rounds + 1))
        done
        if [ $rc -eq 0 ]; then
            echo "ok      stress $name: $rounds times; $(tail -n 1 "$scratch/$name")"
            passed=$((passed + 1))
        else
            echo "FAILED  stress $name (exit $rc, round $rounds)"
            tail -n 60 "$scratch/$name" | sed 's/^/    /'
            failed=$((failed + 1))
        fi
    done
}

# The Python package of this build, by the interpreter whose packages the bootstrap installed.
pytest() {
    PAWL_BIN=$build/pawl PYTHONPATH=$build/python PYTHONDONTWRITEBYTECODE=1 env --default-signal=INT,QUIT \
        "${PYTHON:-/usr/bin/python3}" -m pytest -q -p no:cacheprovider --junit-xml "$scratch/python.xml" \
        "$here/python" >"$scratch/python" 2>&1 </dev/null
}

run_python() {
    local rc=0 count
    if [ -n "$pytest" ]; then
        wait "$pytest" || rc=$?
    else
        pytest || rc=$?
    fi
    tail -n "$([ $rc -eq 0 ] && echo 1 || echo 200)" "$scratch/python"
    read -r -a count < <(sed -n \
        's/.*errors="\([0-9]*\)" failures="\([0-9]*\)" skipped="\([0-9]*\)" tests="\([0-9]*\)".*/\1 \2 \3 \4/p' "$scratch/python.xml")
    if [ "${#count[@]}" -ne 4 ] || [ "${count[3]}" -eq 0 ]; then
        echo "python tests: no result (exit $rc)"
        failed=$((failed + 1))
        return
    fi
    local bad=$((count[0] + count[1] + count[2])) # one that is skipped proves nothing
    passed=$((passed + count[3] - bad))
    failed=$((failed + bad))
    if [ $rc -ne 0 ] && [ $bad -eq 0 ]; then
        echo "python tests: exit $rc though every test passed"
        failed=$((failed + 1))
    fi
}

# The suite with each way of doing I/O. The Python tests wait as much as these do: they run beside them.
run_e2e() {
    local sum
    case " $phases " in
    *' e2e python '*)
        pytest &
        pytest=$!
        ;;
    esac
    PAWL_BIN=$build/pawl bash "$here/e2e/run.sh" --io 'uring syscall' --sum "$scratch/e2e" </dev/null
    read -r -a sum <"$scratch/e2e" || sum=(0 1)
    passed=$((passed + sum[0]))
    failed=$((failed + sum[1]))
}

for phase in $phases; do
    echo "== $phase"
    started=$SECONDS
    "run_$phase"
    echo "== $phase took $((SECONDS - started)) s"
done
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]

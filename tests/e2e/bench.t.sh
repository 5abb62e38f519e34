# bench.t.sh - the measurements run, say what they promise, and leave nothing behind.

KEYS='bench events seconds per_second p50_ns p99_ns p999_ns cpu_seconds_per_million rss_bytes floor_per_second machine'

nothing_is_left() {
    [ -z "$(find . -name '.pawl-bench*')" ] || fail "left behind: $(find . -maxdepth 1 -name '.pawl-bench*')"
    [ ! -e "$PAWL_STATE" ] || fail "a bench made the state directory"
}

test_each_bench_prints_its_keys_and_leaves_nothing() {
    export PAWL_STATE=$PWD/state
    local spec
    for spec in 'ring 100000' 'journal 2000' 'exec 50' 'flow 2000' 'bus 2000' 'recover 2000'; do
        # shellcheck disable=SC2086
        set -- $spec
        expect_exit 0 pawl bench "$1" --events "$2" --json
        expect_json .bench "$1"
        expect_json .events "$2"
        expect_keys . "$KEYS"
        expect_keys .machine 'kernel cpus cpu filesystem'
        expect_json '.per_second > 0 and .floor_per_second > 0' true
        nothing_is_left
    done
}

test_exec_and_flow_tell_ratio_first_start_and_cost() {
    export PAWL_STATE=$PWD/state
    expect_exit 0 pawl bench exec -n 50 -j 2 --json
    expect_keys . 'ratio_to_floor slots scheduler_us_per_event'
    expect_json .slots 2
    expect_exit 0 pawl bench flow -n 100000 --json
    expect_keys . 'first_start_ms per_second_at_10000 bytes_per_event'
    expect_json '.first_start_ms > 0' true
}

test_bus_measures_each_durability_and_latency_at_a_rate() {
    export PAWL_STATE=$PWD/state
    local durability
    for durability in memory async fsync; do
        expect_exit 0 pawl bench bus --events 5000 --durability "$durability" --json
        expect_json .events 5000
        expect_json '.wake_p50_ns > 0' true
    done
    expect_exit 0 pawl bench bus --events 500 --rate 1000 --durability memory -j 2 --json
    expect_json '.p50_ns > 0 and .p99_ns >= .p50_ns' true
    expect_json '.path_p50_ns > 0 and .path_p99_ns >= .path_p50_ns' true
    expect_exit 0 pawl bench bus --events 500 --rate 1000 --durability fsync --json
    expect_json '.path_p50_ns > 0 and .sync_p50_ns > 0' true
    expect_exit 2 pawl bench bus --rate never
    expect_exit 2 pawl bench flow --durability memory
    nothing_is_left
}

test_consumers_beside_one_another_wait_for_events_that_come_seldom() {
    export PAWL_STATE=$PWD/state
    expect_exit 0 pawl bench bus --events 3 --rate 1 --durability memory -j 2 --json
    expect_json .events 3
}

test_people_get_the_floor_beside_the_figure() {
    export PAWL_STATE=$PWD/state
    expect_exit 0 pawl bench journal --events 1000
    expect_contains 'floor'
    expect_contains 'ratio'
}

test_unknown_bench_names_those_that_there_are() {
    expect_exit 2 pawl bench sing
    expect_stderr 'ring, journal, exec, flow, bus, recover'
    expect_exit 2 pawl bench
    expect_exit 2 pawl bench ring --seconds never
    expect_stderr '--seconds'
    expect_exit 2 pawl bench journal --durability wish
}

test_interrupted_bench_leaves_nothing() {
    export PAWL_STATE=$PWD/state
    background pawl bench exec -n 10000
    wait_until 'compgen -G "$PWD/.pawl-bench*/state.*/journal"' 30
    kill -INT $!
    expect_end 5 $!
    nothing_is_left
    ! grep 'go on' background.err || fail 'it says how to go on with what is not there any more'
}

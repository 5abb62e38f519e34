#!/usr/bin/env bash
# peers.sh - the same batch of processes, and the same events, on pawl and on those of its peers that are installed.
#
#   bash bench/peers.sh PATH_TO_PAWL PATH_TO_PEERS_BUS        TASKS=2000 SLOTS=$(nproc) ROUNDS=3
#                                                             EVENTS=200000 RATE=10000 ONLY=exec|bus
#
# Processes: each runs TASKS times /bin/true with SLOTS at a time, its output captured where the peer does that. pawl records
# every result on disk and syncs it; the others record nothing (GNU parallel: a joblog, unsynced). Median of ROUNDS.
#
# Events: one publisher, one queue, one consumer, each a process; 100 bytes; published, delivered, acknowledged,
# removed, every one counted. Redis gets EVENTS of them, slower peers fewer (beanstalkd that syncs each: a fortieth),
# pawl ten times as many, since it would be done before it has begun. Then RATE a second for latency. Servers are
# started for each run, in a directory of their own, and ended; those that the system runs are left alone.
set -euo pipefail

# Servers are in sbin. Debian's rabbitmq-server there is a wrapper that becomes another user; this is what it runs.
PATH=/usr/lib/rabbitmq/bin:$PATH:/usr/local/sbin:/usr/sbin:/sbin

pawl=$(realpath "$1")
peers_bus=$(realpath "$2")
tasks=${TASKS:-2000}
slots=${SLOTS:-$(nproc)}
rounds=${ROUNDS:-3}
events=${EVENTS:-200000}
event_rate=${RATE:-10000}
only=${ONLY:-exec bus}
# Beside the tree rather than under /tmp, which may be memory.
scratch=$(mktemp -d "$PWD/build/bench.XXXXXX")
trap 'rm -rf "$scratch"' EXIT
cd "$scratch"

seq 1 "$tasks" >numbers
printf 'all:%s\n' "$(seq -f ' t%.0f' 1 "$tasks" | tr -d '\n')" >Makefile
printf '\nt%%:\n\t@/bin/true\n' >>Makefile
{
    printf 'rule t\n  command = /bin/true\n'
    seq -f 'build t%.0f: t' 1 "$tasks"
} >build.ninja
{
    printf 'pawl: 1\nsteps:\n  list: {run: [cat, numbers], output: lines}\n'
    # shellcheck disable=SC2016
    printf '  each: {needs: [list], foreach: "${{ steps.list.output }}", run: [/bin/true]}\n'
} >flow.yaml

run_pawl_map() { PAWL_STATE=$(mktemp -d state.XXXXXX) "$pawl" map -j "$slots" --progress=none /bin/true '{#}' <numbers; }
run_pawl_run() { PAWL_STATE=$(mktemp -d state.XXXXXX) "$pawl" run -j "$slots" --progress=none flow.yaml; }
run_xargs() { xargs -P "$slots" -n 1 /bin/true <numbers; }
run_make() { make -s -j "$slots"; }
run_ninja() { ninja -j "$slots"; }
run_xjobs() { xjobs -j "$slots" -v 0 /bin/true <numbers; }
run_parallel() { parallel --will-cite -j "$slots" --joblog log /bin/true <numbers; }

# Tasks a second, the median of the rounds.
rate() {
    local before after
    for _ in $(seq "$rounds"); do
        before=$(date +%s%N)
        "run_$1" >/dev/null 2>&1 </dev/null || {
            echo "$1 failed" >&2
            return 1
        }
        after=$(date +%s%N)
        echo $((tasks * 1000000000 / (after - before)))
    done | sort -n | sed -n "$(((rounds + 1) / 2))p"
}

bench_exec() {
    echo "$tasks times /bin/true, $slots at a time; $(uname -sr), $(nproc) cores, $(findmnt -no FSTYPE -T . 2>/dev/null || echo '?') below"
    printf '%-14s %10s %18s\n' what 'tasks/s' 'pawl map is times'
    local base peer speed
    base=$(rate pawl_map)
    printf '%-14s %10d\n' 'pawl map' "$base"
    printf '%-14s %10d %18s\n' 'pawl run' "$(rate pawl_run)" ''
    for peer in xargs make ninja xjobs parallel; do
        if command -v "$peer" >/dev/null; then
            speed=$(rate "$peer")
            printf '%-14s %10d %18s\n' "$peer" "$speed" "$(awk -v a="$base" -v b="$speed" 'BEGIN { printf "%.2f", a / b }')"
        else
            printf '%-14s %10s\n' "$peer" 'not installed'
        fi
    done
}

# ---- events ----

# "events/s CPU-seconds-a-million p50-us p99-us" of one run: NAME MODE EVENTS RATE.
run_bus() {
    local directory
    directory=$(mktemp -d bus.XXXXXX)
    if [ "$1" = pawl ]; then
        "$pawl" bench bus --durability "$2" --events "$3" ${4:+--rate "$4"} --payload 100 --json |
            awk -v RS='[,{]' -F: '{ gsub(/"/, "", $1); v[$1] = $2 }
                END { printf "%.0f %.2f %.1f %.1f\n", v["per_second"], v["cpu_seconds_per_million"],
                             v["p50_ns"] / 1000, v["p99_ns"] / 1000 }'
    else
        "$peers_bus" "$1-$2" "$3" 100 "${4:-0}" "$PWD/$directory"
    fi
    rm -rf "$directory"
}

# The round whose rate is the median. At a rate the one whose p50 is.
median_bus() {
    local key=1
    [ -z "${4:-}" ] || key=3
    for _ in $(seq "$rounds"); do run_bus "$@"; done | sort -n -k "$key,$key" | sed -n "$(((rounds + 1) / 2))p"
}

# Prints a row; the rate stays in $speed.
row_bus() {
    local name=$1 mode=$2 count=$3 base=$4 cpu ratio='' late p50 p99
    read -r speed cpu _ < <(median_bus "$name" "$mode" "$count")
    read -r late _ p50 p99 < <(median_bus "$name" "$mode" "$((event_rate * 2))" "$event_rate")
    # Behind its publisher the latency is that of a growing queue, and says nothing.
    [ "$((late * 20))" -ge "$((event_rate * 19))" ] || p50=- p99=-
    [ -z "$base" ] || ratio=$(awk -v a="$base" -v b="$speed" 'BEGIN { printf "%.1f", a / b }')
    printf '%-22s %10d %8s %12s %10s %10s\n' "$name $mode" "$speed" "$ratio" "$cpu" "$p50" "$p99"
}

# A table: TITLE, pawl's mode, then NAME MODE EVENTS of each peer.
table_bus() {
    local base speed=0
    printf '\n%-22s %10s %8s %12s %10s %10s\n' "$1" 'events/s' 'pawl is' 'CPU s/mill.' 'p50 us' 'p99 us'
    row_bus pawl "$2" "$((events * 10))" ''
    base=$speed
    shift 2
    while [ $# -gt 0 ]; do
        if has_peer "$1-$2" && command -v "$(server_of "$1")" >/dev/null; then
            row_bus "$1" "$2" "$3" "$base"
        else
            printf '%-22s %10s\n' "$1 $2" 'not installed'
        fi
        shift 3
    done
}

# The program was built with its client library, if there is one.
has_peer() { "$peers_bus" --list | awk -v name="$1" '$0 == name { found = 1 } END { exit !found }'; }

server_of() {
    case $1 in
    redis | nats | rabbitmq) echo "$1-server" ;;
    *) echo "$1" ;;
    esac
}

bench_bus() {
    echo "$events events of 100 bytes, publish, deliver, ack; latency at $event_rate/s; load $(cut -d' ' -f1 /proc/loadavg)"
    table_bus 'in memory' memory redis memory "$events" nats memory "$((events / 2))" \
        rabbitmq memory "$((events / 2))" beanstalkd memory "$((events / 2))"
    table_bus 'synced soon' async redis everysec "$events" nats file "$((events / 2))" beanstalkd 50ms "$((events / 4))"
    table_bus 'synced, then confirmed' fsync redis always "$events" rabbitmq quorum "$((events / 4))" \
        beanstalkd always "$((events / 40))"
}

case $only in *exec*) bench_exec ;; esac
case $only in *bus*) bench_bus ;; esac

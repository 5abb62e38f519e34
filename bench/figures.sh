#!/usr/bin/env bash
# figures.sh - the figures of docs/performance.md about the event bus: median, then least and most of ROUNDS.
#
#   bash bench/figures.sh PATH_TO_PAWL [PATH_TO_PYTHON_PACKAGE]      ROUNDS=5
#
# Rounds are taken in turn, one of everything and then the next, so that a busy minute does not fall on one figure
# alone. The load beside each line is the least and the most at which it was taken. About four minutes on an idle
# machine of 2 cores. The memory of 10,000,000 waiting events and the peers (make bench-peers) are not in it.
set -euo pipefail

pawl=$(realpath "$1")
package=${2:+$(realpath "$2")}
rounds=${ROUNDS:-5}
here=$(cd "$(dirname "$0")" && pwd)
scratch=$(mktemp -d "${TMPDIR:-/var/tmp}/pawl-figures.XXXXXX")
serve=
python=
# shellcheck disable=SC2329  # run by the trap
clean_up() {
    [ -z "$python" ] || kill "$python" 2>/dev/null || true
    [ -z "$serve" ] || { kill "$serve" 2>/dev/null && wait "$serve"; } || true
    rm -rf "$scratch"
}
trap clean_up EXIT
cd "$scratch"

# take NAME ARGUMENTS...: one run of `pawl bench bus`, appended to what is known of NAME.
take() {
    local name=$1
    shift
    "$pawl" bench bus --json "$@" >>"$name.json" 2>"$name.err" || {
        echo "figures: $name failed: $(tail -n 1 "$name.err")" >&2
        echo "$name" >>failed
    }
}

take_python() {
    PATH="$(dirname "$pawl"):$PATH" PYTHONPATH="$package" /usr/bin/python3 "$here/python_bus.py" --json \
        --events 100000 >>python.json 2>python.err || {
        echo "figures: the Python binding failed: $(tail -n 1 python.err)" >&2
        echo python >>failed
    }
}

# show WORDS FILE FILTER UNIT: the median of a number of each run, the least, the most, and the loads.
show() {
    [ -s "$2" ] || return 0
    jq -rs --arg words "$1" --arg unit "$4" "
        [.[] | select($3 != null)] | select(length > 0) | [.[].machine.load] as \$loads
        | [.[] | $3] | sort
        | def round2: (. * 100 | round) / 100;
          def shown: if . >= 1000 then round else round2 end;
          [\$words, (.[(length / 2 | floor)] | shown), (.[0] | shown), (.[-1] | shown), length, \$unit,
           (\$loads | min | round), (\$loads | max | round)]
        | @tsv" "$2" | while IFS=$'\t' read -r words median least most count unit low high; do
        printf '%-52s %10s  (%s to %s, %s runs) %s, load %s to %s\n' \
            "$words" "$median" "$least" "$most" "$count" "$unit" "$low" "$high"
    done
}

# Voluntary context switches of the processes given: of their own threads, and of the kernel's that io_uring has lent
# them (iou-wrk-PID). The last such thread, once there was something to sync, stays and looks for more every 5 seconds
# until the ring is closed; no process is woken by that.
switches() {
    local pid
    for pid in "$@"; do
        cat /proc/"$pid"/task/*/status
    done | awk '/^Name:/ { lent = $2 ~ /^iou-wrk/ }
        /^voluntary_ctxt_switches/ { if (lent) kernel += $2; else own += $2 }
        END { print own + 0, kernel + 0 }'
}

# What wakes up in ten seconds while nothing happens: server, scheduler and a consumer that waits.
idle() {
    [ -n "$package" ] || return 0
    local state=$scratch/idle pids own kernel own_after kernel_after
    "$pawl" serve --state "$state" 2>idle.err &
    serve=$!
    PYTHONPATH="$package" /usr/bin/python3 -c '
import sys, time, pawl
for _ in range(100):
    try:
        client = pawl.connect(sys.argv[1])
        break
    except pawl.Error:
        time.sleep(0.1)
client.declare("idle", "idle")
client.consume("idle").claim(1, None)' "$state" &
    python=$!
    sleep 5
    mapfile -t pids < <("$pawl" health --state "$state" --json |
        jq -r '.processes[] | select(.role == "supervisor" or .role == "scheduler") | .pid')
    sleep 3 # what that asked for is over
    read -r own kernel < <(switches "${pids[@]}" "$python")
    sleep 10
    read -r own_after kernel_after < <(switches "${pids[@]}" "$python")
    printf '%-52s %10s  in 10 s, of %s processes\n' 'wake-ups when idle' $((own_after - own)) $((${#pids[@]} + 1))
    printf '%-52s %10s  in 10 s\n' "    of the kernel's threads for io_uring" $((kernel_after - kernel))
    kill "$python" 2>/dev/null || true
    python=
    kill "$serve" 2>/dev/null || true
    wait "$serve" || true
    serve=
}

echo "$(uname -srm), $(nproc) cores, $(findmnt -no FSTYPE -T . 2>/dev/null || echo '?'), load $(cut -d' ' -f1 /proc/loadavg)"
for _ in $(seq "$rounds"); do
    take memory --durability memory
    take fsync --durability fsync
    take two --durability memory --workers 2
    take rate_memory --durability memory --rate 10000 --events 40000
    take rate_fsync --durability fsync --rate 10000 --events 40000
    [ -z "$package" ] || take_python
done
show 'in memory' memory.json .per_second 'events/s'
show '    all processes' memory.json .cpu_seconds_per_million 'CPU s/million'
show '    floor: a bare ring' memory.json .floor_per_second 'events/s'
show 'fsync' fsync.json .per_second 'events/s'
show '    all processes' fsync.json .cpu_seconds_per_million 'CPU s/million'
show '    peak of the scheduler' fsync.json '(.rss_bytes / 1048576)' 'MiB'
show 'two consumers, in memory' two.json .per_second 'events/s'
show '    all processes' two.json .cpu_seconds_per_million 'CPU s/million'
show '10,000/s in memory, p50' rate_memory.json '(.p50_ns / 1000)' 'us'
show '    p99' rate_memory.json '(.p99_ns / 1000)' 'us'
show '    floor: waking an idle processor, p50' rate_memory.json '(.wake_p50_ns / 1000)' 'us'
show '    floor: waking an idle processor, p99' rate_memory.json '(.wake_p99_ns / 1000)' 'us'
show '    floor: the same way, and nothing else on it, p50' rate_memory.json '(.path_p50_ns / 1000)' 'us'
show '    floor: the same, p99' rate_memory.json '(.path_p99_ns / 1000)' 'us'
show '    waking where the kernel likes, p50' rate_memory.json '(.wake_anywhere_p50_ns / 1000)' 'us'
show '    all processes' rate_memory.json .cpu_seconds_per_million 'CPU s/million'
show '10,000/s with fsync, p50' rate_fsync.json '(.p50_ns / 1000)' 'us'
show '    p99' rate_fsync.json '(.p99_ns / 1000)' 'us'
show '    floor: one device sync, p50' rate_fsync.json '(.sync_p50_ns / 1000)' 'us'
show '    floor: one device sync, p99' rate_fsync.json '(.sync_p99_ns / 1000)' 'us'
show '    floor: the same way, and nothing else on it, p50' rate_fsync.json '(.path_p50_ns / 1000)' 'us'
show '    floor: the same, p99' rate_fsync.json '(.path_p99_ns / 1000)' 'us'
show '    all processes' rate_fsync.json .cpu_seconds_per_million 'CPU s/million'
for what in plain asyncio; do
    for way in publish consume; do
        [ -z "$package" ] || jq -c "select(.bench == \"$what\" and .way == \"$way\")" python.json >"$what.$way.json"
        show "Python, $what, $way" "$what.$way.json" .per_second 'events/s' 2>/dev/null || true
    done
done
idle
echo "load now $(cut -d' ' -f1 /proc/loadavg)"
[ ! -e failed ] || exit 1

#!/usr/bin/env bash
# run.sh - how quick pawl is at what people do with it, beside what the machine can do at best.
#
#   bash bench/run.sh PATH_TO_PAWL        TASKS=5000 SLOTS=$(nproc) ROUNDS=3
#
# Medians of ROUNDS. A figure without this machine's line above it says nothing. Everything is recorded and synced.
set -euo pipefail

pawl=$(realpath "$1")
tasks=${TASKS:-5000}
slots=${SLOTS:-$(nproc)}
rounds=${ROUNDS:-3}
scratch=$(mktemp -d "$PWD/build/bench.XXXXXX")
trap 'rm -rf "$scratch"' EXIT
cd "$scratch"

cat >one.yaml <<'YAML'
pawl: 1
steps: {one: {use: noop}}
YAML
cat >flow.yaml <<YAML
pawl: 1
steps:
  list: {shell: 'seq 1 $((tasks * 10))', output: lines}
  each: {needs: [list], foreach: "\${{ steps.list.output }}", use: noop}
  end: {needs: [each], use: noop}
YAML
seq 1 "$tasks" >numbers

fresh_state() {
    PAWL_STATE=$(mktemp -d "$scratch/state.XXXXXX")
    export PAWL_STATE
}

# Milliseconds of a command, the median of the rounds, each in a state directory of its own.
median_ms() {
    local before after
    for _ in $(seq "$rounds"); do
        fresh_state
        before=$(date +%s%N)
        "$@" >/dev/null 2>"$scratch/err" </dev/null || {
            cat "$scratch/err" >&2
            echo "bench: failed: $*" >&2
            return 1
        }
        after=$(date +%s%N)
        echo $(((after - before) / 1000000))
    done | sort -n | sed -n "$(((rounds + 1) / 2))p"
}

line() { printf '%-52s %10s %s\n' "$@"; }
per_second() { echo $(($1 * 1000 / ($2 > 0 ? $2 : 1))); }

sync_floor() { dd if=/dev/zero of=floor bs=4096 count=200 oflag=dsync status=none && rm floor; }
spawn_floor() { xargs -P "$slots" -n 1 /bin/true <numbers; }
map_tasks() { "$pawl" map -j "$slots" --progress=none -a numbers /bin/true; }
flow_steps() { "$pawl" run -j "$slots" --progress=none flow.yaml; }
one_step() { "$pawl" run --progress=none one.yaml; }

echo "$(uname -srm), $(nproc) cores, $(findmnt -no FSTYPE -T . 2>/dev/null || echo '?'), $slots slots, median of $rounds"
line 'a run of one no-op step, from nothing' "$(median_ms one_step)" 'ms'
line "processes: pawl map /bin/true, $tasks tasks" "$(per_second "$tasks" "$(median_ms map_tasks)")" 'tasks/s'
line '    beside it: xargs -P, which records nothing' "$(per_second "$tasks" "$(median_ms spawn_floor)")" 'tasks/s'
line "flow: $((tasks * 10)) no-op steps" "$(per_second $((tasks * 10)) "$(median_ms flow_steps)")" 'steps/s'
bus() { "$pawl" bench bus --json "$@" | jq -r '.per_second | floor'; }
latency() { "$pawl" bench bus --rate 10000 --events 30000 --json "$@" | jq -r '"\(.p50_ns / 1000 | floor) \(.p99_ns / 1000 | floor)"'; }
line 'event bus: memory, publish to ack' "$(bus --durability memory)" 'events/s'
line 'event bus: fsync, publish to ack' "$(bus)" 'events/s'
line '    p50, p99 at 10,000 a second: memory' "$(latency --durability memory)" 'us'
line '    p50, p99 at 10,000 a second: fsync' "$(latency)" 'us'
line 'this disk: 4 KiB made durable, one by one' "$(per_second 200 "$(median_ms sync_floor)")" 'syncs/s'

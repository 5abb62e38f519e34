#!/usr/bin/env bash
# peers.sh - the same batch of processes on pawl and on those of its peers that are installed.
#
#   bash bench/peers.sh PATH_TO_PAWL        TASKS=2000 SLOTS=$(nproc) ROUNDS=3
#
# Each runs TASKS times /bin/true with SLOTS at a time, its output captured where the peer does that. pawl records
# every result on disk and syncs it; the others record nothing (GNU parallel: a joblog, unsynced). Median of ROUNDS.
set -euo pipefail

pawl=$(realpath "$1")
tasks=${TASKS:-2000}
slots=${SLOTS:-$(nproc)}
rounds=${ROUNDS:-3}
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

echo "$tasks times /bin/true, $slots at a time; $(uname -sr), $(nproc) cores, $(findmnt -no FSTYPE -T . 2>/dev/null || echo '?') below"
printf '%-14s %10s %18s\n' what 'tasks/s' 'pawl map is times'
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

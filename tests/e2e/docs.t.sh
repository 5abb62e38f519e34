# docs.t.sh - what the documents tell people to type works: commands as pasted, verbs and flags as named, links.
# shellcheck disable=SC2016  # expansions in quotes are for the documents' shell

DOCS="README.md docs/bus.md docs/guarantees.md docs/coming-from.md docs/c-api.md docs/observability.md docs/architecture.md docs/glossary.md docs/operations.md"

# commands FILE: what is in its fenced blocks of shell.
commands() { awk '/^```sh$/ { on = 1; next } /^```/ { on = 0 } on' "$E2E_TOP/$1"; }

# paste FILE: its commands one after the other, in a fresh directory, by a shell that finds pawl as they call it. The
# first that fails ends it. What a document leaves serving is asked to stop.
paste() {
    mkdir bin
    ln -s "$PAWL" bin/pawl
    {
        echo 'trap '\''kill $(jobs -p) 2>/dev/null || true; wait'\'' EXIT'
        commands "$1"
    } >pasted.sh
    grep -q '^pawl ' pasted.sh || fail "no commands in $1"
    expect_exit 0 env -u PAWL_STATE PATH="$T/bin:$PATH" bash -e pasted.sh
}

test_the_demo_of_the_readme_runs_as_pasted() {
    paste README.md
    expect_contains '{"id": 7} came as order.new, attempt 1'
}

test_the_commands_of_the_page_about_the_bus_run_in_order() {
    paste docs/bus.md
    expect_match '^7$'
    expect_match '^billing +'
}

test_a_state_directory_is_backed_up_and_moved_as_the_page_about_operations_does_it() {
    paste docs/operations.md
    expect_contains 'closed cleanly'
    expect_match '^orders +active +1 '
}

# calls FILE...: "VERB [SUBVERB] FLAG..." of every `pawl ...` that is named in running text, one a line.
calls() {
    local file
    for file; do
        grep -o '`pawl [^`]*`' "$E2E_TOP/$file" || true # a page may name none
    done | sed 's/^`pawl //; s/`$//; s/[\\|]//g' | sort -u
}

test_every_verb_and_flag_that_a_page_names_is_one() {
    local call verb flag found=0
    # shellcheck disable=SC2086
    calls $DOCS >named.txt
    while read -r call; do
        # shellcheck disable=SC2086
        set -- $call
        verb=$1
        case "$verb" in
        queue | dlq | group | journal | config)
            case "${2-}" in '' | [A-Z.]* | -*) ;; *) verb="$verb ${2%,}" ;; esac
            ;;
        esac
        # shellcheck disable=SC2086
        pawl help $verb >help.txt 2>/dev/null || fail "no such verb: pawl $verb (in: pawl $call)"
        # What follows --exec is somebody else's.
        for flag in $(echo "${call%%--exec *}" | grep -oE -- '--[a-z][a-z-]*' || true); do
            found=$((found + 1))
            grep -qF -e "$flag" help.txt || fail "pawl help $verb knows no $flag (in: pawl $call)"
        done
    done <named.txt
    [ "$found" -ge 10 ] || fail "only $found flags were looked at"
}

test_every_page_that_a_page_leads_to_is_there() {
    local file link
    for file in "$E2E_TOP"/*.md "$E2E_TOP"/docs/*.md; do
        for link in $(grep -oE '\]\([^)#:]+' "$file" | cut -c3- || true); do
            [ -e "$(dirname "$file")/$link" ] || fail "$file leads to $link"
        done
    done
}

# Flags that stand alone in a table are of some verb; after another program's name they are that one's.
test_every_flag_that_a_page_names_alone_is_one() {
    local flag found=0
    {
        for verb in $(pawl help | awk '/^  [a-z]/ { print $1 }'); do pawl help "$verb"; done
        for what in declare list show pause resume purge delete; do pawl help queue "$what"; done
        for what in list show redrive purge; do pawl help dlq "$what"; done
        for what in create commit seek lag; do pawl help group "$what"; done
    } >help.txt 2>/dev/null || true
    for flag in $(grep -ohE '`--[a-z][a-z-]*' "$E2E_TOP/docs/coming-from.md" "$E2E_TOP/docs/guarantees.md" "$E2E_TOP/docs/bus.md" | tr -d '`' | sort -u); do
        found=$((found + 1))
        case $flag in
        --pipe | --sshlogin | --describe) continue ;;
        esac
        grep -qE -e "(^|[^a-z-])$flag([^a-z-]|$)" help.txt || fail "no verb knows $flag"
    done
    [ "$found" -ge 20 ] || fail "only $found flags were looked at"
}

test_every_function_that_a_page_names_is_one_of_the_header() {
    local name found=0
    for name in $(grep -ohE 'pawl_[a-z_]+\(\)' "$E2E_TOP"/docs/*.md "$E2E_TOP"/README.md "$E2E_TOP"/docs/man/*.3.scd | tr -d '()' | sort -u); do
        grep -qE "^[^/]*\b$name\(" "$E2E_TOP/runtime/pawl.h" || { grep -rqE "\b$name\(" "$E2E_TOP/runtime/lib" "$E2E_TOP/scheduler" "$E2E_TOP/shm" "$E2E_TOP/workers" "$E2E_TOP/runtime" --include=*.h && continue; fail "there is no $name()"; }
        found=$((found + 1))
    done
    [ "$found" -ge 20 ] || fail "only $found functions were looked at"
}

# What the page gives as another system's call is done here by what stands beside it, with names for its capitals.
test_the_calls_of_the_mapping_page_work_with_names_in_their_places() {
    local call each tag=none done=0
    serve
    pawl queue declare q --topic a
    pawl queue declare s --stream --topic a --retain 1h
    pawl group create s g --from earliest
    seq 100 | pawl publish a --lines >/dev/null # enough for all that consume
    calls docs/coming-from.md | grep -E '[A-Z]' | grep -vE '^(consume --count|consume --peek$|extend TAG$|publish TOPIC$)' >calls.txt
    while read -r call; do
        for each in OFFSET earliest latest TIME; do
            case $call in
            *OFFSETearliest*) ;;
            *) [ "$each" = OFFSET ] || continue ;;
            esac
            case $call in
            *TAG*) tag=$(pawl consume q --count 1 --wait 2m | jq -r .delivery) ;;
            *NAME*) pawl queue delete made >/dev/null 2>&1 || true ;;
            esac
            eval "set -- $(echo "$call" | sed -e "s/OFFSETearliestlatestTIME/$each/" -e 's/\.\.\.//' -e 's/[][]//g' \
                -e "s/NAME/made/" -e "s/PATTERN/'p.*'/" -e 's/TOPIC/a/' -e 's/DATA/x/' -e 's/QUEUE/q/' -e 's/SEQ/1/' \
                -e "s/TAG/$tag/" -e 's/ S / s /; s/ S$/ s/' -e 's/ G / g /' -e 's/OFFSET/1/' -e 's/TIME/2026-01-31T12:00:00Z/' -e 's/ D$/ 1s/' \
                -e 's/--by t/--by 5s/' -e 's/--count n/--count 1/' -e 's/create s g/create s other/')"
            pawl "$@" </dev/null >said.txt 2>&1 || fail "pawl $* ($call): $(cat said.txt)"
            done=$((done + 1))
        done
    done <calls.txt
    [ "$done" -ge 14 ] || fail "only $done calls were made"
}

test_the_handlers_of_the_page_about_the_bus_are_served() {
    mkdir -m 700 state
    mkdir lib
    awk '/^```yaml$/ { on = 1; next } /^```/ { on = 0 } on' "$E2E_TOP/docs/bus.md" >handlers.yaml
    grep -q '^handlers:' handlers.yaml
    sed "s|/usr/bin/bill|$T/bill|; s|lib/orders.so|$T/lib/orders.so|" handlers.yaml >state/pawl.yaml
    printf '#!/bin/sh\ncat >>%s/billed\n' "$T" >bill
    chmod +x bill
    gcc -shared -fPIC -I"$E2E_TOP/runtime" -o lib/orders.so "$E2E_TOP/docs/examples/c/plugin.c"
    serve
    pawl queue declare orders --topic order.new
    pawl queue declare clicks --stream --topic click --retain 1h
    pawl group create clicks billing --from earliest
    pawl publish order.new full >/dev/null
    pawl publish order.new '' >/dev/null # the example rejects it
    pawl publish click one >/dev/null
    wait_until '[ "$(pawl queue show orders --json | jq -c "[.depth, .dlq_depth]")" = "[0,1]" ]'
    wait_until '[ "$(cat billed 2>/dev/null)" = one ]'
}

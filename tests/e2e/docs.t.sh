# docs.t.sh - what the documents tell people to type works: commands as pasted, verbs and flags as named, links.
# shellcheck disable=SC2016  # expansions in quotes are for the documents' shell

DOCS="README.md docs/bus.md docs/guarantees.md docs/coming-from.md docs/c-api.md docs/observability.md docs/architecture.md docs/glossary.md"

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

# examples.t.sh - the examples under docs/examples run as they stand, on this machine's own files.

test_word_count_counts_what_zcat_and_wc_count() {
    mkdir docs
    local i want
    for i in 1 2 3 4 5; do
        seq 1 $((i * 100)) | tr '\n' ' ' | gzip >"docs/with space $i.gz"
    done
    want=$(cat docs/*.gz | zcat | wc -w)
    expect_exit 0 pawl run "$EXAMPLES/word-count.yaml" --set dir="$T/docs"
    expect_exit 0 pawl logs last total
    expect_contains "$want"
    expect_eq "$(step_count failed)" 0
}

test_word_count_of_nothing_is_zero() {
    mkdir empty
    expect_exit 0 pawl run "$EXAMPLES/word-count.yaml" --set dir="$T/empty"
    expect_exit 0 pawl logs last total
    expect_match '(^|[^0-9])0 words'
}

test_build_example_builds_pawl_itself() {
    cd "$E2E_TOP"
    expect_exit 0 pawl run "$EXAMPLES/build-pawl.yaml" --set out="$T/scratch" --set cflags=-O0
    expect_exit 0 "$T/scratch/pawl" --version
    expect_stdout "$(pawl --version)"
}
slow test_build_example_builds_pawl_itself 300
once test_build_example_builds_pawl_itself # what takes its time is the compiler

test_build_example_compiles_only_the_rest_when_it_goes_on() {
    mkdir -p tree/runtime/cli
    cd tree
    local out="$T/two words"
    echo 'int main(void) { return 0; }' >runtime/cli/main.c
    echo 'int broken(void) { return }' >runtime/other.c
    expect_exit 1 pawl run --keep-going "$EXAMPLES/build-pawl.yaml" --set out="$out" --set libs=
    echo 'int mended(void); int mended(void) { return 0; }' >runtime/other.c
    expect_exit 0 pawl resume last
    expect_eq "$(pawl steps last --json | jq -rs 'map(select(.step == "compile")) | map(.attempts) | sort | join(" ")')" '1 2'
    "$out/pawl"
}

test_pipeline_recovers_at_a_later_attempt() {
    expect_exit 0 pawl run "$EXAMPLES/pipeline.yaml" --set out="$T/data"
    expect_eq "$(step_field load attempts)" 3
    expect_exit 0 pawl logs last load --attempt 1 --stderr
    expect_contains 'attempt 1'
    expect_exit 0 pawl logs last summary
    expect_contains 'station'
    expect_eq "$(run_state)" succeeded
}

slow test_the_demo_shows_the_total_and_leaves_nothing 180
once test_the_demo_shows_the_total_and_leaves_nothing # what takes its time are the machine's documents
test_the_demo_shows_the_total_and_leaves_nothing() {
    mkdir tmp
    cd "$E2E_TOP"
    TMPDIR=$T/tmp expect_exit 0 sh tests/demo.sh "$PAWL"
    expect_match '^[0-9]+ words in [0-9]+ documents$'
    expect_match 'state +succeeded'
    expect_eq "$(ls -A "$T/tmp")" ''
}

slow test_the_demo_finds_something_to_count_where_there_are_no_documents 180
once test_the_demo_finds_something_to_count_where_there_are_no_documents
test_the_demo_finds_something_to_count_where_there_are_no_documents() {
    mkdir tmp empty
    cd "$E2E_TOP"
    TMPDIR=$T/tmp expect_exit 0 sh tests/demo.sh "$PAWL" "$T/empty"
    expect_contains "There are no compressed documents under $T/empty"
    expect_match '^[0-9]{5,} words in [0-9]{3,} documents$'
    expect_match 'state +succeeded'
    expect_eq "$(ls -A "$T/tmp")" ''
}

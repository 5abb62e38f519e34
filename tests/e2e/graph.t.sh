# graph.t.sh - a workflow as a picture.

diamond() {
    write flow.yaml <<'YAML'
pawl: 1
name: diamond
steps:
  top: {run: [echo]}
  left: {run: [echo], needs: [top]}
  right: {run: [echo], needs: [top]}
  bottom: {run: [echo], needs: [left, right]}
YAML
}

test_ascii_is_the_default_and_names_every_step() {
    local step first
    diamond
    expect_exit 0 pawl graph flow.yaml
    first=$(stdout)
    for step in top left right bottom; do
        expect_contains "$step"
    done
    expect_exit 0 pawl graph flow.yaml --format ascii
    expect_stdout "$first"
}

test_dot_has_each_edge_once() {
    diamond
    expect_exit 0 pawl graph flow.yaml --format dot
    expect_match '^(strict )?digraph'
    expect_eq "$(grep -c -e '->' "$T/out")" 4
    expect_match '"?top"? -> "?left"?'
    expect_match '"?right"? -> "?bottom"?'
}

test_mermaid_has_each_edge_once() {
    diamond
    expect_exit 0 pawl graph flow.yaml --format mermaid
    expect_match '^(graph|flowchart) '
    expect_eq "$(grep -c -e '-->' "$T/out")" 4
}

test_json_is_one_document_with_a_schema_and_every_step() {
    local step
    diamond
    expect_exit 0 pawl graph flow.yaml --format json
    expect_json .schema 1
    for step in top left right bottom; do
        expect_json "[.. | strings] | index(\"$step\") != null" true
    done
}

test_unknown_format_is_wrong_usage() {
    diamond
    expect_exit 2 pawl graph flow.yaml --format png
    expect_stderr png
}

test_a_wrong_workflow_name_is_refused() {
    diamond
    expect_exit 0 pawl graph flow.yaml diamond
    capture pawl graph flow.yaml dimond
    [ "$rc" -ne 0 ] || fail 'exit 0'
    expect_stderr diamond
}

test_graph_starts_nothing() {
    diamond
    expect_exit 0 pawl graph flow.yaml
    [ ! -e "$PAWL_STATE" ] || fail 'a state directory was made'
}

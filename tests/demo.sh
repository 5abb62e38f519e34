#!/bin/sh
# demo.sh - the word-count example on this machine's own documents: the result, and what pawl says of the run.
#
#   sh tests/demo.sh PATH_TO_PAWL
set -eu
pawl=$1
PAWL_STATE=$(mktemp -d "${TMPDIR:-/tmp}/pawl-demo.XXXXXX")
export PAWL_STATE
trap 'rm -rf "$PAWL_STATE"' EXIT

show() {
    echo
    echo "\$ pawl $*"
    "$pawl" "$@"
}

echo "pawl counts the words of every compressed document under /usr/share/doc, one task a document."
show run docs/examples/word-count.yaml
show logs last total
show status

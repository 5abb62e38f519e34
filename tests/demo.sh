#!/bin/sh
# demo.sh - the word-count example on this machine's own documents: the result, and what pawl says of the run.
#
#   sh tests/demo.sh PATH_TO_PAWL [DIR]      DIR: where the documents are, /usr/share/doc unless told
set -eu
pawl=$1
documents=${2:-/usr/share/doc}
scratch=$(mktemp -d "${TMPDIR:-/tmp}/pawl-demo.XXXXXX")
export PAWL_STATE="$scratch/state"
# The scheduler may still be writing its last words when the last command has ended: its lock says when it is gone.
trap '[ ! -e "$PAWL_STATE/lock" ] || flock -w 60 "$PAWL_STATE/lock" true || true; rm -rf "$scratch"' EXIT

show() {
    echo
    echo "\$ pawl $*"
    "$pawl" "$@"
}

if [ -n "$(find "$documents" -type f -name '*.gz' -print -quit 2>/dev/null)" ]; then
    set -- # the workflow's own choice, unless told
    [ "$documents" = /usr/share/doc ] || set -- --set "dir=$documents"
    echo "pawl counts the words of every compressed document under $documents, one task a document."
else
    # Small images of systems have none.
    mkdir "$scratch/documents"
    find README.md docs runtime scheduler shm workers -type f | while read -r file; do
        gzip -c <"$file" >"$scratch/documents/$(echo "$file" | tr / -).gz"
    done
    set -- --set "dir=$scratch/documents"
    echo "There are no compressed documents under $documents: pawl counts the words of its own pages and sources, one task a file."
fi
show run docs/examples/word-count.yaml "$@"
show logs last total
show status

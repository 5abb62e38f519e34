#!/bin/sh
# bootstrap.sh - have the Debian packages that the named sets of work need, install what is missing.
#
#   sh tests/bootstrap.sh [--list] SET...        sets: build test docs lint fuzz python peers
#
# peers is for `make bench-peers` alone, which starts servers itself: the services of those that this installs are stopped
# and disabled.
#
# Costs one dpkg-query when everything is there. PAWL_BOOTSTRAP=no skips it: you have the libraries some other way.
set -eu

BUILD='gcc libc6-dev make liburing-dev libfyaml-dev libjansson-dev libxxhash-dev libjemalloc-dev libmicrohttpd-dev libncurses-dev'
TEST='g++ libcriterion-dev jq procps parallel pkg-config'
DOCS='scdoc'
LINT='clang-format-14 clang-tidy-14 cppcheck shellcheck zsh fish'
FUZZ='clang-14 libclang-rt-14-dev'
PYTHON='python3-dev python3-pip python3-venv python3-setuptools python3-wheel python3-pytest'
SERVERS='redis-server beanstalkd nats-server rabbitmq-server'
PEERS="$SERVERS libnats-dev librabbitmq-dev make ninja-build parallel xjobs"

list_only=no
packages=
for set in "$@"; do
    case $set in
    --list) list_only=yes ;;
    build) packages="$packages $BUILD" ;;
    test) packages="$packages $TEST" ;;
    docs) packages="$packages $DOCS" ;;
    lint) packages="$packages $LINT" ;;
    fuzz) packages="$packages $FUZZ" ;;
    python) packages="$packages $PYTHON" ;;
    peers) packages="$packages $PEERS" ;;
    *)
        echo "bootstrap: no set is called '$set' (build test docs lint fuzz python peers)" >&2
        exit 2
        ;;
    esac
done

if [ "$list_only" = yes ]; then
    # shellcheck disable=SC2086  # a list of words
    printf '%s\n' $packages
    exit 0
fi
[ "${PAWL_BOOTSTRAP:-yes}" != no ] || exit 0

if ! command -v dpkg-query >/dev/null 2>&1 || ! command -v apt-get >/dev/null 2>&1; then
    {
        echo "bootstrap: this is not a Debian system, so nothing can be installed for you. What is needed, by Debian's names:"
        echo "   $packages"
        echo "Install your system's equivalents, then say PAWL_BOOTSTRAP=no make ..."
    } >&2
    exit 1
fi

# shellcheck disable=SC2086
missing=$(dpkg-query -W -f '${db:Status-Status} ${Package}\n' $packages 2>/dev/null | {
    have=' '
    while read -r status name; do
        [ "$status" != installed ] || have="$have$name "
    done
    for name in $packages; do
        case $have in
        *" $name "*) ;;
        *) printf ' %s' "$name" ;;
        esac
    done
})
[ -n "$missing" ] || exit 0

as_root=
if [ "$(id -u)" -ne 0 ]; then
    # Asked for a command that does nothing, sudo says itself why it would refuse the others.
    if ! command -v sudo >/dev/null 2>&1 || ! sudo true; then
        {
            echo "bootstrap: packages are missing, and only root, or who may use sudo, can install them. As root:"
            echo "    apt-get update && apt-get install --no-install-recommends$missing"
            echo "Who has these libraries some other way says PAWL_BOOTSTRAP=no make ..."
        } >&2
        exit 1
    fi
    as_root='sudo'
fi

echo "bootstrap: installing$missing"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
apt() {
    # shellcheck disable=SC2086  # as_root is empty or one word
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=120 "$@" >"$log" 2>&1 </dev/null
}
# A list that is a little old usually still serves, so a failed update is only told when the install fails too. For apt
# itself it is a mere warning.
update_failed=no
apt -q -o APT::Update::Error-Mode=any update || update_failed=yes
# shellcheck disable=SC2086
if ! apt -q -y install --no-install-recommends $missing; then
    cat "$log" >&2
    [ "$update_failed" = no ] || echo "bootstrap: 'apt-get update' had failed before: is there a network?" >&2
    echo "bootstrap: could not install$missing" >&2
    exit 1
fi
for name in $SERVERS; do
    case "$missing " in
    *" $name "*)
        # Not all have been started: where nothing runs services, none.
        $as_root invoke-rc.d "$name" stop >"$log" 2>&1 || :
        $as_root update-rc.d "$name" disable >"$log" 2>&1 || echo "bootstrap: the service $name stays enabled" >&2
        ;;
    esac
done

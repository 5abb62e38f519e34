# bootstrap.t.sh - tests/bootstrap.sh on machines that are not this one: the programs that it asks are stand-ins.
# shellcheck disable=SC2016  # expansions in quotes are for the stand-ins

# machine UID [PACKAGE...]: its programs in $T/bin. It is somebody's with this uid, and has these packages.
machine() {
    local name
    mkdir -p bin
    for name in env mktemp rm cat; do
        ln -sf "$(command -v "$name")" "bin/$name"
    done
    stand_in id "echo $1"
    shift
    printf 'installed %s\n' "$@" >installed
    stand_in dpkg-query 'cat installed'
    stand_in apt-get 'echo "apt-get $*" >>calls; [ ! -e broken ] || { echo "E: no such host"; exit 100; }'
}
stand_in() { printf '#!/bin/sh\n%s\n' "$2" >"bin/$1" && chmod +x "bin/$1"; }
bootstrap() { PATH=$T/bin /bin/sh "$E2E_TOP/tests/bootstrap.sh" "$@"; }

test_what_is_there_is_not_installed_again() {
    # shellcheck disable=SC2046
    machine 0 $(sh "$E2E_TOP/tests/bootstrap.sh" --list build docs)
    expect_exit 0 bootstrap build docs
    expect_stdout ''
    [ ! -e calls ] || fail "it called $(cat calls)"
}

test_root_installs_what_is_missing_and_nothing_else() {
    # shellcheck disable=SC2046
    machine 0 $(sh "$E2E_TOP/tests/bootstrap.sh" --list build)
    expect_exit 0 bootstrap build docs
    expect_eq "$(tail -n 1 calls)" 'apt-get -o DPkg::Lock::Timeout=120 -q -y install --no-install-recommends scdoc'
}

test_without_root_or_sudo_the_command_for_root_is_said_whole() {
    machine 1000 gcc
    expect_exit 1 bootstrap docs
    expect_stderr '    apt-get update && apt-get install --no-install-recommends scdoc'
    [ ! -e calls ] || fail "it called $(cat calls)"
}

test_who_may_use_sudo_installs_by_it_and_who_may_not_is_told_so() {
    machine 1000 gcc
    stand_in sudo 'exec "$@"'
    stand_in true :
    expect_exit 0 bootstrap docs
    expect_eq "$(tail -n 1 calls)" 'apt-get -o DPkg::Lock::Timeout=120 -q -y install --no-install-recommends scdoc'
    rm calls
    stand_in sudo 'echo "somebody is not in the sudoers file." >&2; exit 1'
    expect_exit 1 bootstrap docs
    expect_stderr 'not in the sudoers file'
    expect_stderr '    apt-get update && apt-get install --no-install-recommends scdoc'
    [ ! -e calls ] || fail "it called $(cat calls)"
}

# A measurement starts a server of its own, and a system's service that was there before is not ours to end.
test_of_servers_that_are_installed_no_service_stays_and_those_that_were_there_are_left_alone() {
    local name
    # shellcheck disable=SC2046
    machine 0 $(sh "$E2E_TOP/tests/bootstrap.sh" --list peers | grep -v -e nats -e rabbitmq)
    for name in invoke-rc.d update-rc.d; do
        stand_in "$name" "echo \"$name \$*\" >>calls"
    done
    expect_exit 0 bootstrap peers
    expect_eq "$(grep -- -rc.d calls | sort)" "invoke-rc.d nats-server stop
invoke-rc.d rabbitmq-server stop
update-rc.d nats-server disable
update-rc.d rabbitmq-server disable"
}

test_an_install_that_fails_shows_what_apt_said() {
    machine 0 gcc
    touch broken
    expect_exit 1 bootstrap docs
    expect_stderr 'E: no such host'
    expect_stderr "'apt-get update' had failed before"
    expect_stderr 'could not install scdoc'
}

# apt-get update ends with 0 without a network, unless it is told what an error is.
test_an_install_that_fails_without_a_network_says_so() {
    machine 0 gcc
    stand_in apt-get 'case $* in *Error-Mode=any*update) exit 100 ;; *update) exit 0 ;; *) echo "E: no such host"; exit 100 ;; esac'
    expect_exit 1 bootstrap docs
    expect_stderr "'apt-get update' had failed before: is there a network?"
}

test_elsewhere_than_on_debian_the_list_is_printed_and_that_is_all() {
    machine 0
    rm bin/dpkg-query
    expect_exit 1 bootstrap build
    expect_stderr 'gcc libc6-dev make liburing-dev'
    expect_stderr 'PAWL_BOOTSTRAP=no'
    PAWL_BOOTSTRAP=no expect_exit 0 bootstrap build
    [ ! -e calls ] || fail "it called $(cat calls)"
}

test_the_readme_names_each_library_that_a_build_needs() {
    local name count=0
    for name in $(sh "$E2E_TOP/tests/bootstrap.sh" --list build | sed -n 's/^lib\(.*\)-dev$/\1/p' | grep -v '^c6$'); do
        sed -n '/headers of/,/^$/p' "$E2E_TOP/README.md" | grep -q "$name" || fail "README.md does not name $name"
        count=$((count + 1))
    done
    [ "$count" -ge 5 ] || fail "only $count libraries were found"
}

# Bash completion for pawl: verbs, flags, runs, steps, files. Needs no other package.
# shellcheck shell=bash

# Flags of a verb, read from its own help, so that they are never behind the tool.
_pawl_flags() {
    # shellcheck disable=SC2086  # "queue declare" is two words
    "$1" $2 --help 2>/dev/null | grep -oE -e '(^|[ ,[])--?[A-Za-z0-9][a-z-]*' | tr -d ' ,[' | sort -u
    echo --state --json --color --progress --help
}

_pawl_queues() {
    "$1" queue list --json 2>/dev/null | grep -oE '"name": ?"[^"]*"' | cut -d'"' -f4
}

_pawl_runs() {
    echo last
    "$1" runs --json 2>/dev/null | grep -oE '"run": ?"[^"]*"' | cut -d'"' -f4
}

# The names of a run's steps, each once; of a huge run those among the first lines.
_pawl_steps() {
    "$1" steps "$2" --json 2>/dev/null | head -n 5000 | grep -oE '"step": ?"[^"]*"' | cut -d'"' -f4 | sort -u
}

_pawl_offer() {
    local IFS=$'\n'
    # shellcheck disable=SC2207  # names have no white space, files are compgen's
    COMPREPLY=($(compgen "$@"))
}

_pawl() {
    local tool=${COMP_WORDS[0]} current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]}
    local verb='' operands=0 first='' i
    local verbs='run map check graph runs status steps logs why resume retry cancel wait serve queue publish consume ack nack reject extend dlq group metrics top gc doctor journal health config bench help'

    # The verb, and how many operands stand between it and the word being completed.
    for ((i = 1; i < COMP_CWORD; i++)); do
        case ${COMP_WORDS[i]} in
        --exec) return ;;
        --state | --color | --progress | --set | --inputs | --run-id | --filter | --item | --attempt | --timeout | \
            --format | --keep-runs | --older-than | --socket | --workers | --config | --header | --id | --delay | --ttl | \
            --priority | --durability | --group | --from | --count | --wait | --concurrency | --plugin | \
            --reason | --by | --to | \
            --topic | --ack-wait | --max-deliver | --backoff | --retry | --dlq | --max-depth | --max-bytes | --overflow | \
            --topic-overflow | --max-in-flight | --rate | --guarantee | --ordering-key | --retain | --breaker | \
            --unrouted-to | --over | --metrics | --interval | --sort | --grace | --jobs | --events | --seconds | --payload | \
            -j | -f) [ "$verb ${COMP_WORDS[i]}" = 'logs -f' ] || i=$((i + 1)) ;;
        -*) ;;
        *)
            if [ -z "$verb" ]; then
                verb=${COMP_WORDS[i]}
            else
                [ $operands -gt 0 ] || first=${COMP_WORDS[i]}
                operands=$((operands + 1))
            fi
            ;;
        esac
    done

    case $previous in
    --state) _pawl_offer -d -- "$current" && return ;;
    --color) _pawl_offer -W $'auto\nalways\nnever' -- "$current" && return ;;
    --progress) _pawl_offer -W $'auto\nnone\nplain\njson' -- "$current" && return ;;
    --format)
        case $verb in
        metrics) _pawl_offer -W $'prometheus\njson' -- "$current" ;;
        *) _pawl_offer -W $'ascii\ndot\nmermaid\njson' -- "$current" ;;
        esac
        return
        ;;
    --durability) _pawl_offer -W $'memory\nasync\nfsync' -- "$current" && return ;;
    --guarantee) _pawl_offer -W $'at_most_once\nat_least_once' -- "$current" && return ;;
    --overflow) _pawl_offer -W $'block\ndrop_newest\ndrop_oldest\nreject\ndead_letter' -- "$current" && return ;;
    --to | --dlq | --unrouted-to) _pawl_offer -W "$(_pawl_queues "$tool")" -- "$current" && return ;;
    --sort) _pawl_offer -W $'queue\ndepth\nready\nflight\nin\nout\nack\nnack\ndead\nstate\ncons' -- "$current" && return ;;
    --socket | --config | --plugin) _pawl_offer -f -- "$current" && return ;;
    --inputs | --results | --joblog) _pawl_offer -f -- "$current" && return ;;
    --filter)
        if [ "$verb" = dlq ]; then
            _pawl_offer -W "$(printf 'reason=%s\n' delivery-limit rejected expired overflow interrupted)" -- "$current"
            return
        fi
        _pawl_offer -W "$(printf 'state=%s\n' waiting ready running delayed succeeded failed skipped cancelled cached)" -- "$current"
        return
        ;;
    esac

    if [ -z "$verb" ]; then
        case $current in
        -*) _pawl_offer -W $'--state\n--help\n--version' -- "$current" ;;
        *) _pawl_offer -W "${verbs// /$'\n'}" -- "$current" ;;
        esac
        return
    fi
    case $current in
    -*)
        case $verb in
        queue | dlq | group) verb="$verb $first" ;;
        esac
        _pawl_offer -W "$(_pawl_flags "$tool" "$verb")" -- "$current"
        return
        ;;
    esac
    case $verb:$operands in
    status:0 | steps:0 | logs:0 | why:0 | resume:0 | retry:0 | cancel:0 | wait:0)
        _pawl_offer -W "$(_pawl_runs "$tool")" -- "$current"
        ;;
    logs:1 | why:1) _pawl_offer -W "$(_pawl_steps "$tool" "$first")" -- "$current" ;;
    queue:0) _pawl_offer -W $'declare\nlist\nshow\npause\nresume\npurge\ndelete' -- "$current" ;;
    dlq:0) _pawl_offer -W $'list\nshow\nredrive\npurge' -- "$current" ;;
    group:0) _pawl_offer -W $'create\ncommit\nseek\nlag\ndelete' -- "$current" ;;
    queue:1 | dlq:1 | group:1 | consume:0) _pawl_offer -W "$(_pawl_queues "$tool")" -- "$current" ;;
    config:0) _pawl_offer -W show -- "$current" ;;
    run:0 | check:* | graph:0) _pawl_offer -f -- "$current" ;;
    bench:0) _pawl_offer -W $'ring\njournal\nexec\nflow\nbus\nrecover' -- "$current" ;;
    journal:0) _pawl_offer -W $'verify\ndump' -- "$current" ;;
    journal:1) _pawl_offer -d -- "$current" ;;
    help:0) _pawl_offer -W "${verbs// /$'\n'}" -- "$current" ;;
    map:0) _pawl_offer -c -- "$current" ;;
    map:*) _pawl_offer -f -- "$current" ;;
    esac
}

complete -o filenames -F _pawl pawl

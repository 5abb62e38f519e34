#compdef pawl
# zsh completion for pawl: verbs, flags with their values, runs, steps, files.

_pawl_runs() {
    local -a runs
    runs=(last ${(f)"$(_call_program runs pawl runs --json 2>/dev/null | grep -oE '"run": ?"[^"]*"' | cut -d'"' -f4)"})
    _describe -t runs 'run' runs
}

_pawl_queues() {
    local -a queues
    queues=(${(f)"$(_call_program queues pawl queue list --json 2>/dev/null | grep -oE '"name": ?"[^"]*"' | cut -d'"' -f4)"})
    _describe -t queues 'queue' queues
}

_pawl_steps() {
    local -a steps
    steps=(${(f)"$(_call_program steps pawl steps ${line[1]:-last} --json 2>/dev/null | head -n 5000 |
        grep -oE '"step": ?"[^"]*"' | cut -d'"' -f4 | sort -u)"})
    _describe -t steps 'step' steps
}

_pawl_verbs() {
    local -a verbs
    verbs=(
        'run:run a workflow'
        'map:run a command for each argument'
        'check:name the mistakes of a workflow file'
        'graph:draw a workflow'
        'runs:list the runs'
        'status:one run at a glance'
        'steps:the steps of a run'
        'logs:what a step printed'
        'why:why a step is in its state'
        'resume:go on with a run'
        'retry:rerun failed steps'
        'cancel:end a run'
        'wait:wait for a run'
        'serve:own the state directory and serve'
        'queue:queues of the event bus'
        'publish:publish an event'
        'consume:deliveries of a queue'
        'ack:deliveries are done with'
        'nack:deliveries failed'
        'reject:deliveries become dead letters'
        'extend:more time to settle'
        'dlq:dead letters'
        'group:consumer groups of streams'
        'metrics:counters'
        'top:queues, live on a terminal'
        'config:the settings in force'
        'gc:remove what is no longer needed'
        'doctor:check the machine'
        'bench:measure pawl and the machine'
        'journal:read a journal'
        'health:is all well? parts and processes'
        'help:what there is'
    )
    _describe -t verbs 'verb' verbs
}

_pawl() {
    local curcontext=$curcontext state line
    local -a everywhere
    everywhere=(
        '--state[state directory]:directory:_files -/'
        '--json[report as JSON]'
        '--color[when to use colour]:when:(auto always never)'
        '--progress[how to tell what happens]:how:(auto none plain json)'
        '--help[flags and examples]'
    )
    local states='waiting ready running delayed succeeded failed skipped cancelled cached'

    _arguments -C $everywhere '--version[the version]' '1:verb:_pawl_verbs' '*::arguments:->verb' && return
    [[ $state == verb ]] || return

    curcontext="${curcontext%:*}-$words[1]:"
    case $words[1] in
    run)
        _arguments $everywhere '(-j --jobs)'{-j,--jobs}'[steps at a time]:number' '*--set[parameter]:K=V' \
            '--inputs[one run for each line]:file:_files' '--resume[go on where it was]' \
            '--keep-going=-[go on after failures]::number' '(-n --dry-run)'{-n,--dry-run}'[only say what would run]' \
            '--detach[do not wait]' '--run-id[name of the run]:name' \
            '1:workflow file:_files -g "*.(yaml|yml)"' '2:workflow'
        ;;
    map)
        _arguments $everywhere '-j[tasks at a time]:number' '(-k --keep-order)'{-k,--keep-order}'[in input order]' \
            '--tag[begin lines with the argument]' '--line-buffer[lines as they come]' '*-a[arguments from file]:file:_files' \
            '(-0 --null)'{-0,--null}'[arguments end with NUL]' '--colsep[columns]:regex' '--max-args[arguments of a task]:number' \
            '--shell[run by sh]' '--halt[when to stop]:when:(soon,fail=1 now,fail=1)' '--retries[tries]:number' \
            '--timeout[of a task]:duration' '--delay[between starts]:duration' '--load[at most]:load' \
            '--memfree[at least]:size' '--results[save outputs]:directory:_files -/' '--joblog[log of tasks]:file:_files' \
            '--resume[run only what has not succeeded]' '--new-only[print only what ran now]' \
            '(-n --dry-run)'{-n,--dry-run}'[only print commands]' '*::command:_normal'
        ;;
    serve)
        _arguments $everywhere '--socket[listen here as well]:path:_files' '--workers[slots of a run]:number' \
            '--metrics[answer HTTP here]:address' '--config[instead of pawl.yaml]:file:_files -g "*.(yaml|yml)"'
        ;;
    queue)
        _arguments $everywhere '*--topic[what it takes]:pattern' '--ack-wait[time to settle]:duration' \
            '--max-deliver[failures till dead]:number' '--backoff[waits]:backoff' '*--retry[rule of a cause]:rule' \
            '--dlq[dead letters]:queue:_pawl_queues' '--max-depth[events at most]:number' '--max-bytes[bytes at most]:size' \
            '--overflow[when full]:policy:(block drop_newest drop_oldest reject dead_letter)' \
            '*--topic-overflow[policy of a pattern]:pattern=policy' '--max-in-flight[unsettled at most]:number' \
            '--rate[deliveries]:rate' '--ttl[events expire]:duration' '--strict-attempts[count durably]' \
            '--guarantee[promise]:guarantee:(at_most_once at_least_once)' \
            '--durability[of confirms]:durability:(memory async fsync)' '--ordering-key[one at a time]:header' \
            '--stream[keep, for groups]' '*--retain[what a stream keeps]:duration or size' '--breaker[after failures]:breaker' \
            '--temporary[ends with its client]' '--unrouted[takes what none wants]' \
            '--unrouted-to[where that goes]:queue:_pawl_queues' \
            '1:what:(declare list show pause resume purge delete)' '2:queue:_pawl_queues'
        ;;
    publish)
        _arguments $everywhere '*--header[header]:K=V' '--id[key]:key' '--delay[deliver after]:duration' \
            '--ttl[expires after]:duration' '--priority[0 to 9]:number' '--lines[each line is an event]' \
            '--durability[of the confirm]:durability:(memory async fsync)' '--expect-routed[refuse what no queue wants]' \
            '1:topic' '2:data'
        ;;
    consume)
        _arguments $everywhere '--group[of a stream]:group' '--from[where it begins]:place:(earliest latest)' \
            '--peek[take nothing]' '--count[end after]:number' '--wait[end when idle for]:duration' \
            '--auto-ack[ack what was printed]' '--plugin[a handler in a shared object]:file:_files' '--concurrency[commands at a time]:number' \
            '--exec[run a command for each]:*::command:_normal' '1:queue:_pawl_queues'
        ;;
    ack) _arguments $everywhere '*:delivery' ;;
    nack) _arguments $everywhere '--delay[again after]:duration' '*:delivery' ;;
    reject) _arguments $everywhere '--reason[words]:text' '*:delivery' ;;
    extend) _arguments $everywhere '--by[from now]:duration' '*:delivery' ;;
    dlq)
        _arguments $everywhere '*--filter[only those]:filter:(reason=delivery-limit reason=rejected reason=expired reason=overflow reason=interrupted)' \
            '--to[redrive into]:queue:_pawl_queues' '--count[at most]:number' \
            '1:what:(list show redrive purge)' '2:queue:_pawl_queues' '*:number'
        ;;
    group)
        _arguments $everywhere '--from[where it begins]:place:(earliest latest)' \
            '1:what:(create commit seek lag delete)' '2:stream:_pawl_queues' '3:group' '4:place:(earliest latest)'
        ;;
    top)
        _arguments $everywhere '--once[print one look]' '--interval[between two looks]:duration' \
            '--sort[by this column]:column:(queue depth ready flight in out ack nack dead state cons)'
        ;;
    metrics) _arguments $everywhere '--format[form]:form:(prometheus json)' '--over[look for so long]:duration' ;;
    config)
        _arguments $everywhere '--origin[where values come from]' '--config[instead of pawl.yaml]:file:_files' '1:what:(show)'
        ;;
    check) _arguments $everywhere '*:workflow file:_files -g "*.(yaml|yml)"' ;;
    graph)
        _arguments $everywhere '(-f --format)'{-f,--format}'[form]:form:(ascii dot mermaid json)' \
            '1:workflow file:_files -g "*.(yaml|yml)"' '2:workflow'
        ;;
    status | resume) _arguments $everywhere '1:run:_pawl_runs' ;;
    cancel) _arguments $everywhere '--grace[between SIGTERM and SIGKILL]:duration' '1:run:_pawl_runs' ;;
    steps) _arguments $everywhere "--filter[only these]:filter:(state=${^=states})" '1:run:_pawl_runs' ;;
    retry) _arguments $everywhere '--filter[only these]:filter' '1:run:_pawl_runs' ;;
    wait) _arguments $everywhere '--timeout[at most]:duration' '1:run:_pawl_runs' ;;
    logs)
        _arguments $everywhere '--item[instance]:index' '--attempt[which]:number' '--stderr[standard error]' \
            '(-f --follow)'{-f,--follow}'[until the step has ended]' '1:run:_pawl_runs' '2:step:_pawl_steps'
        ;;
    why) _arguments $everywhere '1:run:_pawl_runs' '2:step:_pawl_steps' ;;
    gc) _arguments $everywhere '--keep-runs[newest]:number' '--older-than[age]:duration' ;;
    bench) _arguments $everywhere '(-n --events)'{-n,--events}'[how many]:number' '--seconds[how long]:seconds' \
            '--payload[of one record or event]:bytes' '--durability[bus]:durability:(memory async fsync)' '--rate[bus\: measures latency]:events a second' '(-j --workers)'{-j,--workers}'[slots]:number' '1:what:(ring journal exec flow bus recover)' ;;
    journal) _arguments $everywhere '1:what:(verify dump)' '2:directory:_files -/' ;;
    help) _arguments '1:verb:_pawl_verbs' ;;
    *) _arguments $everywhere ;;
    esac
}

_pawl "$@"

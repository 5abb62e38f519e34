# fish completion for pawl: verbs, flags, runs, steps, files.

set -l verbs run map check graph runs status steps logs why resume retry cancel wait serve queue publish consume ack nack reject extend dlq group metrics top gc doctor journal health config bench help
set -l takes_run status steps logs why resume retry cancel wait

function __pawl_runs
  echo last
  pawl runs --json 2>/dev/null | string match -ra '"run": ?"([^"]*)"' --groups-only
end

function __pawl_queues
  pawl queue list --json 2>/dev/null | string match -ra '"name": ?"([^"]*)"' --groups-only
end

function __pawl_steps
  set -l words (commandline -opc | string match -v -- '-*')
  pawl steps $words[3] --json 2>/dev/null | head -n 5000 | string match -r '"step": ?"([^"]*)"' --groups-only | sort -u
end

# How many words that are no flags stand before the one being completed?
function __pawl_words
  test (commandline -opc | string match -v -- '-*' | count) -eq $argv[1]
end

complete -c pawl -n "not __fish_seen_subcommand_from $verbs" -f
complete -c pawl -n "not __fish_seen_subcommand_from $verbs" -a run -d 'Run a workflow'
complete -c pawl -n "not __fish_seen_subcommand_from $verbs" -a map -d 'Run a command for each argument'
complete -c pawl -n "not __fish_seen_subcommand_from $verbs" -a check -d 'Name the mistakes of a workflow file'
complete -c pawl -n "not __fish_seen_subcommand_from $verbs" -a graph -d 'Draw a workflow'
complete -c pawl -n "not __fish_seen_subcommand_from $verbs" -a runs -d 'List the runs'
complete -c pawl -n "not __fish_seen_subcommand_from $verbs" -a status -d 'One run at a glance'
complete -c pawl -n "not __fish_seen_subcommand_from $verbs" -a steps -d 'The steps of a run'
complete -c pawl -n "not __fish_seen_subcommand_from $verbs" -a logs -d 'What a step printed'
complete -c pawl -n "not __fish_seen_subcommand_from $verbs" -a why -d 'Why a step is in its state'
complete -c pawl -n "not __fish_seen_subcommand_from $verbs" -a resume -d 'Go on with a run'
complete -c pawl -n "not __fish_seen_subcommand_from $verbs" -a retry -d 'Rerun failed steps'
complete -c pawl -n "not __fish_seen_subcommand_from $verbs" -a cancel -d 'End a run'
complete -c pawl -n "not __fish_seen_subcommand_from $verbs" -a wait -d 'Wait for a run'
complete -c pawl -n "not __fish_seen_subcommand_from $verbs" -a serve -d 'Own the state directory and serve'
complete -c pawl -n "not __fish_seen_subcommand_from $verbs" -a queue -d 'Queues of the event bus'
complete -c pawl -n "not __fish_seen_subcommand_from $verbs" -a publish -d 'Publish an event'
complete -c pawl -n "not __fish_seen_subcommand_from $verbs" -a consume -d 'Deliveries of a queue'
complete -c pawl -n "not __fish_seen_subcommand_from $verbs" -a ack -d 'Deliveries are done with'
complete -c pawl -n "not __fish_seen_subcommand_from $verbs" -a nack -d 'Deliveries failed'
complete -c pawl -n "not __fish_seen_subcommand_from $verbs" -a reject -d 'Deliveries become dead letters'
complete -c pawl -n "not __fish_seen_subcommand_from $verbs" -a extend -d 'More time to settle'
complete -c pawl -n "not __fish_seen_subcommand_from $verbs" -a dlq -d 'Dead letters'
complete -c pawl -n "not __fish_seen_subcommand_from $verbs" -a group -d 'Consumer groups of streams'
complete -c pawl -n "not __fish_seen_subcommand_from $verbs" -a metrics -d 'Counters'
complete -c pawl -n "not __fish_seen_subcommand_from $verbs" -a top -d 'Queues, live on a terminal'
complete -c pawl -n "not __fish_seen_subcommand_from $verbs" -a config -d 'The settings in force'
complete -c pawl -n "not __fish_seen_subcommand_from $verbs" -a gc -d 'Remove what is no longer needed'
complete -c pawl -n "not __fish_seen_subcommand_from $verbs" -a doctor -d 'Check the machine'
complete -c pawl -n "not __fish_seen_subcommand_from $verbs" -a bench -d 'Measure pawl and the machine'
complete -c pawl -n '__fish_seen_subcommand_from bench' -f -a 'ring journal exec flow'
complete -c pawl -n "not __fish_seen_subcommand_from $verbs" -a journal -d 'Read a journal'
complete -c pawl -n "not __fish_seen_subcommand_from $verbs" -a health -d 'Is all well? Parts and processes'
complete -c pawl -n "not __fish_seen_subcommand_from $verbs" -a help -d 'What there is'

complete -c pawl -l state -x -a '(__fish_complete_directories)' -d 'State directory'
complete -c pawl -l json -d 'Report as JSON'
complete -c pawl -l color -x -a 'auto always never' -d 'When to use colour'
complete -c pawl -l progress -x -a 'auto none plain json' -d 'How to tell what happens'
complete -c pawl -l help -d 'Flags and examples'
complete -c pawl -l version -d 'The version'

complete -c pawl -n "__fish_seen_subcommand_from $takes_run; and __pawl_words 2" -f -a '(__pawl_runs)'
complete -c pawl -n '__fish_seen_subcommand_from logs why; and __pawl_words 3' -f -a '(__pawl_steps)'
complete -c pawl -n '__fish_seen_subcommand_from queue; and __pawl_words 2' -f -a 'declare list show pause resume purge delete'
complete -c pawl -n '__fish_seen_subcommand_from dlq; and __pawl_words 2' -f -a 'list show redrive purge'
complete -c pawl -n '__fish_seen_subcommand_from group; and __pawl_words 2' -f -a 'create commit seek lag'
complete -c pawl -n '__fish_seen_subcommand_from queue dlq group; and __pawl_words 3' -f -a '(__pawl_queues)'
complete -c pawl -n '__fish_seen_subcommand_from consume; and __pawl_words 2' -f -a '(__pawl_queues)'
complete -c pawl -n '__fish_seen_subcommand_from config; and __pawl_words 2' -f -a show
complete -c pawl -n '__fish_seen_subcommand_from journal; and __pawl_words 2' -f -a 'verify dump'
complete -c pawl -n '__fish_seen_subcommand_from help' -f -a "$verbs"

complete -c pawl -n '__fish_seen_subcommand_from run' -s j -l jobs -x -d 'Steps at a time'
complete -c pawl -n '__fish_seen_subcommand_from run' -l set -x -d 'Parameter K=V'
complete -c pawl -n '__fish_seen_subcommand_from run' -l inputs -r -d 'One run for each line'
complete -c pawl -n '__fish_seen_subcommand_from run map' -l resume -d 'Go on where it was'
complete -c pawl -n '__fish_seen_subcommand_from run' -l keep-going -d 'Go on after failures'
complete -c pawl -n '__fish_seen_subcommand_from run map' -s n -l dry-run -d 'Only say what would run'
complete -c pawl -n '__fish_seen_subcommand_from run' -l detach -d 'Do not wait'
complete -c pawl -n '__fish_seen_subcommand_from run' -l run-id -x -d 'Name of the run'

complete -c pawl -n '__fish_seen_subcommand_from map' -s j -x -d 'Tasks at a time'
complete -c pawl -n '__fish_seen_subcommand_from map' -s k -l keep-order -d 'In input order'
complete -c pawl -n '__fish_seen_subcommand_from map' -l tag -d 'Begin lines with the argument'
complete -c pawl -n '__fish_seen_subcommand_from map' -l line-buffer -d 'Lines as they come'
complete -c pawl -n '__fish_seen_subcommand_from map' -s a -r -d 'Arguments from file'
complete -c pawl -n '__fish_seen_subcommand_from map' -s 0 -l null -d 'Arguments end with NUL'
complete -c pawl -n '__fish_seen_subcommand_from map' -l colsep -x -d 'Columns'
complete -c pawl -n '__fish_seen_subcommand_from map' -l max-args -x -d 'Arguments of a task'
complete -c pawl -n '__fish_seen_subcommand_from map' -l shell -d 'Run by sh'
complete -c pawl -n '__fish_seen_subcommand_from map' -l halt -x -a 'soon,fail=1 now,fail=1' -d 'When to stop'
complete -c pawl -n '__fish_seen_subcommand_from map' -l retries -x -d 'Tries of a task'
complete -c pawl -n '__fish_seen_subcommand_from map wait' -l timeout -x -d 'At most this long'
complete -c pawl -n '__fish_seen_subcommand_from map' -l delay -x -d 'Between two starts'
complete -c pawl -n '__fish_seen_subcommand_from map' -l load -x -d 'Start nothing above this load'
complete -c pawl -n '__fish_seen_subcommand_from map' -l memfree -x -d 'Start nothing below this'
complete -c pawl -n '__fish_seen_subcommand_from map' -l results -r -d 'Save outputs'
complete -c pawl -n '__fish_seen_subcommand_from map' -l joblog -r -d 'Log of tasks'
complete -c pawl -n '__fish_seen_subcommand_from map' -l new-only -d 'Print only what ran now'

complete -c pawl -n '__fish_seen_subcommand_from graph' -s f -l format -x -a 'ascii dot mermaid json' -d 'Form'
complete -c pawl -n '__fish_seen_subcommand_from steps retry' -l filter -x -a 'state=waiting state=ready state=running state=delayed state=succeeded state=failed state=skipped state=cancelled' -d 'Only these'
complete -c pawl -n '__fish_seen_subcommand_from logs' -l item -x -d 'Which instance'
complete -c pawl -n '__fish_seen_subcommand_from logs' -l attempt -x -d 'Which attempt'
complete -c pawl -n '__fish_seen_subcommand_from logs' -l stderr -d 'Standard error'
complete -c pawl -n '__fish_seen_subcommand_from logs' -s f -l follow -d 'Until the step has ended'
complete -c pawl -n '__fish_seen_subcommand_from gc' -l keep-runs -x -d 'Keep the newest'
complete -c pawl -n '__fish_seen_subcommand_from gc' -l older-than -x -d 'Only older ones'

complete -c pawl -n '__fish_seen_subcommand_from serve' -l socket -r -d 'Listen here as well'
complete -c pawl -n '__fish_seen_subcommand_from serve' -l workers -x -d 'Slots of a run'
complete -c pawl -n '__fish_seen_subcommand_from serve config' -l config -r -d 'Instead of pawl.yaml'
complete -c pawl -n '__fish_seen_subcommand_from config' -l origin -d 'Where values come from'
complete -c pawl -n '__fish_seen_subcommand_from queue' -l topic -x -d 'What it takes'
complete -c pawl -n '__fish_seen_subcommand_from queue' -l ack-wait -x -d 'Time to settle'
complete -c pawl -n '__fish_seen_subcommand_from queue' -l max-deliver -x -d 'Failures till dead'
complete -c pawl -n '__fish_seen_subcommand_from queue' -l backoff -x -d 'Waits between deliveries'
complete -c pawl -n '__fish_seen_subcommand_from queue' -l retry -x -d 'Rule of a cause'
complete -c pawl -n '__fish_seen_subcommand_from queue' -l dlq -x -a '(__pawl_queues)' -d 'Dead letters'
complete -c pawl -n '__fish_seen_subcommand_from queue' -l max-depth -x -d 'Events at most'
complete -c pawl -n '__fish_seen_subcommand_from queue' -l max-bytes -x -d 'Bytes at most'
complete -c pawl -n '__fish_seen_subcommand_from queue' -l overflow -x -a 'block drop_newest drop_oldest reject dead_letter' -d 'When full'
complete -c pawl -n '__fish_seen_subcommand_from queue' -l topic-overflow -x -d 'Policy of a pattern'
complete -c pawl -n '__fish_seen_subcommand_from queue' -l max-in-flight -x -d 'Unsettled at most'
complete -c pawl -n '__fish_seen_subcommand_from queue' -l rate -x -d 'Deliveries, N/D'
complete -c pawl -n '__fish_seen_subcommand_from queue publish' -l ttl -x -d 'Events expire'
complete -c pawl -n '__fish_seen_subcommand_from queue' -l strict-attempts -d 'Count durably'
complete -c pawl -n '__fish_seen_subcommand_from queue' -l guarantee -x -a 'at_most_once at_least_once' -d 'Promise'
complete -c pawl -n '__fish_seen_subcommand_from queue publish' -l durability -x -a 'memory async fsync' -d 'What a confirm means'
complete -c pawl -n '__fish_seen_subcommand_from queue' -l ordering-key -x -d 'One at a time of a key'
complete -c pawl -n '__fish_seen_subcommand_from queue' -l stream -d 'Keep, for groups'
complete -c pawl -n '__fish_seen_subcommand_from queue' -l retain -x -d 'What a stream keeps'
complete -c pawl -n '__fish_seen_subcommand_from queue' -l breaker -x -d 'After failures'
complete -c pawl -n '__fish_seen_subcommand_from queue' -l temporary -d 'Ends with its client'
complete -c pawl -n '__fish_seen_subcommand_from queue' -l unrouted -d 'Takes what none wants'
complete -c pawl -n '__fish_seen_subcommand_from queue' -l unrouted-to -x -a '(__pawl_queues)' -d 'Where that goes'
complete -c pawl -n '__fish_seen_subcommand_from publish' -l header -x -d 'Header K=V'
complete -c pawl -n '__fish_seen_subcommand_from publish' -l id -x -d 'Deduplication key'
complete -c pawl -n '__fish_seen_subcommand_from publish nack' -l delay -x -d 'Deliver after that'
complete -c pawl -n '__fish_seen_subcommand_from publish' -l priority -x -d '0 to 9'
complete -c pawl -n '__fish_seen_subcommand_from publish' -l lines -d 'Each line is an event'
complete -c pawl -n '__fish_seen_subcommand_from publish' -l expect-routed -d 'Refuse what no queue wants'
complete -c pawl -n '__fish_seen_subcommand_from consume' -l group -x -d 'Consumer group'
complete -c pawl -n '__fish_seen_subcommand_from consume group' -l from -x -a 'earliest latest' -d 'Where it begins'
complete -c pawl -n '__fish_seen_subcommand_from consume' -l peek -d 'Take nothing'
complete -c pawl -n '__fish_seen_subcommand_from consume dlq' -l count -x -d 'At most'
complete -c pawl -n '__fish_seen_subcommand_from consume' -l wait -x -d 'End when idle'
complete -c pawl -n '__fish_seen_subcommand_from consume' -l auto-ack -d 'Ack what was printed'
complete -c pawl -n '__fish_seen_subcommand_from consume' -l plugin -r -d 'A handler in a shared object'
complete -c pawl -n '__fish_seen_subcommand_from consume' -l concurrency -x -d 'Commands at a time'
complete -c pawl -n '__fish_seen_subcommand_from consume' -l exec -r -d 'Run a command for each'
complete -c pawl -n '__fish_seen_subcommand_from reject' -l reason -x -d 'Words that stay'
complete -c pawl -n '__fish_seen_subcommand_from extend' -l by -x -d 'From now'
complete -c pawl -n '__fish_seen_subcommand_from dlq' -l to -x -a '(__pawl_queues)' -d 'Redrive into'
complete -c pawl -n '__fish_seen_subcommand_from dlq' -l filter -x -a 'reason=delivery-limit reason=rejected reason=expired reason=overflow reason=interrupted' -d 'Only those'
complete -c pawl -n '__fish_seen_subcommand_from serve' -l metrics -x -d 'Answer HTTP here'
complete -c pawl -n '__fish_seen_subcommand_from top' -l once -d 'Print one look'
complete -c pawl -n '__fish_seen_subcommand_from top' -l interval -x -d 'Between two looks'
complete -c pawl -n '__fish_seen_subcommand_from top' -l sort -x -a 'queue depth ready flight in out ack nack dead state cons' -d 'By this column'
complete -c pawl -n '__fish_seen_subcommand_from metrics' -l format -x -a 'prometheus json' -d 'Form'
complete -c pawl -n '__fish_seen_subcommand_from metrics' -l over -x -d 'Look for so long'

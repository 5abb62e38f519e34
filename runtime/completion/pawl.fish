# fish completion for pawl: verbs, flags, runs, steps, files.

set -l verbs run map check graph runs status steps logs why resume retry cancel wait gc doctor journal health bench help
set -l takes_run status steps logs why resume retry cancel wait

function __pawl_runs
  echo last
  pawl runs --json 2>/dev/null | string match -ra '"run": ?"([^"]*)"' --groups-only
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
complete -c pawl -n "not __fish_seen_subcommand_from $verbs" -a gc -d 'Remove what is no longer needed'
complete -c pawl -n "not __fish_seen_subcommand_from $verbs" -a doctor -d 'Check the machine'
complete -c pawl -n "not __fish_seen_subcommand_from $verbs" -a bench -d 'Measure pawl and the machine'
complete -c pawl -n '__fish_seen_subcommand_from bench' -f -a 'ring journal exec flow'
complete -c pawl -n "not __fish_seen_subcommand_from $verbs" -a journal -d 'Read a journal'
complete -c pawl -n "not __fish_seen_subcommand_from $verbs" -a health -d 'The processes of pawl'
complete -c pawl -n "not __fish_seen_subcommand_from $verbs" -a help -d 'What there is'

complete -c pawl -l state -x -a '(__fish_complete_directories)' -d 'State directory'
complete -c pawl -l json -d 'Report as JSON'
complete -c pawl -l color -x -a 'auto always never' -d 'When to use colour'
complete -c pawl -l progress -x -a 'auto none plain json' -d 'How to tell what happens'
complete -c pawl -l help -d 'Flags and examples'
complete -c pawl -l version -d 'The version'

complete -c pawl -n "__fish_seen_subcommand_from $takes_run; and __pawl_words 2" -f -a '(__pawl_runs)'
complete -c pawl -n '__fish_seen_subcommand_from logs why; and __pawl_words 3' -f -a '(__pawl_steps)'
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

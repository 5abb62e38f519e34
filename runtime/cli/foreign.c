/*
 * foreign.c - what neighbours call it: hints for flags and verbs of other tools.
 *
 * Runs in: the command. Pure; declared in options.h.
 */
#include <stdbool.h>
#include <string.h>

#include "runtime/cli/options.h"

/* What neighbours call it, and what to do here. verb NULL: any. */
static const struct foreign {
    const char *verb, *word, *hint;
} foreign_words[] = {
    {"map", "--pipe",
     "split the input into files first: `split -l 1000 big part.`, then `pawl map CMD ::: part.*`"},
    {"map", "--pipepart", "split the input into files first: `split`, then `pawl map CMD ::: part.*`"},
    {"map", "--pipe-part", "split the input into files first: `split`, then `pawl map CMD ::: part.*`"},
    {"map", "--sshlogin", "pawl works on one machine; several come with the distributed backend"},
    {"map", "--sshloginfile", "pawl works on one machine; several come with the distributed backend"},
    {"map", "--slf", "pawl works on one machine; several come with the distributed backend"},
    {"map", "-S", "pawl works on one machine; several come with the distributed backend"},
    {"map", "--onall", "pawl works on one machine; several come with the distributed backend"},
    {"map", "--nonall", "pawl works on one machine; several come with the distributed backend"},
    {"map", "--bar", "progress is shown by itself on a terminal; else `--progress=plain`"},
    {"map", "--eta", "progress is shown by itself on a terminal; else `--progress=plain`"},
    {"map", "--group", "output is always grouped by task; `--line-buffer` shows whole lines at once"},
    {"map", "-u", "outputs are never mixed within a line: `--line-buffer` shows whole lines at once"},
    {"map", "--ungroup", "outputs are never mixed within a line: `--line-buffer` shows whole lines at once"},
    {"map", "--lb", "it is called `--line-buffer` here"},
    {"map", "-N", "it is called `--max-args N` here"},
    {"map", "-L", "it is called `--max-args N` here"},
    {"map", "--max-replace-args", "it is called `--max-args N` here"},
    {"map", "--max-lines", "it is called `--max-args N` here"},
    {"map", "-X", "say how many arguments a task takes: `--max-args N`"},
    {"map", "-m", "say how many arguments a task takes: `--max-args N`"},
    {"map", "--xargs", "say how many arguments a task takes: `--max-args N`"},
    {"map", "-I", "the placeholder is always `{}`; an argument's own braces are data"},
    {"map", "-i", "the placeholder is always `{}`; an argument's own braces are data"},
    {"map", "-q", "not needed: there is no shell unless `--shell`, so nothing must be quoted"},
    {"map", "--quote", "not needed: there is no shell unless `--shell`, so nothing must be quoted"},
    {"map", "-r", "not needed: without arguments nothing runs"},
    {"map", "--no-run-if-empty", "not needed: without arguments nothing runs"},
    {"map", "-1", "`-n` is a dry run; one argument a task is the default, else `--max-args N`"},
    {"map", "-t", "`-n` prints the commands, `pawl steps last` what ran"},
    {"map", "--verbose", "`-n` prints the commands, `pawl steps last` what ran"},
    {"map", "-P", "it is called `-j N` here"},
    {"map", "--max-procs", "it is called `-j N` here"},
    {"map", "-d", "`--colsep RE` splits columns, `-0` reads NUL-separated arguments"},
    {"map", "--delimiter", "`--colsep RE` splits columns, `-0` reads NUL-separated arguments"},
    {"map", "-C", "it is called `--colsep RE` here"},
    {"map", "--resume-failed", "`--resume` runs again all that has not succeeded"},
    {"map", "--retry-failed", "`--resume` runs again all that has not succeeded"},
    {"map", "--link", "link two sources with `:::+`: `pawl map CMD ::: a b :::+ 1 2`"},
    {"map", "--xapply", "link two sources with `:::+`: `pawl map CMD ::: a b :::+ 1 2`"},
    {"map", "--wd", "tasks run in the present directory; `cd` there first"},
    {"map", "--workdir", "tasks run in the present directory; `cd` there first"},
    {"map", "--env", "tasks get the whole environment of this command"},
    {"map", "--nice", "`nice -n 10 pawl map ...`: tasks get the niceness of this command"},
    {"map", "--semaphore", "one command, one list of tasks; `flock FILE CMD` lets one at a time through"},
    {"map", "--memsuspend", "`--memfree SIZE` starts nothing while less memory is available"},
    {"map", "--noswap", "`--memfree SIZE` starts nothing while less memory is available"},
    {"map", "--timeout-percent", "`--timeout D` takes a duration: 90s, 5m"},
    {"map", "--keep-going", "map goes on after failures by itself; `--halt soon,fail=1` stops it"},
    {"run", "-k", "it is called `--keep-going` here"},
    {"run", "-f", "the file is the first operand: `pawl run FILE`"},
    {"run", "--file", "the file is the first operand: `pawl run FILE`"},
    {"run", "-B", "a run without `--resume` runs everything"},
    {"run", "--always-make", "a run without `--resume` runs everything"},
    {"run", "--just-print", "it is called `-n` here"},
    {"run", "--param", "it is called `--set NAME=VALUE` here"},
    {"run", "-p", "it is called `--set NAME=VALUE` here"},
    {"run", "-e", "it is called `--set NAME=VALUE` here"},
    {"run", "--retries", "retries are written in the workflow file: `retries: 3`, or under `defaults:`"},
    {"run", "--timeout", "timeouts are written in the workflow file: `timeout: 5m`, or under `defaults:`"},
    {"queue declare", "--exclusive", "`--temporary`: the queue ends with the client that declared it"},
    {"queue declare", "--auto-delete", "`--temporary`: the queue ends with the client that declared it"},
    {"queue declare", "--alternate-exchange", "`--unrouted-to QUEUE` takes what no queue wants"},
    {"queue declare", "--single-active-consumer", "`--max-in-flight 1`"},
    {"queue declare", "--durable", "queues always are; `--durability` says when an event is confirmed"},
    {"queue declare", "--prefetch", "`--max-in-flight N` bounds all consumers of the queue together"},
    {"queue declare", "--dead-letter-exchange", "`--dlq QUEUE`"},
    {"queue declare", "--max-length", "it is called `--max-depth N` here"},
    {"queue declare", "--message-ttl", "it is called `--ttl D` here"},
    {"queue declare", "--max-ack-pending", "it is called `--max-in-flight N` here"},
    {"queue declare", "--ttr", "it is called `--ack-wait D` here"},
    {"queue", "create", "`pawl queue declare NAME --topic PATTERN`"},
    {"queue", "add", "`pawl queue declare NAME --topic PATTERN`"},
    {"queue", "bind", "`pawl queue declare NAME --topic PATTERN...` says which topics it wants"},
    {"queue", "ls", "`pawl queue list`"},
    {"queue", "rm", "`pawl queue delete NAME`"},
    {"queue", "info", "`pawl queue show NAME`"},
    {"queue", "stats", "`pawl queue show NAME`, `pawl metrics`, `pawl top`"},
    {"queue", "peek", "`pawl consume NAME --peek`"},
    {"queue", "get", "`pawl consume NAME --count 1`"},
    {"group", "list", "`pawl group lag STREAM` shows its groups"},
    {"group", "ls", "`pawl group lag STREAM` shows its groups"},
    {"group", "reset", "`pawl group seek STREAM GROUP earliest`"},
    {"group", "rm", "`pawl group delete STREAM GROUP`"},
    {"dlq", "replay", "`pawl dlq redrive QUEUE`"},
    {"dlq", "retry", "`pawl dlq redrive QUEUE`"},
    {"dlq", "delete", "`pawl dlq purge QUEUE SEQ...`"},
    {"dlq", "rm", "`pawl dlq purge QUEUE SEQ...`"},
    {"publish", "--routing-key", "the topic is the first operand: `pawl publish TOPIC DATA`"},
    {"publish", "--reply-to", "a temporary queue for the answers, and `--header reply-to=TOPIC`"},
    {"publish", "--mandatory", "it is called `--expect-routed` here"},
    {"publish", "--persistent", "events are, unless `--durability memory` says otherwise"},
    {"publish", "--key", "`--id KEY` deduplicates; an ordering key is a header that the queue names"},
    {"publish", "--exchange", "there are no exchanges: each queue says which topics it wants"},
    {"publish", "--cron", "`--delay D`, or a systemd timer that publishes"},
    {"publish", "--schedule", "`--delay D`, or a systemd timer that publishes"},
    {"consume", "--ack", "`--auto-ack` acks what was printed; else `pawl ack DELIVERY`"},
    {"consume", "--no-ack", "`--auto-ack` acks what was printed"},
    {"consume", "--prefetch", "`--concurrency N` commands at a time; `queue declare --max-in-flight N`"},
    {"consume", "--block", "it is called `--wait D` here"},
    {"consume", "--timeout",
     "`--wait D` ends when nothing comes; a delivery's time is the queue's `--ack-wait`"},
    {"consume", "--offset", "it is called `--from OFFSET` here"},
    {"consume", "--from-beginning", "`--from earliest`, with a `--group`"},
    {NULL, "subscribe",
     "`pawl consume QUEUE` takes events, `pawl queue declare` subscribes a queue to topics"},
    {NULL, "sub", "`pawl consume QUEUE` takes events, `pawl queue declare` subscribes a queue to topics"},
    {NULL, "pub", "`pawl publish TOPIC DATA`"},
    {NULL, "put", "`pawl publish TOPIC DATA`"},
    {NULL, "reserve", "`pawl consume QUEUE --count 1`"},
    {NULL, "bury", "`pawl reject DELIVERY`"},
    {NULL, "kick", "`pawl dlq redrive QUEUE`"},
    {NULL, "touch", "`pawl extend DELIVERY`"},
    {NULL, "release", "`pawl nack DELIVERY`"},
    {NULL, "tube", "`pawl queue`"},
    {NULL, "exchange",
     "there are no exchanges: each queue says which topics it wants (queue declare --topic)"},
    {NULL, "stream", "`pawl queue declare NAME --topic PATTERN --stream`, then `pawl group`"},
    {NULL, "xread", "`pawl consume STREAM --peek`"},
    {NULL, "xadd", "`pawl publish TOPIC DATA`"},
    {NULL, "xreadgroup", "`pawl consume STREAM --group GROUP`"},
    {NULL, "daemon", "`pawl serve`"},
    {NULL, "parallel", "`pawl map` does what parallel does"},
    {NULL, "xargs", "`pawl map` does what xargs does"},
    {NULL, "exec", "`pawl run FILE` runs a workflow, `pawl map CMD` a command for each argument"},
    {NULL, "start", "`pawl run FILE --detach` starts a run and leaves it"},
    {NULL, "stop", "`pawl cancel RUN` ends a run; SIGTERM ends `pawl serve`, `pawl health` has its pid"},
    {NULL, "kill", "`pawl cancel RUN` ends a run"},
    {NULL, "ls", "`pawl runs` lists the runs"},
    {NULL, "list", "`pawl runs` lists the runs"},
    {NULL, "ps", "`pawl status` shows a run, `pawl steps RUN` its steps, `pawl health` the processes"},
    {NULL, "tail", "`pawl logs RUN STEP -f` follows a step"},
    {NULL, "lint", "`pawl check FILE` checks a workflow file"},
    {NULL, "validate", "`pawl check FILE` checks a workflow file"},
    {NULL, "clean", "`pawl gc --keep-runs N` removes finished runs"},
    {NULL, "prune", "`pawl gc --keep-runs N` removes finished runs"},
    {NULL, "cron", "use a systemd timer, or cron, that calls `pawl run FILE`"},
    {NULL, "schedule", "use a systemd timer, or cron, that calls `pawl run FILE`"},
};

const char *pawl_options_foreign(const char *verb, const char *word)
{
    size_t bytes = strcspn(word, "=");
    if (word[0] == '-' && word[1] != '-')
        bytes = strlen(word) < 2 ? 1 : 2; /* -S host, -Shost */
    /* of this verb first; then of any, for what is typed at the wrong place or as `pawl help --pipe` */
    for (int pass = 0; pass < 2; pass++) {
        for (size_t i = 0; i < sizeof foreign_words / sizeof foreign_words[0]; i++) {
            const struct foreign *f = &foreign_words[i];
            bool same = f->verb == NULL || verb == NULL ? f->verb == verb : strcmp(f->verb, verb) == 0;
            if (pass == 1)
                same = f->verb != NULL && (strncmp(word, "--", 2) == 0 || verb == NULL);
            if (same && strlen(f->word) == bytes && memcmp(f->word, word, bytes) == 0)
                return f->hint;
        }
    }
    return NULL;
}

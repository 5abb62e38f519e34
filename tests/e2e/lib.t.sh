# lib.t.sh - libpawl as a program finds it: installed, found by pkg-config, linked, run.

# install_library: below $INSTALLED, with everything set up to build and run against it.
install_library() {
    installed
    export PKG_CONFIG_PATH=$INSTALLED/usr/lib/pkgconfig PKG_CONFIG_SYSROOT_DIR=$INSTALLED LD_LIBRARY_PATH=$INSTALLED/usr/lib
}

# build NAME [FLAG...]: the installed example of that name.
build() {
    local name=$1
    shift
    # shellcheck disable=SC2046
    gcc -std=c11 -D_GNU_SOURCE -Wall -Wextra -Werror -o "$name" "$INSTALLED/usr/share/doc/pawl/examples/c/$name.c" \
        $(pkg-config --cflags --libs pawl) "$@"
}

# build_own NAME: from NAME.c here.
build_own() {
    # shellcheck disable=SC2046
    gcc -std=c11 -D_GNU_SOURCE -Wall -Wextra -o "$1" "$1.c" $(pkg-config --cflags --libs pawl)
}

test_only_what_the_header_declares_is_visible() {
    local declared visible
    install_library
    declared=$(tr '\n' ' ' <"$INSTALLED/usr/include/pawl.h" | grep -oE 'PAWL_API [^;]*;' | grep -oE 'pawl_[a-z_]+\(' | tr -d '(' | sort -u)
    visible=$(nm -D --defined-only "$INSTALLED/usr/lib/libpawl.so.0" | awk '{print $3}' | sort -u)
    expect_eq "$visible" "$declared"
    expect_eq "$(nm --defined-only --extern-only "$INSTALLED/usr/lib/libpawl.a" 2>/dev/null | awk 'NF == 3 {print $3}' | sort -u)" "$declared"
    readelf -d "$INSTALLED/usr/lib/libpawl.so.0" | grep -q 'soname: \[libpawl.so.0\]'
    if readelf -d "$INSTALLED/usr/lib/libpawl.so.0" | grep -q jemalloc; then fail "it brings an allocator"; fi
}

test_every_function_has_a_manual_page_that_names_its_errors() {
    local name
    install_library
    for name in $(tr '\n' ' ' <"$INSTALLED/usr/include/pawl.h" | grep -oE 'PAWL_API [^;]*;' | grep -oE 'pawl_[a-z_]+\(' | tr -d '(' | sort -u); do
        [ -s "$INSTALLED/usr/share/man/man3/$name.3" ] || fail "no manual page for $name"
        grep -q '^\.SH ERRORS' "$INSTALLED/usr/share/man/man3/$name.3" || fail "no ERRORS in the page of $name"
    done
}

# The structs that a program fills or reads; a line "STRUCT FIELD" for each field.
fields() {
    sed -e 's,/\*.*\*/,,' -e '/\/\*/,/\*\//d' "$INSTALLED/usr/include/pawl.h" |
        awk '/^struct pawl_[a-z_]* {$/ { name = $2; next } /^};/ { name = "" } name' |
        grep -oE '[a-z_]+(\[[0-9]+\])?;|[a-z_]+,|\(\*[a-z_]+\)' | grep -oE '[a-z_]+' | sort -u
}

test_every_field_and_every_error_has_a_place_in_the_manual() {
    local name pages
    install_library
    pages=$(cat "$E2E_TOP"/docs/man/*.3.scd)
    fields >struct.fields
    [ "$(wc -l <struct.fields)" -ge 60 ] || fail "only $(wc -l <struct.fields) fields were found"
    while read -r name; do
        case $pages in
        *"_${name}_"* | *"*$name*"* | *"_$name("* | *">${name}_"*) ;;
        *) fail "no page speaks of the field $name" ;;
        esac
    done <struct.fields
    grep -oE 'PAWL_ERR_[A-Z_]+ =' "$INSTALLED/usr/include/pawl.h" | cut -d' ' -f1 >errors
    while read -r name; do
        case $pages in
        *"$name"* | *"_${name#PAWL_ERR_}_"*) ;;
        *) fail "no page speaks of $name" ;;
        esac
    done <errors
}

test_every_function_has_the_prototype_of_the_header_in_its_page() {
    local name count=0
    install_library
    for page in "$E2E_TOP"/docs/man/*.3.scd; do
        awk '/^# SYNOPSIS/ { on = 1; next } /^# / { on = 0 } on && /^\*.*\);\*$/' "$page"
    done | sed -e 's/\\\*/@/g' -e 's/\*//g' -e 's/@/*/g' -e 's/\([^a-z0-9]\)_\([a-z_]*\)_\([^a-z0-9_]\)/\1\2\3/g' \
        -e 's/\([^a-z0-9]\)_\([a-z_]*\)_\([^a-z0-9_]\)/\1\2\3/g' | tr -d ' ' | grep -v '^typedef' | sort -u >paged
    tr '\n' ' ' <"$INSTALLED/usr/include/pawl.h" | sed 's,/\*[^*]*\*\+\([^/*][^*]*\*\+\)*/,,g' | grep -oE 'PAWL_API [^;{]*\);' |
        sed 's/^PAWL_API //' | tr -d ' ' | sort -u >declared
    comm -23 declared paged >missing
    [ ! -s missing ] || fail "the pages have other prototypes than: $(cat missing)"
    count=$(wc -l <declared)
    [ "$count" -ge 45 ] || fail "only $count prototypes were found"
}

test_what_one_program_publishes_another_consumes() {
    install_library
    build publisher
    build consumer
    serve
    expect_exit 0 pawl queue declare jobs --topic 'jobs.*'
    seq 20000 >in
    expect_exit 0 ./publisher "$PAWL_STATE" jobs.number <in
    expect_exit 0 ./consumer "$PAWL_STATE" jobs 20000
    cmp "$T/out" in
    expect_exit 0 pawl queue show jobs --json
    expect_json .depth 0
    end_serve
}

test_the_static_library_stands_alone() {
    install_library
    # shellcheck disable=SC2046
    gcc -std=c11 -D_GNU_SOURCE -o embedded "$INSTALLED/usr/share/doc/pawl/examples/c/embedded.c" \
        -I"$INSTALLED/usr/include" "$INSTALLED/usr/lib/libpawl.a" -luring -lfyaml -ljansson -lxxhash -lm -pthread
    unset LD_LIBRARY_PATH
    expect_exit 0 ./embedded
    expect_stdout 'sum of squares: 338350'
}

# Debian's libfyaml.a brings an xxhash of its own, which is taken along only where the real one was not found before it.
test_what_pkg_config_says_links_a_program_that_needs_no_shared_library() {
    install_library
    # shellcheck disable=SC2046
    gcc -static -std=c11 -D_GNU_SOURCE -o embedded "$INSTALLED/usr/share/doc/pawl/examples/c/embedded.c" \
        $(pkg-config --static --cflags --libs pawl)
    unset LD_LIBRARY_PATH
    if readelf -d embedded | grep NEEDED; then fail "it needs a shared library"; fi
    expect_exit 0 ./embedded
    expect_stdout 'sum of squares: 338350'
}

test_an_embedded_scheduler_ends_with_its_program_and_leaves_nothing() {
    install_library
    build embedded
    mkdir tmp
    TMPDIR=$T/tmp expect_exit 0 ./embedded
    expect_stdout 'sum of squares: 338350'
    expect_eq "$(ls tmp)" ''
}

test_a_program_that_is_killed_takes_its_embedded_scheduler_along() {
    install_library
    write host.c <<'C'
#include <stdio.h>
#include <unistd.h>
#include <pawl.h>
static int handle(struct pawl_consumer *consumer, const struct pawl_delivery *delivery, void *context)
{
    (void)consumer, (void)delivery, (void)context;
    return 0;
}
int main(void)
{
    struct pawl_handler_options handler = {.bytes = sizeof handler, .queue = "q", .handler = handle, .processes = 2};
    struct pawl_start_options options = {.bytes = sizeof options, .handlers = &handler, .handler_count = 1};
    struct pawl *pawl;
    if (pawl_start(&options, &pawl) != 0)
        return 1;
    puts("up");
    fflush(stdout);
    pause();
}
C
    build_own host
    mkdir tmp
    TMPDIR=$T/tmp ./host >host.out &
    host=$!
    wait_until 'grep -q up host.out'
    wait_until 'ls -d tmp/pawl-*/state/journal >/dev/null 2>&1'
    kill -KILL "$host"
    wait_until '[ -z "$(ls tmp)" ]' 20
}

test_a_start_that_is_refused_leaves_nothing() {
    install_library
    write host.c <<'C'
#include <stdio.h>
#include <pawl.h>
static int handle(struct pawl_consumer *consumer, const struct pawl_delivery *delivery, void *context)
{
    (void)consumer, (void)delivery, (void)context;
    return 0;
}
int main(void)
{
    struct pawl_handler_options handler = {.bytes = sizeof handler, .queue = "q", .handler = handle};
    struct pawl_start_options options = {.bytes = sizeof options, .handlers = &handler, .handler_count = 1};
    struct pawl *pawl;
    options.config_file = "nowhere.yaml";
    printf("%d", pawl_start(&options, &pawl));
    options.config_file = "mistaken.yaml";
    printf(" %d", pawl_start(&options, &pawl));
    options.config_file = NULL;
    handler.prefetch = 16385;
    printf(" %d", pawl_start(&options, &pawl));
    handler.prefetch = 0;
    handler.group = "no group";
    printf(" %d\n", pawl_start(&options, &pawl));
    return 0;
}
C
    build_own host
    mkdir tmp
    echo 'nothing: 1' >mistaken.yaml
    TMPDIR=$T/tmp expect_exit 0 ./host
    expect_stdout '-2 -10008 -10007 -10008'
    expect_eq "$(ls tmp)" ''
}

test_handlers_die_and_are_replaced_and_their_delivery_comes_again() {
    install_library
    write host.c <<'C'
#include <signal.h>
#include <stdio.h>
#include <unistd.h>
#include <pawl.h>
static int handle(struct pawl_consumer *consumer, const struct pawl_delivery *delivery, void *context)
{
    (void)consumer, (void)context;
    if (delivery->attempt == 1)
        raise(SIGKILL);
    printf("attempt %u failures %u\n", delivery->attempt, delivery->failures);
    fflush(stdout);
    return 0;
}
int main(void)
{
    struct pawl_handler_options handler = {.bytes = sizeof handler, .queue = "q", .handler = handle};
    struct pawl_start_options options = {.bytes = sizeof options, .handlers = &handler, .handler_count = 1};
    const char *topic = "t";
    struct pawl_queue_options queue = {.bytes = sizeof queue, .topics = &topic, .topic_count = 1, .backoff = "10ms"};
    struct pawl_message message = {.bytes = sizeof message, .topic = "t"};
    struct pawl *pawl;
    if (pawl_start(&options, &pawl) != 0 || pawl_queue_declare(pawl, "q", &queue) != 0 ||
        pawl_publish(pawl, &message, 60000, NULL) != 0) {
        fprintf(stderr, "%s\n", pawl_last_error(NULL));
        return 1;
    }
    char *reply;
    for (int i = 0; i < 10000; i++) {
        struct pawl_taken *seen = NULL;
        if (pawl_peek(pawl, "q", NULL, 0, 1, NULL, &seen) == 0) {
            pawl_close(pawl);
            return 0;
        }
        usleep(10000);
    }
    pawl_request(pawl, "{\"op\":\"queue.show\",\"name\":\"q\"}", &reply);
    fprintf(stderr, "%s\n", reply);
    return 1;
}
C
    build_own host
    mkdir tmp
    TMPDIR=$T/tmp expect_exit 0 ./host
    expect_stdout 'attempt 2 failures 1'
}

test_a_served_directory_and_a_program_with_threads_are_refused_with_words() {
    install_library
    write host.c <<'C'
#include <pthread.h>
#include <stdio.h>
#include <unistd.h>
#include <pawl.h>
static void *wait_here(void *context)
{
    pause();
    return context;
}
int main(int argc, char **argv)
{
    struct pawl_start_options options = {.bytes = sizeof options, .state = argv[1]};
    struct pawl *pawl;
    pthread_t thread;
    if (argc > 2)
        pthread_create(&thread, NULL, wait_here, NULL);
    int error = pawl_start(&options, &pawl);
    printf("%d %s\n", error, pawl_last_error(NULL));
    return 0;
}
C
    build_own host
    serve
    expect_exit 0 ./host "$PAWL_STATE"
    expect_contains '-10009 '
    expect_contains "$PAWL_STATE/socket"
    expect_exit 0 ./host other threads
    expect_contains '-10011 '
    end_serve
}

test_a_killed_scheduler_loses_no_confirmed_event_and_doubles_none() {
    local part
    install_library
    build publisher
    build consumer
    serve
    expect_exit 0 pawl queue declare jobs --topic 'jobs.*' --max-depth 10000000
    mkfifo lines
    background sh -c 'exec ./publisher "$PAWL_STATE" jobs.number <lines'
    publisher=$!
    exec 9>lines
    for part in 0 1 2; do
        seq $((part * 300000 + 1)) $((part * 300000 + 300000)) >&9 &
        feeder=$!
        wait_until '[ "$(pawl queue show jobs --json 2>/dev/null | jq .depth)" -gt $((part * 300000 + 1000)) ]'
        kill_scheduler
        wait "$feeder"
    done
    exec 9>&-
    expect_end 0 "$publisher"
    expect_exit 0 ./consumer "$PAWL_STATE" jobs 900000
    seq 900000 >in
    sort -n "$T/out" | cmp - in
    expect_exit 0 pawl queue show jobs --json
    expect_json .depth 0
    end_serve
}

test_the_header_is_c_and_cxx_of_any_age() {
    local std
    install_library
    echo '#include <pawl.h>
int main(void) { return pawl_strerror(PAWL_E_BUSY) == pawl_strerror(PAWL_ERR_BUSY) && pawl_version() != 0 ? 0 : 1; }' >header.c
    cp header.c header.cc
    for std in c99 c11 gnu17; do
        # shellcheck disable=SC2046
        gcc -std=$std -Wall -Wextra -Werror -pedantic -Wconversion -o header header.c $(pkg-config --cflags --libs pawl)
        expect_exit 0 ./header
    done
    for std in c++98 c++11 c++20; do
        # shellcheck disable=SC2046
        g++ -std=$std -Wall -Wextra -Werror -pedantic -o header header.cc $(pkg-config --cflags --libs pawl)
        expect_exit 0 ./header
    done
}

test_an_act_is_durable_after_a_flush_and_one_that_is_refused_has_not_happened() {
    install_library
    write host.c <<'C'
#include <stdio.h>
#include <pawl.h>
static int declare(struct pawl *pawl, const char *name, const char *topic, unsigned depth)
{
    struct pawl_queue_options queue = {.bytes = sizeof queue, .topics = &topic, .topic_count = 1, .max_depth = depth};
    return pawl_queue_declare(pawl, name, &queue);
}
int main(void)
{
    struct pawl_message work = {.bytes = sizeof work, .topic = "work"}, out = {.bytes = sizeof out, .topic = "out"};
    struct pawl_message light = {.bytes = sizeof light, .topic = "light", .durability = PAWL_DURABLE_MEMORY};
    const struct pawl_delivery *got[3];
    struct pawl_consumer *consumer;
    struct pawl *pawl;
    if (pawl_connect(NULL, &pawl) != 0 || declare(pawl, "work", "work", 0) != 0 || declare(pawl, "out", "out", 1) != 0)
        return printf("%s\n", pawl_last_error(NULL)), 4;
    for (int i = 0; i < 3; i++)
        if (pawl_publish(pawl, &work, 60000, NULL) != 0)
            return 1;
    if (pawl_consume(pawl, "work", NULL, &consumer) != 0)
        return 1;
    for (int count = 0, n; count < 3; count += n)
        if ((n = pawl_claim(consumer, got + count, 3 - (size_t)count, 60000)) <= 0)
            return 1;
    printf("%d", pawl_ack_publish(got[0], &out, 1, 60000));
    printf(" %d\n", pawl_flush(pawl, 60000));
    printf("%d", pawl_ack_publish(got[1], &out, 1, 60000));
    printf(" %d", pawl_flush(pawl, 60000));
    printf(" %d", (int)pawl_late_settlements(pawl));
    printf(" %d", pawl_ack(got[1]));
    printf(" %d\n", pawl_flush(pawl, 60000));
    printf("%d", pawl_ack_publish(got[2], &light, 1, 60000));
    printf(" %d\n", pawl_flush(pawl, 60000));
    pawl_close(pawl);
    return 0;
}
C
    build_own host
    serve
    expect_exit 0 ./host
    expect_stdout '0 0
-10001 0 0 0 0
0 0'
    expect_exit 0 pawl queue show work --json
    expect_json .depth 0
    end_serve
}

test_a_refused_publish_names_the_queue_that_refused() {
    install_library
    serve
    pawl queue declare roomy --topic b
    pawl queue declare tight --topic a --max-depth 1
    write refused.c <<'C'
#include <pawl.h>
#include <stdio.h>

int main(void)
{
    struct pawl *pawl;
    struct pawl_message message = {.bytes = sizeof message, .topic = "a", .data = "x", .data_bytes = 1};
    if (pawl_connect(NULL, &pawl) != 0 || pawl_publish(pawl, &message, 10000, NULL) != 0)
        return 1;
    /* The name is asked for, and waited for no longer than a second: a busy machine may need a second refusal. */
    for (int i = 0, named = 0; i < 60 && named < 2; i++)
        if (pawl_publish(pawl, &message, 10000, NULL) == PAWL_ERR_QUEUE_FULL && pawl_last_error(pawl)[0] == 'q' && ++named)
            puts(pawl_last_error(pawl));
    pawl_close(pawl);
    return 0;
}
C
    build_own refused
    expect_exit 0 ./refused
    expect_stdout 'queue tight refused the event: the queue is full: it has no room by its depth or its bytes
queue tight refused the event: the queue is full: it has no room by its depth or its bytes'
    end_serve
}

test_a_publish_without_descriptors_to_attach_with_says_so_at_once_and_works_when_there_are() {
    install_library
    serve
    pawl queue declare q --topic a
    write few.c <<'C'
#include <errno.h>
#include <fcntl.h>
#include <pawl.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

int main(void)
{
    struct pawl *pawl;
    struct rlimit before, few;
    struct pawl_message message = {.bytes = sizeof message, .topic = "a", .data = "x", .data_bytes = 1};
    if (pawl_connect(NULL, &pawl) != 0 || getrlimit(RLIMIT_NOFILE, &before) != 0)
        return 1;
    int next = dup(0);
    close(next);
    few = before;
    few.rlim_cur = (rlim_t)next + 1;
    setrlimit(RLIMIT_NOFILE, &few);
    int error = pawl_publish(pawl, &message, -1, NULL);
    printf("%s: %s\n", error == -EMFILE ? "EMFILE" : pawl_strerror(error), pawl_last_error(pawl));
    setrlimit(RLIMIT_NOFILE, &before);
    error = pawl_publish(pawl, &message, -1, NULL);
    printf("%d\n", error);
    pawl_close(pawl);
    return 0;
}
C
    build_own few
    expect_exit 0 ./few
    expect_stdout 'EMFILE: too few file descriptors to attach: four more are needed (ulimit -n)
0'
    end_serve
}

test_what_is_acked_makes_room_for_what_an_act_publishes_into_the_same_queue() {
    install_library
    serve
    pawl queue declare one --topic one --max-depth 1
    pawl queue declare two --topic two --max-depth 2
    write room.c <<'C'
#include <pawl.h>
#include <stdio.h>

int main(void)
{
    struct pawl *pawl;
    struct pawl_consumer *consumer;
    const struct pawl_delivery *got[2];
    struct pawl_message message = {.bytes = sizeof message, .topic = "one", .data = "x", .data_bytes = 1};
    if (pawl_connect(NULL, &pawl) != 0 || pawl_publish(pawl, &message, -1, NULL) != 0 ||
        pawl_consume(pawl, "one", NULL, &consumer) != 0 || pawl_claim(consumer, got, 1, -1) != 1)
        return 1;
    printf("%d ", pawl_ack_publish(got[0], &message, 1, -1));
    message.topic = "two";
    if (pawl_publish(pawl, &message, -1, NULL) != 0 || pawl_publish(pawl, &message, -1, NULL) != 0 ||
        pawl_consume(pawl, "two", NULL, &consumer) != 0)
        return 1;
    for (int n = 0; n < 2;)
        n += pawl_claim(consumer, got + n, 2 - (unsigned)n, -1);
    const struct pawl_message both[2] = {message, message};
    printf("%d ", pawl_ack(got[0]));
    printf("%d ", pawl_ack_publish(got[1], both, 2, -1));
    pawl_close(pawl);
    return 0;
}
C
    build_own room
    expect_exit 0 ./room
    expect_stdout '0 0 0 '
    expect_eq "$(pawl queue list --json | jq -c "[.queues[].depth]")" "[1,2]"
    end_serve
}

test_a_signal_between_the_question_and_the_sleep_ends_the_call_and_no_nap_is_needed_for_it() {
    install_library
    serve
    pawl queue declare q --topic a
    write heeds.c <<'C'
#include <errno.h>
#include <pawl.h>
#include <signal.h>
#include <stdio.h>

static volatile sig_atomic_t rung;
static int asked, raises, early;

static void on_signal(int number)
{
    (void)number;
    rung = 1;
}

static int wants_to_end(void *context)
{
    (void)context;
    int answer = rung;
    asked++;
    if (raises && !answer) {
        raise(SIGUSR1);
        early += rung; /* it is held back until the call sleeps */
    }
    return answer;
}

int main(void)
{
    struct pawl *pawl;
    struct pawl_consumer *consumer;
    const struct pawl_delivery *delivery;
    struct pawl_connect_options options = {.bytes = sizeof options, .interrupted = wants_to_end};
    struct sigaction action = {.sa_handler = on_signal}, now;
    sigset_t before, after;
    sigaction(SIGUSR1, &action, NULL);
    sigprocmask(SIG_SETMASK, NULL, &before);
    if (pawl_connect(&options, &pawl) != 0 || pawl_consume(pawl, "q", NULL, &consumer) != 0)
        return 1;
    asked = 0;
    int idle = pawl_claim(consumer, &delivery, 1, 2000);
    printf("idle: %d, asked %s\n", idle, asked <= 3 ? "at most thrice" : "again and again");
    asked = 0;
    raises = 1;
    int ended = pawl_claim(consumer, &delivery, 1, -1);
    printf("ended: %d, asked %d, early %d\n", ended == -EINTR, asked, early);
    sigprocmask(SIG_SETMASK, NULL, &after);
    sigaction(SIGUSR1, NULL, &now);
    printf("left alone: %d\n", sigismember(&after, SIGUSR1) == sigismember(&before, SIGUSR1) &&
                                    now.sa_handler == on_signal);
    pawl_close(pawl);
    return 0;
}
C
    build_own heeds
    expect_exit 0 at_most 10 ./heeds
    expect_stdout 'idle: 0, asked at most thrice
ended: 1, asked 2, early 0
left alone: 1'
    end_serve
}

test_a_workflow_is_submitted_waited_for_and_read() {
    install_library
    write flow.yaml <<'YAML'
pawl: 1
params: {who: nobody}
steps:
  hello: {run: [echo, "hello ${{ params.who }}"]}
  bad: {run: [sh, -c, "exit ${CODE:-0}"]}
YAML
    write host.c <<'C'
#include <stdio.h>
#include <stdlib.h>
#include <pawl.h>
int main(int argc, char **argv)
{
    struct pawl_connect_options options = {.bytes = sizeof options, .may_launch = 1};
    const char *params[] = {"who=world"};
    struct pawl_run_options run = {.bytes = sizeof run, .params = params, .param_count = 1};
    char id[72], *status = NULL;
    struct pawl *pawl;
    void *output;
    size_t bytes;
    (void)argc;
    if (pawl_connect(&options, &pawl) != 0)
        return printf("%s\n", pawl_last_error(NULL)), 4;
    int error = pawl_run_submit(pawl, argv[1], &run, id);
    if (error)
        return printf("%d %s\n", error, pawl_last_error(pawl)), 1;
    error = pawl_run_wait(pawl, "nobody", 0, NULL);
    printf("%d", error);
    error = pawl_run_wait(pawl, id, 180000, NULL);
    printf(" %d", error);
    error = pawl_run_wait(pawl, id, 0, &status); /* a look: it has ended */
    printf(" %d\n", error);
    error = pawl_run_output(pawl, id, "hello", 0, &output, &bytes);
    printf("%d %zu %s", error, bytes, error ? "\n" : (char *)output);
    fprintf(stderr, "%s\n", status);
    pawl_close(pawl);
    return 0;
}
C
    build_own host
    expect_exit 0 ./host flow.yaml
    expect_stdout '-10010 0 0
0 12 hello world'
    json_err '.state' | grep -q succeeded
    CODE=3 expect_exit 0 ./host flow.yaml
    expect_contains '-10011'
    echo 'pawl: 2' >broken.yaml
    expect_exit 1 ./host broken.yaml
    expect_match '^-10008 broken.yaml:1:'
}

test_an_altered_output_file_of_a_run_that_goes_on_is_not_read() {
    install_library
    write flow.yaml <<'YAML'
pawl: 1
steps:
  large: {run: [seq, "1", "9000"]}
  hold: {needs: [large], shell: 'while [ ! -e "$GATE" ]; do sleep 0.02; done'}
YAML
    write reader.c <<'C'
#include <stdio.h>
#include <stdlib.h>
#include <pawl.h>
int main(void)
{
    struct pawl_connect_options options = {.bytes = sizeof options};
    struct pawl *pawl;
    void *output = NULL;
    size_t bytes = 0;
    if (pawl_connect(&options, &pawl) != 0)
        return printf("%s\n", pawl_last_error(NULL)), 4;
    int error = pawl_run_output(pawl, "r", "large", 0, &output, &bytes);
    printf("%d %zu\n", error == PAWL_E_DAMAGED ? 7 : error, bytes);
    free(output);
    pawl_close(pawl);
    return 0;
}
C
    build_own reader
    export GATE=$T/gate
    background pawl run flow.yaml --run-id r
    local run=$!
    wait_until '[ "$(step_field hold state r)" = running ]'
    expect_exit 0 ./reader
    expect_stdout "0 $(seq 1 9000 | wc -c)"
    printf '?' | dd of="$T/state/runs/r/out/large.1.out" bs=1 seek=20000 conv=notrunc status=none
    expect_exit 0 ./reader
    expect_stdout "7 0"
    : >"$GATE"
    expect_end 0 "$run"
}

test_the_plugin_example_handles_events() {
    install_library
    # shellcheck disable=SC2046
    gcc -shared -fPIC -Wall -Wextra -Werror -o plugin.so "$INSTALLED/usr/share/doc/pawl/examples/c/plugin.c" $(pkg-config --cflags pawl)
    nm -D --defined-only plugin.so | grep -q ' pawl_plugin$'
    serve
    pawl queue declare q --topic a
    pawl publish a full >/dev/null
    pawl publish a '' >/dev/null # it rejects what is empty
    expect_exit 1 pawl consume q --plugin ./plugin.so --count 2 --wait 2m
    expect_exit 0 pawl queue show q --json
    expect_json '[.depth, .dlq_depth] | join(" ")' '0 1'
}

# blocks FILE: its fenced blocks of C, as functions or at the top as they must be; what a page leaves out is `...`.
blocks() {
    awk '
        /^```c$/ { on = 1; n++; text = ""; next }
        /^```/ { if (on) printf "%s", text > ("block" n ".c"); on = 0 }
        on { sub(/^    \.\.\.$/, "    handle_all(deliveries, count);"); text = text $0 "\n" }' "$1"
}

test_the_code_of_the_page_about_the_library_runs_as_it_stands() {
    install_library
    blocks "$E2E_TOP/docs/c-api.md"
    expect_eq "$(echo block*.c)" 'block1.c block2.c block3.c block4.c'
    write page.c <<'C'
#include <signal.h>
#include <stdio.h>
#include <pawl.h>
static unsigned confirms, handled;
static void on_confirm(void *context, const struct pawl_confirm *confirm)
{
    (void)context;
    confirms += confirm->error == 0;
}
static void handle(const void *data, size_t bytes)
{
    handled++;
    printf("%.*s\n", (int)bytes, (const char *)data);
}
static void handle_all(const struct pawl_delivery *const *deliveries, int count)
{
    for (int i = 0; i < count; i++) {
        handle(deliveries[i]->data, deliveries[i]->data_bytes);
        pawl_ack(deliveries[i]);
    }
}
#include "block3.c"
static int poll_loop(struct pawl *pawl, struct pawl_consumer *consumer, const struct pawl_delivery **deliveries)
{
    int count;
#include "block4.c"
    return count;
}
C
    # The third block is the poll loop and the fourth is at the top of a file, or the other way round.
    if grep -q interrupted block3.c; then top=block3.c loop=block4.c; else top=block4.c loop=block3.c; fi
    sed -i "s/block3/TOP/; s/block4/LOOP/; s/TOP.c/$top/; s/LOOP.c/$loop/" page.c
    cat >>page.c <<'C'
int main(void)
{
    struct pawl *pawl;
    struct pawl_consumer *consumer;
    const struct pawl_delivery *deliveries[64];
    const char *topic = "order.*", *text = "an order";
    size_t n = 8;
    void *context = NULL;
    struct pawl_queue_options queue = {.bytes = sizeof queue, .topics = &topic, .topic_count = 1};
    if (pawl_connect(&options, &pawl) != 0 || pawl_queue_declare(pawl, "orders", &queue) != 0)
        return 1;
#include "block1.c"
    printf("%u confirmed\n", confirms);
    {
#include "block2.c"
        while (handled < 2)
            handle_all(deliveries, pawl_claim(consumer, deliveries, 64, -1));
    }
    pawl_publish(pawl, &message, 5000, NULL);
    while (handled < 3)
        if (pawl_dispatch(pawl, 5000) < 0 || poll_loop(pawl, consumer, deliveries) < 0)
            return 2;
    pawl_flush(pawl, 5000);
    pawl_close(pawl);
    return 0;
}
C
    build_own page
    serve
    expect_exit 0 ./page
    expect_stdout $'1 confirmed\nan order\nan order\nan order'
    expect_exit 0 pawl queue show orders --json
    expect_json .depth 0
}

# No client waits for ever for what has ended: here the supervisor, with the scheduler that it had just forked.
test_a_start_whose_supervisor_ends_before_it_serves_fails() {
    install_library
    gcc -std=gnu11 -Wall -Wextra -shared -fPIC -o late_child.so "$E2E_TOP/tests/e2e/late_child.c"
    cat >start.c <<'C'
#include <pawl.h>
#include <stdio.h>
int main(void)
{
    const struct pawl_start_options options = {.bytes = sizeof options, .state = "own"};
    struct pawl *pawl;
    int error = pawl_start(&options, &pawl);
    puts(error ? pawl_last_error(NULL) : "it has started");
    return error ? 3 : 0;
}
C
    build_own start
    background env LATE_IN='pawl: superviso' LATE_BORN="$T/born" LATE_GO="$T/go" LD_PRELOAD="$T/late_child.so" ./start
    wait_until '[ -e born ]'
    kill -KILL "$(awk '/^PPid/ { print $2 }' "/proc/$(cat born)/status")" "$(cat born)"
    expect_end 3 "${BACKGROUND[-1]}"
    grep -q 'ended before it served' background.out
}

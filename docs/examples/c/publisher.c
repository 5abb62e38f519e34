/*
 * publisher.c - publish the lines of standard input to a topic, without waiting for each.
 *
 *   cc -o publisher publisher.c $(pkg-config --cflags --libs pawl)
 *   seq 1000 | ./publisher .pawl jobs.number
 *
 * Exit 0 when every line is confirmed, which by default means: on disk.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <pawl.h>

static unsigned long refused;

static void on_confirm(void *context, const struct pawl_confirm *confirm)
{
    (void)context;
    if (confirm->error == 0)
        return;
    refused++;
    fprintf(stderr, "line %llu: %s\n", (unsigned long long)confirm->sequence, pawl_strerror(confirm->error));
}

int main(int argc, char **argv)
{
    struct pawl_connect_options options = {.bytes = sizeof options};
    struct pawl *pawl;
    char *line = NULL;
    size_t room = 0;
    ssize_t n;

    if (argc != 3) {
        fprintf(stderr, "usage: publisher STATE TOPIC < lines\n");
        return 2;
    }
    options.state = argv[1];
    if (pawl_connect(&options, &pawl) != 0) {
        fprintf(stderr, "publisher: %s\n", pawl_last_error(NULL));
        return 4;
    }
    int error = 0;
    while (error == 0 && (n = getline(&line, &room, stdin)) > 0) {
        struct pawl_message message = {.bytes = sizeof message, .topic = argv[2], .data = line};
        message.data_bytes = (size_t)n - (line[n - 1] == '\n');
        error = pawl_publish_async(pawl, &message, -1, on_confirm, NULL, NULL);
    }
    if (error == 0)
        error = pawl_flush(pawl, -1);
    if (error != 0)
        fprintf(stderr, "publisher: %s\n", pawl_last_error(pawl));
    pawl_close(pawl);
    free(line);
    return error != 0 || refused > 0;
}

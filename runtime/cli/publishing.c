/*
 * publishing.c - what came back of a `pawl publish`, told in the order of publishing.
 *
 * Runs in: the command.
 */
#include "runtime/cli/publishing.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "runtime/cli/errors.h"
#include "runtime/cli/output.h"
#include "runtime/cli/signals.h"
#include "scheduler/bus/limits.h"

enum {
    EARLY_MAX = 65536, /* as many as may be unconfirmed */
    NAME_TRIES = 10,
    TROUBLES_TOLD = 10
};

const char *pawl_publishing_refuser(struct pawl *pawl)
{
    const char *name = pawl_refusing_queue(pawl);
    for (int i = 1; i < NAME_TRIES && name[0] == '\0' && pawl_signals_level() == PAWL_SIGNAL_NONE; i++)
        name = pawl_refusing_queue(pawl);
    return name;
}

static void tell_refused(struct pawl_publishing *publishing, uint64_t number, const char *why)
{
    if (publishing->refused == 0)
        snprintf(publishing->why, sizeof publishing->why, "%s", why);
    publishing->refused++;
    if (publishing->refused <= TROUBLES_TOLD)
        pawl_note(publishing->cli, "event %" PRIu64 " was refused: %s", number, why);
    else if (publishing->refused == TROUBLES_TOLD + 1)
        pawl_note(publishing->cli, "more were refused");
}

static void print_json(const struct pawl_confirm *confirm, const char *id, const char *why)
{
    json_t *line = pawl_json_document();
    bool stored = confirm->error == 0 && confirm->event_id != 0;
    json_object_set_new(line, "event", stored ? json_string(id) : json_null());
    json_object_set_new(line, "routed", json_integer(confirm->routed));
    json_object_set_new(line, "refused", json_integer(confirm->refused));
    json_object_set_new(line, "duplicate", json_boolean(confirm->duplicate));
    const char *durability = confirm->error == 0 ? pawl_durability_name(confirm->durability) : NULL;
    json_object_set_new(line, "durability", durability != NULL ? json_string(durability) : json_null());
    json_object_set_new(line, "error", confirm->error != 0 ? pawl_json_text(why) : json_null());
    pawl_json_print(line, stdout);
    json_decref(line);
}

void pawl_publishing_tell(struct pawl_publishing *publishing, const struct pawl_confirm *confirm)
{
    char id[24];
    const char *why = pawl_strerror(confirm->error);
    snprintf(id, sizeof id, "%" PRIu64, confirm->event_id);
    if (publishing->cli->json)
        print_json(confirm, id, why);
    else if (confirm->error == 0)
        printf("%s\n", id);
    if (confirm->error != 0) {
        publishing->failed++;
        tell_refused(publishing, confirm->sequence + publishing->unsent, why);
        return;
    }
    publishing->confirmed++;
    publishing->nowhere += confirm->event_id == 0 && !confirm->duplicate;
    bool dropped = confirm->event_id == 0 && confirm->routed == 0 && confirm->refused == 1;
    publishing->dropped += dropped;
    if (confirm->refused > 0 && !dropped) {
        pawl_note(publishing->cli, "event %s: %u of its queues refused it%s%s", id, confirm->refused,
                  publishing->by != NULL ? ": " : "", publishing->by != NULL ? publishing->by : "");
        publishing->refused++;
    }
}

void pawl_publishing_tell_unsent(struct pawl_publishing *publishing, uint64_t number, int error,
                                 const char *why)
{
    const struct pawl_confirm refused = {.error = error};
    if (publishing->cli->json)
        print_json(&refused, "", why);
    tell_refused(publishing, number, why);
    publishing->failed++;
    publishing->unsent++;
}

/* A line for each event, in the order of publishing. A refusal waits for no disk: it overtakes what was
 * stored. */
void pawl_publishing_on_confirm(void *context, const struct pawl_confirm *confirm)
{
    struct pawl_publishing *publishing = context;
    publishing->heard = true;
    if (confirm->sequence != publishing->next) {
        if (publishing->early == NULL)
            publishing->early = calloc(EARLY_MAX, sizeof *publishing->early);
        if (publishing->early != NULL)
            publishing->early[confirm->sequence % EARLY_MAX] = *confirm;
        else
            pawl_publishing_tell(publishing, confirm); /* out of place, not lost */
        return;
    }
    pawl_publishing_tell(publishing, confirm);
    publishing->next++;
    while (publishing->early != NULL) {
        struct pawl_confirm *held = &publishing->early[publishing->next % EARLY_MAX];
        if (held->sequence != publishing->next)
            break;
        pawl_publishing_tell(publishing, held);
        publishing->next++;
    }
}

void pawl_publishing_tell_early(struct pawl_publishing *publishing)
{
    for (uint64_t i = 1; publishing->early != NULL && i < EARLY_MAX; i++) {
        const struct pawl_confirm *held = &publishing->early[(publishing->next + i) % EARLY_MAX];
        if (held->sequence == publishing->next + i)
            pawl_publishing_tell(publishing, held);
    }
}

void pawl_publishing_tell_nowhere(const struct pawl_publishing *publishing, const char *topic)
{
    const char *why = publishing->dropped == 0 ? "none wants its topic"
                      : publishing->dropped == publishing->nowhere
                          ? "it was full and dropped the newest (--overflow drop_newest)"
                          : "none wants its topic, or one that does was full and dropped it";
    if (publishing->nowhere == 1 && publishing->confirmed == 1)
        pawl_note(publishing->cli, "%.80s: the event is in no queue: %s", topic, why);
    else if (publishing->nowhere > 0)
        pawl_note(publishing->cli, "%.80s: %" PRIu64 " of %" PRIu64 " events are in no queue: %s", topic,
                  publishing->nowhere, publishing->confirmed, why);
}

void pawl_publishing_fini(struct pawl_publishing *publishing)
{
    free(publishing->early);
    publishing->early = NULL;
}

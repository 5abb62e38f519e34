/*
 * top_view.c - draws with ncurses, reads keys, asks before it changes much.
 *
 * Runs in: `pawl top`. What is shown comes from top_frame.c; what is done goes through struct pawl_top_deeds.
 */
#include "runtime/cli/top_view.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <curses.h>
#include <locale.h>
#include <unistd.h>

#include "runtime/cli/top_frame.h"
#include "shm/clock.h"

enum { ROOM_MIN = 2, KEY_ESCAPE = 27, PAIR_WARNING = 1, PAIR_TITLE = 2 };

struct view {
    struct pawl_top *top;
    const char *where;
    const struct pawl_top_deeds *deeds;
    uint64_t interval_ns, next_ns; /* monotonic */
    bool stale;                    /* the last look failed */
    bool help, leave;
    char words[160]; /* on the last line */
};

static int page_height(void)
{
    int height = LINES - PAWL_TOP_HEAD_LINES - 1;
    return height > 0 ? height : 0;
}

/* ---- drawing ---- */

static attr_t attributes_of(enum pawl_top_look look)
{
    switch (look) {
    case PAWL_TOP_PLAIN:
        return A_NORMAL;
    case PAWL_TOP_TITLE:
        return A_BOLD;
    case PAWL_TOP_NAMES:
    case PAWL_TOP_CHOSEN:
        return A_REVERSE;
    case PAWL_TOP_WARNING:
        return has_colors() ? (attr_t)COLOR_PAIR(PAIR_WARNING) : A_BOLD;
    }
    return A_NORMAL;
}

static void draw_line(int y, const struct pawl_top_line *line, bool chosen)
{
    char text[PAWL_TOP_LINE_BYTES + 1];
    if (y >= LINES)
        return;
    snprintf(text, sizeof text, "%-*.*s", COLS, COLS, line->text);
    attrset(chosen ? A_REVERSE | attributes_of(line->look) : attributes_of(line->look));
    /* The last cell of the last line cannot be written without scrolling: nothing long is put there. */
    mvaddnstr(y, 0, text, COLS);
    attrset(A_NORMAL);
}

static void draw_bottom(const struct view *view)
{
    static const char keys[] = "q quit  h help  s sort  r reverse  p pause  d redrive  P purge  / filter";
    struct pawl_top_line line = {.look = view->words[0] ? PAWL_TOP_TITLE : PAWL_TOP_PLAIN};
    if (view->stale)
        line.look = PAWL_TOP_WARNING;
    snprintf(line.text, sizeof line.text, "%.*s", COLS - 1, view->words[0] ? view->words : keys);
    draw_line(LINES - 1, &line, false);
}

static void draw_help(void)
{
    static const char *const lines[] = {
        "up, k / down, j     choose a queue; PgUp, PgDn, Home, End",
        "s                   sort by the next column; S by the one before; r reversed",
        "/                   only queues whose name contains ...; empty: all",
        "p                   pause the chosen queue, or resume it",
        "d                   redrive its dead letters: they are delivered again",
        "P                   purge it: all that waits in it is dropped",
        "space               look now",
        "q, ^C               quit",
        "",
        "IN events that came, OUT deliveries, per second; FLIGHT not settled yet;",
        "DEAD in its dead-letter queue; STATE ok, full, paused, or its breaker",
        "open or half; CONS consumers. p50 and p99 on top are from publish to",
        "consumer. All of it: docs/observability.md, pawl metrics",
    };
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        struct pawl_top_line line = {0};
        snprintf(line.text, sizeof line.text, "  %s", lines[i]);
        draw_line(PAWL_TOP_HEAD_LINES + (int)i, &line, false);
    }
}

static void draw_rows(const struct view *view)
{
    struct pawl_top *top = view->top;
    size_t height = (size_t)page_height(), chosen = pawl_top_chosen(top);
    pawl_top_scroll(top, height);
    for (size_t i = 0; i < height; i++) {
        struct pawl_top_line line = {0};
        size_t index = top->first + i;
        if (index < top->row_count)
            pawl_top_line(top, index, COLS, &line);
        else if (i == 0 && top->row_count == 0)
            snprintf(line.text, sizeof line.text, "  %s",
                     top->all_count > 0 ? "no queue has such a name" : "there are no queues");
        draw_line(PAWL_TOP_HEAD_LINES + (int)i, &line, index < top->row_count && index == chosen);
    }
}

static void draw(const struct view *view)
{
    struct pawl_top_line head[PAWL_TOP_HEAD_LINES];
    erase();
    pawl_top_head(view->top, view->where, COLS, head);
    for (int i = 0; i < PAWL_TOP_HEAD_LINES; i++)
        draw_line(i, &head[i], false);
    if (view->help)
        draw_help();
    else
        draw_rows(view);
    if (LINES >= PAWL_TOP_HEAD_LINES)
        draw_bottom(view);
    refresh();
}

/* ---- asking ---- */

/* A question on the last line; y and Y are yes, and nothing else is. */
static bool confirmed(const char *question, const char *queue)
{
    struct pawl_top_line line = {.look = PAWL_TOP_TITLE};
    snprintf(line.text, sizeof line.text, "%s %s? (y/n)", question, queue);
    draw_line(LINES - 1, &line, false);
    refresh();
    timeout(-1);
    int key;
    do
        key = getch();
    while (key == KEY_RESIZE);
    return key == 'y' || key == 'Y';
}

/* A line of text on the last line. false: given up. */
static bool read_text(const char *prompt, char *text, size_t bytes)
{
    size_t length = strlen(text);
    timeout(-1);
    curs_set(1);
    for (;;) {
        struct pawl_top_line line = {.look = PAWL_TOP_TITLE};
        snprintf(line.text, sizeof line.text, "%s%s", prompt, text);
        draw_line(LINES - 1, &line, false);
        move(LINES - 1, (int)(strlen(prompt) + length));
        refresh();
        int key = getch();
        if (key == '\n' || key == KEY_ENTER || key == KEY_ESCAPE || key == ERR) {
            curs_set(0);
            return key == '\n' || key == KEY_ENTER;
        }
        if ((key == KEY_BACKSPACE || key == 127 || key == 8) && length > 0)
            text[--length] = 0;
        else if (key == 21) /* ^U */
            text[length = 0] = 0;
        else if (key > ' ' && key < 127 && length + 1 < bytes) {
            text[length++] = (char)key;
            text[length] = 0;
        }
    }
}

/* ---- doing ---- */

static void look(struct view *view)
{
    char words[160] = "";
    view->stale = view->deeds->look(view->deeds->ctx, view->top, words) != 0;
    if (view->stale)
        memcpy(view->words, words, sizeof view->words);
    view->next_ns = pawl_clock_monotonic_ns() + view->interval_ns;
}

static void order(struct view *view, const char *op, const char *question)
{
    char queue[PAWL_METRICS_NAME_BYTES];
    size_t at = pawl_top_chosen(view->top);
    if (at == SIZE_MAX)
        return;
    memcpy(queue, view->top->rows[at].name, sizeof queue);
    if (question && !confirmed(question, queue)) {
        snprintf(view->words, sizeof view->words, "nothing was done");
        return;
    }
    (void)view->deeds->order(view->deeds->ctx, op, queue, view->words);
    char words[160];
    memcpy(words, view->words, sizeof words);
    look(view);
    if (!view->stale)
        memcpy(view->words, words, sizeof view->words);
}

static void pause_or_resume(struct view *view)
{
    size_t at = pawl_top_chosen(view->top);
    if (at != SIZE_MAX)
        order(view, view->top->rows[at].state == PAWL_TOP_PAUSED ? "queue.resume" : "queue.pause", NULL);
}

static void sort_by(struct view *view, int step)
{
    view->top->sort =
        (enum pawl_top_column)(((int)view->top->sort + step + PAWL_TOP_COLUMNS) % PAWL_TOP_COLUMNS);
    pawl_top_sort(view->top);
}

static void set_filter(struct view *view)
{
    char text[PAWL_METRICS_NAME_BYTES];
    memcpy(text, view->top->filter, sizeof text);
    if (!read_text("/", text, sizeof text))
        return;
    memcpy(view->top->filter, text, sizeof text);
    look(view);
}

static void on_key(struct view *view, int key)
{
    bool was_help = view->help;
    view->help = false;
    if (!view->stale)
        view->words[0] = 0;
    switch (key) {
    case 'q':
        view->leave = !was_help;
        break;
    case 'h':
    case '?':
        view->help = !was_help;
        break;
    case KEY_UP:
    case 'k':
        pawl_top_move(view->top, -1);
        break;
    case KEY_DOWN:
    case 'j':
        pawl_top_move(view->top, 1);
        break;
    case KEY_PPAGE:
        pawl_top_move(view->top, -page_height());
        break;
    case KEY_NPAGE:
        pawl_top_move(view->top, page_height());
        break;
    case KEY_HOME:
    case 'g':
        pawl_top_move(view->top, -(long)view->top->row_count);
        break;
    case KEY_END:
    case 'G':
        pawl_top_move(view->top, (long)view->top->row_count);
        break;
    case 's':
    case 'S':
        sort_by(view, key == 's' ? 1 : -1);
        break;
    case 'r':
        view->top->reverse = !view->top->reverse;
        pawl_top_sort(view->top);
        break;
    case 'p':
        pause_or_resume(view);
        break;
    case 'd':
        order(view, "dlq.redrive", "redrive all dead letters of");
        break;
    case 'P':
        order(view, "queue.purge", "drop all that waits in");
        break;
    case '/':
        set_filter(view);
        break;
    case ' ':
        look(view);
        break;
    default:
        break;
    }
}

static bool set_up(SCREEN **screen_out)
{
    (void)setlocale(LC_CTYPE, "");
    /* newterm, not initscr: that one would end the process on an unknown terminal. */
    *screen_out = newterm(NULL, stdout, stdin);
    if (!*screen_out)
        return false;
    if (!tigetstr("cup")) { /* a dumb one: newterm takes it, and draws what nobody can read */
        endwin();
        delscreen(*screen_out);
        return false;
    }
    cbreak();
    noecho();
    keypad(stdscr, TRUE);
    set_escdelay(50);
    curs_set(0);
    if (has_colors()) {
        start_color();
        use_default_colors();
        init_pair(PAIR_WARNING, COLOR_RED, -1);
    }
    return true;
}

int pawl_top_view(struct pawl_top *top, const char *where, uint64_t interval_ns,
                  const struct pawl_top_deeds *deeds)
{
    struct view view = {.top = top, .where = where, .deeds = deeds, .interval_ns = interval_ns};
    SCREEN *screen;
    if (!set_up(&screen))
        return -ENOTTY;
    look(&view);
    view.next_ns = pawl_clock_monotonic_ns() + interval_ns / 4; /* the first rates come soon */
    while (!view.leave) {
        uint64_t now_ns = pawl_clock_monotonic_ns();
        if (now_ns >= view.next_ns) {
            if (view.stale)
                view.words[0] = 0;
            look(&view);
            now_ns = pawl_clock_monotonic_ns();
        }
        draw(&view);
        uint64_t wait_ms = view.next_ns > now_ns ? (view.next_ns - now_ns + 999999) / 1000000 : 1;
        timeout(wait_ms < 60000 ? (int)wait_ms : 60000);
        int key = getch();
        if (key == ERR && isatty(STDIN_FILENO) == 0)
            break; /* the terminal is gone */
        if (key != ERR && key != KEY_RESIZE)
            on_key(&view, key);
    }
    endwin();
    delscreen(screen);
    return 0;
}

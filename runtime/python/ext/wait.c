/*
 * wait.c - waiting without the GIL, and with an ear for signals.
 *
 * Runs in: the Python interpreter. A short wait is libpawl's own (it spins, then sleeps); a longer one is a
 * poll of its descriptor, which a signal ends, so that ^C works and an idle program does not wake up. A
 * question to the scheduler is one call of libpawl, which asks was_interrupted() before it sleeps.
 */
#include "runtime/python/ext/ext.h"

#include <errno.h>
#include <math.h>
#include <poll.h>
#include <time.h>

enum { SHORT_WAIT_MS = 20 };

int64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

bool read_timeout(PyObject *timeout, int64_t *deadline_out)
{
    *deadline_out = FOREVER;
    if (!timeout || timeout == Py_None)
        return true;
    double seconds = PyFloat_AsDouble(timeout);
    if (seconds == -1.0 && PyErr_Occurred())
        return false;
    if (isnan(seconds) || seconds < 0) {
        PyErr_SetString(PyExc_ValueError, "a timeout is None or a number of seconds, 0 or more");
        return false;
    }
    if (seconds < 1e9)
        *deadline_out = seconds == 0 ? 0 : now_ms() + (int64_t)ceil(seconds * 1000);
    return true;
}

int milliseconds_left(int64_t deadline_ms)
{
    if (deadline_ms == FOREVER)
        return -1;
    int64_t left = deadline_ms - now_ms();
    return left <= 0 ? 0 : left > INT32_MAX ? INT32_MAX : (int)left;
}

int was_interrupted(void *context)
{
    const struct client *client = context;
    if (!client->heeds) /* wait_for_news() looks by itself: no GIL where there are many short sleeps */
        return 0;
    PyGILState_STATE state = PyGILState_Ensure();
    bool raised = PyErr_Occurred() || PyErr_CheckSignals() != 0;
    PyGILState_Release(state);
    return raised;
}

PyObject *raise_asked(const struct client *client, int error)
{
    return PyErr_Occurred() ? NULL : raise_last(client, error);
}

/* Without the GIL. How many things happened; 0: none, or a signal came; or an error. */
static int wait_shortly(struct pawl *pawl, int left_ms)
{
    return pawl_dispatch(pawl, left_ms < 0 || left_ms > SHORT_WAIT_MS ? SHORT_WAIT_MS : left_ms);
}

/* A poll, which a signal ends: -EAGAIN, when the time has passed. */
static int wait_long(struct pawl *pawl, int left_ms)
{
    struct pollfd news = {.fd = pawl_fd(pawl), .events = POLLIN};
    if (news.fd < 0)
        return news.fd;
    int ready = poll(&news, 1, left_ms);
    return ready > 0 ? pawl_dispatch(pawl, 0) : ready == 0 ? -EAGAIN : 0;
}

/* One of them. How many things happened; 0; -EAGAIN; -1: an exception is set. */
static int wait_once(struct client *client, int (*wait)(struct pawl *pawl, int left_ms), int left_ms)
{
    if (!enter(client)) /* also where a signal's handler closed it */
        return -1;
    int happened;
    client->busy = true;
    Py_BEGIN_ALLOW_THREADS;
    happened = wait(client->pawl, left_ms);
    Py_END_ALLOW_THREADS;
    client->busy = false;
    if (PyErr_CheckSignals() != 0)
        return -1;
    if (happened < 0 && happened != -EAGAIN) {
        raise_last(client, happened);
        return -1;
    }
    return happened;
}

int wait_for_news(struct client *client, int64_t deadline_ms)
{
    if (milliseconds_left(deadline_ms) == 0)
        return enter(client) ? 0 : -1;
    int left_ms = milliseconds_left(deadline_ms);
    int happened = wait_once(client, wait_shortly, left_ms);
    /* A signal between the look at signals and the sleep ends no poll: each is as long as all before. */
    for (int nap_ms = SHORT_WAIT_MS; happened == 0 || happened == -EAGAIN; nap_ms *= 2) {
        left_ms = milliseconds_left(deadline_ms);
        if (left_ms == 0)
            return 1;
        bool is_last = nap_ms > INT32_MAX / 4 || (left_ms > 0 && left_ms <= nap_ms);
        happened = wait_once(client, wait_long, is_last ? left_ms : nap_ms);
        if (happened == 0) /* a signal: the caller looks */
            return 1;
    }
    return happened < 0 ? -1 : 1;
}

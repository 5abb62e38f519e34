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
#include <pthread.h>
#include <signal.h>
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

/* How many things happened; 0: none, or a signal came; or an error. The GIL is let go while it sleeps. */
static int wait_shortly(struct pawl *pawl, int left_ms)
{
    int happened;
    Py_BEGIN_ALLOW_THREADS;
    happened = pawl_dispatch(pawl, left_ms < 0 || left_ms > SHORT_WAIT_MS ? SHORT_WAIT_MS : left_ms);
    Py_END_ALLOW_THREADS;
    return happened;
}

/* A poll, which a signal ends: -EAGAIN, when the time has passed. Signals are held back from the last look at
 * them until it sleeps: one that came between would end nothing. */
static int wait_long(struct pawl *pawl, int left_ms)
{
    struct pollfd news = {.fd = pawl_fd(pawl), .events = POLLIN};
    struct timespec left = {.tv_sec = left_ms / 1000, .tv_nsec = left_ms % 1000 * 1000000L};
    sigset_t all, before;
    int ready;
    if (news.fd < 0)
        return news.fd;
    sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    if (PyErr_CheckSignals() != 0) {
        (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
        return 0;
    }
    Py_BEGIN_ALLOW_THREADS;
    ready = ppoll(&news, 1, left_ms < 0 ? NULL : &left, &before);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (ready > 0)
        ready = pawl_dispatch(pawl, 0);
    else
        ready = ready == 0 ? -EAGAIN : 0;
    Py_END_ALLOW_THREADS;
    return ready;
}

/* One of them. How many things happened; 0; -EAGAIN; -1: an exception is set. */
static int wait_once(struct client *client, int (*wait)(struct pawl *pawl, int left_ms), int left_ms)
{
    if (!enter(client)) /* also where a signal's handler closed it */
        return -1;
    client->busy = true;
    int happened = wait(client->pawl, left_ms);
    client->busy = false;
    if (PyErr_Occurred() || PyErr_CheckSignals() != 0)
        return -1;
    if (happened < 0 && happened != -EAGAIN) {
        raise_last(client, happened);
        return -1;
    }
    return happened;
}

int wait_for_news(struct client *client, int64_t deadline_ms)
{
    int left_ms = milliseconds_left(deadline_ms);
    if (left_ms == 0)
        return enter(client) ? 0 : -1;
    int happened = wait_once(client, wait_shortly, left_ms);
    if (happened == 0 || happened == -EAGAIN) {
        left_ms = milliseconds_left(deadline_ms);
        happened = left_ms == 0 ? 1 : wait_once(client, wait_long, left_ms);
    }
    return happened == -1 ? -1 : 1;
}

/*
 * client.c - the type Client: a connection, what is asked over its socket, and its poll loop.
 *
 * Runs in: the Python interpreter.
 */
#include "runtime/python/ext/ext.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

bool enter(struct client *client)
{
    if (!client->pawl)
        raise_error(PAWL_ERR_CLOSED, "this client is closed");
    else if (client->busy)
        raise_error(PAWL_ERR_STATE, "another thread uses this client: use one client for each thread");
    else
        return true;
    return false;
}

PyObject *connect_client(PyObject *module, PyObject *args, PyObject *keywords)
{
    static char *names[] = {"state", "socket", "may_launch", "connect_timeout", "reconnect_timeout", NULL};
    PyObject *state = NULL, *path = NULL, *connect_timeout = Py_None, *reconnect_timeout = Py_None;
    int may_launch = 0, error;
    int64_t connect_ms, reconnect_ms;
    struct client *client = NULL;
    (void)module;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "|OOpOO", names, &state, &path, &may_launch,
                                     &connect_timeout, &reconnect_timeout))
        return NULL;
    PyObject *state_bytes = NULL, *path_bytes = NULL;
    if (!read_timeout(connect_timeout, &connect_ms) || !read_timeout(reconnect_timeout, &reconnect_ms))
        return NULL;
    if (state && state != Py_None && !PyUnicode_FSConverter(state, &state_bytes))
        return NULL;
    if (path && path != Py_None && !PyUnicode_FSConverter(path, &path_bytes))
        goto drop;
    client = PyObject_New(struct client, client_type);
    if (!client)
        goto drop;
    memset((char *)client + sizeof(PyObject), 0, sizeof *client - sizeof(PyObject));
    struct pawl_connect_options options = {
        .bytes = sizeof options,
        .state = state_bytes ? PyBytes_AsString(state_bytes) : NULL,
        .socket = path_bytes ? PyBytes_AsString(path_bytes) : NULL,
        .may_launch = may_launch,
        .connect_timeout_ms = connect_ms == FOREVER ? 0 : milliseconds_left(connect_ms) + 1,
        .reconnect_timeout_ms = reconnect_ms == FOREVER ? 0 : milliseconds_left(reconnect_ms) + 1,
        .interrupted = was_interrupted,
        .interrupt_context = client,
    };
    struct pawl *pawl = NULL;
    char why[512] = "";
    BEGIN_ASKING(client);
    error = pawl_connect(&options, &pawl);
    if (error) /* words of this thread */
        PyOS_snprintf(why, sizeof why, "%s", pawl_last_error(NULL));
    END_ASKING(client);
    client->pawl = pawl;
    if (error) {
        if (!PyErr_Occurred())
            raise_error(error, why);
        Py_CLEAR(client);
    }
drop:
    Py_XDECREF(state_bytes);
    Py_XDECREF(path_bytes);
    return (PyObject *)client;
}

/* A scheduler that is this process's child and ends with the client (_keeper.py). */
PyObject *start_client(PyObject *module, PyObject *args)
{
    PyObject *state_bytes = NULL;
    int error;
    (void)module;
    if (!PyArg_ParseTuple(args, "O&", PyUnicode_FSConverter, &state_bytes))
        return NULL;
    struct client *client = PyObject_New(struct client, client_type);
    if (!client) {
        Py_DECREF(state_bytes);
        return NULL;
    }
    memset((char *)client + sizeof(PyObject), 0, sizeof *client - sizeof(PyObject));
    struct pawl_start_options options = {.bytes = sizeof options, .state = PyBytes_AsString(state_bytes)};
    error = pawl_start(&options, &client->pawl);
    if (error) {
        client->pawl = NULL;
        raise_error(error, pawl_last_error(NULL));
        Py_CLEAR(client);
    }
    Py_DECREF(state_bytes);
    return (PyObject *)client;
}

/* ---- the end ---- */

static void close_handle(struct client *self)
{
    struct pawl *pawl = self->pawl;
    if (!pawl)
        return;
    self->pawl = NULL;
    Py_BEGIN_ALLOW_THREADS;
    pawl_close(pawl);
    Py_END_ALLOW_THREADS;
    drop_batches(self);
}

static PyObject *client_close(struct client *self, PyObject *unused)
{
    (void)unused;
    if (self->pawl && !enter(self))
        return NULL;
    close_handle(self);
    Py_RETURN_NONE;
}

static void client_dealloc(struct client *self)
{
    PyTypeObject *type = Py_TYPE(self);
    close_handle(self);
    Py_XDECREF(self->last_topic);
    Py_XDECREF(self->last_topic_bytes);
    PyObject_Free(self);
    Py_DECREF(type);
}

/* ---- poll loop ---- */

static PyObject *client_fileno(struct client *self, PyObject *unused)
{
    (void)unused;
    if (!enter(self))
        return NULL;
    int fd = pawl_fd(self->pawl);
    return fd < 0 ? raise_last(self, fd) : PyLong_FromLong(fd);
}

static PyObject *client_dispatch(struct client *self, PyObject *args)
{
    PyObject *timeout = NULL;
    int64_t deadline_ms = 0;
    if (!PyArg_ParseTuple(args, "|O", &timeout) || (timeout && !read_timeout(timeout, &deadline_ms)) ||
        !enter(self))
        return NULL;
    int happened = pawl_dispatch(self->pawl, 0);
    if (happened < 0)
        return raise_last(self, happened);
    if (happened == 0 && deadline_ms != 0 && !self->finished.newest && wait_for_news(self, deadline_ms) < 0)
        return NULL;
    return take_finished(self);
}

static PyObject *client_kick(struct client *self, PyObject *unused)
{
    (void)unused;
    if (!enter(self))
        return NULL;
    pawl_kick(self->pawl);
    Py_RETURN_NONE;
}

static PyObject *client_flush(struct client *self, PyObject *args)
{
    PyObject *timeout = NULL;
    int64_t deadline_ms;
    if (!PyArg_ParseTuple(args, "|O", &timeout) || !read_timeout(timeout, &deadline_ms) || !enter(self))
        return NULL;
    int error, left_ms = milliseconds_left(deadline_ms);
    BEGIN_ASKING(self);
    error = pawl_flush(self->pawl, left_ms);
    END_ASKING(self);
    if (error)
        return raise_asked(self, error);
    Py_RETURN_NONE;
}

/* ---- questions ---- */

static PyObject *client_request(struct client *self, PyObject *args)
{
    const char *json;
    char *reply = NULL;
    int error;
    if (!PyArg_ParseTuple(args, "s", &json) || !enter(self))
        return NULL;
    BEGIN_ASKING(self);
    error = pawl_request(self->pawl, json, &reply);
    END_ASKING(self);
    if (error)
        return raise_asked(self, error);
    PyObject *text = PyUnicode_DecodeUTF8(reply, (Py_ssize_t)strlen(reply), "surrogateescape");
    free(reply);
    return text;
}

static PyObject *client_declare(struct client *self, PyObject *args)
{
    const char *name;
    struct pawl_queue_options options = {.bytes = sizeof options};
    int error;
    if (!PyArg_ParseTuple(args, "ss", &name, &options.json) || !enter(self))
        return NULL;
    BEGIN_ASKING(self);
    error = pawl_queue_declare(self->pawl, name, &options);
    END_ASKING(self);
    if (error)
        return raise_asked(self, error);
    Py_RETURN_NONE;
}

static PyObject *client_settle(struct client *self, PyObject *args)
{
    const char *tag, *op, *text = NULL;
    long long value_ms = -1;
    int error;
    if (!PyArg_ParseTuple(args, "ss|Lz", &tag, &op, &value_ms, &text) || !enter(self))
        return NULL;
    BEGIN_ASKING(self);
    error = pawl_settle_tag(self->pawl, tag, op, value_ms, text);
    END_ASKING(self);
    if (error)
        return raise_asked(self, error);
    Py_RETURN_NONE;
}

static PyObject *client_look(struct client *self, int (*look)(struct pawl *, char **))
{
    char *json = NULL;
    int error;
    if (!enter(self))
        return NULL;
    BEGIN_ASKING(self);
    error = look(self->pawl, &json);
    END_ASKING(self);
    if (error)
        return raise_asked(self, error);
    PyObject *text = PyUnicode_DecodeUTF8(json, (Py_ssize_t)strlen(json), "surrogateescape");
    free(json);
    return text;
}

static PyObject *client_metrics(struct client *self, PyObject *unused)
{
    (void)unused;
    return client_look(self, pawl_metrics);
}

static PyObject *client_health(struct client *self, PyObject *unused)
{
    (void)unused;
    return client_look(self, pawl_health);
}

static PyObject *get_closed(struct client *self, void *unused)
{
    (void)unused;
    return PyBool_FromLong(self->pawl == NULL);
}

static PyObject *get_unconfirmed(struct client *self, void *unused)
{
    (void)unused;
    return PyLong_FromUnsignedLongLong(self->pawl ? pawl_unconfirmed(self->pawl) : 0);
}

static PyObject *get_late(struct client *self, void *unused)
{
    (void)unused;
    return PyLong_FromUnsignedLongLong(self->pawl ? pawl_late_settlements(self->pawl) : 0);
}

#define METHOD(name, function, flags, text)                                                                  \
    {                                                                                                        \
        name, (PyCFunction)(void (*)(void))(function), flags, text                                           \
    }
static PyMethodDef client_methods[] = {
    METHOD("close", client_close, METH_NOARGS, "end it; what is unsettled goes again"),
    METHOD("fileno", client_fileno, METH_NOARGS, "readable when dispatch() has something to do"),
    METHOD("dispatch", client_dispatch, METH_VARARGS, "dispatch(timeout=0) -> batches that are completed"),
    METHOD("kick", client_kick, METH_NOARGS, "let the scheduler see what was submitted and settled"),
    METHOD("flush", client_flush, METH_VARARGS, "flush(timeout=None): until all is confirmed"),
    METHOD("submit", client_submit, METH_O, "submit(messages) -> Batch, without waiting"),
    METHOD("publish", client_publish, METH_VARARGS, "publish(message, timeout) -> confirm"),
    METHOD("publish_batch", client_publish_batch, METH_VARARGS, "publish_batch(messages, timeout) -> Batch"),
    METHOD("consume", client_consume, METH_VARARGS | METH_KEYWORDS,
           "consume(queue, group=None, prefetch=0, auto_ack=False, start=None) -> Consumer"),
    METHOD("take", client_take, METH_VARARGS | METH_KEYWORDS,
           "take(queue, count=1, timeout=0, group=None) -> deliveries that are settled by their tag"),
    METHOD("settle", client_settle, METH_VARARGS, "settle(tag, op, value_ms=-1, text=None)"),
    METHOD("declare", client_declare, METH_VARARGS, "declare(name, json)"),
    METHOD("request", client_request, METH_VARARGS, "request(json) -> json"),
    METHOD("metrics", client_metrics, METH_NOARGS, "metrics() -> json"),
    METHOD("health", client_health, METH_NOARGS, "health() -> json"),
    {NULL, NULL, 0, NULL},
};
static PyGetSetDef client_fields[] = {
    {"closed", (getter)get_closed, NULL, "whether close() was called", NULL},
    {"unconfirmed", (getter)get_unconfirmed, NULL, "publishes whose confirm has not come", NULL},
    {"late_settlements", (getter)get_late, NULL, "settlements that came too late", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};
static PyType_Slot client_slots[] = {
    {Py_tp_doc, "A connection to a scheduler: one thread at a time."},
    {Py_tp_dealloc, client_dealloc},
    {Py_tp_methods, client_methods},
    {Py_tp_getset, client_fields},
    {0, NULL},
};
PyType_Spec client_spec = {"pawl._pawl.Client", sizeof(struct client), 0, Py_TPFLAGS_DEFAULT, client_slots};

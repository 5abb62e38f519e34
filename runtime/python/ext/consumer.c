/*
 * consumer.c - the type Consumer: deliveries claimed, many at a time; and detached ones taken by a client.
 *
 * Runs in: the Python interpreter.
 */
#include "runtime/python/ext/ext.h"

#include <stdlib.h>
#include <string.h>

enum { CLAIM_MAX = 4096 };

PyObject *client_consume(struct client *self, PyObject *args, PyObject *keywords)
{
    static char *names[] = {"queue", "group", "prefetch", "auto_ack", "start", NULL};
    struct pawl_consumer_options options = {.bytes = sizeof options};
    Py_ssize_t prefetch = 0;
    PyObject *queue, *start = Py_None;
    struct pawl_consumer *made = NULL;
    int error;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "U|znpO", names, &queue, &options.group, &prefetch,
                                     &options.auto_ack, &start) ||
        !enter(self))
        return NULL;
    if (prefetch < 0)
        return PyErr_Format(PyExc_ValueError, "prefetch is a number from 1 to 16384, or 0 for the default");
    options.prefetch =
        prefetch > INT32_MAX ? INT32_MAX : (unsigned)prefetch; /* too many is the library's word */
    if (start != Py_None) {
        options.has_from = 1;
        options.from = PyLong_AsUnsignedLongLong(start);
        if (PyErr_Occurred())
            return NULL;
    }
    PyObject *name = PyUnicode_AsUTF8String(queue);
    struct consumer *consumer = name ? PyObject_New(struct consumer, consumer_type) : NULL;
    if (!consumer) {
        Py_XDECREF(name);
        return NULL;
    }
    memset((char *)consumer + sizeof(PyObject), 0, sizeof *consumer - sizeof(PyObject));
    const char *text = PyBytes_AsString(name);
    BEGIN_ASKING(self);
    error = pawl_consume(self->pawl, text, &options, &made);
    END_ASKING(self);
    Py_DECREF(name);
    Py_INCREF(self);
    Py_INCREF(queue);
    consumer->client = self;
    consumer->queue = queue;
    consumer->self = made;
    PyOS_snprintf(consumer->group, sizeof consumer->group, "%s", options.group ? options.group : "");
    consumer->auto_ack = options.auto_ack != 0;
    if (error) {
        raise_asked(self, error);
        Py_CLEAR(consumer);
    }
    return (PyObject *)consumer;
}

/* Deliveries of one topic follow one another: their text is made once. */
static PyObject *topic_of(struct consumer *self, const char *topic)
{
    if (self->topic && strcmp(self->topic_text, topic) == 0)
        return self->topic;
    size_t bytes = strlen(topic);
    PyObject *text = PyUnicode_DecodeUTF8(topic, (Py_ssize_t)bytes, "surrogateescape");
    if (!text || bytes >= sizeof self->topic_text) {
        Py_XDECREF(text);
        return NULL;
    }
    Py_XDECREF(self->topic);
    self->topic = text;
    memcpy(self->topic_text, topic, bytes + 1);
    return text;
}

static PyObject *claimed_list(struct consumer *self, const struct pawl_delivery *const *deliveries,
                              Py_ssize_t count)
{
    PyObject *list = PyList_New(count);
    for (Py_ssize_t i = 0; list && i < count; i++) {
        PyObject *topic = topic_of(self, deliveries[i]->topic);
        PyObject *one =
            topic ? delivery_new(self->client, self, deliveries[i], self->queue, topic, NULL) : NULL;
        if (!one || PyList_SetItem(list, i, one) != 0)
            Py_CLEAR(list);
    }
    if (!list && count > 0) /* nobody knows of them: they go back */
        for (Py_ssize_t i = 0; i < count; i++)
            (void)pawl_release(deliveries[i]);
    return list;
}

static PyObject *consumer_claim(struct consumer *self, PyObject *args, PyObject *keywords)
{
    static char *names[] = {"max", "timeout", NULL};
    Py_ssize_t max = 64;
    PyObject *timeout = NULL;
    int64_t deadline_ms;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "|nO", names, &max, &timeout) ||
        !read_timeout(timeout, &deadline_ms))
        return NULL;
    if (max < 1)
        return PyErr_Format(PyExc_ValueError, "claim at least one");
    if (max > CLAIM_MAX)
        max = CLAIM_MAX;
    const struct pawl_delivery *few[64], **deliveries = few;
    if (max > 64 && !(deliveries = PyMem_Calloc((size_t)max, sizeof *deliveries)))
        return PyErr_NoMemory();
    PyObject *list = NULL;
    for (;;) {
        if (!enter(self->client))
            break;
        if (!self->self) {
            raise_error(PAWL_ERR_CLOSED, "this consumer is closed");
            break;
        }
        int count = pawl_claim(self->self, deliveries, (size_t)max, 0);
        if (count < 0) {
            raise_last(self->client, count);
            break;
        }
        int waited = count == 0 && deadline_ms != 0 ? wait_for_news(self->client, deadline_ms) : 0;
        if (waited < 0)
            break;
        if (waited == 0) {
            list = claimed_list(self, deliveries, count);
            break;
        }
    }
    if (deliveries != few)
        PyMem_Free(deliveries);
    return list;
}

static PyObject *consumer_ack(struct consumer *self, PyObject *deliveries)
{
    if (!enter(self->client))
        return NULL;
    PyObject *iterator = PyObject_GetIter(deliveries), *item;
    long count = 0;
    if (!iterator)
        return NULL;
    while ((item = PyIter_Next(iterator))) {
        struct delivery *delivery = (struct delivery *)item;
        int error = 0;
        if (!PyObject_TypeCheck(item, delivery_type) || delivery->consumer != self) {
            PyErr_SetString(PyExc_TypeError, "not a delivery of this consumer");
        } else if (delivery_own(delivery)) {
            self->client->busy = self->client->heeds = true;
            error = pawl_ack(delivery->delivery);
            self->client->busy = self->client->heeds = false;
            if (error == 0 || error == PAWL_ERR_STALE)
                delivery->delivery = NULL; /* else it is still to be settled */
            if (error)
                raise_asked(self->client, error);
        }
        Py_DECREF(item);
        if (PyErr_Occurred())
            break;
        count++;
    }
    Py_DECREF(iterator);
    return PyErr_Occurred() ? NULL : PyLong_FromLong(count);
}

static PyObject *consumer_close(struct consumer *self, PyObject *unused)
{
    (void)unused;
    struct pawl_consumer *closing = self->self;
    if (!closing || !self->client->pawl)
        Py_RETURN_NONE;
    if (!enter(self->client))
        return NULL;
    self->self = NULL;
    BEGIN_ASKING(self->client);
    pawl_consumer_close(closing);
    END_ASKING(self->client);
    if (PyErr_Occurred())
        return NULL;
    Py_RETURN_NONE;
}

static void consumer_dealloc(struct consumer *self)
{
    PyTypeObject *type = Py_TYPE(self);
    struct pawl_consumer *closing = self->self;
    /* Deliveries hold it, so none of it is left. One that is forgotten in a busy client ends with that. */
    if (closing && self->client->pawl && !self->client->busy) {
        self->client->busy = true;
        Py_BEGIN_ALLOW_THREADS;
        pawl_consumer_close(closing);
        Py_END_ALLOW_THREADS;
        self->client->busy = false;
    }
    Py_XDECREF(self->client);
    Py_XDECREF(self->queue);
    Py_XDECREF(self->topic);
    PyObject_Free(self);
    Py_DECREF(type);
}

/* ---- detached ---- */

static PyObject *taken_list(struct client *client, PyObject *queue, const struct pawl_taken *taken,
                            Py_ssize_t count)
{
    PyObject *list = PyList_New(count);
    for (Py_ssize_t i = 0; list && i < count; i++) {
        const char *text = taken[i].delivery.topic;
        PyObject *topic = PyUnicode_DecodeUTF8(text, (Py_ssize_t)strlen(text), "surrogateescape");
        PyObject *one =
            topic ? delivery_new(client, NULL, &taken[i].delivery, queue, topic, taken[i].tag) : NULL;
        Py_XDECREF(topic);
        if (!one || PyList_SetItem(list, i, one) != 0)
            Py_CLEAR(list);
    }
    return list;
}

/* The program wants none of it any more: it waits for the next one, rather than for its ack wait to pass. */
static void hand_back(struct client *client, const struct pawl_taken *taken, int count)
{
    client->busy = true;
    Py_BEGIN_ALLOW_THREADS;
    for (int i = 0; i < count; i++)
        (void)pawl_settle_tag(client->pawl, taken[i].tag, "nack", 0, "interrupted");
    Py_END_ALLOW_THREADS;
    client->busy = false;
}

PyObject *client_take(struct client *self, PyObject *args, PyObject *keywords)
{
    static char *names[] = {"queue", "count", "timeout", "group", NULL};
    PyObject *queue, *timeout = Py_None;
    Py_ssize_t count = 1;
    const char *group = NULL;
    int64_t deadline_ms = 0;
    struct pawl_taken *taken = NULL;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "U|nOz", names, &queue, &count, &timeout, &group) ||
        !read_timeout(timeout, &deadline_ms) || !enter(self))
        return NULL;
    if (count < 1)
        return PyErr_Format(PyExc_ValueError, "take at least one");
    PyObject *name = PyUnicode_AsUTF8String(queue);
    if (!name)
        return NULL;
    const char *text = PyBytes_AsString(name);
    int got, left_ms = milliseconds_left(deadline_ms);
    BEGIN_ASKING(self);
    got = pawl_take(self->pawl, text, group, (size_t)count, left_ms, &taken);
    END_ASKING(self);
    PyObject *list = NULL;
    if (got < 0)
        raise_asked(self, got);
    else if (!PyErr_Occurred())
        list = taken_list(self, queue, taken, got);
    else
        hand_back(self, taken, got);
    free(taken);
    Py_DECREF(name);
    return list;
}

/* ---- the type ---- */

static PyObject *get_queue(struct consumer *self, void *unused)
{
    (void)unused;
    Py_INCREF(self->queue);
    return self->queue;
}

static PyMethodDef consumer_methods[] = {
    {"claim", (PyCFunction)(void (*)(void))consumer_claim, METH_VARARGS | METH_KEYWORDS,
     "claim(max=64, timeout=None) -> deliveries; none when the timeout has passed"},
    {"ack", (PyCFunction)(void (*)(void))consumer_ack, METH_O, "ack(deliveries) -> how many"},
    {"close", (PyCFunction)(void (*)(void))consumer_close, METH_NOARGS, "what is unsettled goes back"},
    {NULL, NULL, 0, NULL},
};
static PyGetSetDef consumer_fields[] = {
    {"queue", (getter)get_queue, NULL, "its name", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};
static PyType_Slot consumer_slots[] = {
    {Py_tp_doc, "A client's subscription to a queue."},
    {Py_tp_dealloc, consumer_dealloc},
    {Py_tp_methods, consumer_methods},
    {Py_tp_getset, consumer_fields},
    {0, NULL},
};
PyType_Spec consumer_spec = {"pawl._pawl.Consumer", sizeof(struct consumer), 0, Py_TPFLAGS_DEFAULT,
                             consumer_slots};

/*
 * delivery.c - the type Delivery: one hand-over of one event, and its settlement.
 *
 * Runs in: the Python interpreter. libpawl gives the struct of a settled delivery to another one: `number`,
 * which no two deliveries of a handle share, tells them apart.
 */
#include "runtime/python/ext/ext.h"

#include <string.h>

PyObject *delivery_new(struct client *client, struct consumer *consumer, const struct pawl_delivery *given,
                       PyObject *queue, PyObject *topic, const char *tag)
{
    struct delivery *self = PyObject_New(struct delivery, delivery_type);
    if (!self)
        return NULL;
    memset((char *)self + sizeof(PyObject), 0, sizeof *self - sizeof(PyObject));
    Py_INCREF(client);
    Py_XINCREF(consumer);
    Py_INCREF(queue);
    Py_INCREF(topic);
    self->client = client;
    self->consumer = consumer;
    self->queue = queue;
    self->topic = topic;
    self->number = given->number;
    self->event_id = given->event_id;
    self->seq = given->seq;
    self->epoch = given->epoch;
    self->published_at_ns = given->published_at_ns;
    self->attempt = given->attempt;
    self->failures = given->failures;
    self->priority = given->priority;
    self->delivery = consumer && consumer->auto_ack ? NULL : given;
    self->data = PyBytes_FromStringAndSize(given->data, (Py_ssize_t)given->data_bytes);
    if (given->headers_bytes > 0)
        self->packed = PyBytes_FromStringAndSize(given->headers, (Py_ssize_t)given->headers_bytes);
    if (tag)
        self->tag = PyUnicode_FromString(tag);
    if (!self->data || (given->headers_bytes > 0 && !self->packed) || (tag && !self->tag)) {
        Py_DECREF(self);
        return NULL;
    }
    return (PyObject *)self;
}

static void delivery_dealloc(struct delivery *self)
{
    PyTypeObject *type = Py_TYPE(self);
    Py_XDECREF(self->queue);
    Py_XDECREF(self->topic);
    Py_XDECREF(self->data);
    Py_XDECREF(self->tag);
    Py_XDECREF(self->packed);
    Py_XDECREF(self->headers);
    Py_XDECREF(self->consumer);
    Py_XDECREF(self->client);
    PyObject_Free(self);
    Py_DECREF(type);
}

/* Closed consumers and clients have handed theirs back. The struct of a detached one is gone already. */
static bool is_settled(const struct delivery *self)
{
    const struct consumer *consumer = self->consumer;
    if (!consumer || !self->delivery)
        return !self->delivery;
    return !self->client->pawl || !consumer->self || self->number < consumer->settled_below ||
           self->delivery->number != self->number;
}

const struct pawl_delivery *delivery_own(struct delivery *self)
{
    if (!enter(self->client))
        return NULL;
    if (is_settled(self))
        self->delivery = NULL;
    if (!self->delivery)
        raise_error(PAWL_ERR_STALE, "this delivery was settled before");
    return self->delivery;
}

/* ---- settle ---- */

/* A detached one, by its tag. */
static PyObject *settle_detached(struct delivery *self, const char *op, long long value_ms, const char *text)
{
    PyObject *tag = PyUnicode_AsUTF8String(self->tag);
    int error;
    if (!tag)
        return NULL;
    const char *name = PyBytes_AsString(tag);
    struct client *client = self->client;
    BEGIN_ASKING(client);
    error = pawl_settle_tag(client->pawl, name, op, value_ms, text);
    END_ASKING(client);
    Py_DECREF(tag);
    if (error)
        return raise_asked(client, error);
    if (strcmp(op, "extend") != 0)
        self->delivery = NULL;
    Py_RETURN_NONE;
}

/* A settlement seldom waits (a full ring), so it keeps the GIL; but signals are heeded then too. */
static struct delivery *settling(struct delivery *self)
{
    self->client->busy = self->client->heeds = true;
    return self;
}

static PyObject *settled(struct delivery *self, int error)
{
    self->client->busy = self->client->heeds = false;
    if (error == 0 || error == PAWL_ERR_STALE)
        self->delivery = NULL;
    if (error)
        return raise_asked(self->client, error);
    Py_RETURN_NONE;
}

static PyObject *delivery_ack(struct delivery *self, PyObject *unused)
{
    (void)unused;
    if (!delivery_own(self))
        return NULL;
    if (!self->consumer)
        return settle_detached(self, "ack", 0, NULL);
    return settled(self, pawl_ack(settling(self)->delivery));
}

static PyObject *delivery_ack_up_to(struct delivery *self, PyObject *unused)
{
    (void)unused;
    if (!delivery_own(self))
        return NULL;
    if (!self->consumer)
        return raise_error(PAWL_ERR_INVALID, "a detached delivery is settled alone");
    int error = pawl_ack_up_to(settling(self)->delivery);
    if (error == 0 && self->number >= self->consumer->settled_below)
        self->consumer->settled_below = self->number + 1;
    return settled(self, error);
}

static PyObject *delivery_reject_for(struct delivery *self, const char *reason)
{
    if (!self->consumer)
        return settle_detached(self, "reject", 0, reason);
    return settled(self, pawl_reject(settling(self)->delivery, reason));
}

/* None, or seconds; as milliseconds. false: an exception is set. */
static bool read_seconds(PyObject *value, long long without, long long *ms_out)
{
    *ms_out = without;
    if (value == Py_None)
        return true;
    double seconds = PyFloat_AsDouble(value);
    if (seconds == -1.0 && PyErr_Occurred())
        return false;
    if (!(seconds >= 0 && seconds < 1e12)) {
        PyErr_SetString(PyExc_ValueError, "a delay is a number of seconds, 0 or more");
        return false;
    }
    *ms_out = (long long)(seconds * 1000 + 0.5);
    return true;
}

static PyObject *delivery_nack(struct delivery *self, PyObject *args, PyObject *keywords)
{
    static char *names[] = {"requeue", "delay", "reason", "handler_error", "spare_breaker", NULL};
    PyObject *delay = Py_None;
    long long delay_ms;
    const char *reason = NULL;
    int requeue = 1, handler_error = 0, spare_breaker = 0;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "|pOzpp", names, &requeue, &delay, &reason,
                                     &handler_error, &spare_breaker) ||
        !read_seconds(delay, -1, &delay_ms) || !delivery_own(self))
        return NULL;
    if (!requeue)
        return delivery_reject_for(self, reason);
    if (!self->consumer)
        return settle_detached(self, "nack", delay_ms, reason);
    if (!handler_error && !reason && !spare_breaker)
        return settled(self, pawl_nack(settling(self)->delivery, 1, delay_ms));
    return settled(self, pawl_nack_cause(settling(self)->delivery, -1, delay_ms, spare_breaker, reason));
}

static PyObject *delivery_reject(struct delivery *self, PyObject *args, PyObject *keywords)
{
    static char *names[] = {"reason", NULL};
    const char *reason = NULL;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "|z", names, &reason) || !delivery_own(self))
        return NULL;
    return delivery_reject_for(self, reason);
}

static PyObject *delivery_release(struct delivery *self, PyObject *unused)
{
    (void)unused;
    if (!delivery_own(self))
        return NULL;
    if (!self->consumer)
        return raise_error(PAWL_ERR_INVALID, "a detached delivery goes back by a nack, or its deadline");
    return settled(self, pawl_release(settling(self)->delivery));
}

static PyObject *delivery_extend(struct delivery *self, PyObject *args, PyObject *keywords)
{
    static char *names[] = {"seconds", NULL};
    PyObject *by = Py_None;
    long long by_ms;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "|O", names, &by) || !read_seconds(by, 0, &by_ms) ||
        !delivery_own(self))
        return NULL;
    if (!self->consumer)
        return settle_detached(self, "extend", by_ms, NULL);
    const struct pawl_delivery *delivery = settling(self)->delivery;
    PyObject *result = settled(self, pawl_extend(delivery, (uint64_t)by_ms));
    if (result)
        self->delivery = delivery; /* it is still to be settled */
    return result;
}

static PyObject *delivery_ack_publish(struct delivery *self, PyObject *args, PyObject *keywords)
{
    static char *names[] = {"messages", "timeout", NULL};
    PyObject *messages, *timeout = NULL, *result = NULL;
    int64_t deadline_ms;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "O!|O", names, &PyList_Type, &messages, &timeout) ||
        !read_timeout(timeout, &deadline_ms) || !delivery_own(self))
        return NULL;
    if (!self->consumer)
        return raise_error(PAWL_ERR_INVALID, "a detached delivery is settled alone");
    struct client *client = self->client;
    Py_ssize_t count = PyList_Size(messages), read = 0;
    size_t room = count > 0 ? (size_t)count : 1;
    struct message *held = PyMem_Calloc(room, sizeof *held);
    struct pawl_message *plain = PyMem_Calloc(room, sizeof *plain);
    if (!held || !plain) {
        PyErr_NoMemory();
        goto drop;
    }
    for (; read < count; read++) {
        if (message_read(client, PyList_GetItem(messages, read), &held[read]) != 0)
            goto drop;
        plain[read] = held[read].message;
    }
    int error, left_ms = milliseconds_left(deadline_ms);
    BEGIN_ASKING(client);
    error = pawl_ack_publish(self->delivery, plain, (size_t)count, left_ms);
    END_ASKING(client);
    result = settled(self, error);
drop:
    while (held && read > 0)
        message_drop(&held[--read]);
    PyMem_Free(held);
    PyMem_Free(plain);
    return result;
}

/* ---- fields ---- */

/* The first of a name counts, as in pawl_delivery_header(). */
static int add_header(PyObject *dict, const char *name, size_t name_bytes, size_t value_bytes)
{
    PyObject *key = PyUnicode_DecodeUTF8(name, (Py_ssize_t)name_bytes, "surrogateescape");
    PyObject *text = PyUnicode_DecodeUTF8(name + name_bytes, (Py_ssize_t)value_bytes, "surrogateescape");
    int there = key && text ? PyDict_Contains(dict, key) : -1;
    int failed = there == 0 ? PyDict_SetItem(dict, key, text) : there < 0 ? -1 : 0;
    Py_XDECREF(key);
    Py_XDECREF(text);
    return failed;
}

/* u16 bytes of the name, u16 bytes of the value, both; one after the other (shm/event.h). The scheduler
 * checked them. */
static PyObject *make_headers(struct delivery *self)
{
    PyObject *dict = PyDict_New();
    if (!dict || !self->packed)
        return dict;
    const char *at = PyBytes_AsString(self->packed), *end = at + PyBytes_Size(self->packed);
    while (end - at >= 4) {
        uint16_t sizes[2];
        memcpy(sizes, at, sizeof sizes);
        at += 4;
        if ((size_t)(end - at) < (size_t)sizes[0] + sizes[1])
            break;
        if (add_header(dict, at, sizes[0], sizes[1]) != 0) {
            Py_DECREF(dict);
            return NULL;
        }
        at += sizes[0] + sizes[1];
    }
    return dict;
}

static PyObject *get_headers(struct delivery *self, void *unused)
{
    (void)unused;
    if (!self->headers && !(self->headers = make_headers(self)))
        return NULL;
    Py_INCREF(self->headers);
    return self->headers;
}

static PyObject *get_tag(struct delivery *self, void *unused)
{
    (void)unused;
    if (!self->tag) {
        const char *group = self->consumer->group;
        self->tag = PyUnicode_FromFormat("%U%s%s:%llu:%u:%llu", self->queue, group[0] ? "/" : "", group,
                                         (unsigned long long)self->seq, (unsigned)self->attempt,
                                         (unsigned long long)self->epoch);
    }
    Py_XINCREF(self->tag);
    return self->tag;
}

static PyObject *get_object(struct delivery *self, void *which)
{
    PyObject *object = (intptr_t)which == 0 ? self->queue : (intptr_t)which == 1 ? self->topic : self->data;
    Py_INCREF(object);
    return object;
}

static PyObject *get_number(struct delivery *self, void *which)
{
    switch ((intptr_t)which) {
    case 0:
        return PyLong_FromUnsignedLongLong(self->event_id);
    case 1:
        return PyLong_FromUnsignedLongLong(self->seq);
    case 2:
        return PyLong_FromUnsignedLongLong(self->epoch);
    case 3:
        return PyLong_FromUnsignedLong(self->attempt);
    case 4:
        return PyLong_FromUnsignedLong(self->failures);
    case 5:
        return PyLong_FromUnsignedLong(self->priority);
    case 6:
        return PyLong_FromUnsignedLongLong(self->published_at_ns);
    default:
        return PyBool_FromLong(is_settled(self));
    }
}

#define METHOD(name, function, flags, text)                                                                  \
    {                                                                                                        \
        name, (PyCFunction)(void (*)(void))(function), flags, text                                           \
    }
static PyMethodDef delivery_methods[] = {
    METHOD("ack", delivery_ack, METH_NOARGS, "done with it"),
    METHOD("ack_up_to", delivery_ack_up_to, METH_NOARGS, "and with all of its consumer before it"),
    METHOD("nack", delivery_nack, METH_VARARGS | METH_KEYWORDS,
           "nack(requeue=True, delay=None, reason=None, handler_error=False, spare_breaker=False): again, "
           "after `delay` seconds or the queue's backoff"),
    METHOD("reject", delivery_reject, METH_VARARGS | METH_KEYWORDS,
           "reject(reason=None): to the dead letters"),
    METHOD("release", delivery_release, METH_NOARGS, "hand it back without a failure"),
    METHOD("extend", delivery_extend, METH_VARARGS | METH_KEYWORDS,
           "extend(seconds=None): so many more seconds; None: one ack wait"),
    METHOD("ack_publish", delivery_ack_publish, METH_VARARGS | METH_KEYWORDS,
           "ack_publish(messages, timeout=None): ack and events that follow from it, as one record"),
    {NULL, NULL, 0, NULL},
};
static PyGetSetDef delivery_fields[] = {
    {"queue", (getter)get_object, NULL, "its queue", (void *)0},
    {"topic", (getter)get_object, NULL, "its topic", (void *)1},
    {"data", (getter)get_object, NULL, "bytes", (void *)2},
    {"headers", (getter)get_headers, NULL, "a dict of str", NULL},
    {"tag", (getter)get_tag, NULL, "its identity as text", NULL},
    {"event_id", (getter)get_number, NULL, "of the event", (void *)0},
    {"seq", (getter)get_number, NULL, "within the queue; streams: the offset", (void *)1},
    {"epoch", (getter)get_number, NULL, "of the scheduler that gave it", (void *)2},
    {"attempt", (getter)get_number, NULL, "1 on the first delivery", (void *)3},
    {"failures", (getter)get_number, NULL, "before this attempt", (void *)4},
    {"priority", (getter)get_number, NULL, "0 to 9", (void *)5},
    {"published_at_ns", (getter)get_number, NULL, "since 1970", (void *)6},
    {"settled", (getter)get_number, NULL, "nothing more can be said about it", (void *)7},
    {NULL, NULL, NULL, NULL, NULL},
};
static PyType_Slot delivery_slots[] = {
    {Py_tp_doc, "One hand-over of one event."},
    {Py_tp_dealloc, delivery_dealloc},
    {Py_tp_methods, delivery_methods},
    {Py_tp_getset, delivery_fields},
    {0, NULL},
};
PyType_Spec delivery_spec = {"pawl._pawl.Delivery", sizeof(struct delivery), 0, Py_TPFLAGS_DEFAULT,
                             delivery_slots};

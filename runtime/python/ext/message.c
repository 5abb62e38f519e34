/*
 * message.c - a tuple of Python's as a struct pawl_message.
 *
 * Runs in: the Python interpreter. Texts become UTF-8; lone surrogates are the bytes that they stand for
 * (surrogateescape), as Python shows names of files.
 */
#include "runtime/python/ext/ext.h"

#include <string.h>

/* str or bytes, as a bytes object (a new reference). */
static PyObject *bytes_of(PyObject *value, const char *what)
{
    if (PyUnicode_Check(value))
        return PyUnicode_AsEncodedString(value, "utf-8", "surrogateescape");
    if (PyBytes_Check(value)) {
        Py_INCREF(value);
        return value;
    }
    if (PyByteArray_Check(value) || PyMemoryView_Check(value))
        return PyBytes_FromObject(value);
    PyErr_Format(PyExc_TypeError, "%s is neither str nor bytes", what);
    return NULL;
}

/* Without NULs within: C would see less. */
static PyObject *text_of(PyObject *value, const char *what)
{
    PyObject *bytes = bytes_of(value, what);
    if (bytes && strlen(PyBytes_AsString(bytes)) != (size_t)PyBytes_Size(bytes)) {
        Py_DECREF(bytes);
        raise_error(PAWL_ERR_INVALID, "a topic, key or header's name has a NUL byte");
        return NULL;
    }
    return bytes;
}

static int read_topic(struct client *client, PyObject *topic, struct message *out)
{
    if (topic != client->last_topic) {
        PyObject *bytes = text_of(topic, "the topic");
        if (!bytes)
            return -1;
        Py_INCREF(topic);
        Py_XDECREF(client->last_topic);
        Py_XDECREF(client->last_topic_bytes);
        client->last_topic = topic;
        client->last_topic_bytes = bytes;
    }
    Py_INCREF(client->last_topic_bytes);
    out->topic = client->last_topic_bytes;
    out->message.topic = PyBytes_AsString(out->topic);
    return 0;
}

static int add_header(struct message *out, PyObject *name, PyObject *value)
{
    PyObject *name_bytes = text_of(name, "a header's name");
    PyObject *value_bytes = name_bytes ? bytes_of(value, "a header's value") : NULL;
    if (!value_bytes) {
        Py_XDECREF(name_bytes);
        return -1;
    }
    out->held[out->held_count++] = name_bytes;
    out->held[out->held_count++] = value_bytes;
    out->headers[out->message.header_count++] = (struct pawl_header){
        .name = PyBytes_AsString(name_bytes),
        .value = PyBytes_AsString(value_bytes),
        .value_bytes = (size_t)PyBytes_Size(value_bytes),
    };
    return 0;
}

static int read_headers(PyObject *headers, struct message *out)
{
    Py_ssize_t at = 0, count;
    PyObject *name, *value;
    if (!PyDict_Check(headers)) {
        PyErr_SetString(PyExc_TypeError, "headers are a dict of str to str or bytes");
        return -1;
    }
    count = PyDict_Size(headers);
    if (count > HEADERS_INLINE) {
        out->headers = PyMem_Calloc((size_t)count, sizeof *out->headers);
        out->held = PyMem_Calloc(2 * (size_t)count, sizeof *out->held);
        if (!out->headers || !out->held) {
            PyErr_NoMemory();
            return -1;
        }
    }
    while (PyDict_Next(headers, &at, &name, &value) && out->message.header_count < (size_t)count)
        if (add_header(out, name, value) != 0)
            return -1;
    out->message.headers = out->headers;
    return 0;
}

static int read_number(PyObject *value, uint64_t most, const char *what, uint64_t *out)
{
    if (value == Py_None)
        return 0;
    unsigned long long number = PyLong_AsUnsignedLongLong(value);
    bool overflows = PyErr_Occurred() && PyErr_ExceptionMatches(PyExc_OverflowError);
    if (PyErr_Occurred() && !overflows)
        return -1;
    if (overflows || number > most) {
        PyErr_Format(PyExc_ValueError, "%s is a number from 0 to %llu", what, (unsigned long long)most);
        return -1;
    }
    *out = number;
    return 0;
}

/* From the third on: what most messages do not have. */
static int read_more(PyObject *tuple, Py_ssize_t size, struct message *out)
{
    static const struct {
        const char *what;
        uint64_t most;
    } numbers[] = {{"delay_ms", UINT64_MAX}, {"ttl_ms", UINT64_MAX}, {"priority", 255},
                   {"durability", 255},      {"guarantee", 255},     {"expect_routed", 1}};
    uint64_t values[6] = {0};
    PyObject *item = PyTuple_GetItem(tuple, 2);
    if (item != Py_None && read_headers(item, out) != 0)
        return -1;
    if (size > 3 && (item = PyTuple_GetItem(tuple, 3)) != Py_None) {
        out->key = text_of(item, "the key");
        if (!out->key)
            return -1;
        out->message.key = PyBytes_AsString(out->key);
    }
    for (Py_ssize_t i = 4; i < size; i++)
        if (read_number(PyTuple_GetItem(tuple, i), numbers[i - 4].most, numbers[i - 4].what,
                        &values[i - 4]) != 0)
            return -1;
    out->message.delay_ms = values[0];
    out->message.ttl_ms = values[1];
    out->message.priority = (unsigned)values[2];
    out->message.durability = (enum pawl_durability_mode)values[3];
    out->message.guarantee = (enum pawl_delivery_guarantee)values[4];
    out->message.expect_routed = (int)values[5];
    return 0;
}

void message_drop(struct message *message)
{
    for (Py_ssize_t i = 0; i < message->held_count; i++)
        Py_DECREF(message->held[i]);
    Py_XDECREF(message->topic);
    Py_XDECREF(message->key);
    Py_XDECREF(message->data);
    if (message->headers != message->inline_headers)
        PyMem_Free(message->headers);
    if (message->held != message->inline_held)
        PyMem_Free(message->held);
}

int message_read(struct client *client, PyObject *tuple, struct message *out)
{
    out->message = (struct pawl_message){.bytes = sizeof out->message};
    out->headers = out->inline_headers;
    out->held = out->inline_held;
    out->held_count = 0;
    out->topic = out->key = out->data = NULL;
    Py_ssize_t size = PyTuple_Check(tuple) ? PyTuple_Size(tuple) : 0;
    if (size < 2 || size > 10) {
        PyErr_SetString(PyExc_TypeError,
                        "a message is a tuple (topic, data, headers, key, delay_ms, ttl_ms, priority, "
                        "durability, guarantee, expect_routed); topic and data are needed");
        return -1;
    }
    if (read_topic(client, PyTuple_GetItem(tuple, 0), out) != 0)
        return -1;
    out->data = bytes_of(PyTuple_GetItem(tuple, 1), "the data");
    if (!out->data || (size > 2 && read_more(tuple, size, out) != 0)) {
        message_drop(out);
        return -1;
    }
    out->message.data = PyBytes_AsString(out->data);
    out->message.data_bytes = (size_t)PyBytes_Size(out->data);
    return 0;
}

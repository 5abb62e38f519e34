/*
 * publish.c - the type Batch: messages on their way, and what became of them.
 *
 * Runs in: the Python interpreter. on_confirm may run without the GIL, while a thread waits in this client;
 * then no other thread touches the client or its batches. A batch in the lane is held by the client's list of
 * open ones, then by that of finished ones until dispatch() tells of it.
 */
#include "runtime/python/ext/ext.h"

#include <errno.h>
#include <string.h>

/* ---- lists ---- */

static void link_batch(struct batch_list *list, struct batch *batch)
{
    batch->newer = NULL;
    batch->older = list->newest;
    if (list->newest)
        list->newest->newer = batch;
    else
        list->oldest = batch;
    list->newest = batch;
}

static void unlink_batch(struct batch_list *list, struct batch *batch)
{
    if (batch->newer)
        batch->newer->older = batch->older;
    else
        list->newest = batch->older;
    if (batch->older)
        batch->older->newer = batch->newer;
    else
        list->oldest = batch->newer;
    batch->newer = batch->older = NULL;
}

/* From open to finished, with its reference. No Python object is touched. */
static void finish_if_done(struct batch *batch)
{
    if (!batch->linked || batch->finished || batch->left > 0 || batch->next < batch->count)
        return;
    unlink_batch(&batch->client->open, batch);
    link_batch(&batch->client->finished, batch);
    batch->finished = true;
}

/* The reference of its list is the caller's now. */
static void take_out(struct batch *batch)
{
    unlink_batch(batch->finished ? &batch->client->finished : &batch->client->open, batch);
    batch->linked = batch->finished = false;
    batch->client = NULL;
}

static void on_confirm(void *context, const struct pawl_confirm *confirm)
{
    struct batch *batch = context;
    batch->left--;
    batch->confirm = *confirm;
    bool dropped = confirm->routed == 0 && confirm->event_id == 0 && confirm->refused > 0;
    if (confirm->error == 0 && !dropped) /* a full queue may drop the newest without an error */
        batch->stored++;
    else if (confirm->error != 0)
        batch->refused++;
    if (confirm->error && !batch->error)
        batch->error = confirm->error;
    finish_if_done(batch);
}

PyObject *take_finished(struct client *client)
{
    PyObject *list = PyList_New(0);
    struct batch *batch = client->finished.oldest, *newer;
    for (; list && batch; batch = newer) {
        newer = batch->newer;
        if (batch->awaited)
            continue;
        if (PyList_Append(list, (PyObject *)batch) != 0) {
            Py_DECREF(list);
            return NULL;
        }
        take_out(batch);
        Py_DECREF(batch);
    }
    return list;
}

/* The handle is closed: nobody calls back any more. */
void drop_batches(struct client *client)
{
    struct batch *batch;
    while ((batch = client->open.oldest) || (batch = client->finished.oldest)) {
        take_out(batch);
        if (batch->left > 0 && !batch->error)
            batch->error = PAWL_ERR_INDEFINITE;
        Py_DECREF(batch);
    }
}

/* ---- submitting ---- */

static void refuse(struct batch *batch, int error)
{
    batch->refused++;
    if (batch->error)
        return;
    batch->error = error;
    PyOS_snprintf(batch->why, sizeof batch->why, "%s", pawl_last_error(batch->client->pawl));
}

/* As many as there is room for now. 0; -EAGAIN: some are left; -1: an exception is set. */
static int submit_some(struct batch *batch)
{
    struct client *client = batch->client;
    int error = 0;
    while (batch->next < batch->count) {
        struct message message;
        if (message_read(client, PyList_GetItem(batch->messages, batch->next), &message) != 0) {
            batch->count = batch->next; /* the rest is given up */
            error = -1;
            break;
        }
        batch->left++; /* before: a confirm of an earlier one may come meanwhile */
        error = pawl_publish_async(client->pawl, &message.message, 0, on_confirm, batch, NULL);
        message_drop(&message);
        if (error)
            batch->left--;
        if (error == -EAGAIN)
            return error;
        batch->next++;
        if (error == PAWL_ERR_LIMIT || error == PAWL_ERR_INVALID) { /* of this one alone */
            refuse(batch, error);
            error = 0;
        } else if (error) {
            refuse(batch, error);
            batch->refused += (uint64_t)(batch->count - batch->next);
            batch->next = batch->count;
        }
    }
    Py_CLEAR(batch->messages);
    finish_if_done(batch);
    return error == -1 && PyErr_Occurred() ? -1 : 0;
}

static struct batch *batch_new(struct client *client, PyObject *messages)
{
    if (!PyList_Check(messages)) {
        PyErr_SetString(PyExc_TypeError, "messages are a list of tuples");
        return NULL;
    }
    struct batch *batch = PyObject_New(struct batch, batch_type);
    if (!batch)
        return NULL;
    memset((char *)batch + sizeof(PyObject), 0, sizeof *batch - sizeof(PyObject));
    batch->client = client;
    /* A list of its own: the caller may change its one before all are in the lane. */
    batch->messages = PyList_GetSlice(messages, 0, PyList_Size(messages));
    if (!batch->messages) {
        Py_DECREF(batch);
        return NULL;
    }
    batch->count = PyList_Size(batch->messages);
    Py_INCREF(batch);
    link_batch(&client->open, batch);
    batch->linked = true;
    return batch;
}

PyObject *client_submit(struct client *self, PyObject *messages)
{
    if (!enter(self))
        return NULL;
    struct batch *batch = batch_new(self, messages);
    if (batch && submit_some(batch) == -1)
        Py_CLEAR(batch);
    return (PyObject *)batch;
}

static PyObject *batch_resume(struct batch *self, PyObject *unused)
{
    (void)unused;
    if (self->client && (!enter(self->client) || (self->messages && submit_some(self) == -1)))
        return NULL;
    return PyBool_FromLong(self->next >= self->count);
}

/* ---- and waiting ---- */

/* 0: finished; -1: an exception is set. It is in no list afterwards, unless its confirms are still to come.
 */
static int await_batch(struct batch *batch, int64_t deadline_ms)
{
    struct client *client = batch->client;
    int result = submit_some(batch) == -1 ? -1 : 1;
    if (result == 1)
        pawl_kick(client->pawl);
    while (result == 1 && batch->linked && !batch->finished) {
        result = wait_for_news(client, deadline_ms);
        if (result == 1 && client->pawl && batch->messages && submit_some(batch) == -1)
            result = -1;
    }
    if (batch->finished) {
        take_out(batch);
        Py_DECREF(batch); /* the caller has another */
    } else {
        /* What is in the lane may yet be stored. When it is confirmed, dispatch() tells of it. */
        batch->awaited = false;
        batch->count = batch->next;
        Py_CLEAR(batch->messages);
        finish_if_done(batch);
    }
    if (result == 0)
        raise_error(-ETIMEDOUT, "not confirmed in time: it may or may not have been stored");
    return result == 1 ? 0 : -1;
}

/* A confirm says that a queue refused it, not which. 0; -1: an exception is set. */
static int name_refusing(struct client *client, struct batch *batch)
{
    bool by_queue = batch->error == PAWL_ERR_QUEUE_FULL || batch->error == PAWL_ERR_LIMIT;
    const char *queue;
    if (!by_queue || batch->why[0])
        return 0;
    if (!enter(client))
        return -1;
    BEGIN_ASKING(client);
    queue = pawl_refusing_queue(client->pawl);
    END_ASKING(client);
    if (PyErr_Occurred())
        return -1;
    const char *words = batch->error == PAWL_ERR_LIMIT ? "it is larger than the queue's max-bytes"
                                                       : pawl_strerror(batch->error);
    if (queue[0] && batch->count == 1)
        PyOS_snprintf(batch->why, sizeof batch->why, "queue %s refused the event: %s", queue, words);
    else if (queue[0])
        PyOS_snprintf(batch->why, sizeof batch->why, "%s; the last by queue %s", words, queue);
    return 0;
}

static struct batch *publish_list(struct client *self, PyObject *messages, PyObject *timeout)
{
    int64_t deadline_ms;
    if (!read_timeout(timeout, &deadline_ms) || !enter(self))
        return NULL;
    struct batch *batch = batch_new(self, messages);
    if (!batch)
        return NULL;
    batch->awaited = true;
    if (await_batch(batch, deadline_ms) != 0 || name_refusing(self, batch) != 0)
        Py_CLEAR(batch);
    return batch;
}

PyObject *client_publish(struct client *self, PyObject *args)
{
    PyObject *message, *timeout = NULL, *list;
    if (!PyArg_ParseTuple(args, "O|O", &message, &timeout) || !(list = PyList_New(0)))
        return NULL;
    struct batch *batch = PyList_Append(list, message) == 0 ? publish_list(self, list, timeout) : NULL;
    Py_DECREF(list);
    if (batch && batch->error) {
        raise_error(batch->error, batch->why);
        Py_CLEAR(batch);
    }
    return (PyObject *)batch;
}

PyObject *client_publish_batch(struct client *self, PyObject *args)
{
    PyObject *messages, *timeout = NULL;
    if (!PyArg_ParseTuple(args, "O|O", &messages, &timeout))
        return NULL;
    return (PyObject *)publish_list(self, messages, timeout);
}

/* ---- the type ---- */

static void batch_dealloc(struct batch *self)
{
    PyTypeObject *type = Py_TYPE(self);
    Py_XDECREF(self->messages);
    PyObject_Free(self);
    Py_DECREF(type);
}

static PyObject *get_number(struct batch *self, void *which)
{
    const struct pawl_confirm *confirm = &self->confirm;
    switch ((intptr_t)which) {
    case 0:
        return PyLong_FromUnsignedLongLong(self->stored);
    case 1:
        return PyLong_FromUnsignedLongLong(self->refused);
    case 2:
        return PyLong_FromLong(self->error);
    case 3:
        return PyLong_FromUnsignedLongLong(confirm->event_id);
    case 4:
        return PyLong_FromUnsignedLong(confirm->routed);
    case 5:
        return PyLong_FromLong((long)confirm->durability);
    case 6:
        return PyBool_FromLong(confirm->duplicate);
    case 7:
        return PyLong_FromUnsignedLong(confirm->refused);
    case 8:
        return PyBool_FromLong(self->messages != NULL);
    default:
        return PyBool_FromLong(self->left == 0 && self->next >= self->count);
    }
}

static PyObject *get_why(struct batch *self, void *unused)
{
    (void)unused;
    return PyUnicode_DecodeUTF8(self->why, (Py_ssize_t)strlen(self->why), "replace");
}

static PyMethodDef batch_methods[] = {
    {"resume", (PyCFunction)(void (*)(void))batch_resume, METH_NOARGS,
     "put what is left into the lane -> whether all is there"},
    {NULL, NULL, 0, NULL},
};
static PyGetSetDef batch_fields[] = {
    {"stored", (getter)get_number, NULL, "how many were confirmed and not dropped", (void *)0},
    {"refused", (getter)get_number, NULL, "how many were not stored", (void *)1},
    {"error", (getter)get_number, NULL, "code of the first that was refused; 0", (void *)2},
    {"event_id", (getter)get_number, NULL, "of the last confirm", (void *)3},
    {"routed", (getter)get_number, NULL, "queues that took the last", (void *)4},
    {"durability", (getter)get_number, NULL, "1 memory, 2 async, 3 fsync: of the last confirm", (void *)5},
    {"duplicate", (getter)get_number, NULL, "the last was stored before", (void *)6},
    {"routes_refused", (getter)get_number, NULL, "queues that refused the last", (void *)7},
    {"pending", (getter)get_number, NULL, "some are not in the lane yet: resume()", (void *)8},
    {"done", (getter)get_number, NULL, "all of it is confirmed or refused", (void *)9},
    {"why", (getter)get_why, NULL, "words for error", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};
static PyType_Slot batch_slots[] = {
    {Py_tp_doc, "Messages on their way, and what became of them."},
    {Py_tp_dealloc, batch_dealloc},
    {Py_tp_methods, batch_methods},
    {Py_tp_getset, batch_fields},
    {0, NULL},
};
PyType_Spec batch_spec = {"pawl._pawl.Batch", sizeof(struct batch), 0, Py_TPFLAGS_DEFAULT, batch_slots};

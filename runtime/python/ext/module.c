/*
 * module.c - the module pawl._pawl: its types, the table of errors, and how one is raised.
 *
 * Runs in: the Python interpreter. pawl/errors.py makes the exception classes out of ERRORS, and registers
 * what turns a code into an exception.
 */
#include "runtime/python/ext/ext.h"

#include <string.h>

#include "shm/error.h"

PyTypeObject *client_type, *consumer_type, *delivery_type, *batch_type;

static PyObject *error_factory; /* (code, words) -> exception */

PyObject *raise_error(int code, const char *why)
{
    const char *words = why && why[0] ? why : pawl_strerror(code);
    if (!error_factory)
        return PyErr_Format(PyExc_RuntimeError, "%s (%d)", words, code);
    PyObject *text = PyUnicode_DecodeUTF8(words, (Py_ssize_t)strlen(words), "replace");
    PyObject *error = text ? PyObject_CallFunction(error_factory, "iO", code, text) : NULL;
    Py_XDECREF(text);
    if (!error)
        return NULL;
    PyErr_SetObject((PyObject *)Py_TYPE(error), error);
    Py_DECREF(error);
    return NULL;
}

PyObject *raise_last(const struct client *client, int code)
{
    return raise_error(code, client->pawl ? pawl_last_error(client->pawl) : NULL);
}

static PyObject *set_error_factory(PyObject *module, PyObject *factory)
{
    (void)module;
    Py_XDECREF(error_factory);
    Py_INCREF(factory);
    error_factory = factory;
    Py_RETURN_NONE;
}

static PyObject *words_of(PyObject *module, PyObject *args)
{
    int code;
    (void)module;
    if (!PyArg_ParseTuple(args, "i", &code))
        return NULL;
    return PyUnicode_FromString(pawl_strerror(code));
}

/* ((symbol, code, words), ...) */
static PyObject *error_table(void)
{
    static const struct {
        const char *name;
        int code;
        const char *text;
    } errors[] = {
#define ROW(name, value, text) {#name, value, text},
        PAWL_ERROR_MAP(ROW)
#undef ROW
    };
    enum { COUNT = sizeof errors / sizeof *errors };
    PyObject *table = PyTuple_New(COUNT);
    for (Py_ssize_t i = 0; table && i < COUNT; i++) {
        PyObject *row = Py_BuildValue("sis", errors[i].name, errors[i].code, errors[i].text);
        if (!row || PyTuple_SetItem(table, i, row) != 0)
            Py_CLEAR(table);
    }
    return table;
}

static PyTypeObject *add_type(PyObject *module, PyType_Spec *spec, const char *name)
{
    PyObject *type = PyType_FromSpec(spec);
    if (!type)
        return NULL;
    Py_INCREF(type); /* ours; the module takes the other */
    if (PyModule_AddObject(module, name, type) != 0) {
        Py_DECREF(type);
        Py_DECREF(type);
        return NULL;
    }
    return (PyTypeObject *)type;
}

static PyMethodDef methods[] = {
    {"connect", (PyCFunction)(void (*)(void))connect_client, METH_VARARGS | METH_KEYWORDS,
     "connect(state=None, socket=None, may_launch=False, connect_timeout=None, reconnect_timeout=None)"},
    {"start", start_client, METH_VARARGS, "start(state): with a scheduler that ends with it"},
    {"set_error_factory", set_error_factory, METH_O, "(code, words) -> exception"},
    {"strerror", words_of, METH_VARARGS, "words for a code"},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    "_pawl",
    "libpawl for Python: what pawl/ is built of.",
    -1,
    methods,
    NULL,
    NULL,
    NULL,
    NULL,
};

PyMODINIT_FUNC PyInit__pawl(void);
PyMODINIT_FUNC PyInit__pawl(void)
{
    PyObject *module = PyModule_Create(&definition);
    if (!module)
        return NULL;
    PyObject *table = error_table();
    client_type = add_type(module, &client_spec, "Client");
    consumer_type = add_type(module, &consumer_spec, "Consumer");
    delivery_type = add_type(module, &delivery_spec, "Delivery");
    batch_type = add_type(module, &batch_spec, "Batch");
    if (!table || !client_type || !consumer_type || !delivery_type || !batch_type ||
        PyModule_AddObject(module, "ERRORS", table) != 0) {
        Py_XDECREF(table);
        Py_DECREF(module);
        return NULL;
    }
    if (PyModule_AddStringConstant(module, "LIBRARY_VERSION", pawl_version()) != 0) {
        Py_DECREF(module);
        return NULL;
    }
    return module;
}

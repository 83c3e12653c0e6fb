/* Keep the exception of a signal handler that runs while Cython adds a line to a traceback.
 *
 * Under the limited API, Cython evaluates "_getframe()" for that. A signal handler may run then, and
 * Cython drops what it raises: Ctrl-C would be lost. Here it is raised again right afterwards. The
 * compiler includes this file before each module, see setup.py. */
#ifndef FASTPAGEMAP_TRACEBACK_H
#define FASTPAGEMAP_TRACEBACK_H

#ifndef PY_SSIZE_T_CLEAN
#define PY_SSIZE_T_CLEAN
#endif
#include <Python.h>

#ifdef Py_LIMITED_API

static int fpm_raise(void *exception)
{
    PyErr_SetObject((PyObject *)Py_TYPE(exception), (PyObject *)exception);
    Py_DECREF((PyObject *)exception);
    return -1;
}

__attribute__((unused)) static PyObject *fpm_evaluate(PyObject *code, PyObject *globals,
                                                      PyObject *locals)
{
    PyObject *result = PyEval_EvalCode(code, globals, locals);
    PyObject *type, *exception, *trace;
    if (result != NULL)
        return result;
    PyErr_Fetch(&type, &exception, &trace);
    PyErr_NormalizeException(&type, &exception, &trace);
    /* The main thread calls it as soon as it evaluates again; only it runs signal handlers. */
    if (exception != NULL && Py_AddPendingCall(fpm_raise, exception) == 0)
        exception = NULL;
    Py_XDECREF(type);
    Py_XDECREF(exception);
    Py_XDECREF(trace);
    return NULL;
}
#define PyEval_EvalCode fpm_evaluate

#endif
#endif

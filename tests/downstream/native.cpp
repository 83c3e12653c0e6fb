// The same functions from C++, through fastpagemap.h.
#include <fastpagemap.h>

#include <fcntl.h>
#include <unistd.h>

static const fastpagemap_api *fpm;

static PyObject *present(PyObject *, PyObject *args) {
    unsigned long long start;
    Py_ssize_t count;
    if (!PyArg_ParseTuple(args, "Kn", &start, &count)) return NULL;
    int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    ssize_t found;
    Py_BEGIN_ALLOW_THREADS
    found = fpm->count_pages(fd, -1, start, count, FASTPAGEMAP_PRESENT);
    Py_END_ALLOW_THREADS
    close(fd);
    return PyLong_FromSsize_t(found);
}

static PyMethodDef methods[] = {
    {"present", present, METH_VARARGS, "Count the pages present of a span, or -errno."},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef module = {PyModuleDef_HEAD_INIT, "native", NULL, -1, methods};

PyMODINIT_FUNC PyInit_native(void) {
    if (!(fpm = fastpagemap_import())) return NULL;
    PyObject *made = PyModule_Create(&module);
#ifdef Py_GIL_DISABLED
    if (made) PyUnstable_Module_SetGIL(made, Py_MOD_GIL_NOT_USED);
#endif
    return made;
}

"""ready: the queue of the callbacks that are ready, `loop._ready`.

It is the same `collections.deque` as asyncio's own, because asyncio's code, tests and tools append to it, and look into it. What
we do with it, for each callback, are the deque's own C functions, called without a lookup and without arguments to be packed.
"""
import collections

from cpython.ref cimport PyObject

cdef extern from *:
    """
    typedef struct { PyCFunction append, popleft; } pbt_deque_t;
    static PyCFunction pbt_method(PyObject* descriptor, int flags) {
        PyMethodDef* method = ((PyMethodDescrObject*)descriptor)->d_method;
        if (!PyObject_TypeCheck(descriptor, &PyMethodDescr_Type) || method->ml_flags != flags) {
            PyErr_SetString(PyExc_ImportError, "this Python has another collections.deque");
            return NULL;
        }
        return method->ml_meth;
    }
    #define pbt_ready_count(queue) Py_SIZE(queue)
    """
    int METH_O
    int METH_NOARGS
    ctypedef object (*ready_append_fn "PyCFunction")(object queue, object item)
    ctypedef object (*ready_popleft_fn "PyCFunction")(object queue, PyObject* nothing)
    void* pbt_method(object descriptor, int flags) except NULL
    Py_ssize_t ready_count "pbt_ready_count"(object queue) noexcept     # of a deque


cdef object ready_type = collections.deque
cdef ready_append_fn ready_append = <ready_append_fn>pbt_method(ready_type.append, METH_O)
cdef ready_popleft_fn ready_popleft = <ready_popleft_fn>pbt_method(ready_type.popleft, METH_NOARGS)

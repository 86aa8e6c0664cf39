"""ready: the queue of the callbacks that are ready, `loop._ready`.

It is the same `collections.deque` as asyncio's own, because asyncio's code, tests and tools append to it, and look into it. What
we do with it, for each callback, are the deque's own C functions, called without a lookup and without arguments to be packed.
A program may put another queue in its place at any time, also while a turn waits: its methods are called.
"""
import collections

from cpython.ref cimport PyObject

cdef extern from *:
    """
    static PyCFunction pbt_method(PyObject* descriptor, int flags) {
        PyMethodDef* method = ((PyMethodDescrObject*)descriptor)->d_method;
        if (!PyObject_TypeCheck(descriptor, &PyMethodDescr_Type) || method->ml_flags != flags) {
            PyErr_SetString(PyExc_ImportError, "this Python has another collections.deque");
            return NULL;
        }
        return method->ml_meth;
    }
    #define pbt_deque_size(queue) Py_SIZE(queue)
    """
    int METH_O
    int METH_NOARGS
    ctypedef object (*deque_append_fn "PyCFunction")(object queue, object item)
    ctypedef object (*deque_popleft_fn "PyCFunction")(object queue, PyObject* nothing)
    void* pbt_method(object descriptor, int flags) except NULL
    Py_ssize_t pbt_deque_size(object queue) noexcept


cdef object ready_type = collections.deque
cdef deque_append_fn deque_append = <deque_append_fn>pbt_method(ready_type.append, METH_O)
cdef deque_popleft_fn deque_popleft = <deque_popleft_fn>pbt_method(ready_type.popleft, METH_NOARGS)


cdef inline Py_ssize_t ready_count(object queue) except -1:
    return pbt_deque_size(queue) if type(queue) is ready_type else len(queue)


cdef inline int ready_append(object queue, object handle) except -1:
    if type(queue) is ready_type:
        deque_append(queue, handle)
    else:
        queue.append(handle)
    return 0


cdef inline object ready_popleft(object queue):
    return deque_popleft(queue, NULL) if type(queue) is ready_type else queue.popleft()

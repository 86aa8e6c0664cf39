from pybuntcp cimport socket_t


cdef class Handle:
    cdef socket_t* s            # borrowed; NULL once the connection is gone
    cdef object __weakref__


cdef Handle handle_new(socket_t* s)
cdef Handle handle_of(socket_t* s)
cdef int handle_lost(socket_t* s) except -1

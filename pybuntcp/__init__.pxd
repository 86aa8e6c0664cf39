from pybuntcp._core cimport socket_t

# What `from pybuntcp cimport ...` gives; declared in _core.pxd.
from pybuntcp._core cimport socket_t

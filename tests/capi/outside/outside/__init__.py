"""Somebody else's package on pybuntcp's C API; what the tests drive.

handle      every verb, for Python: `Handle` is one `socket_t*`
recording   slots that take the GIL and tell a recorder
silent      an echo and a gate, and how often their slots were called: no slot takes the GIL unless it is asked to
calls       timers and posts
compiled    classes of Python handlers that Cython has compiled
script      one verb from inside one slot, without the GIL
released    verbs where the GIL was let go, inside a garbage collection, or with a size that is none
tables      tables as they may be, and as they may not
"""

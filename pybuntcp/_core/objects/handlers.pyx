"""handlers: from what users pass as handlers to a table of slots.

Owns `Handlers`, a compiled table as Python sees it; the rules for what may be in one, with the names in the errors;
`handlers_from_slots`, which compiles a Cython user's own functions; and `handlers_bind`, which adds the context
variables that were set when the handlers were passed, and the clock of `slow_handler=` (see slow_handlers).

Promises that a table is complete or refused: callables, C functions of an ABI that we know, at least one of `data` and
`drain`. Calls none of the handlers.
"""
cimport cython
import sys
from contextvars import copy_context
from functools import partial
from types import CodeType, MethodType

from cpython.ref cimport PyObject
from libc.math cimport isinf
from libc.string cimport memcpy


cdef enum:
    EXT_MAX = 1 << 30   # a larger `ext_size` is a mistake

cdef tuple _BINARY_TYPES = ("bytes", "bytearray", "memoryview")
cdef object _uninitialised = object()


@cython.final
cdef class Handlers:
    """A compiled set of handlers, to be shared by listeners and connections.

    Handlers(mapping_or_object=None, /, **handlers)

    Takes a mapping, or a class, an instance or a module whose attributes are the handlers, or
    keywords. Recognised: ``open(socket)``, ``data(socket, chunk)``, ``drain(socket)``,
    ``end(socket)``, ``close(socket, error)``, ``error(socket, error)``, ``timeout(socket)``,
    ``handshake(socket, success, authorization_error)``, ``connect_error(socket, error)`` and
    ``binary_type`` (``"bytes"``, ``"bytearray"`` or ``"memoryview"``: the type of ``chunk``).
    They are read once, when the set is made; a later change of the mapping has no effect. None = absent.
    Each may be ``async def``, in a program that runs asyncio.

    Errors: TypeError for a handler that is not callable, an unknown keyword or key (with the likely
    name), or neither ``data`` nor ``drain`` nor an async ``open``; ValueError for an unknown ``binary_type``.

    Source: the ``socket`` option of Bun's TCP API.
    Bun: ``binaryType`` knows "buffer", "uint8array" and "arraybuffer".
    """
    cdef handlers_t table   # borrows its callables from `found`
    cdef dict found         # owns them, where the garbage collector can visit them
    cdef object owner       # keeps alive what `table.slots.user` points into
    cdef str async_name     # the name of a handler that is an async function; None: there is none
    cdef bint opens_paused  # `open` is async and there is no `data`: it reads by itself

    def __cinit__(self, source=None, /, **handlers):
        if source is _uninitialised:
            return
        handlers_fill(self, handlers_collect(source, handlers))
        if self.table.slots.data == NULL and self.table.slots.drain == NULL and not self.opens_paused:
            raise TypeError("socket needs at least a 'data' or a 'drain' handler, or an async 'open'")

    def __repr__(self):
        cdef int event
        present = []
        for event in range(EVENTS):
            if self.table.callable[event] != NULL or handlers_slot(&self.table.slots, event)[0] != NULL:
                present.append(_EVENT_NAMES[event])
        return f"<pybuntcp.Handlers {' '.join(present)}>"


# ---------------------------------------------------------------------------- filling

cdef void* _adapters[9]         # by event; NULL: no slot, or the callable is called directly
_adapters[E_OPEN] = <void*>py_open
_adapters[E_DATA] = <void*>py_data
_adapters[E_DRAIN] = <void*>py_drain
_adapters[E_END] = <void*>py_end
_adapters[E_CLOSE] = <void*>py_close
_adapters[E_TIMEOUT] = <void*>py_timeout
_adapters[E_HANDSHAKE] = <void*>py_handshake

cdef void* _no_slot


cdef void** handlers_slot(slots_t* self, int event) noexcept:
    """The slots_t member of an event. The members are in the events' order, without `error`."""
    if event == E_ERROR:
        return &_no_slot
    return <void**>&self.open + (event if event < E_ERROR else event - 1)


cdef int handlers_fill(Handlers self, dict found) except -1:
    """Store the callables (borrowed) and point each one's slot at its adapter."""
    cdef void** slot
    cdef int event
    self.found = found
    self.table.binary_type = _BINARY_TYPES.index(found["binary_type"])
    for event, name in enumerate(_EVENT_NAMES):
        if found.get(name) is None:
            continue
        slot = handlers_slot(&self.table.slots, event)
        if slot[0] != NULL:
            raise ValueError(f"{name!r} is given twice: as a slot and as a Python handler")
        slot[0] = _adapters[event]
        self.table.callable[event] = <PyObject*>found[name]
        if is_async(found[name]):
            self.async_name = self.async_name or name
            self.opens_paused |= event == E_OPEN
    self.opens_paused &= self.table.slots.data == NULL
    return 0


cdef object handlers_from_slots(const slots_t* slots, object handlers=None, object owner=None):
    """A `Handlers` of a Cython user's own functions, with Python handlers for other events."""
    cdef Handlers self = Handlers.__new__(Handlers, _uninitialised)
    handlers_check_slots(slots)
    memcpy(&self.table.slots, slots, slots.size)    # an older ABI has fewer slots: the rest stays NULL
    handlers_fill(self, handlers_collect(handlers, {}))
    self.owner = owner
    self.table.owner = <PyObject*>owner
    if self.table.slots.data == NULL and self.table.slots.drain == NULL and not self.opens_paused:
        raise ValueError("slots_t: at least one of the slots 'data' and 'drain' is needed")
    return self


cdef int handlers_check_slots(const slots_t* slots) except -1:
    """Refuse a table whose `abi` and `size` do not fit this build."""
    cdef size_t minimum = <size_t>&(<slots_t*>NULL).connect_error + sizeof(void*)
    if slots == NULL:
        raise ValueError("slots_t: NULL is no table")
    if slots.abi != SLOTS_ABI:
        raise ValueError(
            f"slots_t: abi {slots.abi}, and this pybuntcp knows abi {SLOTS_ABI}: was it made by "
            "new_slots(), and built against this pybuntcp?"
        )
    if slots.size > sizeof(slots_t):
        raise ValueError(
            f"slots_t: size {slots.size} is more than this pybuntcp's {sizeof(slots_t)}: it was "
            "built against a newer pybuntcp"
        )
    if slots.size < minimum or slots.size % sizeof(void*) != 0:
        raise ValueError(f"slots_t: size {slots.size} cannot be; was it made by new_slots()?")
    if slots.ext_size > EXT_MAX:
        raise ValueError(f"slots_t: ext_size must be in 0..{EXT_MAX}, not {slots.ext_size}")
    return 0


cdef int handlers_check_ext(Handlers self, context_t* context) except -1:
    """Refuse a reload of sockets that have fewer bytes behind them than the table wants."""
    if self.table.slots.ext_size > context.ext_size:
        raise ValueError(
            f"reload: ext_size {self.table.slots.ext_size} is more than the {context.ext_size} "
            "bytes that the sockets were made with"
        )
    return 0


# ---------------------------------------------------------------------------- reading


cdef Handlers handlers_compile(object source):
    """What `socket=` means: a Handlers as it is, anything else compiled now."""
    if isinstance(source, Handlers):
        return source
    if source is None:
        raise TypeError("socket is required: a mapping, class, instance, module or Handlers; handlers= is the same")
    return Handlers(source)


cdef object handlers_either(object socket, object handlers):
    """The value of `socket=`, or of `handlers=`, another name of it; None: neither is given."""
    if handlers is None:
        return socket
    if socket is not None:
        raise TypeError("socket and handlers are two names of one option: give one of them")
    return handlers


cdef Handlers handlers_empty():
    """The empty table of `connect(socket=None)`: bytes are dropped, until a SocketReader is made or it is piped."""
    return Handlers.__new__(Handlers, _uninitialised)


cdef dict handlers_collect(object source, dict handlers):
    """All recognised names, checked: {name: callable or None, "binary_type": str}."""
    if isinstance(source, Handlers):
        raise TypeError("socket is a Handlers already")
    if source is not None and handlers:
        raise TypeError("Handlers takes a source or keywords, not both")
    if isinstance(source, (str, bytes, int, float, list, tuple, set)):
        raise TypeError(
            "socket must be a mapping, class, instance, module or Handlers, "
            f"not {type(source).__name__!r}"
        )
    if source is None:
        found = handlers_of_mapping(handlers)
    elif hasattr(source, "keys") and hasattr(source, "__getitem__"):
        found = handlers_of_mapping(source)
    else:
        found = handlers_of_object(source)
    for name in _EVENT_NAMES:
        handlers_check_one(name, found.get(name), source)
    found["binary_type"] = binary_type_check(found.get("binary_type"))
    return found


cdef dict handlers_of_object(object source):
    """The attributes of a class, an instance or a module that are handlers."""
    cdef dict found = {name: getattr(source, name, None) for name in (*_EVENT_NAMES, "binary_type")}
    for name, value in found.items():
        if value is not None and near_is_import(source, name, value):
            found[name] = None
    near_check(source, found)
    return found


cdef dict handlers_of_mapping(object source):
    known = (*_EVENT_NAMES, "binary_type")
    for key in source.keys():
        if key not in known:
            raise TypeError(f"unknown handler {key!r}{handlers_suggest(str(key), known)}")
    return {name: source[name] for name in known if name in source}


cdef str handlers_suggest(str key, tuple known):
    meant = near_miss(key)
    if meant is None:
        import difflib

        snake = near_snake(key)
        close = difflib.get_close_matches(snake[3:] if snake.startswith("on_") else snake, known, 1)
        if not close:
            return f"; known are {', '.join(known)}"
        meant = close[0]
    return f"; did you mean {meant!r}?"


cdef int handlers_check_one(str name, object handler, object source) except -1:
    if handler is None:
        return 0
    if not callable(handler):
        raise TypeError(f"handler {name!r} must be callable, not {type(handler).__name__!r}")
    return arity_check(name, handler, source)


cdef object code_of_function(object function):
    """The code of a function of Python or of Cython; None: it is something else."""
    code = getattr(function, "__code__", None)
    return code if isinstance(code, CodeType) else None


cdef bint is_async(object handler) except -1:
    """A coroutine function, a method or a partial of one, or an object whose `__call__` is one."""
    while isinstance(handler, (MethodType, partial)):
        handler = handler.__func__ if isinstance(handler, MethodType) else handler.func
    inspect = sys.modules.get("inspect")    # who has marked a function with inspect.markcoroutinefunction has imported it
    if inspect is not None and inspect.iscoroutinefunction(handler):
        return True
    code = code_of_function(handler)
    if code is None:
        code = code_of_function(getattr(type(handler), "__call__", None))
    return code is not None and code.co_flags & 0x80        # inspect.CO_COROUTINE


cdef str binary_type_check(object value):
    if value is None:
        return "bytes"
    if not isinstance(value, str):
        raise TypeError(f"binary_type must be a str, not {type(value).__name__!r}")
    if value not in _BINARY_TYPES:
        raise ValueError(f"binary_type must be one of {', '.join(_BINARY_TYPES)}, not {value!r}")
    return value


@cython.final
@cython.internal
cdef class BoundHandler:
    """A handler that runs with the context variables that were set when it was passed."""
    cdef object vars
    cdef object handler

    def __call__(self, *arguments):
        return self.vars.run(self.handler, *arguments)

    def __repr__(self):
        return repr(self.handler)


cdef Handlers handlers_bind(Handlers self, Loop loop, double slow_handler):
    """The handlers as a loop installs them: measured, and bound to the present context variables, if that is wanted.

    slow_handler: the option, in seconds; infinity: not given. TypeError: one of the handlers is async, and no asyncio
    loop turns this loop.
    """
    cdef Handlers bound
    cdef int event
    host = host_of(loop)
    if host is None and self.async_name is not None:
        raise TypeError(f"handler {self.async_name!r} is an async function: that needs a running asyncio loop")
    vars = None if host is None else copy_context()
    slow_handler = slow_limit(host, slow_handler)
    if not vars and isinf(slow_handler):
        return self
    bound = Handlers.__new__(Handlers, _uninitialised)
    bound.table = self.table
    bound.found = {}
    bound.owner, bound.async_name, bound.opens_paused = self.owner, self.async_name, self.opens_paused
    for event, name in enumerate(_EVENT_NAMES):
        if self.table.callable[event] != NULL:
            handler = <object>self.table.callable[event]
            handler = handler if isinf(slow_handler) else slow_handler_of(handler, name, slow_handler)
            bound.found[name] = handlers_bind_one(vars, handler) if vars else handler
            bound.table.callable[event] = <PyObject*>bound.found[name]
    return bound


cdef object handlers_unbound(object handler):
    """The handler as it was given."""
    if isinstance(handler, BoundHandler):
        handler = (<BoundHandler>handler).handler
    return (<SlowHandler>handler).handler if isinstance(handler, SlowHandler) else handler


cdef BoundHandler handlers_bind_one(object vars, object handler):
    cdef BoundHandler self = BoundHandler.__new__(BoundHandler)
    self.vars, self.handler = vars, handler
    return self

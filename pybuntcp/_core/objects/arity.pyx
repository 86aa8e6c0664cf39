"""arity: whether a handler can be called with the arguments that it will get.

The problem: a class is not instantiated, so its functions take no `self`; of an instance they do. Who confuses the two,
or forgets `error`, would read of it when the first connection comes.
The rule: when handlers are given, the parameters of each are counted, and a handler that cannot be called is refused by a
TypeError that says what it is called with and, for a class or an instance, which form was probably meant.

Owns `arity_check`. What cannot be told is taken: built-in functions, classes, the methods of a `cdef class`. `inspect` is
imported only for a `functools.partial` with keywords.
"""
from functools import partial
from types import FunctionType, MethodType


cdef dict _ARGUMENTS = {
    "open": ("socket",), "data": ("socket", "chunk"), "drain": ("socket",), "end": ("socket",),
    "close": ("socket", "error"), "error": ("socket", "error"), "timeout": ("socket",),
    "handshake": ("socket", "success", "authorization_error"), "connect_error": ("socket", "error"),
}


cdef int arity_check(str name, object handler, object source) except -1:
    """TypeError: the handler cannot be called with its arguments. source: a class, an instance or anything else."""
    cdef tuple arguments = _ARGUMENTS[name]
    cdef Py_ssize_t given = len(arguments)
    if arity_fits(handler, given):
        return 0
    raise TypeError(
        f"handler {name!r} is called with {given} argument{'s' if given > 1 else ''} ({', '.join(arguments)}), and takes "
        f"{arity_text(handler)}{arity_hint(handler, source, given)}"
    )


cdef bint arity_fits(object handler, Py_ssize_t given) except -1:
    """Can it be called with so many arguments? True also if that is not known."""
    if arity_is_function(handler):
        return arity_function_fits(handler, given)
    if isinstance(handler, MethodType):
        return arity_fits(handler.__func__, given + 1)
    if isinstance(handler, partial):
        return arity_fits(handler.func, given + len(handler.args)) if not handler.keywords else arity_binds(handler, given)
    if isinstance(handler, type):
        return True
    call = getattr(handler, "__call__", None)
    return not isinstance(call, MethodType) or arity_fits(call, given)


cdef bint arity_is_function(object value) except -1:
    """Is it a function of Python, or one that Cython has compiled, whose parameters can be counted?"""
    return isinstance(value, FunctionType) or (
        type(value).__name__ == "cython_function_or_method" and code_of_function(value) is not None
    )


cdef bint arity_function_fits(object function, Py_ssize_t given) except -1:
    cdef object code = function.__code__
    cdef Py_ssize_t most = code.co_argcount
    cdef Py_ssize_t least = most - len(function.__defaults__ or ())
    if given < least or given > most and not code.co_flags & 0x04:      # 0x04: *args
        return False
    if code.co_kwonlyargcount == 0:
        return True
    names = code.co_varnames[most:most + code.co_kwonlyargcount]
    return all([name in (function.__kwdefaults__ or ()) for name in names])


cdef bint arity_binds(object handler, Py_ssize_t given) except -1:
    import inspect

    try:
        inspect.signature(handler).bind(*range(given))
    except TypeError:
        return False
    except ValueError:
        return True
    return True


cdef str arity_text(object handler):
    """What it takes, for example `3 parameters (self, socket, chunk)`."""
    function = handler.__func__ if isinstance(handler, MethodType) else handler
    if not arity_is_function(function):
        return "others"
    code = function.__code__
    count = code.co_argcount + code.co_kwonlyargcount
    return f"{count} parameter{'s' if count != 1 else ''} ({', '.join(code.co_varnames[:count])})"


cdef str arity_hint(object handler, object source, Py_ssize_t given):
    """For a class: its functions are an instance's. For an instance: they are a class's."""
    if isinstance(source, type) and arity_fits(handler, given + 1):
        return f": a class is not instantiated; pass an instance: socket={source.__name__}()"
    if isinstance(handler, MethodType) and handler.__self__ is source and arity_fits(handler.__func__, given):
        return (
            f": the first parameter of a method is the instance; add self, or pass the class: "
            f"socket={type(source).__name__}"
        )
    return ""

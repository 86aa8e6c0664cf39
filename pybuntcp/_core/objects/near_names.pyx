"""near_names: functions whose name is nearly that of a handler, in a class, an instance or a module.

The problem: a class may have any attributes beside its handlers, so a handler with a misspelt name would never be called,
and nobody would know. In a mapping every unknown key is refused; here a name is refused only if it can hardly be meant
otherwise. The rule, for functions alone, after camelCase and a prefix `on_` are taken off:

    it is a handler's name then                 on_data, onClose, Data, connectError
    it is another form of one, or its name      opened, closed, drained, timed_out, recv, data_received, connection_lost
    in asyncio or elsewhere
    it is one typing error away from one        dara, dta, dataa, oepn; the first letter is hardly ever wrong

Left alone: what begins with an underscore; a function that takes nothing and so can get no socket; ordinary words that
are near a handler's (`date`, `clone`); any name whose handler is there, too (`on_data` beside `data` is a helper).

Owns that rule, `near_miss`, and which attributes of a module are imports and not handlers. Calls nothing of the user's.
"""
import sys
from functools import partialmethod
from types import MethodType, ModuleType


cdef frozenset _ORDINARY = frozenset((
    "date", "dates", "clone", "closer", "closes", "closet", "chose", "drains", "draw", "drawn", "ends", "errors", "omen",
    "opens", "oven", "timeouts", "handshakes",
))

cdef dict _FORMS = {
    "opened": "open", "connection_made": "open",
    "recv": "data", "receive": "data", "received": "data", "data_received": "data",
    "drained": "drain", "resume_writing": "drain",
    "ended": "end", "eof_received": "end",
    "closed": "close", "connection_lost": "close",
    "timed_out": "timeout", "time_out": "timeout", "timedout": "timeout", "timeouted": "timeout",
    "handshaked": "handshake", "handshaken": "handshake", "hand_shake": "handshake",
    "connection_error": "connect_error",
}


cdef int near_check(object source, dict found) except -1:
    """TypeError: the source has a function whose name is nearly a handler's, and not that handler."""
    cdef dict own = {} if isinstance(source, type) else getattr(source, "__dict__", {})
    cdef dict inherited = {} if isinstance(source, ModuleType) else near_inherited(source)
    cdef bint bound = not isinstance(source, type)
    # If its class has the handlers, what an instance itself has are the callbacks of its own users.
    cdef bint looks_at_own = isinstance(source, ModuleType) or any([name in own for name in _EVENT_NAMES])
    for name, value in inherited.items():
        if name not in own and near_is_missed(name, found, source) and near_is_function(value, bound, None):
            near_refuse(name)
    for name, value in own.items() if looks_at_own else ():
        if near_is_missed(name, found, source):
            if near_is_function(value, False, source if isinstance(source, ModuleType) else None):
                near_refuse(name)
    return 0


cdef dict near_inherited(object source):
    """The attributes of a class, or of an instance's class. Nothing of the user's is called for them."""
    cdef dict attributes = {}
    for base in reversed((source if isinstance(source, type) else type(source)).__mro__):
        if base is not object:
            attributes.update(base.__dict__)
    return attributes


cdef bint near_is_missed(object name, dict found, object source) except -1:
    """Is it nearly the name of a handler that is not there?"""
    if not isinstance(name, str) or name[:1] in ("", "_") or name in found:
        return False
    meant = near_miss(name)
    if meant is None or found.get(meant) is not None:
        return False
    if near_snake(name) not in _FORMS:
        return True
    if meant == "data" and found.get("open") is not None and is_async(found["open"]):
        return False            # an async `open` reads by itself, and calls its helpers what it likes
    return not any([base.__name__ == "BaseProtocol" for base in type(source).__mro__])    # asyncio's: it is used there, too


cdef bint near_is_function(object value, bint bound, object module) except -1:
    """A function that takes at least one argument, or the value of a `binary_type`.

    bound: the first parameter gets the instance. module: that it must have been defined in, or None.
    """
    if isinstance(value, (staticmethod, classmethod)):
        value, bound = value.__func__, isinstance(value, classmethod)
    if isinstance(value, MethodType):
        value, bound = value.__func__, True
    if isinstance(value, str):
        return value in ("bytes", "bytearray", "memoryview")
    if not arity_is_function(value):
        return module is None and near_is_callable(value)
    if module is not None and near_is_of_another(value, module):
        return False
    code = code_of_function(value)
    return code.co_flags & 0x04 or code.co_argcount > bound     # 0x04: *args


cdef bint near_is_callable(object value) except -1:
    """Can it be called? It is no class, and what it takes is not known: a built-in function, a cached one, a mock."""
    return callable(value) and not isinstance(value, type) or isinstance(value, partialmethod)


cdef bint near_is_of_another(object function, object module) except -1:
    """Has the module imported it? One that was made by hand, and is not imported by its name, has what was put into it."""
    return function.__module__ != module.__name__ and sys.modules.get(module.__name__) is module


cdef int near_refuse(str name) except -1:
    raise TypeError(
        f"unknown handler {name!r}; did you mean {near_miss(name)!r}? (a helper's name may begin with an underscore)"
    )


cdef object near_miss(str name):
    """The name that was probably meant, or None."""
    cdef str plain = near_snake(name)
    if plain.startswith("on_"):
        plain = plain[3:]
    elif plain[:2] == "on" and plain[2:] in _EVENT_NAMES:
        return plain[2:]
    if plain in _EVENT_NAMES or plain == "binary_type":
        return plain
    if plain in _FORMS:
        return _FORMS[plain]
    if plain in _ORDINARY:
        return None
    for known in (*_EVENT_NAMES, "binary_type"):
        if near_is_typo(plain, known):
            return known
    return None


cdef str near_snake(str name):
    """onData -> on_data, DATA -> data."""
    if name.isupper():
        return name.lower()
    return "".join(["_" + c.lower() if c.isupper() else c for c in name]).strip("_")


cdef bint near_is_typo(str one, str known) except -1:
    """One letter is missing, added or wrong, or two are exchanged. Short names have too many neighbours for all of that."""
    cdef Py_ssize_t i = 0
    cdef Py_ssize_t longer = len(one) - len(known)
    if not -1 <= longer <= 1 or one == known or not one.replace("_", "").isalpha():
        return False
    while i < min(len(one), len(known)) and one[i] == known[i]:
        i += 1
    if longer == 0 and one[i + 1:i + 2] == known[i] and known[i + 1:i + 2] == one[i] and one[i + 2:] == known[i + 2:]:
        return True                                         # exchanged
    if i == 0:
        return False
    if longer == 1:
        return one[i + 1:] == known[i:] and (len(known) > 3 or one[i] == one[i - 1])    # added
    if len(known) == 3:
        return False
    return one[i:] == known[i + 1:] if longer == -1 else one[i + 1:] == known[i + 1:]


# ---------------------------------------------------------------------------- what is no handler

cdef bint near_is_import(object source, str name, object value) except -1:
    """Is an attribute with a handler's name something else: an exception's class, or an import of the standard library?

    `from os import open, close` and `from socket import error, timeout` give a module such names; `data = print` is meant.
    """
    if isinstance(value, type):
        return issubclass(value, BaseException)
    if not isinstance(source, ModuleType) or getattr(value, "__name__", None) != name:
        return False
    home = getattr(value, "__module__", None)
    return isinstance(home, str) and home != source.__name__ and home.partition(".")[0] in sys.stdlib_module_names

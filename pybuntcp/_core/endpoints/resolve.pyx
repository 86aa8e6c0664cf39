"""resolve: from a host name to addresses.

Owns `names_t`, the addresses of one name in the order in which they are tried: the resolver's order, with families
alternating (RFC 8305, section 4). `localhost` always means both loopback addresses, whatever the hosts file says.
Does not ask the resolver except for `listen`, which waits for the answer (for `connect` see loop/lookups), and does not
connect.
"""
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy

from pybuntcp._c cimport net, resolver


cdef struct names_t:
    address_t* each
    size_t count


cdef void names_free(names_t* self) noexcept nogil:
    free(self.each)
    self.each = NULL
    self.count = 0


cdef bint names_reserve(names_t* self, size_t count) noexcept nogil:
    self.each = <address_t*>calloc(count, sizeof(address_t))
    return self.each != NULL


cdef int names_from_literal(names_t* self, bytes host, int port) except -1:
    """Take an IP literal or localhost. Returns 1: done; 0: the name must be looked up; -ENODEV: see `address_parse`."""
    cdef int rc
    if not names_reserve(self, 2):
        raise MemoryError()
    if host.lower().rstrip(b".") == b"localhost":
        address_parse(&self.each[0], b"::1", port)
        address_parse(&self.each[1], b"127.0.0.1", port)
        self.count = 2
        return 1
    rc = address_parse(&self.each[0], host, port)
    if rc > 0:
        self.count = 1
    else:
        names_free(self)
    return rc


cdef bint names_from_answer(names_t* self, const net.addrinfo* answer) noexcept nogil:
    """Take the addresses of the resolver's answer, families alternating. False: there is no address, or no memory."""
    cdef const net.addrinfo* each = answer
    cdef size_t count = 0
    cdef int family
    while each != NULL:
        # Other families do not occur for streams, and the loop below would never reach them.
        count += each.ai_family == net.AF_INET or each.ai_family == net.AF_INET6
        each = each.ai_next
    if count == 0 or not names_reserve(self, count):
        return False
    family = answer.ai_family
    while self.count < count:
        each = names_nth_of_family(answer, family, names_of_family(self, family))
        if each != NULL:
            names_add(self, each)
        family = net.AF_INET6 if family == net.AF_INET else net.AF_INET
    return True


cdef size_t names_of_family(names_t* self, int family) noexcept nogil:
    cdef size_t i, found = 0
    for i in range(self.count):
        found += self.each[i].name.any.sa_family == family
    return found


cdef const net.addrinfo* names_nth_of_family(
    const net.addrinfo* answer, int family, size_t n
) noexcept nogil:
    while answer != NULL:
        if answer.ai_family == family:
            if n == 0:
                return answer
            n -= 1
        answer = answer.ai_next
    return NULL


cdef void names_add(names_t* self, const net.addrinfo* answer) noexcept nogil:
    cdef address_t* slot = &self.each[self.count]
    slot.size = answer.ai_addrlen
    memcpy(&slot.name, answer.ai_addr, answer.ai_addrlen)
    self.count += 1


cdef int names_resolve(names_t* self, bytes host, int port) except -1:
    """All addresses of a name. Waits for the resolver in this thread, without the GIL."""
    cdef lookup_t lookup
    cdef bint taken
    cdef int rc = lookup_fill(&lookup, host, len(host), port)
    self.each, self.count = NULL, 0
    if rc == 0:
        with nogil:
            lookup_run(&lookup)
        rc = lookup.status
    if rc < 0:
        raise error_from_code(rc, "getaddrinfo", host.decode(), port)
    taken = names_from_answer(self, lookup.answer)
    resolver.freeaddrinfo(lookup.answer)
    if not taken:
        raise MemoryError()
    return 0

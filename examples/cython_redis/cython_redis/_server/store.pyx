"""store: keys and values, both any bytes, in a hash map of the C++ standard library.

Promises that looking up allocates nothing, that a value given keeps no memory of a much larger one
before it, and that a pointer to a value is good until that key is next written.
std::hash has no secret: someone who may choose all keys can choose them to collide.
Does not know requests or replies.
"""
from cython.operator cimport dereference

from libcpp.pair cimport pair
from libcpp.string cimport string
from libcpp.unordered_map cimport unordered_map

cdef enum:
    LARGEST_SLACK = 64          # bytes that a value may keep beyond twice its size

ctypedef unordered_map[string, string] map_t


cdef cppclass store_t:
    map_t values
    string key                  # the key at hand: the map looks up strings, requests are bytes


cdef inline int find_value(store_t* self, line_t key, string** value) except -1 nogil:
    """Where its value is, borrowed; NULL: there is none."""
    self.key.assign(key.at, key.end - key.at)
    cdef map_t.iterator found = self.values.find(self.key)
    if found == self.values.end():
        value[0] = NULL
    else:
        value[0] = &dereference(found).second
    return 0


cdef int set_value(store_t* self, line_t key, const char* at, size_t size) except -1 nogil:
    cdef string* value = NULL
    find_value(self, key, &value)
    if value == NULL:
        self.values.insert(pair[string, string](self.key, string(at, size)))
        return 0
    if value.capacity() > LARGEST_SLACK and value.capacity() // 2 > size:
        value.clear()
        value.shrink_to_fit()
    value.assign(at, size)
    return 0


cdef int delete_value(store_t* self, line_t key) except -1 nogil:
    """1: there was one."""
    self.key.assign(key.at, key.end - key.at)
    return self.values.erase(self.key)


cdef void clear_store(store_t* self) noexcept nogil:
    """Nothing is left; also not the map's own memory, which `clear` would keep."""
    cdef map_t empty
    self.values.swap(empty)

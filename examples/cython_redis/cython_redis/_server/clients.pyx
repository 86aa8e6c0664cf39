"""clients: what a connection keeps, and what all connections share.

Owns the structs. A connection without a request under way owns nothing but its `client_t`, which
lies behind its socket: requests are read where they were received, and replies gathered in one
buffer for all of a thread. Does not know sockets, nor what the commands do with it.
"""
from libcpp.mutex cimport mutex
from libcpp.string cimport string


cdef cppclass input_t:          # a request that is not all there, or that waits its turn
    string bytes
    request_t request           # how far it was understood

cdef cppclass output_t:         # replies which the socket did not take
    string bytes
    size_t sent

cdef struct client_t:           # zeroed when the socket is made
    input_t* input              # owned; NULL: nothing received is unanswered
    output_t* output            # owned; NULL: nothing answered is unsent
    string* name                # owned; CLIENT SETNAME
    long long id
    bint ending                 # after QUIT or a broken request nothing more is read


cdef cppclass shared_t:         # what all threads share; code that touches it holds `lock`
    mutex lock
    store_t store
    long long clients           # so far


cdef cppclass server_t:         # one for each thread
    shared_t* shared
    store_t* store              # the shared one
    string replies              # to the requests being served
    request_t request           # the request being served, while it is read in place


cdef void free_client(client_t* self) noexcept nogil:
    """Give back what it owns."""
    del self.input
    del self.output
    del self.name

"""table: what commands there are. Filled once, when the module is imported.

A name of up to eight letters is one machine word, and so compared with a row's at once; rows are
looked through in the order they were defined in. Does not know what the commands do.
"""
from libc.string cimport strlen
from libcpp.vector cimport vector

cdef enum:
    LONGEST_NAME = 8

ctypedef int (*run_t)(server_t*, client_t*, request_t*) except -1 nogil

cdef struct command_t:
    unsigned long long family   # the command this is a subcommand of; 0: none
    unsigned long long name
    size_t size                 # letters of the name
    const char* text            # the name itself
    int arity                   # words, the name's included; -2: two or more
    bint has_family             # there are subcommands
    run_t run                   # NULL: means nothing without a subcommand

cdef vector[command_t] COMMANDS


cdef int define(const char* family, const char* name, int arity, run_t run) except -1:
    """Add a row. A family is defined before its subcommands."""
    cdef command_t row
    row.name, row.size, row.text = packed(name, strlen(name)), strlen(name), name
    row.arity, row.run = arity, run
    row.has_family = False
    row.family = packed(family, strlen(family))
    if row.family:
        find_command(0, family, strlen(family)).has_family = True
    COMMANDS.push_back(row)
    return 0


cdef command_t* find_command(unsigned long long family, const char* at, size_t size) noexcept nogil:
    """NULL: there is none of that name."""
    cdef unsigned long long name = packed(at, size)
    cdef size_t i
    for i in range(COMMANDS.size()):
        if COMMANDS[i].name == name and COMMANDS[i].size == size and COMMANDS[i].family == family:
            return &COMMANDS[i]
    return NULL


cdef inline unsigned long long packed(const char* at, size_t size) noexcept nogil:
    """The letters in one word, whatever their case; 0 if they are too many for a name."""
    cdef unsigned long long name = 0
    cdef size_t i
    if size <= LONGEST_NAME:
        for i in range(size):
            name = name << 8 | <unsigned char>at[i]
    return name & 0xDFDFDFDFDFDFDFDFULL     # what makes small letters large


cdef inline bint fits(command_t* row, size_t words) noexcept nogil:
    """As many words as it takes."""
    return words == <size_t>row.arity if row.arity > 0 else words >= <size_t>-row.arity


cdef size_t count_commands() noexcept nogil:
    """Without the subcommands."""
    cdef size_t i, count = 0
    for i in range(COMMANDS.size()):
        count += COMMANDS[i].family == 0
    return count

"""unix_files: the files of our unix sockets, and their removal.

Owns the table of these files. A file is removed when its listener stops, and when the process that made it exits
normally; a forked child removes nothing. It is removed only if its device and inode are still those of the file that we
made. While our socket is open no other file can have this inode, since the socket holds it. After that the number may
belong to another file; so a file is left alone if its socket is not open any more.
A file that is to stay (`unlink=False`) is in the table, too: it is known to be in use.
Does not know listeners: a listener holds the key of its file.
"""
import atexit
import os


cdef dict _unix_files = {}      # key -> [path, identity of the file, descriptor, identity of the socket, process, kept]


cdef object unix_note(bytes path, int fd):
    """Note the file that bind(2) has just made for a socket. Returns the key for `unix_unlink`."""
    path = os.path.abspath(path)
    key = object()
    _unix_files[key] = [path, file_identity(os.lstat(path)), fd, file_identity(os.fstat(fd)), os.getpid(), False]
    return key


cdef int unix_keep(object key) except -1:
    """The file stays, whatever becomes of the socket."""
    _unix_files[key][5] = True
    return 0


cdef bint unix_is_open(object found) except -1:
    """True if the file of this stat result is that of an open socket of this process."""
    for note in list(_unix_files.values()):
        if note[1] == file_identity(found) and unix_is_alive(note):
            return True
    return False


cdef bint unix_is_alive(list note) except -1:
    """True if the socket of a note is open: its descriptor has not become another file's."""
    try:
        return note[4] == os.getpid() and file_identity(os.fstat(note[2])) == note[3]
    except OSError:
        return False


cdef tuple file_identity(object found):
    return found.st_dev, found.st_ino


cdef void unix_unlink(object key) noexcept:
    """Remove the file if it is still the one that we made. Called before the socket is closed."""
    note = _unix_files.pop(key, None)
    if note is None:
        return
    path, file, _, _, _, kept = note
    try:
        if not kept and unix_is_alive(note) and file_identity(os.lstat(path)) == file:
            os.unlink(path)
    except OSError:
        pass        # the file or its directory is gone already


@atexit.register
def _remove_unix_files():
    for key in list(_unix_files):
        unix_unlink(key)

"""unix_files: the files of our unix sockets, and their removal.

Owns the table of these files. A file is removed when its listener stops, and when the process that made it exits
normally; a forked child removes nothing. It is removed only if its device and inode are still those of the file that we
made. While our socket is open no other file can have this inode, since the socket holds it. After that the number may
belong to another file; so a file is left alone if its socket is not open any more.
Does not know listeners: a listener holds the key of its file.
"""
import atexit
import os


cdef dict _unix_files = {}      # key -> (path, identity of the file, descriptor, identity of the socket, process)


cdef object unix_note(bytes path, int fd):
    """Note the file that bind(2) has just made for a socket. Returns the key for `unix_unlink`."""
    path = os.path.abspath(path)
    key = object()
    _unix_files[key] = (path, file_identity(os.lstat(path)), fd, file_identity(os.fstat(fd)), os.getpid())
    return key


cdef tuple file_identity(object found):
    return found.st_dev, found.st_ino


cdef void unix_unlink(object key) noexcept:
    """Remove the file if it is still the one that we made. Called before the socket is closed."""
    note = _unix_files.pop(key, None)
    if note is None:
        return
    path, file, fd, socket, process = note
    try:
        if process == os.getpid() and file_identity(os.fstat(fd)) == socket and file_identity(os.lstat(path)) == file:
            os.unlink(path)
    except OSError:
        pass        # the file or its directory is gone already


@atexit.register
def _remove_unix_files():
    for key in list(_unix_files):
        unix_unlink(key)

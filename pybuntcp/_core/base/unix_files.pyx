"""unix_files: the socket files we made, and their removal.

Owns the list of them. A file is removed at stop and at the normal exit of the process that made
it, not of a forked child, and only if device and inode are still those of the file we made: which
they can be of nobody else's as long as the socket is open that it was made for, since that holds the
inode. Once it is not, the number may have been given to another's file, and the file is left alone.
Does not know listeners: they hold a key.
"""
import atexit
import os


cdef dict _unix_files = {}      # key -> (path, file, descriptor, socket, process): what is ours to remove


cdef object unix_note(bytes path, int fd):
    """Remember the file just made for a socket; the key to forget it by."""
    path = os.path.abspath(path)
    key = object()
    _unix_files[key] = (path, file_identity(os.lstat(path)), fd, file_identity(os.fstat(fd)), os.getpid())
    return key


cdef tuple file_identity(object found):
    return found.st_dev, found.st_ino


cdef void unix_unlink(object key) noexcept:
    """Remove the file if it is still the one we made. Called before the socket is closed."""
    note = _unix_files.pop(key, None)
    if note is None:
        return
    path, file, fd, socket, process = note
    try:
        if process == os.getpid() and file_identity(os.fstat(fd)) == socket and file_identity(os.lstat(path)) == file:
            os.unlink(path)
    except OSError:
        pass        # gone already, or its directory is: nothing of ours is left


@atexit.register
def _remove_unix_files():
    for key in list(_unix_files):
        unix_unlink(key)

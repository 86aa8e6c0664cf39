"""files: the socket files we made, and their removal.

Owns the list of them. A file is removed at stop and at the normal exit of the process that made
it, not of a forked child, and only if device and inode are still those of the file we made.
Does not know listeners: they hold a key.
"""
import atexit
import os


cdef dict _unix_files = {}      # key -> (path, device, inode, process): what is ours to remove


cdef object unix_note(bytes path):
    """Remember a socket file just made; the key to forget it by."""
    path = os.path.abspath(path)
    made = os.lstat(path)
    key = object()
    _unix_files[key] = (path, made.st_dev, made.st_ino, os.getpid())
    return key


cdef void unix_unlink(object key) noexcept:
    """Remove the file if it is still the one we made."""
    note = _unix_files.pop(key, None)
    if note is None:
        return
    path, device, inode, process = note
    try:
        found = os.lstat(path)
        if (found.st_dev, found.st_ino, os.getpid()) == (device, inode, process):
            os.unlink(path)
    except OSError:
        pass        # gone already, or its directory is: nothing of ours is left


@atexit.register
def _remove_unix_files():
    for key in list(_unix_files):
        unix_unlink(key)

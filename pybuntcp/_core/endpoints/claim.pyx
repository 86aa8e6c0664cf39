"""claim: from the option `unix` to a descriptor that listens there.

The problem: a process that was killed leaves the file of its socket, and bind(2) refuses the path for ever. But a file
behind which somebody listens must not be taken away. And of two programs that start at the same time, both may find the
file to be stale; the second to remove it would remove what the first has just made.
The rule: only if bind(2) says EADDRINUSE is the file looked at. It is stale if it is a socket to which connect(2) says
ECONNREFUSED: no process has it open. Whatever else is there stays: a file of another kind, a symbolic link, a socket
that is not a stream (EPROTOTYPE), one whose backlog is full (EAGAIN), one that this process may not connect to (EACCES).
A socket that is bound and does not listen yet refuses connections, too; Linux tells of those in /proc/net/unix.
Each `listen` on a path has the lock of the directory (flock(2)) from before bind(2) until after listen(2). So one of two
replaces the file, and the other finds somebody who listens. Without the lock (the directory cannot be read, another
program has it for longer than LOCK_SECONDS) nothing is replaced.

Permissions (`mode`, `owner`) are set between bind(2) and listen(2), when connect(2) is refused to everybody.
Promises that a failure leaves no file behind. Does not know when a file is removed later (see base/unix_files).
"""
import os
import stat
import time

from pybuntcp._c cimport net, uv


cdef double LOCK_SECONDS = 0.5
cdef double LOCK_RETRY_SECONDS = 0.002


cdef int claim_path(Listener wrapper, list fds, options) except -1:
    """Append a descriptor that listens at a path, or at an abstract name."""
    cdef address_t name
    cdef bytes path = os.fsencode(options.unix)
    cdef bint abstract = path.startswith(b"\0")
    cdef object lock = None
    claim_name(&name, options.unix, "listen")
    try:
        if not abstract:
            lock = claim_lock(path)
        fds.append(claim_socket(options))
        claim_bind(fds[0], &name, path, lock is not None, options)
        if not abstract:
            wrapper._unix_file = unix_note(path, fds[0])
            claim_set_permissions(path, options)
        if net.listen(fds[0], options.backlog) != 0:
            raise error_from_code(-net.errno, "listen", options.unix)
    finally:
        if lock is not None:
            claim_unlock(lock)
    if not options.unlink and not abstract:
        unix_keep(wrapper._unix_file)
    return 0


cdef int claim_name(address_t* name, str path, str syscall) except -1:
    try:
        return address_from_path(name, os.fsencode(path))
    except ValueError:
        raise error_from_code(uv.UV_ENAMETOOLONG, syscall, path) from None


cdef int claim_socket(options) except -1:
    cdef unsigned long stamp = descriptors_fork_stamp()
    cdef int fd = net.pbt_socket(net.AF_UNIX)
    if fd < 0:
        raise error_from_code(-net.errno, "listen", options.unix)
    descriptor_track(fd, stamp)
    if options.mode is not None:
        try:
            os.fchmod(fd, options.mode)     # Linux makes the file with what is allowed here, less the umask
        except OSError:
            pass                            # elsewhere the file is made with the umask alone
    return fd


cdef int claim_bind(int fd, const address_t* name, bytes path, bint locked, options) except -1:
    """bind(2); a stale file that is in the way is removed, if the directory is locked."""
    if net.bind(fd, &name.name.any, name.size) == 0:
        return 0
    code = net.errno
    if code == net.EADDRINUSE and locked and claim_remove_stale(name, path):
        if net.bind(fd, &name.name.any, name.size) == 0:
            return 0
        code = net.errno
    raise error_from_code(-code, "listen", options.unix)


# ---------------------------------------------------------------------------- a file that is in the way

cdef bint claim_remove_stale(const address_t* name, bytes path) except -1:
    """True: the file was stale, and is removed."""
    try:
        found = os.lstat(path)
        if not stat.S_ISSOCK(found.st_mode) or not claim_is_refused(name, found) or claim_is_bound(path):
            return False
        if not os.path.samestat(os.lstat(path), found):
            return False
        os.unlink(path)
    except OSError:
        return False        # it is gone already, or not ours to look at, or to remove
    return True


cdef bint claim_is_refused(const address_t* name, object found) except -1:
    """True if nobody listens behind the file. Its listener is not asked if it is one of this process."""
    cdef int fd, code
    if unix_is_open(found):
        return False
    fd = net.pbt_socket(net.AF_UNIX)
    if fd < 0:
        return False
    code = 0 if net.connect(fd, &name.name.any, name.size) == 0 else net.errno
    net.close(fd)
    return code == net.ECONNREFUSED


cdef bint claim_is_bound(bytes path) except -1:
    """True if a socket that does not listen is bound to the path: its program may be about to listen."""
    cdef list lines = []
    try:
        with open("/proc/net/unix", "rb") as table:
            lines = table.read().splitlines()[1:]
    except OSError:
        pass                # elsewhere there is no such table
    for line in lines:
        # its fields: Num, RefCount, Protocol, Flags, Type, St, Inode, Path
        fields = line.split(None, 7)
        if len(fields) == 8 and fields[3] == b"00000000" and fields[5] == b"01" and claim_is_same(fields[7], path):
            return True
    return False


cdef bint claim_is_same(bytes bound, bytes path) except -1:
    """May both be the same path? One that was bound relative to a directory of its program's may be."""
    if bound == path or not os.path.isabs(bound):
        return os.path.basename(bound) == os.path.basename(path)
    return bound == os.path.abspath(path)


cdef object claim_lock(bytes path):
    """Lock the directory of the path. Returns a descriptor; None: it cannot be locked."""
    import fcntl
    deadline = time.monotonic() + LOCK_SECONDS
    try:
        fd = os.open(os.path.dirname(path) or b".", os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return None
    try:
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return fd
            except OSError as error:
                if error.errno != net.EAGAIN or time.monotonic() > deadline:
                    os.close(fd)
                    return None
            time.sleep(LOCK_RETRY_SECONDS)
    except BaseException:           # a signal's handler has raised
        os.close(fd)
        raise


cdef int claim_unlock(int fd) except -1:
    """Unlocked by itself: a forked child may have a copy of the descriptor."""
    import fcntl
    fcntl.flock(fd, fcntl.LOCK_UN)
    os.close(fd)
    return 0


# ---------------------------------------------------------------------------- permissions

cdef int claim_set_permissions(bytes path, options) except -1:
    """Set `mode` and `owner`, by the file itself and not by what may have been put in its place."""
    cdef str step = "chmod"
    if options.mode is None and options.owner is None:
        return 0
    try:
        if options.mode is not None:
            claim_set_mode(path, options.mode)
        step = "chown"
        if options.owner is not None:
            os.chown(path, *options.owner, follow_symlinks=False)
    except OSError as error:
        raise error_from_code(-error.errno, step, options.unix) from None
    return 0


cdef int claim_set_mode(bytes path, int mode) except -1:
    if stat.S_IMODE(os.lstat(path).st_mode) == mode:
        return 0
    if not hasattr(os, "O_PATH"):
        os.chmod(path, mode)
        return 0
    fd = os.open(path, os.O_PATH | os.O_NOFOLLOW)       # chmod follows symbolic links, and has no option not to
    try:
        if not stat.S_ISSOCK(os.fstat(fd).st_mode):
            raise OSError(net.EINVAL, "no socket any more")
        os.chmod(f"/proc/self/fd/{fd}", mode)
    finally:
        os.close(fd)
    return 0

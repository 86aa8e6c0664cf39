"""Contract, Listening (L3): a file that is in the way, of one who listens or left behind; and the permissions of ours."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import grp
import os
import pwd
import socket as stdlib
import stat
import threading

import pytest
from support import Recorder, linux_only
from support.endpoints import answers, quiet_listener, refusal
from support.handlers import ECHO, error_fields
from support.programs import Program, run_program


@pytest.fixture
def folder(unix):
    """A folder with a short path."""
    return unix.listen_options()["unix"].rpartition("/")[0]


def stale_file(path):
    """A socket's file behind which nobody is any more."""
    with stdlib.socket(stdlib.AF_UNIX) as sock:
        sock.bind(path)
        sock.listen()
    return path


def fill(stack, path):
    """Fill the backlog of a listening socket."""
    while True:
        client = stack.enter_context(stdlib.socket(stdlib.AF_UNIX))
        client.setblocking(False)
        if client.connect_ex(path) != 0:
            return


@pytest.mark.parametrize(
    "kind",
    [
        "file",
        "bound socket",
        "listening socket",
        "full socket",
        "datagram socket",
        "directory",
        "link",
        "dangling link",
    ],
)
def test_l3_a_path_behind_which_something_lives_is_eaddrinuse_and_left_alone(folder, kind, tmp_path):
    path = f"{folder}/taken"
    with contextlib.ExitStack() as stack:
        if kind == "file":
            stack.enter_context(open(path, "w")).write("precious")
        elif kind == "directory":
            os.mkdir(path)
        elif kind == "dangling link":
            os.symlink(f"{folder}/nowhere", path)
        elif kind == "link":
            os.symlink(stale_file(f"{tmp_path}/stale"), path)
        else:
            type_ = stdlib.SOCK_DGRAM if kind == "datagram socket" else stdlib.SOCK_STREAM
            sock = stack.enter_context(stdlib.socket(stdlib.AF_UNIX, type_))
            sock.bind(path)
            if kind in ("listening socket", "full socket"):
                sock.listen(0)
            if kind == "full socket":
                fill(stack, path)
        before = os.lstat(path)
        error = refusal(unix=path)
        assert error_fields(error) == (errno.EADDRINUSE, "EADDRINUSE", "listen", path, None)
        assert os.path.samestat(os.lstat(path), before)
        assert os.listdir(folder) == ["taken"]


# ---------------------------------------------------------------- left behind by a process that was killed


def test_l3_the_file_of_a_process_that_was_killed_is_replaced(loop, unix, folder):
    path = f"{folder}/socket"
    with Program("pybuntcp.listen(unix=sys.argv[1], socket={'data': print}); say(1); pybuntcp.run()", path) as program:
        program.hear()
        program.process.kill()
        program.process.wait()
    assert os.listdir(folder) == ["socket"]
    listener = unix.listen(ECHO, unix=path)
    assert answers(loop, unix, listener)
    listener.stop()
    assert os.listdir(folder) == []


def test_l3_a_listener_of_this_process_is_not_even_asked(loop, unix, folder):
    path = f"{folder}/socket"
    for unlink in (True, False):
        recorder = Recorder()
        listener = unix.listen(recorder, unix=path, unlink=unlink)
        assert refusal(unix=path).errno == errno.EADDRINUSE
        loop.settle()
        assert recorder.names() == []
        listener.stop()
    assert os.listdir(folder) == ["socket"]  # unlink=False
    quiet_listener(unix=path).stop()
    assert os.listdir(folder) == []


def test_l3_a_path_relative_to_another_directory_is_known_by_its_name(folder, monkeypatch):
    """Bound by a program that is about to listen, and that sees the file from elsewhere."""
    monkeypatch.chdir(folder)
    with stdlib.socket(stdlib.AF_UNIX) as sock:
        sock.bind(name := f"socket-of-{os.getpid()}")  # the name alone counts, for whoever else tests here
        assert refusal(unix=f"{folder}/{name}").errno == errno.EADDRINUSE


def test_l3_a_directory_that_another_program_has_locked_is_waited_for_and_then_nothing_is_replaced(folder):
    path = stale_file(f"{folder}/socket")
    mine = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(mine, fcntl.LOCK_EX)
        assert refusal(unix=path).errno == errno.EADDRINUSE
        quiet_listener(unix=f"{folder}/other").stop()
        unlock = threading.Timer(0.05, fcntl.flock, (mine, fcntl.LOCK_UN))
        unlock.start()
        quiet_listener(unix=path).stop()
        unlock.join()
    finally:
        os.close(mine)


@linux_only
def test_l3_of_processes_that_find_a_stale_file_at_the_same_time_one_replaces_it(folder):
    source = """
        path = sys.argv[1]

        def child():
            os.close(begin[1])
            os.close(end[1])
            os.read(begin[0], 1)
            try:
                listener = pybuntcp.listen(unix=path, socket={"data": print})
                os.write(told[1], b"y")
            except OSError as error:
                os.write(told[1], b"n" if error.code == "EADDRINUSE" else b"?")
            os.read(end[0], 1)
            os._exit(0)

        for _ in range(15):
            with socket.socket(socket.AF_UNIX) as stale:
                stale.bind(path)
            begin, end, told = os.pipe(), os.pipe(), os.pipe()
            for _ in range(4):
                if os.fork() == 0:
                    child()
            os.close(begin[1])
            answers = b"".join(os.read(told[0], 1) for _ in range(4))
            with socket.socket(socket.AF_UNIX) as client:
                say(["".join(sorted(answers.decode())), client.connect_ex(path)])
            os.close(end[1])
            for _ in range(4):
                os.wait()
            os.unlink(path)
    """
    assert run_program(source, f"{folder}/socket") == [["nnny", 0]] * 15


# ---------------------------------------------------------------- permissions


@pytest.fixture
def umask():
    """Set the umask; as before after the test."""
    before = os.umask(0o022)
    os.umask(before)
    yield os.umask
    os.umask(before)


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o177])
@pytest.mark.parametrize("mode", [0o600, 0o660, 0o777])
def test_l3_mode_is_what_the_file_has_whatever_the_umask_is(folder, umask, mode, mask):
    umask(mask)
    with quiet_listener(unix=f"{folder}/socket", mode=mode):
        assert stat.S_IMODE(os.lstat(f"{folder}/socket").st_mode) == mode


def test_l3_without_mode_the_umask_decides(folder, umask):
    umask(0o027)
    with quiet_listener(unix=f"{folder}/socket"):
        assert stat.S_IMODE(os.lstat(f"{folder}/socket").st_mode) == 0o750


def test_l3_a_file_that_is_replaced_has_the_new_permissions(folder):
    path = stale_file(f"{folder}/socket")
    os.chmod(path, 0o777)
    with quiet_listener(unix=path, mode=0o600):
        assert stat.S_IMODE(os.lstat(path).st_mode) == 0o600


def test_l3_nobody_connects_before_the_permissions_are_set(folder, monkeypatch):
    """Whoever dials in the moment between is refused."""

    def chown(path, *args, **options):
        with stdlib.socket(stdlib.AF_UNIX) as client, pytest.raises(ConnectionRefusedError):
            client.connect(path)
        seen.append((stat.S_IMODE(os.lstat(path).st_mode), args))

    seen = []
    monkeypatch.setattr(os, "chown", chown)
    with quiet_listener(unix=f"{folder}/socket", mode=0o660, owner=(None, os.getgid())):
        assert seen == [(0o660, (-1, os.getgid()))]


def own(group):
    user, name = pwd.getpwuid(os.getuid()).pw_name, grp.getgrgid(os.getgid()).gr_name
    return {"name": user, "number": os.getuid(), "both": f"{user}:{name}", "pair": (user, os.getgid())}[group]


@pytest.mark.parametrize("form", ["name", "number", "both", "pair"])
def test_l3_owner_takes_names_and_numbers(folder, form):
    with quiet_listener(unix=f"{folder}/socket", owner=own(form)):
        found = os.lstat(f"{folder}/socket")
        assert (found.st_uid, found.st_gid) == (os.getuid(), os.getgid())


@pytest.mark.skipif(os.getuid() != 0, reason="only root gives files away")
@pytest.mark.parametrize("owner", [("12345", ":23456"), (12345, (None, 23456)), ("12345:23456",), ((12345, 23456),)])
def test_l3_owner_gives_the_file_away(folder, owner):
    for each in owner:
        with quiet_listener(unix=f"{folder}/socket", owner=each):
            found = os.lstat(f"{folder}/socket")
            assert found.st_uid == 12345 or found.st_gid == 23456


def test_l3_a_failure_to_set_them_is_named_and_leaves_nothing(folder, monkeypatch):
    def refuse(*args, **options):
        raise PermissionError(errno.EPERM, "refused")

    monkeypatch.setattr(os, "chown", refuse)
    for unlink in (True, False):
        error = refusal(unix=f"{folder}/socket", owner=12345, unlink=unlink)
        assert error_fields(error) == (errno.EPERM, "EPERM", "chown", f"{folder}/socket", None)
        assert isinstance(error, PermissionError)
        assert os.listdir(folder) == []


@pytest.mark.parametrize(
    ("option", "value"),
    [
        *(("mode", value) for value in (True, "660", 6.0, -1, 0o1000)),
        *(("owner", value) for value in (True, "", ":", "a:", "no such user", ":no such group", -1, 1.5, b"root")),
        *(("owner", value) for value in ((), (None, None), (1,), (1, 2, 3), (1, True), ("root", "no such group"))),
    ],
)
def test_l3_wrong_permissions_are_refused_by_name(folder, option, value):
    with pytest.raises((TypeError, ValueError), match=option):
        quiet_listener(unix=f"{folder}/socket", **{option: value})
    assert os.listdir(folder) == []


@pytest.mark.parametrize("where", [{"hostname": "127.0.0.1", "port": 0}, {"fd": 0}, {"unix": "\0abstract"}])
@pytest.mark.parametrize("option", [{"mode": 0o600}, {"owner": 0}])
def test_l3_permissions_go_with_a_path_alone(where, option):
    with pytest.raises(TypeError, match=next(iter(option))):
        quiet_listener(**where, **option)

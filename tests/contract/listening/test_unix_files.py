"""Contract, Listening (L3): paths and abstract names, and whose file is removed when."""

from __future__ import annotations

import errno
import os
import socket as stdlib
import sys

import pytest
from support import Recorder, linux_only
from support.endpoints import answers, local_pair, quiet_listener, refusal
from support.handlers import ECHO, QUIET, error_fields
from support.programs import run_program

import pybuntcp

UNIX_LIMIT = 107 if sys.platform == "linux" else 103  # bytes of sun_path, less the closing NUL


@pytest.fixture
def folder(unix):
    """A folder with a short path."""
    return unix.listen_options()["unix"].rpartition("/")[0]


def path_of(folder, length):
    """A path of exactly this many bytes."""
    return folder + "/" + "x" * (length - len(folder) - 1)


def test_l3_a_path_of_the_systems_limit_works(loop, unix, folder):
    path = path_of(folder, UNIX_LIMIT)
    listener = unix.listen(ECHO, unix=path)
    assert listener.unix == path
    assert os.path.exists(path)
    assert answers(loop, unix, listener)


@pytest.mark.parametrize("more", [2, 100, 5000])
def test_l3_a_path_past_the_limit_is_enametoolong_with_the_path(folder, more):
    path = path_of(folder, UNIX_LIMIT + more)
    error = refusal(unix=path)
    assert error_fields(error) == (errno.ENAMETOOLONG, "ENAMETOOLONG", "listen", path, None)
    assert os.listdir(folder) == []


def test_l3_a_client_may_use_a_path_of_the_systems_limit(loop, unix, folder):
    server, client = Recorder(), Recorder()
    local_pair(loop, unix, server, client, unix=path_of(folder, UNIX_LIMIT))
    assert client.names() == ["open"]


@pytest.mark.parametrize("more", [2, 100, 5000])
def test_l3_a_client_is_told_that_its_path_is_too_long(loop, folder, more):
    path = path_of(folder, UNIX_LIMIT + more)
    recorder = Recorder()
    pybuntcp.connect(unix=path, socket=recorder.handlers)
    loop.run()
    ((error,),) = recorder.args("connect_error")
    assert error_fields(error) == (errno.ENAMETOOLONG, "ENAMETOOLONG", "connect", path, None)


@linux_only
def test_l3_an_abstract_name_has_no_file(loop, unix, folder):
    name = f"\0{folder}/abstract"
    listener = unix.listen(ECHO, unix=name)
    assert listener.unix == name
    assert os.listdir(folder) == []
    assert answers(loop, unix, listener)


@linux_only
def test_l3_a_client_reaches_an_abstract_name(loop, unix, folder):
    server, client = Recorder(), Recorder()
    _, accepted, _ = local_pair(loop, unix, server, client, unix=f"\0{folder}/abstract")
    accepted.write(b"hello")
    loop.run_until(lambda: client.received() == b"hello")


@linux_only
def test_l3_an_abstract_name_is_taken_until_stop(folder):
    name = f"\0{folder}/abstract"
    with quiet_listener(unix=name):
        assert refusal(unix=name).errno == errno.EADDRINUSE
    quiet_listener(unix=name).stop()


@linux_only
def test_l3_an_abstract_name_is_longer_or_shorter_by_its_own_bytes(folder):
    """Names that differ in trailing bytes alone, a NUL among them, are different names."""
    name = f"\0{folder}/a"
    with quiet_listener(unix=name), quiet_listener(unix=name + "b"):
        pass


@pytest.mark.parametrize("call", [pybuntcp.listen, pybuntcp.connect])
def test_l3_an_interior_nul_in_a_file_path_is_refused(loop, folder, call):
    with pytest.raises(ValueError, match="unix"):
        call(unix=f"{folder}/a\0b", socket=QUIET)
    assert os.listdir(folder) == []
    loop.run()


@pytest.mark.parametrize("force", [False, True])
def test_l3_the_file_is_removed_at_stop(folder, force):
    path = f"{folder}/socket"
    listener = quiet_listener(unix=path)
    assert os.listdir(folder) == ["socket"]
    listener.stop(force)
    assert os.listdir(folder) == []


def test_l3_the_file_is_removed_at_stop_after_the_working_directory_changed(folder, monkeypatch, tmp_path):
    monkeypatch.chdir(folder)
    listener = quiet_listener(unix="socket")
    monkeypatch.chdir(tmp_path)
    listener.stop()
    assert os.listdir(folder) == []


@pytest.mark.parametrize("other", ["a file", "a listener", "nothing"])
def test_l3_a_file_that_is_no_longer_ours_is_not_removed(folder, other):
    path = f"{folder}/socket"
    first = quiet_listener(unix=path)
    os.rename(path, f"{folder}/moved")
    second = quiet_listener(unix=path) if other == "a listener" else None
    if other == "a file":
        with open(path, "w") as file:
            file.write("precious")
    first.stop()
    assert os.path.exists(path) == (other != "nothing")
    assert os.path.exists(f"{folder}/moved")
    if second is not None:
        second.stop()
        assert not os.path.exists(path)


def test_l3_a_path_can_be_listened_on_again_after_stop(loop, unix, folder):
    for _ in range(3):
        listener = unix.listen(ECHO, unix=f"{folder}/socket")
        assert answers(loop, unix, listener)
        listener.stop()


@pytest.mark.parametrize("ending", ["", "sys.exit(0)", "listener.unref(); pybuntcp.run()"])
def test_l3_the_file_is_removed_at_normal_exit(folder, ending):
    run_program(
        """
        listener = pybuntcp.listen(unix=sys.argv[1], socket={"data": print})
        say(os.path.exists(sys.argv[1]))
        """
        + ending,
        f"{folder}/socket",
    )
    assert os.listdir(folder) == []


def test_l3_the_file_of_a_daemon_threads_listener_is_removed_at_normal_exit(folder):
    """Its loop still runs when the interpreter ends."""
    run_program(
        """
        import threading
        def serve():
            pybuntcp.listen(unix=sys.argv[1], socket={"open": lambda sock: accepted.set(), "data": print})
            listening.set()
            pybuntcp.run()

        listening, accepted = threading.Event(), threading.Event()
        threading.Thread(target=serve, daemon=True).start()
        listening.wait(10)
        client = socket.socket(socket.AF_UNIX)
        client.connect(sys.argv[1])
        accepted.wait(10)
    """,
        f"{folder}/socket",
    )
    assert os.listdir(folder) == []


def test_l3_at_exit_too_a_file_that_is_no_longer_ours_is_not_removed(folder):
    run_program(
        """
        path = sys.argv[1]
        listener = pybuntcp.listen(unix=path, socket={"data": print})
        os.rename(path, path + ".moved")
        with open(path, "w") as file:
            file.write("precious")
    """,
        f"{folder}/socket",
    )
    assert sorted(os.listdir(folder)) == ["socket", "socket.moved"]


@pytest.mark.parametrize("leave", ["sys.exit(0)", "listener.stop(); sys.exit(0)", "os._exit(0)"])
def test_l3_a_forked_child_does_not_remove_the_file(folder, leave):
    source = f"""
        listener = pybuntcp.listen(unix=sys.argv[1], socket={{"data": print}})
        child = os.fork()
        if child == 0:
            {leave}
        os.waitpid(child, 0)
        say(os.path.exists(sys.argv[1]))
    """
    assert run_program(source, f"{folder}/socket") == [True]
    assert os.listdir(folder) == []


# ---------------------------------------------------------------- handed over


def test_l3_unlink_false_leaves_the_file_at_stop_and_to_who_was_given_the_socket(loop, unix, folder):
    path = f"{folder}/socket"
    first = quiet_listener(unix=path, unlink=False)
    handed = os.dup(first.fd)
    first.stop(True)
    assert os.listdir(folder) == ["socket"]
    second = pybuntcp.listen(fd=handed, socket=ECHO)
    assert second.unix == path
    assert answers(loop, unix, second)
    second.stop()
    assert os.listdir(folder) == ["socket"]  # it did not make it
    os.unlink(path)


@pytest.mark.parametrize("ending", ["", "listener.stop()"])
def test_l3_unlink_false_leaves_the_file_at_exit(folder, ending):
    run_program(
        """
        listener = pybuntcp.listen(unix=sys.argv[1], socket={"data": print}, unlink=False)
        """
        + ending,
        f"{folder}/socket",
    )
    assert os.listdir(folder) == ["socket"]


def test_l3_a_file_that_has_only_the_number_of_ours_is_not_removed(folder):
    """Its socket is gone, and the file: the system gives the inode's number to the next one."""
    path = f"{folder}/socket"
    first = quiet_listener(unix=path)
    with open(os.devnull) as file:
        os.dup2(file.fileno(), first.fd)
    os.unlink(path)
    with stdlib.socket(stdlib.AF_UNIX) as other:
        other.bind(path)
        first.stop()
        assert os.listdir(folder) == ["socket"]

"""What `handlers_from_slots` takes and what it refuses, at bind time and in plain words."""

from __future__ import annotations

import re

import pytest

import pybuntcp


def refused(bind, *args, **options):
    with pytest.raises(ValueError, match=r"^slots_t: ") as caught:
        bind(*args, **options)
    return str(caught.value)


def test_new_slots_stamps_abi_and_size_and_leaves_the_rest_empty(outside):
    tables = outside.tables
    assert tables.fresh() == (tables.ABI, tables.SIZE, 0, True, (True,) * 8)


@pytest.mark.parametrize("abi", [0, 2, 9, (1 << 32) - 1])
def test_another_abi_is_refused_with_both_numbers(outside, abi):
    message = refused(outside.tables.bind, abi=abi)
    assert f"abi {abi}" in message
    assert f"abi {outside.tables.ABI}" in message


def test_a_table_that_new_slots_did_not_make_is_refused(outside):
    assert "new_slots()" in refused(outside.tables.bind_zeroes)


def test_no_table_at_all_is_refused(outside):
    assert "no table" in refused(outside.tables.bind_nothing)


@pytest.mark.parametrize("size", [0, 1, 4, 8, 80, 81, 87])
def test_a_size_that_cannot_be_is_refused(outside, size):
    assert f"size {size} cannot be" in refused(outside.tables.bind, size=size)


@pytest.mark.parametrize("more", [1, 8, 4096])
def test_a_larger_size_is_said_to_come_from_a_newer_pybuntcp(outside, more):
    size = outside.tables.SIZE + more
    message = refused(outside.tables.bind, size=size)
    assert re.search(rf"size {size} .*{outside.tables.SIZE}.*newer pybuntcp", message)


def test_a_table_with_neither_data_nor_drain_is_refused(outside):
    message = refused(outside.tables.bind, data=False)
    assert "'data'" in message
    assert "'drain'" in message


@pytest.mark.parametrize(("data", "drain"), [(True, False), (False, True), (True, True)])
def test_one_of_data_and_drain_will_do(outside, data, drain):
    assert isinstance(outside.tables.bind(data=data, drain=drain), pybuntcp.Handlers)


@pytest.mark.parametrize("name", ["data", "drain"])
def test_a_python_data_or_drain_will_do(outside, name):
    assert name in repr(outside.tables.bind(data=False, handlers={name: lambda *_: None}))


def test_python_handlers_of_other_events_alone_will_not(outside):
    assert "'data'" in refused(outside.tables.bind, data=False, handlers={"open": print, "close": print})


def test_a_refusal_comes_before_python_handlers_are_looked_at(outside):
    refused(outside.tables.bind, abi=2, handlers={"nonsense": 1})


def test_what_is_bound_says_its_slots(outside):
    assert repr(outside.tables.bind(drain=True)) == "<pybuntcp.Handlers data drain>"
    mixed = outside.tables.bind(handlers={"open": print, "error": print})
    assert repr(mixed) == "<pybuntcp.Handlers open data error>"


# ---------------------------------------------------------------- Socket as a type


def test_a_typed_socket_is_the_python_object(loop, transport, outside):
    peer = transport.peer(listener := transport.listen(outside.tables.greeting()))
    assert loop.wait(peer.recv_until_eof()) == b"hello from Socket"
    listener.stop(True)
    loop.run()


def test_none_may_be_taken_as_a_socket(outside):
    assert outside.tables.taken_as_socket(None) is None


@pytest.mark.parametrize("thing", [1, "socket", object(), pybuntcp.Socket])
def test_another_type_taken_as_a_socket_is_a_type_error(outside, thing):
    with pytest.raises(TypeError, match="Socket"):
        outside.tables.taken_as_socket(thing)

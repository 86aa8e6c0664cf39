"""CONTRACT.md, Writing (W5, W7): last words, more of them than one system call takes, to a peer that is gone."""

from __future__ import annotations

import pytest
from support import accepted, hung_up, linux_only, wait_for

MUCH = b"x" * (2 << 20)


@linux_only
@pytest.mark.parametrize("corked", [False, True])
def test_w7_an_end_to_a_peer_that_is_gone_is_refused_or_surfaces_in_close(loop, over_tcp, corked, handlers):
    recorder = handlers()
    socket, peer = accepted(loop, over_tcp, recorder)
    peer.close().result()
    wait_for(lambda: hung_up(socket), "the FIN in our kernel")
    if corked:
        with socket.cork():
            answer = socket.end(MUCH)
    else:
        answer = socket.end(MUCH)
    assert answer in (-1, len(MUCH))
    loop.run()
    assert isinstance(recorder.close_error, OSError)
    assert recorder.count("close") == 1


@linux_only
def test_w7_a_write_to_a_peer_that_is_gone_is_short_or_refused_and_surfaces_in_close(loop, over_tcp, handlers):
    recorder = handlers()
    socket, peer = accepted(loop, over_tcp, recorder, high_water_mark=1 << 30)
    peer.close().result()
    wait_for(lambda: hung_up(socket), "the FIN in our kernel")
    answers = [socket.write(MUCH) for _ in range(3)]
    assert answers[-1] in (-1, len(MUCH))
    loop.run()
    assert isinstance(recorder.close_error, OSError)

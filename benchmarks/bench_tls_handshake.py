"""tls_handshake: what does a handshake cost the server? Full and resumed, TLS 1.3 and 1.2; 20 at a time.

A handshake is a connection: connect, handshake, one byte there and back, close both ways. The byte has the server finish its part, session tickets with it. A resumed one carries the session that the
connection before it was given; all must be resumed, or there is no figure. In TLS 1.3 a resumed handshake makes the key exchange again (psk_dhe_ke, RFC 8446, section 2.2), and saves the
certificate and its signature only; in TLS 1.2 it saves both.
"""

from __future__ import annotations

from collections.abc import Callable

from harness.goals import times
from harness.names import OURS
from harness.questions import Goal, Medians, Question, Row


def handshake(key: str, version: str, resume: bool) -> Row:
    title = f"TLS {version} handshake, {'resumed' if resume else 'full'}, ECDSA P-256, 20 at a time"
    return Row(key, title, "handshake", 20, 1, tls=version, resume=resume, against=OURS, unit="handshake")


FULL, RESUMED = handshake("handshake", "1.3", False), handshake("resumed", "1.3", True)
FULL_1_2, RESUMED_1_2 = handshake("handshake-1.2", "1.2", False), handshake("resumed-1.2", "1.2", True)


def times_full(resumed: Row, full: Row) -> Callable[[Medians], float | None]:
    def value(medians: Medians) -> float | None:
        part, whole = (medians.get(row.key, {}).get(OURS, {}).get("cpu_us") for row in (resumed, full))
        return part / whole if part and whole else None

    return value


QUESTION = Question(
    name="tls_handshake",
    about="server CPU for a TLS handshake: full and resumed, TLS 1.3 and 1.2",
    rows=(FULL, RESUMED, FULL_1_2, RESUMED_1_2),
    quick=(FULL,),
    goals=(
        Goal("TLS 1.3 handshake: server CPU, times uvloop", times(FULL, OURS, "uvloop"), 0.85),
        Goal("TLS 1.3 resumed: server CPU, times a full one", times_full(RESUMED, FULL), 0.5),
        Goal("TLS 1.2 handshake: server CPU, times uvloop", times(FULL_1_2, OURS, "uvloop"), 0.85),
        Goal("TLS 1.2 resumed: server CPU, times a full one", times_full(RESUMED_1_2, FULL_1_2), 0.5),
    ),
)

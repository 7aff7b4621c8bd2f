"""Any split of the bytes gives the same events, and any bytes leave the session whole."""

from __future__ import annotations

import gc
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from _ext.http2 import fuzz
from wire.captures import Application, Event, Role, capture, mutated
from wire.heap import in_use

ROLES = st.sampled_from(["client", "server"])


def told(role: Role, seed: int, pieces: list[bytes], **limits: int) -> tuple[list[Event], bool, str]:
    """All that is told: events of each stream and of the connection in their order, and how it ended."""
    application = Application(role, seed, **limits)
    application.send()
    for piece in pieces:
        application.feed(piece)
    return application.events, application.session.alive, application.session.problem


@given(ROLES, st.integers(0, 10**6), st.integers(0, 10**6), st.booleans(), st.data())
def test_any_split_gives_the_same_events(
    role: Role, seed: int, other: int, spoil: bool, draw: st.DataObject
) -> None:
    octets = capture(role, seed)
    if spoil:
        octets = mutated(octets, random.Random(other))
    cuts = draw.draw(st.lists(st.integers(0, len(octets)), max_size=20).map(sorted))
    pieces = [octets[a:b] for a, b in zip([0, *cuts], [*cuts, len(octets)], strict=True)]
    assert told(role, seed, pieces) == told(role, seed, [octets])


@pytest.mark.parametrize("role", ["client", "server"])
@pytest.mark.parametrize("seed", range(20))
def test_byte_by_byte_gives_the_same_events(role: Role, seed: int) -> None:
    octets = capture(role, seed)
    single = [octets[i : i + 1] for i in range(len(octets))]
    assert told(role, seed, single) == told(role, seed, [octets])


@pytest.mark.parametrize("role", ["client", "server"])
def test_captures_are_rich(role: Role) -> None:
    """What the other tests spoil has every kind of event in it, and mostly reaches its end."""
    kinds = {
        "server": "request message half_closed failed closed writable",
        "client": "response message ended",
    }
    seen = set()
    alive = 0
    for seed in range(200):
        application = Application(role, seed)
        application.send()
        application.feed(capture(role, seed))
        application.send()
        seen |= {event[0] for event in application.events}
        alive += application.session.alive
    assert seen >= {*kinds[role].split(), "settings"}
    assert alive > 100


@given(ROLES, st.binary(max_size=500), st.integers(0, 1000))
def test_random_bytes_do_no_harm(role: Role, octets: bytes, seed: int) -> None:
    fuzz.execute(role, seed, octets)


def test_spoiled_captures_do_no_harm(tmp_path: Path) -> None:
    """The short form of `make fuzz`."""
    fuzz.fuzz(6000, seed=4, last=tmp_path / "input")
    assert not list(tmp_path.iterdir())


def test_sessions_leave_nothing_on_the_heap() -> None:
    """Whatever came in, and however far they got: streams, events, messages, nghttp2's own."""

    def all_of_them() -> int:
        for seed in range(150):
            for role in fuzz.ROLES:
                octets = capture(role, seed)
                fuzz.execute(role, seed, octets)
                fuzz.execute(role, seed, mutated(octets, random.Random(seed)))
        gc.collect()
        return in_use()

    all_of_them()  # what Python itself keeps
    before = all_of_them()
    if before == 0:
        pytest.skip("this heap does not say what is in use")
    assert all_of_them() - before < 20_000


def test_a_finding_is_kept_and_can_be_run_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    last = tmp_path / "input"
    with monkeypatch.context() as patch:
        patch.setattr(fuzz, "MOST_OUTPUT", 0)
        with pytest.raises(fuzz.FindingError, match="bytes of output"):
            fuzz.fuzz(10, seed=4, last=last)
        with pytest.raises(fuzz.FindingError, match="bytes of output"):
            fuzz.again(last)
    fuzz.again(last)

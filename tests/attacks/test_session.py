"""Attacks on the session itself: what it answers, how much it holds, that it ends when it should."""

from __future__ import annotations

import pytest

from attacks.scripts import ATTACKS, BIG, ECHO, HOLD, Attack, check_answers, request
from wire import frames
from wire.ends import End, Event, server
from wire.heap import in_use

MOST_BYTES = 4 << 20
"""What one connection may hold, whatever is sent to it: far below what the attacks would make it."""


def application(end: End, paths: dict[int, str]) -> None:
    """As a server has it: it answers, or holds the call until it is cancelled."""

    def answer(stream_id: int, *payloads: bytes, status: int = 0) -> None:
        try:
            for payload in payloads:
                end.session.send_message(stream_id, payload)
            end.session.finish(stream_id, status)
        except RuntimeError as error:
            # Its client gave it up in what was read together with the request.
            if "has ended" not in str(error):
                raise

    def react(event: Event) -> None:
        kind, stream_id = event[:2]
        if kind == "request":
            paths[stream_id] = event[2]
            if event[2] not in (HOLD, BIG, ECHO):
                answer(stream_id, status=12)
        elif kind == "half_closed" and paths[stream_id] != HOLD:
            answer(stream_id, b"y" * (10_000 if paths[stream_id] == BIG else 1))
        elif kind == "failed":
            answer(stream_id, status=event[2])

    end.take(react)


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_the_session_survives(attack: Attack) -> None:
    end = server(begin=False)
    paths: dict[int, str] = {}
    before = in_use()
    pieces = attack.say()
    for piece in pieces:
        taken = end.session.receive_data(piece)
        application(end, paths)
        end.events.clear()
        if attack.reads:
            end.hear()
        held = in_use() - before - sum(len(each.data) + 200 for each in end.heard)
        assert held < MOST_BYTES + 5_000_000 * (attack.code is None and not attack.reads)
        assert end.session.streams <= 1000
        if not taken or not end.session.alive:
            break
    end.hear()
    if attack.code is None:
        assert end.session.alive, end.session.problem
        check_answers(attack, end.heard)
        end.say(frames.settings({4: 65_535}), frames.window_update(0, 1 << 24))
        application(end, paths)
        end.heard.clear()
        return
    assert end.goaway().code == attack.code
    assert not end.session.alive
    assert not end.session.receive_data(frames.ping())
    end.session.lost()
    end.take()
    assert end.session.streams == 0


def test_honest_clients_are_no_attackers() -> None:
    """300 calls that are given up at once among 20,000, as fast as they come."""
    end = server()
    paths: dict[int, str] = {}
    for i in range(20_000):
        stream_id = 2 * i + 1
        octets = end.peer.headers(stream_id, request()) + end.peer.message(stream_id, b"x", end=True)
        if i % 70 == 0:
            octets += frames.reset(stream_id, frames.CANCEL)
        end.session.receive_data(octets)
        if i % 100 == 0:
            application(end, paths)
            end.events.clear()
            end.hear()
            end.heard.clear()
            end.session.receive_data(frames.window_update(0, 700))
    assert end.session.alive, end.session.problem


def test_the_limits_are_settings() -> None:
    end = server(reset_burst=5, reset_rate=1)
    end.say(*(end.peer.headers(i, request(HOLD)) + frames.reset(i, 8) for i in range(1, 12, 2)))
    assert end.goaway().code == frames.ENHANCE_YOUR_CALM
    assert end.session.problem == "too many streams are reset"

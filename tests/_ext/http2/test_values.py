"""The values of gRPC's header fields, beside a plain reading of PROTOCOL-HTTP2.md."""

from __future__ import annotations

import base64
import re
import string

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tai_grpc._ext.http2 import sansio
from wire import frames
from wire.ends import client, server

UNITS = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}
KEYS = st.text(string.ascii_lowercase + string.digits + "_-.", min_size=1, max_size=20)
TEXTS = st.text(string.printable[:95], max_size=40).map(lambda text: text.strip(" "))


def plain_timeout(value: bytes) -> float | None:
    found = re.fullmatch(rb"([0-9]{1,8})([HMSmun])", value)
    return int(found[1]) * UNITS[found[2].decode()] if found else None


@given(st.one_of(st.binary(max_size=12), st.from_regex(rb"[0-9]{0,10}[HMSmunX]?", fullmatch=True)))
@example(b"99999999H")
@example(b"000000001S")
@example(b"1 S")
@example(b"+1S")
@example(b"")
def test_a_timeout_is_at_most_eight_digits_and_a_unit(value: bytes) -> None:
    expected = plain_timeout(value)
    found = sansio.timeout_seconds(value)
    if expected is None:
        assert found is None
    else:
        # What is over 146 years is cut to them.
        assert found == pytest.approx(min(expected, 2.0**62 / 1e9), rel=1e-6)


@given(st.floats(0, 4e9))
def test_a_timeout_is_never_sent_shorter_and_hardly_longer(seconds: float) -> None:
    text, said = sansio.timeout_roundtrip(seconds)
    assert plain_timeout(text.encode()) == pytest.approx(said)
    assert seconds - 1e-9 - seconds * 1e-15 <= said <= seconds * (1 + 1e-5) + 1e-9


def plain_percent(text: bytes) -> bytes:
    return b"".join(
        bytes([octet]) if 0x20 <= octet <= 0x7E and octet != 0x25 else b"%%%02X" % octet for octet in text
    )


@given(st.binary(max_size=60))
def test_percent_encoding_spares_printable_ascii_alone(text: bytes) -> None:
    assert sansio.percent_encoded(text) == plain_percent(text)


@given(st.text(max_size=60))
def test_a_message_comes_back_as_it_was(text: str) -> None:
    octets = text.encode("utf-8", "replace")
    assert sansio.percent_decoded(sansio.percent_encoded(octets)) == octets.decode()


@given(st.one_of(st.binary(max_size=40), st.text("%0aAfFgZ ", max_size=20).map(str.encode)))
@example(b"%")
@example(b"%F")
@example(b"%FF%zz")
@example(b"a%e4%b8%ADb%")
def test_a_message_that_is_not_well_formed_is_kept(text: bytes) -> None:
    expected = re.sub(rb"%([0-9A-Fa-f]{2})", lambda found: bytes([int(found[1], 16)]), text)
    assert sansio.percent_decoded(text) == expected.decode("utf-8", "replace")


METADATA = st.lists(
    st.one_of(
        st.tuples(KEYS.filter(lambda key: not key.endswith("-bin")), TEXTS),
        st.tuples(KEYS.map(lambda key: key + "-bin"), st.binary(max_size=40)),
    ),
    max_size=10,
).map(tuple)


@given(METADATA)
def test_metadata_come_back_as_they_were(metadata: tuple[tuple[str, str | bytes], ...]) -> None:
    assert sansio.metadata_roundtrip(metadata) == metadata


@pytest.mark.parametrize(
    ("metadatum", "error"),
    [
        (("Upper", "x"), ValueError),
        (("", "x"), ValueError),
        (("sp ace", "x"), ValueError),
        ((":path", "/x"), ValueError),
        (("grün", "x"), ValueError),
        (("k", "grün"), ValueError),
        (("k", "a\nb"), ValueError),
        (("k", "a\x7f"), ValueError),
        (("k", b"\xff"), ValueError),
        (("k", 5), TypeError),
        ((5, "x"), TypeError),
        (("k-bin", "text"), TypeError),
    ],
)
def test_metadata_that_cannot_be_sent_say_which_key(metadatum: tuple[str, str], error: type) -> None:
    with pytest.raises(
        error, match=re.escape(repr(metadatum[0])) if isinstance(metadatum[0], str) else "int"
    ):
        sansio.metadata_roundtrip([metadatum])


@pytest.mark.parametrize(
    "name",
    [
        *("connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade", "te", "host"),
        *("content-length", "content-type", "grpc-status", "grpc-message", "grpc-timeout", "grpc-encoding"),
        "grpc-accept-encoding",
    ],
)
def test_metadata_cannot_take_the_protocols_own_names(name: str) -> None:
    """They would be sent twice, or make the peer reset the stream or close the connection."""
    with pytest.raises(ValueError, match=f"'{name}'"):
        sansio.metadata_roundtrip([(name, "1")])


def test_the_user_agent_of_another_is_not_passed_on() -> None:
    assert sansio.metadata_roundtrip([("user-agent", "other/1"), ("k", "v")]) == (("k", "v"),)


@given(st.lists(st.binary(max_size=20), min_size=1, max_size=5), st.booleans(), st.sampled_from([",", ", "]))
def test_binary_values_arrive_padded_or_not_and_joined_or_not(
    values: list[bytes], padded: bool, comma: str
) -> None:
    encoded = [
        base64.b64encode(value).decode() for value in [*values, b"\1"]
    ]  # a field's value does not end in a space
    joined = comma.join(text if padded else text.rstrip("=") for text in encoded)
    end = server()
    fields = frames.changed(frames.REQUEST, {"x-bin": joined})
    (request, *_) = end.say(end.peer.call(1, fields=fields))
    assert request[3] == tuple(("x-bin", value) for value in [*values, b"\1"])


@pytest.mark.parametrize("value", ["@@@", "A", "AAAAA", "A===", "====", "AA=A", "Aé=="])
def test_a_binary_value_that_is_not_base64_is_left_out(value: str) -> None:
    end = server()
    fields = [*frames.REQUEST, ("x-bin", value), ("y-bin", "AQ"), ("z", "kept")]
    (request, *_) = end.say(end.peer.call(1, fields=fields))
    assert request[3] == (("y-bin", b"\1"), ("z", "kept"))


def test_binary_values_are_sent_without_padding() -> None:
    end = client()
    end.session.request("/a/b", metadata=[("x-bin", b"\1"), ("x-bin", b"\xff\xfe")])
    end.hear()
    (headers,) = frames.of_kind(end.heard, "headers")
    assert [value for name, value in headers.fields if name == "x-bin"] == ["AQ", "//4"]


def test_the_timeout_of_a_request_is_a_field() -> None:
    end = client()
    for seconds, text in (
        (1.5, "1500000u"),
        (0.0, "0n"),
        (1e-9, "1n"),
        (7200, "7200000m"),
        (1e7, "10000000S"),
    ):
        stream_id = end.session.request("/a/b", timeout=seconds)
        end.hear()
        found = plain_timeout(end.headers(stream_id)[0]["grpc-timeout"].encode())
        assert found == pytest.approx(plain_timeout(text.encode()), rel=1e-5)

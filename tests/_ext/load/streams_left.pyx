# cython: language_level=3
"""Leaves an engine's connections few stream ids, as a billion calls would."""

from tai_grpc._ext.load.engine cimport Engine
from tai_grpc._ext.load.state cimport Link


def leave(Engine engine, int count):
    """Between connecting and running: each connection has ids for `count` calls."""
    cdef Link *link = engine.state.links
    while link is not NULL:
        link.session.next_stream_id = 0x7FFFFFFF - 2 * (count - 1)
        link = link.next

"""Several processes on one port, and the supervisor that starts, watches and stops them."""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Final

from tai_grpc.checks import check_int, check_type
from tai_grpc.errors import ConfigError, TaiGrpcError
from tai_grpc.resilience import Arena
from tai_grpc.server.counts import Slot
from tai_grpc.server.ports import hold
from tai_grpc.server.worker_process import Assignment, MakeServer, Serving, work

_log = logging.getLogger(__name__)

MAX_WORKERS: Final = 256
ARENA_BYTES: Final = 4 << 20
"""The size of the arena that is made when none is given."""

_STOP: Final = (signal.SIGTERM, signal.SIGINT)
_FIRST_BACKOFF: Final = 0.1
_MAX_BACKOFF: Final = 10.0
_STEADY: Final = 10.0
"""A worker that served for so many seconds is restarted after the first backoff again."""
_BEYOND_GRACE: Final = 5.0
"""Seconds that a worker has to end after its grace, before it is killed."""

_SAME_SIGNAL: Final = 0.5
"""Seconds in which a second signal is the first once more: sent to the process and to its group."""

Ready = Callable[[str, Sequence[str]], object]


def run_workers(
    make_server: MakeServer, workers: int, *, arena: Arena | None = None, ready: Ready | None = None
) -> None:
    """Serve on one port with `workers` (1 to 256) processes, until SIGTERM or SIGINT.

        arena = Arena(None, 4 << 20)
        bucket = arena.token_bucket("all workers together", 1000.0, 100)

        def make_server(arena: Arena) -> GrpcServer:
            server = GrpcServer(GrpcServerConfig(listen="0.0.0.0:50051", control_plane=False), arena=arena)
            server.add(MyServicer(bucket))
            return server

        run_workers(make_server, 4, arena=arena)

    `make_server` is called in each worker, with its event loop running. `arena`, in memory, is what the
    workers share (4 MiB by default): breakers, limits and counters made of it hold for all of them. When all
    listen, `ready` is called with the address and the names of the services.

    A worker that dies is logged and replaced, at once at first, then after up to 10 s. The system deals out
    connections, not calls: a client with one connection is served by one worker. On SIGTERM or SIGINT every
    worker stops as `GrpcServer.run` does; a second one kills them. If the supervisor dies, they stop.

    To be called in the main thread, outside of an event loop, and before anything of grpcio's has been used:
    the workers are forked.

    Raises:
        ConfigError: an argument is of another type or out of range, or the server has a store or an address
            that processes cannot share.
        OSError: the address cannot be listened on.
        TaiGrpcError: a worker did not start (then none goes on), or did not stop in order; it was called in
            another thread, or in an event loop.
    """
    if not callable(make_server):
        raise ConfigError("make_server", make_server, "a function of the arena that returns a GrpcServer")
    check_int("workers", workers, 1, MAX_WORKERS)
    if arena is None:
        arena = Arena(None, ARENA_BYTES)
    check_type("arena", arena, Arena)
    if ready is not None and not callable(ready):
        raise ConfigError("ready", ready, "a function of the address and the services' names, or None")
    if threading.current_thread() is not threading.main_thread():
        raise TaiGrpcError("run_workers is called in the main thread, which has the signals")
    if asyncio._get_running_loop() is not None:
        raise TaiGrpcError("run_workers is not called in an event loop: each worker has its own")
    with ExitStack() as stack:
        signals = stack.enter_context(_signals())
        supervisor = _Supervisor(make_server, workers, arena, signals, stack)
        supervisor.run(ready)


class _Worker:
    """A slot, and the process that is in it."""

    def __init__(self, slot: Slot) -> None:
        self.slot = slot
        self.process: BaseProcess | None = None
        self.report: Connection | None = None
        self.serving: Serving | None = None
        self.error: Exception | None = None
        """Why it does not serve, as it reported."""
        self.begun = 0.0
        self.backoff = _FIRST_BACKOFF
        self.due: float | None = None
        """When the next process is started; None: one runs."""

    def hear(self) -> None:
        """Take its report, if there is one."""
        if self.report is None or not self.report.poll():
            return
        report, self.report = self.report, None
        with report, suppress(EOFError):  # when it has died
            said = report.recv()
            if isinstance(said, Exception):
                self.error = said
            else:
                self.serving = said

    def ended(self) -> str:
        """How its process has ended; "" while it runs."""
        code = None if self.process is None else self.process.exitcode
        if code is None:
            return ""
        return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"


class _Supervisor:
    """Starts the first worker, which finds the port, then the others; then sees to it that all are there."""

    def __init__(
        self, make_server: MakeServer, workers: int, arena: Arena, signals: socket.socket, stack: ExitStack
    ) -> None:
        self._make_server = make_server
        self._arena = arena
        self._workers = [_Worker(Slot(number, workers)) for number in range(workers)]
        self._address: str | None = None
        self._fork = multiprocessing.get_context("fork")
        self._lifeline, held = self._fork.Pipe(duplex=False)
        self._held = stack.enter_context(held)
        stack.enter_context(self._lifeline)
        self._signals = signals
        self._stack = stack
        stack.callback(self._kill)

    def run(self, ready: Ready | None) -> None:
        if self._start_all():
            serving = self._workers[0].serving
            if ready is not None and serving is not None:
                ready(serving.address, serving.service_names)
            while not self._stop_is_asked(self._until_due()):
                self._replace()
        self._stop()

    def _start_all(self) -> bool:
        """Start every worker; False: it was to stop before all listened."""
        first, *others = self._workers
        self._start(first)
        if not self._until_serving([first]):
            return False
        assert first.serving is not None  # noqa: S101 - for the type checker
        self._address = first.serving.address
        for each in hold(self._address):
            self._stack.enter_context(each)
        for worker in others:
            self._start(worker)
        return self._until_serving(others)

    def _until_serving(self, workers: Sequence[_Worker]) -> bool:
        """Wait until these serve; False: it is to stop.

        Raises:
            Exception: what one reported instead.
        """
        while not all(worker.serving for worker in workers):
            if self._stop_is_asked(None):
                return False
            for worker in self._workers:
                worker.hear()
                if worker.error is not None:
                    raise worker.error
                if how := worker.ended():
                    raise TaiGrpcError(f"worker {worker.slot.number} {how} before it served")
        return True

    def _start(self, worker: _Worker) -> None:
        report, ours = self._fork.Pipe(duplex=False)
        assignment = Assignment(
            self._make_server, self._arena, worker.slot, self._address, ours, self._lifeline
        )
        foreign = [self._held, report, *(each.report for each in self._workers if each.report)]
        worker.process = self._fork.Process(target=work, args=(assignment, foreign), name="tai-grpc worker")
        # It unblocks them when it can be asked to stop: none is lost in between.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _STOP)
        try:
            worker.process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        ours.close()
        worker.report, worker.serving, worker.error = report, None, None
        worker.begun, worker.due = time.monotonic(), None

    def _replace(self) -> None:
        """Take note of who has died, and start who is due."""
        now = time.monotonic()
        for worker in self._workers:
            worker.hear()
            if worker.due is None and (how := worker.ended()):
                if now - worker.begun >= _STEADY:
                    worker.backoff = _FIRST_BACKOFF
                worker.due = now + worker.backoff
                _log.error(
                    "worker %d (process %s) %s%s: the next one starts in %g s",
                    worker.slot.number,
                    worker.process and worker.process.pid,
                    how,
                    f" ({worker.error})" if worker.error else "",
                    worker.backoff,
                )
                worker.backoff = min(2 * worker.backoff, _MAX_BACKOFF)
            elif worker.due is not None and worker.due <= now:
                self._start(worker)

    def _until_due(self) -> float | None:
        due = [worker.due for worker in self._workers if worker.due is not None]
        return max(0.0, min(due) - time.monotonic()) if due else None

    def _stop_is_asked(self, timeout: float | None) -> bool:
        """Wait until something has happened, and say whether it was a signal to stop."""
        reports = [worker.report for worker in self._workers if worker.report]
        wait([self._signals, *reports], timeout)
        return any(number in _STOP for number in _received(self._signals))

    def _stop(self) -> None:
        """Let every worker stop within its grace.

        Raises:
            TaiGrpcError: one did not, or ended otherwise.
        """
        graces = [worker.serving.grace for worker in self._workers if worker.serving]
        begun = time.monotonic()
        end = begun + max(graces, default=0.0) + _BEYOND_GRACE
        running = [worker for worker in self._workers if worker.process and not worker.ended()]
        _log.info("stopping %d workers", len(running))
        for worker in running:
            self._send(worker, signal.SIGTERM)
        while not all(worker.ended() for worker in running):
            left = end - time.monotonic()
            again = left > 0 and self._stop_is_asked(left)
            if left <= 0 or (again and time.monotonic() - begun > _SAME_SIGNAL):
                self._kill()
        wrong = [
            f"worker {worker.slot.number} {how}"
            for worker in running
            if (how := worker.ended()) != "ended with exit code 0"
        ]
        if wrong:
            raise TaiGrpcError(f"not all workers stopped in order: {', '.join(wrong)}")

    def _kill(self) -> None:
        for worker in self._workers:
            if worker.process is not None and not worker.ended():
                self._send(worker, signal.SIGKILL)
                worker.process.join()
            if worker.report is not None:
                worker.report.close()
                worker.report = None

    @staticmethod
    def _send(worker: _Worker, number: signal.Signals) -> None:
        if worker.process is not None and worker.process.pid is not None:
            os.kill(worker.process.pid, number)


@contextmanager
def _signals() -> Iterator[socket.socket]:
    """A socket from which the numbers of signals to this process can be read."""
    ours, wakeup = socket.socketpair()
    with ours, wakeup:
        ours.setblocking(False)
        wakeup.setblocking(False)
        numbers = (*_STOP, signal.SIGCHLD)
        handlers = [signal.signal(number, lambda *_: None) for number in numbers]
        before = signal.set_wakeup_fd(wakeup.fileno(), warn_on_full_buffer=False)
        try:
            yield ours
        finally:
            signal.set_wakeup_fd(before)
            for number, handler in zip(numbers, handlers, strict=True):
                signal.signal(number, handler)


def _received(signals: socket.socket) -> bytes:
    try:
        return signals.recv(4096)
    except BlockingIOError:
        return b""

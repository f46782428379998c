"""What one invocation has of WASI: its input and output, clocks, arguments and environment."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from weakref import ref

from ...capabilities import Session
from ...engine.plan import Limits
from ..calls import Await
from ..errors import CanonicalTrap
from ..files.granted import Files
from ..flat_plan import ImportedFunction
from ..http_exchange import HttpExchange
from ..pipes import Pipe, Sink
from ..resources import HostResource
from ..types import Resource
from ..values import Value
from .offers import Offer
from .wakeup import Wakeup

_LEAST_KEPT = 64 << 10


class GuestExit(CanonicalTrap):
    """The guest has called ``exit``."""

    def __init__(self, code: int) -> None:
        super().__init__(f"exit {code}")
        self.code = code


class OutputOverflow(CanonicalTrap):
    """The guest has written more than it may."""


@dataclass(frozen=True, slots=True)
class GuestInput:
    """What a guest can read without a grant."""

    stdin: bytes
    args: Sequence[str] = ()
    environ: Sequence[tuple[str, str]] = ()
    config: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a guest may print, in bytes, and how exact its clocks are."""

    most_out: int
    most_err: int
    clock_resolution_ns: int
    kept: int = 1 << 20
    """Bytes of header fields that it makes, and of unsent bodies: a guest keeps them while its memory grows."""

    @property
    def most_kept(self) -> int:
        return max(self.kept, _LEAST_KEPT)


class WasiHost:
    """Answers the imports of one invocation."""

    def __init__(
        self,
        offers: Mapping[ImportedFunction, Offer],
        given: GuestInput,
        bounds: Bounds,
        *,
        edge_call: Callable[[int, bytes], Value | Await] | None = None,
        exchange: HttpExchange | None = None,
        session: Session | None = None,
        room: Callable[[], int] = lambda: 0,
        files: Files | None = None,
    ) -> None:
        """Take ``exchange``, the request, if its body comes, and its answer leaves, while the guest runs."""
        self._offers = offers
        self._most_out = bounds.most_out
        self._most_err = bounds.most_err
        self.most_kept = bounds.most_kept
        self._resolution = bounds.clock_resolution_ns
        self.files = files or Files((), Limits())
        self._closing: list[Callable[[], None]] = [self.files.close]
        self.wakeup = Wakeup()
        self.stdin = given.stdin
        self.stdin_stream: object = None
        self.args = given.args
        self.environ = given.environ
        self.config = given.config
        self.edge_call = edge_call
        self.exchange = exchange
        if exchange is not None:
            exchange.serve(self.wakeup)
        self.returns = False
        """Whether the answer is returned, and not written to stdout."""
        self.session = session
        self.room = room
        """Gives how many bytes the guest's memory may take in addition."""
        self.cursors: list[str] = []
        self.uploads: list[ref[Any]] = []
        """Bodies of its own requests: what is unsent of them has one bound."""
        self.swaps: list[ref[Any]] = []
        """Values that ``wasi:keyvalue/atomics`` is to replace: they take room beside the memory."""
        self.stdout = bytearray()
        self.stderr = bytearray()
        self.stderr_dropped = 0
        self.seed: tuple[int, int] | None = None
        """What hash functions are seeded with, once the guest has asked for it."""
        self._fields = 0

    def call(self, function: ImportedFunction, values: Sequence[Value]) -> Value | Await:
        return self._offers[function].call(self, *values)

    def drop(self, resource: Resource, rep: Any) -> None:
        """End the streams of a message that nobody gets; what else is held is freed with the invocation."""
        if isinstance(rep, HostResource):
            rep.dropped()

    def attach(self, pipe: Pipe, sink: Sink) -> None:
        """Let the host read a stream or a future from now on, be it a guest who writes or the host."""
        pipe.attach(sink)
        if pipe.source is not None:
            self.wakeup.pump(pipe)

    def at_end(self, close: Callable[[], None]) -> None:
        """Have ``close`` called when the invocation is over, in any thread."""
        self._closing.append(close)

    def close(self) -> None:
        while self._closing:
            self._closing.pop()()

    def write_out(self, data: bytes) -> None:
        """Take what the guest prints: into its log, if its answer is what it returns. Raises OutputOverflow."""
        if self.returns:
            self.write_err(data)
        else:
            self.answer(data)

    def answer(self, data: bytes) -> None:
        """Add to the answer. Raises OutputOverflow."""
        if len(self.stdout) + len(data) > self._most_out:
            raise OutputOverflow(f"more than {self._most_out} bytes of output")
        self.stdout += data

    @property
    def err_left(self) -> int:
        """Bytes of the log that there is room for."""
        return max(self._most_err - len(self.stderr), 0)

    def spend_on_fields(self, size: int) -> None:
        """Take note of header fields that the guest makes. Traps if they come to too much."""
        self._fields += size
        if self._fields > self.most_kept:
            raise CanonicalTrap(f"header fields of more than {self.most_kept} bytes in all")

    def spend_on_text(self, *values: Value) -> None:
        """Do what spend_on_fields() does, for texts among the values: parts of requests."""
        self.spend_on_fields(sum(len(each) for each in values if isinstance(each, str)))

    def write_err(self, data: bytes) -> None:
        room = self.err_left
        self.stderr += data[:room]
        self.stderr_dropped += len(data[room:])

    @property
    def resolution(self) -> int:
        return self._resolution

    def monotonic(self) -> int:
        now = time.monotonic_ns()
        return now - now % self._resolution

    def realtime(self) -> int:
        now = time.time_ns()
        return now - now % self._resolution


def strings_of(block: bytes) -> list[str]:
    """Return what is in a block of layout.strings()."""
    count, _ = struct.unpack_from("<II", block)
    offsets = struct.unpack_from(f"<{count}I", block, 8)
    data = block[8 + 4 * count :]
    return [data[at : data.index(b"\0", at)].decode("utf-8", "replace") for at in offsets]

"""``FastPath``: answers an ASGI request in one call of fast_path.c, if its guest ends without a wait.

That spares an EdgeRequest, an EdgeResponse and their JSON in Python, which cost more than the guest. Unusual requests
and responses are left to the slow path, which takes three steps, each in C where possible: encode(), run(), decode().
"""

from __future__ import annotations

import ctypes
import sys
import weakref
from asyncio import get_running_loop
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, TypeVar

from . import layout
from .invocation import LARGE, Guard, Host, Invocation
from .module import Module
from .native import library as native
from .native.library import FastPathState, NativeLibrary
from .outcome import End, Outcome
from .plan import Plan
from .reclaim import SMALL

_OFFSETS = 8
"""Where they begin in a block of layout.strings(), behind count and size."""
PROTOCOLS = ("edge", "wws", "cgi", "http")
"""As native.h numbers them; the last one is for handlers of ``wasi:http``, whose answers are those of ``edge``."""
NO_SEGMENTS = 0xFFFF
"""A route that matches the whole path, whatever it is."""
Decoded = tuple[int, list[tuple[bytes, bytes]], bytes]
"""Status, headers and body, for ASGI."""
_new_tuple = tuple.__new__
_HAS_GIL = "t" not in sys.abiflags
"""fast_path.c relies on the GIL."""


class Completed(NamedTuple):
    """The answer of a guest that has ended well."""

    status: int
    headers: list[tuple[bytes, bytes]]
    """As ASGI wants them; the last one is ``x-request-id``."""
    body: bytes
    ran_ns: int
    """How long the guest ran: its time of CPU, or the time that passed if the guests before it were short."""
    pages: int
    """Pages of its memory at the end, 0 if it has not grown."""
    traceparent: str | None
    """The trace that the guest got."""
    cleanup_due: bool
    """Whether prepared.c is to be called once the answer is out."""
    store: int
    """What reclaim.py is to free, 0 if nothing is left."""

    @property
    def request_id(self) -> bytes:
        """What the guest got."""
        return self.headers[-1][1]


class Called(NamedTuple):
    """The parts of a response for a caller in Python, of a guest that has ended well."""

    status: int
    headers: dict[str, str | list[str]]
    body: str
    declared: int
    """The guest's own content-length; -1 if it gave none."""
    ran_ns: int
    """This and the next fields are as in Completed; ``request_id`` is the id that the guest got."""
    pages: int
    request_id: str
    traceparent: str | None
    cleanup_due: bool
    store: int


class NotTaken:
    """The fast path does not take the request. If a guest was begun, it was dropped, and wrote no file."""


NOT_TAKEN = NotTaken()


@dataclass(frozen=True, slots=True)
class Started:
    """A guest that has begun, but did not complete on the fast path: Invocation.run() continues it.

    Use it in a ``with`` block, at whose end the guest is dropped if nobody has run it.
    """

    invocation: Invocation
    request_id: str
    """What the guest got; empty if that is not known."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, *error: object) -> None:
        self.invocation.drop()


Left = TypeVar("Left", bound=Started | NotTaken)


class Inputs(NamedTuple):
    """What a guest reads, for Invocation or FastPath.run()."""

    stdin: bytes
    variables: bytes
    """The environment, and behind it the arguments if they are not those of the plan: blocks of layout.strings()."""
    arguments: int = 0
    """Where the arguments begin in that; 0 if they are those of the plan."""

    @property
    def parts(self) -> tuple[bytes, bytes, bytes]:
        """Stdin, environment and arguments."""
        at = self.arguments or len(self.variables)
        return self.stdin, self.variables[:at], self.variables[at:]


class Encoded(NamedTuple):
    """What C made of a request; the first three are Inputs."""

    stdin: bytes
    variables: bytes
    arguments: int
    request_id: str
    """What the guest gets."""
    traceparent: str | None
    """The trace that the guest gets."""

    @property
    def inputs(self) -> Inputs:
        """What the guest reads, if its environment is there too."""
        return _new_tuple(Inputs, self[:3])


@dataclass(frozen=True, slots=True)
class Speech:
    """How a guest gets its request and gives its answer."""

    protocol: str
    suffix: bytes = b""
    """edge: the end of the message, from behind the region."""
    route: bytes = b""
    """cgi: the pattern of the rule or route."""
    segments: int = NO_SEGMENTS
    """cgi: how many segments of the path it matches."""
    own_names: bool = True
    """Whether the guest gets EDGE_REQUEST_ID and EDGE_REGION."""
    complete: bool = True
    """Whether C can write all that the guest reads; else not its environment."""


class FastPath:
    """The fast path of one target: what all of its requests have in common, laid out for fast_path.c."""

    __slots__ = ("__weakref__", "_call", "_clean_up", "_decode", "_dispatch", "_encode", "_engine", "_late", "_memory",
                 "_plan", "_run", "answer", "complete", "dispatches", "runs")  # fmt: skip

    def __init__(self, plan: Plan, speech: Speech, environ: tuple[bytes, ...]) -> None:
        """Take ``environ``, what each guest gets of it."""
        assert native.native is not None
        module = plan.module
        engine = module.engine
        block = layout.strings(list(environ))
        data = _OFFSETS + 4 * len(environ)
        self._plan = plan
        self._engine = engine
        self._late = engine.reclaimer.late
        self.complete = speech.complete
        """Whether encode() gives the environment too; else it is for Python to write."""
        self.runs = fits(plan)
        """Whether run() may be called."""
        self.dispatches = self.runs and speech.complete
        """Whether dispatch() may be called."""
        self._memory = native.FastPathState(
            *(plan.at, ctypes.addressof(engine.state), ctypes.addressof(module.state)),
            plan.template,
            speech.suffix,
            block[_OFFSETS:data],
            block[data:],
            speech.route,
            *(len(plan.template), len(speech.suffix), len(environ), len(block) - data, len(speech.route)),
            *(PROTOCOLS.index(speech.protocol), speech.segments, speech.own_names),
            engine.config.clock_resolution_ns,
            *(module.reads_environ and speech.complete, module.reads_args and speech.protocol == "cgi"),
            *(module.reads_clock, module.reads_random),
        )
        at = ctypes.addressof(self._memory)
        self._dispatch, self._call, self._run, self._encode, self._decode = (
            native.native.bound(name, at) for name in ("dispatch", "call", "run", "encode", "decode")
        )
        self.answer: Callable[..., tuple[Any, ...] | None] = native.native.bound("answer", at)
        """The function of C itself: ``(scope, path, params, body, region, traceparent, tracestate)`` as for dispatch().

        With None for the body the request may have none, and C looks whether it has. It returns status, headers and
        body of an answer that leaves nothing else to do, or what is to be given to settled(). None if there may be a
        body, if dispatch() takes nothing, and if the ticker rests. Raises MemoryError: see without_memory().

        It takes two arguments more, the status lines and the own headers of a server of HTTP/1.1. In the place of the
        headers there may then be None, and in that of the body all that is written to the client."""
        self._clean_up = native.native.cleaner(ctypes.addressof(engine.state))
        weakref.finalize(self, _forget, native.native, self._memory).atexit = False

    def dispatch(
        self,
        scope: Mapping[str, Any],
        path: str,
        params: Mapping[str, object],
        body: bytes,
        region: str,
        traceparent: str | None = None,
        tracestate: str | None = None,
    ) -> Completed | Started | NotTaken:
        """Run a guest for a request, on the event loop. A well-formed ``x-request-id`` of a client is taken over.

        The guest gets the given trace, or the client's. Not taken while a large store of the tenant is yet to be freed.
        """
        found = self._begun(self._dispatch, scope, path, params, body, region, traceparent, tracestate)
        return NOT_TAKEN if found is None else completed(found)

    def settled(self, found: tuple[Any, ...]) -> Completed | Started:
        """Return what C has given for a guest that it has begun, once what is left to do is under way."""
        return completed(self._settled(found))

    def call(self, request: object, region: str) -> Called | Started | NotTaken:
        """Call as dispatch() does, for an EdgeRequest, which is given as it is. Not taken in ``cgi``."""
        found = self._begun(self._call, request, region)
        if found is None:
            return NOT_TAKEN
        return _new_tuple(Called, found) if isinstance(found, tuple) else found

    def run(self, inputs: Inputs) -> Outcome | Invocation | None:
        """Run a guest whose inputs are written.

        Return its Outcome, or if it is still under way, an Invocation for the caller to run(). None if C did nothing:
        the caller has to make an Invocation.
        """
        found = self._ran(inputs)
        return self._outcome(found) if isinstance(found, tuple) else found

    def run_and_decode(self, inputs: Inputs, request_id: str, method: str) -> Decoded | Outcome | Invocation | None:
        """Run a guest as run() does. Return what decode() makes of what it printed; else what run() returns."""
        found = self._ran(inputs)
        if not isinstance(found, tuple):
            return found
        decoded: Decoded | None = self._decode(found[0], request_id, method)
        return self._outcome(found) if decoded is None else decoded

    def _ran(self, inputs: Inputs) -> tuple[Any, ...] | Invocation | None:
        """Run a guest. Return what C gives for one that has ended; else what run() does."""
        if len(inputs[0]) > LARGE:
            return None
        found = self._begun(self._run, *inputs)
        if isinstance(found, Started):
            return found.invocation
        return found if isinstance(found, tuple) else None

    def _outcome(self, found: tuple[Any, ...]) -> Outcome:
        stdout, ran_ns, pages, _, _ = found
        outcome = Outcome(End.OK, stdout)
        outcome.memory_bytes = layout.PAGE * max(pages, self._plan.module.min_pages)
        outcome.cpu_s = ran_ns / 1e9
        return outcome

    def _begun(self, begin: Callable[..., Any], *given: Any) -> tuple[Any, ...] | Started | NotTaken | None:
        """Begin a guest by a function of C.

        Return what it gives for a guest that has ended, or the guest. None if C does not take what is given. Not taken
        if nobody else may begin it now: a large store of the tenant is yet to be freed, or memory lacks.
        """
        if self._is_late:
            return NOT_TAKEN
        try:
            found = self._asked(begin, *given)
        except MemoryError as error:
            return self.without_memory(error)
        return None if found is None else self._settled(found)

    @property
    def _is_late(self) -> bool:
        """Whether a large store of the tenant is yet to be freed."""
        return bool(self._late) and self._plan.tenant in self._late

    def _asked(self, begin: Callable[..., Any], *given: Any) -> tuple[Any, ...] | None:
        """Call a function of C, and once more if it began no guest for lack of what it can be lent."""
        found: tuple[Any, ...] | None = begin(*given)
        if found is None and self._lend():
            found = begin(*given)
        return found

    def _settled(self, found: tuple[Any, ...]) -> tuple[Any, ...] | Started:
        """Return what C gives for a guest that has ended, once what is left to do is under way; else the guest."""
        if len(found) == 2:
            how, request_id = found
            return Started(Invocation.started(self._plan, self._engine.detach(), how), request_id or "")
        if found[-2]:
            get_running_loop().call_soon(self._clean_up)
        if found[-1]:
            self._reclaim(found[-1])
        return found

    def without_memory(self, error: MemoryError) -> Started | NotTaken:
        """Leave the answer to the slow path, which reports what the host lacks; the guest was dropped.

        If it may have written a file, the slow path must not run it again.
        """
        return Started(_Lost(self._plan, error), "") if self._plan.preopens else NOT_TAKEN

    def _lend(self) -> bool:
        """Give C what it lacks to begin a guest: wake the ticker. Return False if it lacked nothing."""
        engine = self._engine
        if engine.state.starts_until_check or engine.dead:
            return False
        engine.ticker.ensure_armed()
        return True

    def encode(
        self,
        scope: Mapping[str, Any],
        path: str,
        params: Mapping[str, object],
        body: bytes,
        region: str,
        traceparent: str | None = None,
        tracestate: str | None = None,
        request_id: str | None = None,
    ) -> Encoded | None:
        """Write what a guest reads; without the environment if this is not ``complete``. None: it is for Python.

        ``request_id`` is the id that it has got before.
        """
        found = self._encode(scope, path, params, body, region, traceparent, tracestate, request_id)
        return None if found is None else _new_tuple(Encoded, found)

    def decode(self, stdout: bytes, request_id: str, method: str) -> Decoded | None:
        """Read what a guest printed. None: it is for Python."""
        found: Decoded | None = self._decode(stdout, request_id, method)
        return found

    def _reclaim(self, store: int) -> None:
        """Have a large store freed, which has a place among the guests of the engine until then."""
        module, tenant = self._plan.module, self._plan.tenant
        module.live.add(store)
        module.engine.reclaimer.free(store, None, SMALL + 1, tenant, partial(_reclaimed, module, store))


def completed(found: tuple[Any, ...] | Left) -> Completed | Left:
    """Name the parts of what C gives for a guest that has ended."""
    # Completed(*found) takes three times as long
    return _new_tuple(Completed, found) if isinstance(found, tuple) else found


class _Lost(Invocation):
    """A guest that was dropped since its answer found no memory, but may have written a file: it must not run twice."""

    __slots__ = ("_lack",)

    def __init__(self, plan: Plan, lack: MemoryError) -> None:
        super().__init__(plan, b"")
        self._lack = lack

    @property
    def ran(self) -> float:
        """Zero: how long it ran is lost, too."""
        return 0.0

    async def run(self, deadline: float, guard: Guard, host: Host | None = None) -> Outcome:
        """Raise the MemoryError: a call counts and reports it as any of a guest that could not be run."""
        raise self._lack


def _reclaimed(module: Module, store: int) -> None:
    module.live.discard(store)
    module.engine.state.live -= 1


def _forget(native: NativeLibrary, memory: FastPathState) -> None:
    native.forget_fast_path(ctypes.addressof(memory))


def available(protocol: str) -> bool:
    """Return whether C writes and reads what a protocol has."""
    return native.native is not None and _HAS_GIL and protocol in PROTOCOLS


def fits(plan: Plan) -> bool:
    """Return whether C may begin guests of a plan. Python takes over one that calls the host or runs for long."""
    module = plan.module
    ticks = module.engine.ticker.native  # one of Python would wait for the GIL that a busy guest holds
    return native.native is not None and _HAS_GIL and ticks and module.one_instance and not plan.slow

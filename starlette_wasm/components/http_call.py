"""``HttpCall``: a call of a handler of ``wasi:http`` 0.2, of which wasi_http.c answers what it calls of the host.

What that leaves comes to take_over(): from then on all that the handler has is in objects of Python, under the same
handles, and Python answers all that follows.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, Any

from ..engine import capi
from ..engine.native.component_state import HTTP_BODY, HttpObject, HttpState
from ..engine.scratch import Scratch
from .calls import Calls
from .edge_call import ENDED, HANDLING
from .flat_plan import LiftedFunction
from .handles import Handle
from .http_head import HttpHead, unpack
from .values import Ok
from .wasi.bodies import body_done, body_stream, body_write
from .wasi.fields import Fields
from .wasi.host import WasiHost
from .wasi.http import (
    IncomingRequest,
    OutgoingResponse,
    ResponseOutparam,
    outparam_set,
    request_consume,
    response_body,
)
from .wasi.streams import InputStream, OutputStream, Pollable
from .worlds import Entry

if TYPE_CHECKING:
    from .instance import CoreInstances


class Kind(IntEnum):
    """Kinds of objects. Also in wasi_http.h."""

    REQUEST = 1
    FIELDS = 2
    RESPONSE = 3
    BODY = 4
    STREAM = 5
    POLLABLE = 6
    OUTPARAM = 7
    INCOMING = 8
    INPUT = 9
    TRAILERS = 10


FIXED, CLOSED, TAKEN = 1, 2, 4
"""Flags of objects, likewise."""


def handler_of(entry: Entry | None) -> LiftedFunction | None:
    """Find the function of a component that HttpCall can call."""
    return None if entry is None or entry.world != "http" or entry.is_task else entry.function


class HttpRequest:
    """What a handler is asked: the head, packed, and the body, as far as it has come."""

    __slots__ = ("_head", "content", "is_whole", "packed")

    def __init__(
        self, packed: bytes, head: HttpHead | None = None, content: bytes = b"", *, is_whole: bool = True
    ) -> None:
        """Take ``packed``, the head as wasi_http.c takes it, and the head itself if it is known. A body that is not
        whole comes through the exchange, which has what is given of it, too.
        """
        self.packed = packed
        self._head = head
        self.content = content
        self.is_whole = is_whole

    @property
    def head(self) -> HttpHead:
        return self._head or unpack(self.packed)


class HttpCall:
    """One call, of an instance that has not been called yet since its first state."""

    answer: bytes | None = None
    """What it has returned in the ``edge`` protocol, once it has ended well, if wasi_http.c has all of it."""

    def __init__(
        self,
        cores: CoreInstances,
        function: LiftedFunction,
        request: HttpRequest,
        scratch: Scratch,
        strings: tuple[bytes, bytes],
        most: int,
    ) -> None:
        """Take ``strings``, environment and arguments, blocks of layout.strings(); ``most`` bounds the body of the
        answer.
        """
        self._cores = cores
        self._function = function
        self._request = request
        self._scratch = scratch
        self._http = cores.prepare_http(function)
        self.outparam = ResponseOutparam()
        self._strings = strings  # wasi_http.c reads them where they are
        self._most = min(most, HTTP_BODY)

    def begin(self) -> None:
        """Begin it, if component_path.c has not."""
        cores, request, (environ, arguments) = self._cores, self._request, self._strings
        head, content = request.packed, request.content
        if not cores.native.http_open(
            *(cores.http_at, head, len(head), environ, len(environ), arguments, len(arguments)),
            *(content, len(content), request.is_whole, *cores.quick_calls.of_handler, self._most),
        ):
            raise capi.EngineError("the head of a request is not whole")
        cores.native.http_begin(cores.state_at, self._scratch.at, 1, 2)

    @property
    def future(self) -> int | None:
        """The call of the guest that is under way."""
        found: int | None = self._cores.state.future
        return found

    @property
    def may_call_host(self) -> bool:
        return bool(self._cores.state.phase == HANDLING)

    @property
    def is_open(self) -> bool:
        """Whether wasi_http.c answers, and has what there is."""
        return bool(self._http.open)

    def poll(self) -> int:
        """Let the guest go on: ENDED, TICKED or ASKED."""
        return self.came_to(self._cores.native.http_poll(self._cores.state_at))

    def came_to(self, how: int) -> int:
        """Take what polling it has come to, and return it."""
        if how == ENDED and self.is_open and not (self._scratch.trap.value or self._scratch.error.value):
            self.answer = self._cores.native.http_answer(self._cores.http_at)
        return how

    def take_over(self, calls: Calls, host: WasiHost) -> None:
        """Have Python go on with what there is. Traps if the answer is not valid."""
        state = self._http
        state.open = 0
        request = IncomingRequest(self._request.head, self._request.content, host.exchange)
        found = _Objects(state, request, host, self.outparam)
        resources = self._cores.quick_calls.resources
        entries = [state.handle[index] for index in range(1, state.handles + 1)]
        calls.state(self._function.instance).handles.adopt(
            [Handle(resources[each.resource], found.made[each.object]) if each.resource else None for each in entries],
            list(state.free[: state.freed]),
        )
        found.go_on()


class _Objects:
    """What wasi_http.c knows, as objects of Python: each was made after those that it is of."""

    def __init__(self, state: HttpState, request: IncomingRequest, host: WasiHost, out: ResponseOutparam) -> None:
        self._state = state
        self._host = host
        self._out = out
        self._request = request
        self._streams: dict[int, OutputStream] = {}
        self._input: InputStream | None = None
        self.made: dict[int, Any] = {}
        """By their numbers."""
        host.spend_on_fields(state.spent)
        for number in range(1, state.objects + 1):
            self.made[number] = self._make(number, state.object[number])

    def _make(self, number: int, known: HttpObject) -> object:
        of: Any = self.made.get(known.of)
        match known.kind:
            case Kind.REQUEST:
                return self._request
            case Kind.FIELDS:
                return self._fields(number, fixed=bool(known.flags & FIXED))
            case Kind.RESPONSE:
                response = OutgoingResponse(of)
                response.status = known.status
                return response
            case Kind.BODY:
                return response_body(self._host, of).value
            case Kind.STREAM:
                stream = self._streams[known.of] = body_write(self._host, of).value
                return stream
            case Kind.POLLABLE:
                return Pollable(of)
            case Kind.INCOMING:
                return request_consume(self._host, of).value
            case Kind.INPUT:
                self._input = body_stream(self._host, of).value
                return self._input
            case Kind.TRAILERS:
                trailers = of.finish()
                trailers.taken = bool(known.flags & TAKEN)
                return trailers
            case _:
                return self._out

    def _fields(self, number: int, *, fixed: bool) -> Fields:
        if number == self._state.object[1].of:
            return self._request.headers
        each = (self._state.field[index] for index in range(self._state.fields))
        return Fields([(field.name.bytes.decode(), field.value.bytes) for field in each if field.of == number],
                      fixed=fixed)  # fmt: skip

    def go_on(self) -> None:
        """Do again what was done with them."""
        state = self._state
        if state.input_at and self._input is not None:
            self._input.skip(state.input_at)
        if state.response:
            outparam_set(self._host, self._out, Ok(self.made[state.response]))
        if state.body_len:
            self._streams[state.body_of].write(state.written)
        for number in range(1, state.objects + 1):
            known = state.object[number]
            if known.kind == Kind.BODY and known.flags & CLOSED:
                body_done(self._host, self.made[number], None)

"""``NativeSide``: calls of an entry that component.c makes as a whole."""

from __future__ import annotations

from collections.abc import Callable

from ..engine.scratch import Scratch
from . import glue
from .edge_call import ASKED, ENDED, EdgeCall
from .entries import answer_of
from .errors import CanonicalTrap
from .host_side import HostSide
from .http_call import HttpCall, HttpRequest
from .wasi.host import OutputOverflow
from .wasi.http import read_message


class NativeSide(HostSide):
    """Lets a guest go on in C, and takes over from there."""

    __slots__ = ()

    @property
    def _makes_native_call(self) -> bool:
        """Whether component.c makes the call as a whole."""
        component = self.plan.component
        started = self._kept is not None or not component.starts
        return (component.makes_edge_calls or component.makes_http_calls) and self.typed is None and started

    def _native_call(self, scratch: Scratch) -> EdgeCall | HttpCall:
        entry = self.plan.component.entry
        assert entry is not None
        if entry.world == "edge":
            return EdgeCall(self._there, entry.function, self._stdin, scratch, self._room_of_values)
        strings = self._environ, self.plan.args
        return HttpCall(self._there, entry.function, self._http_request(), scratch, strings, self.plan.limits.stdout)

    def _http_request(self) -> HttpRequest:
        if self.is_packed:
            return HttpRequest(self._stdin, content=self.content)
        head, content = read_message(self._stdin)
        if self.exchange is None:
            return HttpRequest(head.pack(), head, content)
        content, is_whole = self.exchange.request.peek()
        return HttpRequest(head.pack(), head, content, is_whole=is_whole)

    def _polled(self, poll: Callable[[], int]) -> int:
        """Let the guest go on, with what C may use of its streams."""
        lent = self._lent
        if lent is None:
            return poll()
        lent.lend()
        try:
            return poll()
        finally:
            lent.take_back()

    def _poll_native(self, call: EdgeCall | HttpCall) -> bool:
        self._hand_over()
        return self._come_to(call, call.poll)

    def _come_to(self, call: EdgeCall | HttpCall, poll: Callable[[], int]) -> bool:
        """Let the guest go on, and return whether it has ended."""
        try:
            how = self._polled(poll)
            if isinstance(call, HttpCall):
                self._follow(call, how)
        except CanonicalTrap as trap:
            self._ended_by = trap
            how = ENDED
        finally:  # component.c frees each call that has ended, whatever comes of its result
            self._future = call.future
        if how == ASKED:
            self._note()
        elif how == ENDED and call.answer is not None and self._ended_by is None:
            self._answer = call.answer
            if len(call.answer) > self.plan.limits.stdout and isinstance(call, EdgeCall):
                self._ended_by = OutputOverflow(f"more than {self.plan.limits.stdout} bytes of output")
        return how == ENDED

    def _follow(self, call: HttpCall, how: int) -> None:
        """Let Python have what a handler has done, if it is not all done in C: what waits is to leave meanwhile."""
        if self.exchange is not None and how != ASKED:
            self._take_over(call)
        if how == ENDED and not self._has_failed and (call.answer is None or self.exchange is not None):
            self._take_over(call)
            call.answer = answer_of(call.outparam, self._wasi)

    def _follow_to_end(self, call: HttpCall) -> None:
        """Let Python have what a handler has done that has ended before there was anything else to take its answer."""
        try:
            self._follow(call, ENDED)
        except CanonicalTrap as trap:
            self._ended_by = trap

    def _take_over(self, call: HttpCall) -> None:
        """Have Python answer what a handler calls from now on."""
        if call.is_open:
            self._prepare_calls()
            call.take_over(self._calls, self._wasi)

    def _hand_over(self) -> None:
        """Give component.c the result of the call that the guest waits for."""
        state, result = self._there.state, self._result
        if state.asked and result is not None:
            state.result = result & 0xFFFFFFFF
            state.quick = result == glue.DONE and not self._stack and self._calls_freely
            state.answered = True

"""``Session``: what one invocation calls."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial

from ..sync.copies import copied
from . import frame
from .errors import VIOLATIONS, CapabilityError, Code, Violation
from .fields import Fields
from .grants import Grants
from .host import Capabilities
from .http import Incoming, Observer, Request, Url
from .off_loop import off_loop
from .operations import TRACING, Operation, find
from .pieces import Pieces
from .trace import Recorder, TraceUsage, record
from .usage import Usage

logger = logging.getLogger("starlette_wasm")

_KEPT_VIOLATIONS = 100


class Session:
    """One for an invocation, made at its first call; holds nothing that needs closing.

    ``deadline`` is on ``time.monotonic()``. ``observer`` sees every outbound request and may add headers.
    ``recorder`` takes what the guest adds to the trace. ``violations`` are the refusals, the first 100 of them.
    """

    __slots__ = ("_capabilities", "_deadline", "_grants", "_observer", "_recorder", "_trace", "usage", "violations")

    def __init__(
        self,
        capabilities: Capabilities,
        grants: Grants,
        *,
        deadline: float,
        observer: Observer | None = None,
        recorder: Recorder | None = None,
    ) -> None:
        settings = capabilities.settings
        self._capabilities = capabilities
        self._grants = grants
        self._deadline = deadline
        self._observer = observer
        self._recorder = recorder
        self._trace = TraceUsage(grants.trace)
        self.usage = Usage(
            max_calls=settings.max_calls, max_bytes=settings.max_bytes, max_requests=grants.http.max_requests
        )
        self.violations: list[Violation] = []

    async def call(self, operation: int | str, payload: bytes) -> bytes:
        """Return the result, as ``frame`` has it: errors are values. Only cancellation raises."""
        answer = self.take(operation, memoryview(payload), self.usage.max_bytes)
        return answer if isinstance(answer, bytes) else await answer()

    def take(self, operation: int | str, payload: memoryview, room: int) -> bytes | Callable[[], Awaitable[bytes]]:
        """Return the result, if it waits for nothing, else what gives it on the event loop; in any thread.

        ``payload`` may be gone afterwards. Of what is refused, nothing but the header is copied; of the rest, the
        body, once. ``room`` is how many bytes that may be, and those of the result with it.
        """
        title = str(operation)
        try:
            found = self._enter(operation, len(payload), room)
            title = found.title
            header, body = frame.decode(payload)
            fields = Fields(header)
            if found in TRACING:
                return self._leave(*record(found, self._trace, self._recorder, fields))
            self._capabilities.check(found, self._grants, fields, len(body))
            self.usage.fits(len(body), "payload")
            self.usage.room -= len(body)
            return partial(self._await, found, fields, copied(body))
        except Exception as error:
            return self._failed(title, error)

    async def _await(self, operation: Operation, fields: Fields, body: bytes) -> bytes:
        try:
            result, out = await self._perform(operation, fields, body)
            size = len(out) + _size_of_keys(result)
            return await off_loop(self._grants.tenant, size, partial(self._leave, result, out))
        except Exception as error:
            return self._failed(operation.title, error)

    def postpone(self, seconds: float) -> None:
        """Move the deadline, by what the guest has waited for its client."""
        self._deadline += seconds

    def admit(self, url: Url) -> None:
        """Count a request of HTTP that is to be streamed, in any thread. Raises CapabilityError, which is noted."""
        try:
            self.usage.call()
            self._grants.http.check(url)
            self.usage.request()
        except CapabilityError as error:
            raise self._noted(Operation.HTTP_FETCH.title, error) from None

    def check(self, operation: Operation, values: Mapping[str, object]) -> None:
        """See whether it is granted, in any thread. Raises CapabilityError, which is noted."""
        try:
            self.usage.call()
            self._capabilities.check(operation, self._grants, Fields(dict(values)), 0)
        except CapabilityError as error:
            raise self._noted(operation.title, error) from None

    @asynccontextmanager
    async def exchange(self, request: Request) -> AsyncIterator[Incoming]:
        """Send a request that was admitted; bytes of its body are counted by whoever gives them.

        Raises CapabilityError, which is noted; in the body of the context, too.
        """
        http, grant = self._capabilities.http, self._grants.http
        try:
            async with http.exchange(grant, self.usage, self._observer, request) as response:
                yield response
        except Exception as error:
            raise self._noted(Operation.HTTP_FETCH.title, error) from None

    async def ask(
        self, operation: Operation, values: Mapping[str, object], body: bytes = b"", *, room: int
    ) -> tuple[dict[str, object], bytes]:
        """Do what call() does, without frames. Raises CapabilityError, which is noted."""
        try:
            self.usage.room = room
            self.usage.call()
            self.usage.move(len(body))
            fields = Fields(dict(values))
            self._capabilities.check(operation, self._grants, fields, len(body))
            self.usage.fits(len(body), "payload")
            self.usage.room -= len(body)
            result, out = await self._perform(operation, fields, body)
            self.usage.fits(len(out), "result")
            self.usage.move(len(out))
            assert isinstance(out, bytes), "a body of HTTP is streamed"
            return result, out
        except Exception as error:
            raise self._noted(operation.title, error) from None

    async def _perform(
        self, operation: Operation, fields: Fields, body: bytes
    ) -> tuple[dict[str, object], bytes | Pieces]:
        """Carry it out in the time that is left. Raises CapabilityError."""
        left = self._deadline - time.monotonic()
        if left <= 0:  # it might be done at once, and would then be in time
            raise CapabilityError(Code.TIMEOUT, "timed out")
        try:
            async with asyncio.timeout(left):
                return await self._capabilities.call(operation, self._grants, self.usage, self._observer, fields, body)
        except TimeoutError:
            raise CapabilityError(Code.TIMEOUT, "timed out") from None

    def _enter(self, operation: int | str, size: int, room: int) -> Operation:
        self.usage.room = room
        self.usage.call()
        found = find(operation)
        self.usage.move(size)
        return found

    def _leave(self, result: dict[str, object], out: bytes | Pieces) -> bytes:
        self.usage.fits(len(out), "result")
        reply = frame.encode({"ok": True, **result}, out)
        self.usage.move(len(reply))
        return reply

    def _failed(self, title: str, error: Exception) -> bytes:
        noted = self._noted(title, error)
        return frame.encode({"ok": False, "error": {"code": noted.code, "message": noted.message}})

    def _noted(self, title: str, error: Exception) -> CapabilityError:
        """Log and count an error, and return what the guest gets for it."""
        if not isinstance(error, CapabilityError):
            logger.error("capability %s failed", title, exc_info=error)
            error = CapabilityError(Code.INTERNAL, "internal error")
        if error.code in VIOLATIONS and len(self.violations) < _KEPT_VIOLATIONS:
            self.violations.append(Violation(title, error.code, error.message, error.detail))
        return error


def _size_of_keys(result: Mapping[str, object]) -> int:
    """Return how many characters of a result a store has chosen, beside its body."""
    keys = result.get("keys")
    return sum(map(len, keys)) if isinstance(keys, list) else 0

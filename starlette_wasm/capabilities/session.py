"""``Session``: what one invocation calls."""

from __future__ import annotations

import asyncio
import logging
import time

from . import frame
from .errors import VIOLATIONS, CapabilityError, Code, Violation
from .fields import Fields
from .grants import Grants
from .host import Capabilities
from .http import Observer
from .operations import find
from .usage import Usage

logger = logging.getLogger("starlette_wasm")

_KEPT_VIOLATIONS = 100


class Session:
    """One for an invocation, made at its first call; holds nothing that needs closing.

    ``deadline`` is on ``time.monotonic()``. ``observer`` sees every outbound request and may add headers.
    ``violations`` are the refusals, the first 100 of them.
    """

    __slots__ = ("_capabilities", "_deadline", "_grants", "_observer", "usage", "violations")

    def __init__(
        self, capabilities: Capabilities, grants: Grants, *, deadline: float, observer: Observer | None = None
    ) -> None:
        settings = capabilities.settings
        self._capabilities = capabilities
        self._grants = grants
        self._deadline = deadline
        self._observer = observer
        self.usage = Usage(
            max_calls=settings.max_calls, max_bytes=settings.max_bytes, max_requests=grants.http.max_requests
        )
        self.violations: list[Violation] = []

    async def call(self, operation: int | str, payload: bytes) -> bytes:
        """The result, as ``frame`` has it: errors are values. Only cancellation raises."""
        title = str(operation)
        try:
            self.usage.call()
            found = find(operation)
            title = found.title
            self.usage.move(len(payload))
            header, body = frame.decode(payload)
            left = self._deadline - time.monotonic()
            async with asyncio.timeout(max(left, 0)):
                result, out = await self._capabilities.call(
                    found, self._grants, self.usage, self._observer, Fields(header), body
                )
            reply = frame.encode({"ok": True, **result}, out)
            self.usage.move(len(reply))
            return reply
        except CapabilityError as error:
            return self._failed(title, error)
        except TimeoutError:
            return self._failed(title, CapabilityError(Code.TIMEOUT, "timed out"))
        except Exception:
            logger.exception("capability %s failed", title)
            return self._failed(title, CapabilityError(Code.INTERNAL, "internal error"))

    def _failed(self, title: str, error: CapabilityError) -> bytes:
        if error.code in VIOLATIONS and len(self.violations) < _KEPT_VIOLATIONS:
            self.violations.append(Violation(title, error.code, error.message, error.detail))
        return frame.encode({"ok": False, "error": {"code": error.code, "message": error.message}})

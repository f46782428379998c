"""What one invocation has used up."""

from __future__ import annotations

from .errors import CapabilityError, Code


class Usage:
    """Counts, and raises CapabilityError if a limit would be passed."""

    __slots__ = ("bytes", "calls", "max_bytes", "max_calls", "max_requests", "requests", "room")

    def __init__(self, *, max_calls: int, max_bytes: int, max_requests: int) -> None:
        self.calls = self.bytes = self.requests = 0
        self.max_calls = max_calls
        self.max_bytes = max_bytes
        self.max_requests = max_requests
        self.room = max_bytes
        """Bytes that the result of the call under way may have, by the bound of the guest's memory."""

    @property
    def bytes_left(self) -> int:
        return self.max_bytes - self.bytes

    def call(self) -> None:
        if self.calls >= self.max_calls:
            raise CapabilityError(Code.CALLS_EXCEEDED, f"too many calls: at most {self.max_calls} in an invocation")
        self.calls += 1

    def move(self, size: int) -> None:
        """Count the bytes of a payload or result."""
        if size > self.bytes_left:
            raise CapabilityError(Code.BYTES_EXCEEDED, f"too many bytes: at most {self.max_bytes} in an invocation")
        self.bytes += size

    def fits(self, size: int, what: str) -> None:
        """Raise CapabilityError if a payload or result does not fit beside the guest's memory."""
        if size > self.room:
            raise CapabilityError(Code.TOO_LARGE, f"{what} too large: more than {self.room} bytes beside the memory")

    def request(self) -> None:
        """Count an outbound request, a redirect hop included."""
        if self.requests >= self.max_requests:
            raise CapabilityError(
                Code.REQUESTS_EXCEEDED, f"too many network requests: at most {self.max_requests} in an invocation"
            )
        self.requests += 1

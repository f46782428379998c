"""``ResponseError``: what a guest printed is not a response."""

from __future__ import annotations


class ResponseError(ValueError):
    """What a guest printed, or what a caller put together, is not a valid response.

    ``offset`` is the byte of stdout at which it went wrong, None if there is no such byte. The protocols
    know no function names: the runtime turns this into an `InvalidFunctionResponse`.
    """

    def __init__(self, problem: str, offset: int | None = None) -> None:
        self.problem = problem
        self.offset = offset
        super().__init__(problem if offset is None else f"{problem} at byte {offset}")

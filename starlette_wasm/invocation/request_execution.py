"""``RequestExecution``: one run of a guest for an EdgeRequest."""

from __future__ import annotations

import math

from ..config.settings import RequestSettings
from ..engine.fast_path import Inputs
from ..engine.invocation import Guard
from ..functions.target import Target
from ..messages import EdgeRequest, EdgeResponse
from ..telemetry import CallTelemetry
from .context import context_of
from .execution import Execution, Nested, decoded
from .inputs import inputs_of
from .off_loop import is_large, off_loop
from .options import DEFAULT_OPTIONS, CallOptions


class RequestExecution(Execution[EdgeResponse]):
    """An execution from an EdgeRequest to its response."""

    __slots__ = ("_request",)

    def __init__(
        self,
        target: Target,
        request: EdgeRequest,
        settings: RequestSettings,
        nested: Nested,
        options: CallOptions = DEFAULT_OPTIONS,
    ) -> None:
        """Fill in ``request.context``."""
        self._request = request
        headers = request.headers if options.headers is None else options.headers
        context = request.context = context_of(settings, target, headers, cold=bool(options.caller.cold))
        super().__init__(target, context, nested, options)
        if options.timeout is not None:
            self.limit = min(options.timeout, self.limit)
            context.deadline_ms = math.ceil(self.limit * 1000)
        if options.started is not None:
            context.request_id = options.started.request_id or context.request_id
            self.guest = options.started.invocation

    def hand_over(self, watch: CallTelemetry) -> None:
        self._request.context = self.context  # again: the request may be shared, and others came while this one waited
        self._request = watch.executing(self._request, self.context)

    def inputs(self) -> Inputs | None:
        return None if is_large(self._request) else self._encoded()

    async def inputs_off_loop(self, guard: Guard) -> Inputs:
        async with guard():
            return await off_loop(self.target.tenant, self._encoded, self.limit)

    def _encoded(self) -> Inputs:
        options = self._options
        return inputs_of(self.target, self._request, self.context, options.route, options.caller.client)

    def read(self, stdout: bytes) -> EdgeResponse | None:
        return None if self._options.typed is None else EdgeResponse(200)

    async def read_off_loop(self, stdout: bytes) -> EdgeResponse:
        return await decoded(self.target, stdout)

    def already_answered(self) -> EdgeResponse | None:
        stream = self._options.caller.stream
        return stream.head if stream is not None and stream.finished else None

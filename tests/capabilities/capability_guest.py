"""A guest's side of the capabilities: fields and body in, fields and body out."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from starlette_wasm.capabilities import Capabilities, CapabilitySettings, Observer, Session, frame
from starlette_wasm.config.policy import SandboxPolicy


class Guest:
    def __init__(
        self,
        capabilities: Capabilities,
        policy: SandboxPolicy,
        *,
        seconds: float = 300,
        observer: Observer | None = None,
        function: str = "",
    ) -> None:
        grants = capabilities.grants(policy, function)
        self.session = Session(capabilities, grants, deadline=time.monotonic() + seconds, observer=observer)

    async def __call__(self, operation: str, body: bytes = b"", **fields: object) -> tuple[dict[str, Any], bytes]:
        header, out = frame.decode(await self.session.call(operation, frame.encode(fields, body)))
        assert isinstance(header["ok"], bool)
        return header, out

    async def fields(self, operation: str, body: bytes = b"", **fields: object) -> dict[str, Any]:
        """The fields of a result that is well and has no body."""
        header, out = await self(operation, body, **fields)
        assert header.pop("ok"), header
        assert out == b""
        return header

    async def error(self, operation: str, body: bytes = b"", **fields: object) -> tuple[str, str]:
        header, out = await self(operation, body, **fields)
        assert (header["ok"], out) == (False, b""), header
        return header["error"]["code"], header["error"]["message"]


@asynccontextmanager
async def capabilities(**settings: Any) -> AsyncIterator[Capabilities]:
    there = Capabilities(CapabilitySettings(**({"kv_url": "sqlite://", "queue_url": "sqlite://"} | settings)))
    try:
        yield there
    finally:
        await there.close()

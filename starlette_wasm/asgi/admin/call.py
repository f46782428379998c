"""``AdminCall``: one request to the admin API, with what its handler needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from starlette.requests import Request

from ...protocols.small_json import load_small
from ...runtime.nodes import NodeWatch
from ...runtime.runtime import WasmRuntime
from .access import AdminIdentity, Refused
from .audit import AuditLog
from .figures import Figures, Recorder

_MOST_BODY = 64 << 10


@dataclass(frozen=True, slots=True)
class AdminCall:
    """One request to the admin API: who asks for what, of which runtime."""

    request: Request
    runtime: WasmRuntime
    identity: AdminIdentity
    figures: Figures
    recorder: Recorder
    audit: AuditLog
    node_watch: NodeWatch

    @property
    def function(self) -> str:
        """The function in the path; empty if there is none."""
        return str(self.request.path_params.get("name", ""))

    async def read(self, most: int) -> bytes:
        """Return the body, as read_body() does."""
        return await read_body(self.request, most)

    async def json(self) -> dict[str, Any]:
        """Return the JSON object in the body, an empty one without a body. Raise Refused."""
        data = await self.read(_MOST_BODY)
        if not data:
            return {}
        try:
            document = load_small(data)
        except ValueError:
            document = None
        if not isinstance(document, dict):
            raise Refused(422, "the body is not a JSON object")
        return document


async def read_body(request: Request, most: int) -> bytes:
    """Return the body of a request. Raise Refused as soon as it is larger than ``most`` bytes."""
    length = request.headers.get("content-length", "")
    if length.isascii() and length.isdigit() and int(length[:15]) > most:
        raise Refused(413, f"the body may have {most} bytes")
    data = bytearray()
    async for piece in request.stream():
        data += piece
        if len(data) > most:
            raise Refused(413, f"the body may have {most} bytes")
    return bytes(data)

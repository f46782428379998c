"""How a request reaches a guest and a response comes back, over stdin, stdout and the environment."""

from __future__ import annotations

import typing

from starlette_wasm.messages import EdgeRequest, EdgeResponse
from starlette_wasm.protocols.cgi import CgiProtocol
from starlette_wasm.protocols.edge import EdgeProtocol
from starlette_wasm.protocols.errors import ResponseError
from starlette_wasm.protocols.jsonscan import LOOP_TOKENS, MAX_TOKENS, LongAnswerError
from starlette_wasm.protocols.wws import WwsProtocol

__all__ = ["LOOP_TOKENS", "MAX_TOKENS", "LongAnswerError", "Protocol", "ResponseError", "get_protocol"]


class Protocol(typing.Protocol):
    """Stateless: one object serves all functions and threads."""

    name: str

    def encode(self, request: EdgeRequest) -> bytes:
        """Encode what the guest reads on stdin. ``request.context`` is set."""

    def environ(self, request: EdgeRequest, *, route: str, client: tuple[str, int] | None) -> list[tuple[str, str]]:
        """Return environment variables that the protocol adds. ``route`` is the pattern that matched."""

    def decode(self, stdout: bytes, tokens: int = MAX_TOKENS) -> EdgeResponse:
        """Decode and validate what the guest printed.

        Raises:
            ResponseError: It is not a response.
            LongAnswerError: It has more JSON tokens of no use than ``tokens``, which is less than MAX_TOKENS.
        """


_protocols: dict[str, Protocol] = {each.name: each for each in (EdgeProtocol(), WwsProtocol(), CgiProtocol())}


def get_protocol(name: str) -> Protocol:
    """Get the protocol called ``edge``, ``wws`` or ``cgi``.

    Raises:
        ValueError: There is no such protocol.
    """
    try:
        return _protocols[name]
    except KeyError:
        raise ValueError(f"unknown protocol {name!r}; choose one of {', '.join(_protocols)}") from None

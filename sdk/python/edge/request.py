"""What a function is asked."""

from __future__ import annotations

import json
from base64 import b64decode
from dataclasses import dataclass
from email.message import Message
from email.parser import BytesHeaderParser
from typing import Any
from urllib.parse import parse_qsl


@dataclass(frozen=True)
class Part:
    """A part of multipart/form-data."""

    name: str
    filename: str | None
    content_type: str | None
    body: bytes


class Request:
    """``headers`` has lower-case names, ``query`` the last value of a repeated key, ``params`` those of the rule."""

    def __init__(self, text: str) -> None:
        asked = json.loads(text)
        self.raw: dict[str, Any] = asked
        self.method: str = asked["method"]
        self.path: str = asked["path"]
        self.url: str = asked["url"]
        self.headers: dict[str, str] = asked["headers"]
        self.query: dict[str, str] = asked["query"]
        self.params: dict[str, str] = asked["params"]
        self.context: dict[str, Any] = asked["context"] or {}
        content = asked["body"] or ""
        self.body: bytes = b64decode(content) if asked["is_base64_encoded"] else content.encode()

    def query_all(self, name: str) -> list[str]:
        """Return all values of a key of the query."""
        single = [self.query[name]] if name in self.query else []
        return list(self.raw.get("multi_value_query", {}).get(name, single))

    @property
    def text(self) -> str:
        return self.body.decode(errors="replace")

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def cookies(self) -> dict[str, str]:
        """The cookies by name, without the quotes that may be around a value."""
        pairs = (each.partition("=") for each in reversed(self.headers.get("cookie", "").split(";")) if "=" in each)
        return {name.strip(): _unquoted(value.strip()) for name, _, value in pairs}

    def form(self) -> dict[str, str]:
        """Return the fields of a form in the body (application/x-www-form-urlencoded): of a repeated one, the last."""
        return dict(parse_qsl(self.text, keep_blank_values=True))

    def multipart(self) -> list[Part]:
        """Return the parts of a multipart body, none for a body that is not multipart."""
        boundary = _message(b"content-type: " + self.headers.get("content-type", "").encode()).get_boundary()
        if not boundary:
            return []
        pieces = (b"\r\n" + self.body).split(b"\r\n--" + boundary.encode())[1:]
        end = next((index for index, piece in enumerate(pieces) if piece.startswith(b"--")), 0)
        return [_part(piece) for piece in pieces[:end]]


def _unquoted(value: str) -> str:
    return value[1:-1] if len(value) > 1 and value[0] == value[-1] == '"' else value


def _message(head: bytes) -> Message:
    return BytesHeaderParser().parsebytes(head)


def _part(text: bytes) -> Part:
    head, _, body = text.partition(b"\r\n\r\n")
    message = _message(head.lstrip())
    name = message.get_param("name", "", "content-disposition")
    return Part(str(name), message.get_filename(), message.get("content-type"), body)

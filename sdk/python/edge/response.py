"""What a function answers."""

from __future__ import annotations

import json
import traceback
from base64 import b64encode
from collections.abc import Callable, Mapping
from typing import Any, Self

import wit_world

from . import log
from .request import Request


class Response:
    """An answer; a header may have a list of values."""

    def __init__(
        self, body: bytes | str = "", status: int = 200, headers: Mapping[str, str | list[str]] | None = None
    ) -> None:
        self.body = body
        self.status = status
        self.headers: dict[str, str | list[str]] = dict(headers or {})

    @classmethod
    def text(cls, body: str, status: int = 200) -> Self:
        return cls(body, status, {"content-type": "text/plain; charset=utf-8"})

    @classmethod
    def json(cls, value: Any, status: int = 200) -> Self:
        return cls(json.dumps(value), status, {"content-type": "application/json"})

    @classmethod
    def redirect(cls, location: str, status: int = 303) -> Self:
        """Redirect: 303 leads to a GET, 307 and 308 keep the method."""
        return cls("", status, {"location": location})

    @classmethod
    def problem(cls, status: int, title: str, detail: str) -> Self:
        """Answer with application/problem+json, RFC 9457."""
        body = json.dumps({"title": title, "status": status, "detail": detail})
        return cls(body, status, {"content-type": "application/problem+json"})

    def cookie(self, name: str, value: object, attributes: str = "") -> Self:
        """Set a cookie; ``attributes`` such as ``Path=/; HttpOnly`` may be empty."""
        before = self.headers.setdefault("set-cookie", [])
        values = before if isinstance(before, list) else [before]
        self.headers["set-cookie"] = [*values, f"{name}={value}" + (f"; {attributes}" if attributes else "")]
        return self

    def __str__(self) -> str:
        content = self.body.encode() if isinstance(self.body, str) else self.body
        try:
            body, is_base64 = content.decode(), False
        except UnicodeDecodeError:
            body, is_base64 = b64encode(content).decode("ascii"), True
        answer = {"status_code": self.status, "headers": self.headers, "body": body, "is_base64_encoded": is_base64}
        return json.dumps(answer)


def world(answer: Callable[[Request], Response]) -> type:
    """Make the class ``WitWorld``, which componentize-py looks for, from a function."""

    class WitWorld(wit_world.WitWorld):  # type: ignore[misc]
        def handle(self, request: str) -> str:
            try:
                return str(answer(Request(request)))
            except Exception:
                for line in traceback.format_exc().splitlines():
                    log.error(line)
                raise

    return WitWorld

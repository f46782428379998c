"""The protocol of Wasm Workers Server, so that its workers run unchanged.

Source: ``crates/worker/src/io.rs`` and ``crates/server/src/handlers/worker.rs`` of
vmware-labs/wasm-workers-server.
"""

from __future__ import annotations

from json.encoder import encode_basestring as quoted

from starlette_wasm.messages import EdgeRequest, EdgeResponse, to_utf8
from starlette_wasm.protocols.edge import strings
from starlette_wasm.protocols.errors import ResponseError
from starlette_wasm.protocols.headers import check_headers, declared_length
from starlette_wasm.protocols.jsonscan import MAX_TOKENS, ResponseReader

_reader = ResponseReader(status="status", headers="headers", body="data", is_base64="base64", default_status=200)


class WwsProtocol:
    """In go ``url, method, headers, body, kv, params``; out come ``data, headers, status, kv, base64``.

    As in Wasm Workers Server a body that is not UTF-8 reaches the worker as an empty string, a ``_`` in the
    name of a response header means ``-`` (its JavaScript kit turns one into the other), and a body without a
    content type is ``text/html``. Unlike there every key of the output may be left out, and a header may be a
    list. Its key/value snapshot is not offered: ``kv`` is empty on the way in and ignored on the way out.
    """

    name = "wws"

    def encode(self, request: EdgeRequest) -> bytes:
        body = "" if request.body is None or request.is_base64_encoded else request.body
        return to_utf8(
            f'{{"url":{quoted(request.url)},"method":{quoted(request.method)},'
            f'"headers":{strings(request.headers)},"body":{quoted(body)},"kv":{{}},'
            f'"params":{strings(request.params)}}}'
        )

    def environ(self, request: EdgeRequest, *, route: str, client: tuple[str, int] | None) -> list[tuple[str, str]]:
        return []

    def decode(self, stdout: bytes, tokens: int = MAX_TOKENS) -> EdgeResponse:
        response = _reader.read(stdout, tokens)
        headers: dict[str, str | list[str]] = {}
        for name, value in response.headers.items():
            name = name.replace("_", "-")
            if name in headers:
                raise ResponseError(f"header '{name}' given twice")
            headers[name] = value
        if response.body:
            headers.setdefault("content-type", "text/html")
        if response._length is None:  # it may be there as content_length
            response._length = declared_length(headers)
        # Again, as content_length was none of the names that are dropped, and content-length is.
        response.headers = check_headers(headers)
        return response

"""The protocol of this package: one JSON object on stdin, one on stdout."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from json.encoder import encode_basestring as quoted

from starlette_wasm.messages import EdgeContext, EdgeRequest, EdgeResponse, to_utf8
from starlette_wasm.protocols.jsonscan import MAX_TOKENS, ResponseReader

_LARGE = 64 << 10

_reader = ResponseReader(status="status_code", headers="headers", body="body", is_base64="is_base64_encoded")


class EdgeProtocol:
    name = "edge"

    def encode(self, request: EdgeRequest) -> bytes:
        # Put together by hand around the C string encoder: two thirds of the time of json's own C encoder,
        # half that of JSONEncoder.encode.
        body, is_base64 = _optional(request.body), request.is_base64_encoded
        if request.body and not is_base64 and _swells(request.body, body):
            body, is_base64 = quoted(b64encode(request.content).decode("ascii")), True
        repeated = ""
        if request.multi_value_headers:
            repeated += f'"multi_value_headers":{_lists(request.multi_value_headers)},'
        if request.multi_value_query:
            repeated += f'"multi_value_query":{_lists(request.multi_value_query)},'
        return to_utf8(
            f'{{"path":{quoted(request.path)},"method":{quoted(request.method)},'
            f'"headers":{strings(request.headers)},"query":{strings(request.query)},'
            f'"body":{body},"is_base64_encoded":{"true" if is_base64 else "false"},'
            f'"params":{strings(request.params)},"url":{quoted(request.url)},{repeated}'
            f'"context":{_context(request.context)}}}'
        )

    def environ(self, request: EdgeRequest, *, route: str, client: tuple[str, int] | None) -> list[tuple[str, str]]:
        return []

    def decode(self, stdout: bytes, tokens: int = MAX_TOKENS) -> EdgeResponse:
        return _reader.read(stdout, tokens)

    def end(self, function: str, version: str, deadline_ms: int) -> bytes:
        """Return the last bytes of a message, behind the region, if there is neither a trace nor a cold start."""
        return to_utf8(f"{_end(EdgeContext('', '', False, function, version, deadline_ms))}}}")


def strings(values: Mapping[str, str]) -> str:
    """Write a JSON object of strings."""
    if not values:
        return "{}"
    pairs = [f"{quoted(key)}:{quoted(value)}" for key, value in values.items()]
    return f"{{{','.join(pairs)}}}"


def _lists(values: Mapping[str, list[str]]) -> str:
    pairs = [f"{quoted(key)}:[{','.join(map(quoted, each))}]" for key, each in values.items()]
    return f"{{{','.join(pairs)}}}"


def _optional(value: str | None) -> str:
    return "null" if value is None else quoted(value)


def _swells(body: str, as_json: str) -> bool:
    """Return whether escapes more than double a large body: control characters become six bytes each.

    Base64 is shorter then; less of them is text to read. fast_path.c leaves to this what it may hold for.
    """
    return len(body) > _LARGE and len(as_json) > 2 * len(body) + 2


def _context(context: EdgeContext | None) -> str:
    if context is None:
        return "null"
    return f'{{"request_id":{quoted(context.request_id)},"region":{quoted(context.region)}{_end(context)}'


def _end(context: EdgeContext) -> str:
    return (
        f',"cold_start":{"true" if context.cold_start else "false"},'
        f'"function":{quoted(context.function)},"version":{quoted(context.version)},'
        f'"deadline_ms":{context.deadline_ms:d},'
        f'"traceparent":{_optional(context.traceparent)},"tracestate":{_optional(context.tracestate)}}}'
    )

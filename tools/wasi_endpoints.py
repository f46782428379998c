"""The servers that programs of wasi-testsuite ask: each answers as its specification in the program's JSON says."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import h11

_CLOSE = (b"connection", b"close")


@asynccontextmanager
async def serving(specs: list[dict[str, Any]]) -> AsyncIterator[dict[str, str]]:
    """Run the servers; yield the environment that names their addresses. One of the kind ``closed`` is none."""
    servers: list[asyncio.Server | socket.socket] = []
    environment = {}
    try:
        for spec in specs:
            taken = socket.socket()
            taken.bind(("127.0.0.1", 0))
            environment[f"HTTP_SERVER_{spec['name'].upper()}"] = "{}:{}".format(*taken.getsockname())
            if spec.get("kind") == "closed":
                servers.append(taken)  # so that nobody else listens there
                continue
            answering = _Endpoints(spec["endpoints"])
            servers.append(await asyncio.start_server(answering.connected, sock=taken))
        yield environment
    finally:
        for server in servers:
            server.close()


class _Endpoints:
    def __init__(self, endpoints: list[dict[str, Any]]) -> None:
        self._endpoints = {(each.get("method", "GET"), each["path"]): each for each in endpoints}

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request."""
        connection = h11.Connection(h11.SERVER)
        try:
            request, body, trailers = await _received(connection, reader)
            for event in self._answer(request, body, trailers):
                writer.write(connection.send(event) or b"")
            await writer.drain()
        except (h11.RemoteProtocolError, ConnectionError):
            pass  # the guest has broken its request off
        finally:
            writer.close()

    def _answer(self, request: h11.Request, body: bytes, trailers: list[tuple[bytes, bytes]]) -> list[h11.Event]:
        endpoint = self._endpoints.get((request.method.decode(), request.target.decode()))
        if endpoint is None:
            return _whole(404, [], b"")
        mode, spec = endpoint.get("mode"), endpoint.get("response", {})
        if mode == "echo-body":
            return _whole(200, [], body)
        if mode == "echo-headers":
            echoed = [(b"x-echo-" + name, value) for name, value in request.headers]
            echoed += [(b"x-trailer-" + name, value) for name, value in trailers]
            echoed += [(b"x-request-method", request.method), (b"x-request-path", request.target)]
            return _whole(200, echoed, b"")
        headers = [(name.encode(), value.encode()) for name, value in spec.get("headers", {}).items()]
        if "chunks" not in spec:
            return _whole(spec["status"], headers, b"" if request.method == b"HEAD" else spec.get("body", "").encode())
        ends = [(name.encode(), value.encode()) for name, value in spec.get("trailers", {}).items()]
        head = h11.Response(status_code=spec["status"], headers=[*headers, (b"transfer-encoding", b"chunked"), _CLOSE])
        return [head, *(h11.Data(data=each.encode()) for each in spec["chunks"]), h11.EndOfMessage(headers=ends)]


async def _received(
    connection: h11.Connection, reader: asyncio.StreamReader
) -> tuple[h11.Request, bytes, list[tuple[bytes, bytes]]]:
    request, body = None, b""
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(await reader.read(65536))
        elif isinstance(event, h11.Request):
            request = event
        elif isinstance(event, h11.Data):
            body += event.data
        elif isinstance(event, h11.EndOfMessage):
            assert request is not None
            return request, body, list(event.headers)
        else:
            raise ConnectionError("the connection was closed")


def _whole(status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> list[h11.Event]:
    length = (b"content-length", b"%d" % len(body))
    head = h11.Response(status_code=status, headers=[*headers, length, _CLOSE])
    return [head, h11.Data(data=body), h11.EndOfMessage()]

"""What servers make of an answer's head: their own ``server`` and ``date``, HEAD with and without a length."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator

import pytest
import yaml
from apps import add_constant
from processes import Hypercorn, Server

SERVERS: dict[str, tuple[type[Server], list[str]]] = {
    "uvicorn with h11": (Server, ["--http", "h11"]),
    "uvicorn with httptools": (Server, ["--http", "httptools"]),
    "hypercorn": (Hypercorn, []),
}
ANSWERS: dict[str, tuple[bytes, str]] = {
    "named": (
        b'{"status_code":200,"headers":{"Server":"mine","Date":"Thu, 01 Jan 1970 00:00:00 GMT"},"body":"x"}',
        "edge",
    ),
    "cgi": (b"Content-Type: text/plain\nServer: mine\nDate: Thu, 01 Jan 1970 00:00:00 GMT\n\nx", "cgi"),
    "length": (b'{"status_code":200,"headers":{"content-type":"audio/mpeg","content-length":"4242"}}', "edge"),
    "nothing": (b'{"status_code":200,"headers":{"content-type":"audio/mpeg"}}', "edge"),
    "body": (b'{"status_code":200,"body":"hello"}', "edge"),
    "gone": (b'{"status_code":204}', "edge"),
}


@pytest.fixture(scope="module", params=SERVERS)
def server(
    request: pytest.FixtureRequest, serve: Callable[..., Server], tmp_path_factory: pytest.TempPathFactory
) -> Server:
    folder = tmp_path_factory.mktemp("answers")
    for name, (stdout, protocol) in ANSWERS.items():
        add_constant(folder, name, stdout)
        (folder / f"functions/{name}/v1/function.yaml").write_text(f"protocol: {protocol}\n")
    rules = [{"pathPattern": f"/{name}", "functionName": name} for name in ANSWERS]
    (folder / "wasm.yaml").write_text(yaml.safe_dump({"exposeEndpoints": True, "rules": rules}))
    kind, arguments = SERVERS[request.param]
    return serve(folder, "plain:app", *arguments, kind=kind)


class Connection:
    """One connection that is kept: an answer that is framed wrongly spoils the next one."""

    def __init__(self, server: Server) -> None:
        self._socket = socket.create_connection(("127.0.0.1", server.port), 30)
        self._file = self._socket.makefile("rb")

    def ask(self, path: str, method: str = "GET") -> tuple[int, dict[str, list[str]], bytes]:
        """Status, headers and body of an answer that has a length, or no body."""
        self._socket.sendall(f"{method} {path} HTTP/1.1\r\nHost: test\r\n\r\n".encode())
        status = int(self._file.readline().split()[1])
        headers: dict[str, list[str]] = {}
        while (line := self._file.readline()) != b"\r\n":
            name, _, value = line.decode().partition(":")
            headers.setdefault(name.lower(), []).append(value.strip())
        lengths = headers.get("content-length", ["0"])
        body = b"" if method == "HEAD" or status == 204 else self._file.read(int(lengths[0]))
        return status, headers, body

    def close(self) -> None:
        self._file.close()
        self._socket.close()


@pytest.fixture
def connection(server: Server) -> Iterator[Connection]:
    connection = Connection(server)
    yield connection
    connection.close()


@pytest.mark.parametrize("path", ["/named", "/cgi"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_server_and_date_are_the_servers_and_once(connection: Connection, path: str, method: str) -> None:
    for _ in range(2):
        status, headers, body = connection.ask(path, method)
        assert (status, body) == (200, b"x" if method == "GET" else b"")
        assert len(headers["date"]) == len(headers["server"]) == 1
        assert "1970" not in headers["date"][0]
        assert headers["server"] != ["mine"]


def test_head_has_the_length_that_is_known_or_none(connection: Connection) -> None:
    for path, length in (("/length", ["4242"]), ("/nothing", None), ("/body", ["5"]), ("/gone", None)):
        status, headers, _ = connection.ask(path, "HEAD")
        assert status == (204 if path == "/gone" else 200)
        assert headers.get("content-length") == length, path
        assert connection.ask("/body")[2] == b"hello"  # on the same connection

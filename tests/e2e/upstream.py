"""A server on loopback that notes the ``traceparent`` of each request; ``/moved`` redirects."""

from __future__ import annotations

from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread


class Upstream:
    def __init__(self) -> None:
        self.seen: list[str] = []
        seen = self.seen

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                seen.append(self.headers["traceparent"])
                moved = self.path.startswith("/moved")
                self.send_response(302 if moved else 200)
                if moved:
                    self.send_header("location", "/here")
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.host = f"127.0.0.1:{self._server.server_address[1]}"
        self.url = f"http://{self.host}"
        Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def policy(self) -> dict[str, object]:
        """Grants two requests to it."""
        return {"allowedHosts": [self.host], "allowPrivateNetworks": True, "maxNetworkRequests": 2}

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

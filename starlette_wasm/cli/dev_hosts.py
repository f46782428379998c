"""Which hosts ``dev`` answers for.

A page of another site can have its own name point to 127.0.0.1 once it is loaded (DNS rebinding). For the browser the
app is then of the same origin: the page may read all of it, the source lines of a fault included.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path

from starlette.types import Scope, Send

from ..config.router import load_config
from ..exceptions import WasmError

_BODY = b"dev does not answer for this host; allow it with --allow-host NAME\n"


class DevHosts:
    """Localhost, IP addresses (no name leads a page to them), what is given, and the hosts that the config names."""

    def __init__(self, config: Path, given: Sequence[str]) -> None:
        self._config = config
        self._given = {each.lower().rstrip(".") for each in given}
        self._of_config: tuple[float, list[str]] = 0.0, []

    def allow(self, host: str) -> bool:
        """Return whether requests for a host, without a port, are answered."""
        name = host.lower().rstrip(".")
        if name in self._given or name == "localhost" or name.endswith(".localhost") or _is_address(name):
            return True
        return any(name == each or (each[:2] == "*." and name.endswith(each[1:])) for each in self._named())

    def _named(self) -> list[str]:
        """Return the hosts of rules and tenants, as the file has them now."""
        changed = self._config.stat().st_mtime if self._config.exists() else 0.0
        if changed != self._of_config[0]:
            self._of_config = changed, list(_hosts_of(self._config))
        return self._of_config[1]


def _hosts_of(config: Path) -> Iterator[str]:
    with suppress(WasmError):  # the app shows it
        loaded = load_config(config)
        yield from (str(host).lower() for rule in loaded.rules for host in rule.hosts)
        yield from (str(host).lower() for tenant in loaded.tenants for host in tenant.hosts)


def _is_address(host: str) -> bool:
    try:
        return ip_address(host.removeprefix("[").removesuffix("]")) is not None
    except ValueError:
        return False


def host_of(scope: Scope) -> str:
    """Return the host that a request is for, without its port; that of the server if it names none."""
    given = next((value.decode("latin-1") for name, value in scope["headers"] if name == b"host"), "")
    if not given:
        return str((scope.get("server") or ("",))[0])
    return given if given.endswith("]") or ":" not in given else given.rpartition(":")[0]


async def refuse(scope: Scope, send: Send) -> None:
    """Answer that a host is not served here."""
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008})
        return
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(_BODY)).encode())]
    await send({"type": "http.response.start", "status": 421, "headers": headers})
    await send({"type": "http.response.body", "body": _BODY})

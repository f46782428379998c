"""``Capabilities``: what all guests of a runtime share."""

from __future__ import annotations

import importlib
import ssl
from collections.abc import Iterable
from typing import TYPE_CHECKING

from ..config.policy import SandboxPolicy
from ..exceptions import ConfigError
from .errors import CapabilityError, Code
from .operations import Operation
from .settings import CapabilitySettings

if TYPE_CHECKING:
    from .fields import Fields
    from .grants import Grants
    from .http import HttpFetch, Observer, Resolver
    from .kv import KvActions
    from .pieces import Pieces
    from .queue import QueueActions
    from .usage import Usage

_ACTIONS = (".http", ".kv", ".queue", ".session", ".tenant")


class Capabilities:
    """One for a runtime, opened and closed with it. What no policy grants is neither checked nor opened.

    What carries out a guest's calls is imported with the first function that may make one: see grants().
    """

    def __init__(
        self,
        settings: CapabilitySettings | None = None,
        *,
        resolver: Resolver | None = None,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        self.settings = settings or CapabilitySettings()
        self._resolver = resolver
        self._ssl_context = ssl_context
        self._http: HttpFetch | None = None
        self.kv: KvActions | None = None
        self.queue: QueueActions | None = None

    @property
    def http(self) -> HttpFetch:
        """What sends the guests' HTTP requests."""
        if self._http is None:
            from .http import HttpFetch, resolve

            self._http = HttpFetch(
                max_response_bytes=self.settings.max_fetch_response_bytes,
                resolver=self._resolver or resolve,
                ssl_context=self._ssl_context,
            )
        return self._http

    @http.setter
    def http(self, http: HttpFetch) -> None:
        self._http = http

    def grants(self, policy: SandboxPolicy, function: str = "") -> Grants:
        """Work out what ``policy`` grants to a function, once. Raises ConfigError if this host cannot give it.

        Not on the event loop, which would wait for the imports.
        """
        for module in _ACTIONS:
            importlib.import_module(module, __package__)
        from .grants import Grants

        grants = Grants.of(policy, function)
        if grants.http and not self.http.available():
            raise ConfigError(
                f"policy {policy.name} grants hosts, which needs httpx",
                key="allowedHosts",
                hint="run pip install 'starlette-wasm[fetch]', or take the hosts out of the policy",
            )
        if grants.http:
            self.http.load()
        if grants.kv.namespaces and self.kv is None:
            from .kv import KvActions, open_store

            self.kv = KvActions(open_store(self.settings))
        if grants.queue.queues and self.queue is None:
            from .queue import QueueActions, open_publisher

            self.queue = QueueActions(open_publisher(self.settings))
        return grants

    async def open(self) -> None:
        """Raise ConfigError, for a file that cannot be written for instance. What is granted later opens itself."""
        if self.kv is not None:
            await self.kv.store.open()
        if self.queue is not None:
            await self.queue.publisher.open()

    def keep(self, grants: Iterable[Grants]) -> None:
        """Let go of what is kept for other functions and policies than these."""
        if self._http is not None:
            self._http.keep({each.http for each in grants})

    async def close(self) -> None:
        if self._http is not None:
            await self._http.close()
        if self.kv is not None:
            await self.kv.store.close()
        if self.queue is not None:
            await self.queue.publisher.close()

    def check(self, operation: Operation, grants: Grants, fields: Fields, size: int) -> None:
        """Raise CapabilityError for what is refused before any of a body of that size is copied."""
        from .kv import KvActions
        from .queue import QueueActions

        if operation is Operation.HTTP_FETCH:
            self.http.check(grants.http, fields)
        elif operation is Operation.QUEUE_PUBLISH:
            QueueActions.check(grants.queue, fields, size)
        else:
            KvActions.check(operation, grants.kv, fields, size)

    async def call(
        self,
        operation: Operation,
        grants: Grants,
        usage: Usage,
        observer: Observer | None,
        fields: Fields,
        body: bytes,
    ) -> tuple[dict[str, object], bytes | Pieces]:
        """Raise CapabilityError."""
        from .tenant import tenant

        if operation is Operation.HTTP_FETCH:
            return await self.http.fetch(grants.http, usage, observer, fields, body)
        token = tenant.set(grants.tenant)
        try:
            return await self._store(operation, grants, fields, body)
        finally:
            tenant.reset(token)

    async def _store(
        self, operation: Operation, grants: Grants, fields: Fields, body: bytes
    ) -> tuple[dict[str, object], bytes]:
        if operation is Operation.QUEUE_PUBLISH:
            if self.queue is None:
                raise CapabilityError(Code.UNAVAILABLE, "queue is not available")
            return await self.queue.publish(grants.queue, fields, body)
        if self.kv is None:
            raise CapabilityError(Code.UNAVAILABLE, "kv store is not available")
        return await self.kv.call(operation, grants.kv, fields, body)

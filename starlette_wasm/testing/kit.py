"""``WasmKit``: a config's functions under test."""

from __future__ import annotations

import asyncio
import json as json_module
import threading
from collections import defaultdict
from collections.abc import Coroutine, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypedDict, TypeVar, Unpack
from urllib.parse import urlencode

from starlette.types import ASGIApp, Receive, Scope, Send

from ..asgi.middleware import WasmMiddleware
from ..asgi.routes import WasmRoute
from ..config.error_text import nearest
from ..config.policy import SandboxPolicy
from ..config.router import Config
from ..config.settings import WasmSettings
from ..exceptions import ConfigError
from .answer import Answer, ask, make_scope
from .calls import Call
from .hosts import Hosts
from .runtime import RecordingRuntime, Surroundings
from .stores import KvSpace, Message
from .substitute import substituted

if TYPE_CHECKING:
    from starlette.testclient import TestClient

T = TypeVar("T")
_SECONDS = 300.0
"""For one request, or a start: a hang ends a test, a slow machine does not."""


class Sent(TypedDict, total=False):
    """What a request is made of, beside its path."""

    method: str | None
    """GET by default, or POST with a body."""
    headers: Mapping[str, str] | None
    body: str | bytes | None
    json: Any
    """Encoded as the body."""
    form: Mapping[str, str] | None
    """Encoded as the body, as a browser sends a form."""


class WasmKit:
    """Calls functions and apps with a real engine, in surroundings that the test sets and looks at.

    A context manager; it starts at the first call. ``settings`` by default are those of the environment. Key/value
    stores and queues are in memory, and hosts are stubbed: a request that no stub takes fails to connect.
    """

    def __init__(self, config: Config = "wasm.yaml", *, settings: WasmSettings | None = None) -> None:
        self.hosts = Hosts()
        self.kv: defaultdict[str, KvSpace] = defaultdict(KvSpace)
        """The namespaces by name, empty at the beginning."""
        self.queues: defaultdict[str, list[Message]] = defaultdict(list)
        """What was published, by queue."""
        self._config = config
        self._surroundings = Surroundings(hosts=self.hosts, kv=self.kv, queues=self.queues, given_settings=settings)
        self._runtime: RecordingRuntime | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def calls(self) -> list[Call]:
        """Every call of a function since the beginning, those through ``client()`` too."""
        return self._surroundings.calls

    @property
    def clock(self) -> datetime | None:
        """The time of day at which each guest begins; None: the real one, which one that has slept sees anyway."""
        return self._surroundings.clock

    @clock.setter
    def clock(self, at: datetime | None) -> None:
        self._surroundings.clock = at

    @property
    def seed(self) -> int | None:
        """What random numbers of guests are made of: with the same seed each gets the same. None: real ones."""
        return self._surroundings.seed

    @seed.setter
    def seed(self, seed: int | None) -> None:
        self._surroundings.seed = seed

    def policy(self, name: str = "*", **changes: Any) -> None:
        """Change keys of a policy, of all policies without a name, for the calls to come: ``max_memory_pages=2``.

        Raises ConfigError for a key that there is not, and pydantic's ValidationError for a value that is wrong.
        """
        for key in changes:
            if key not in SandboxPolicy.model_fields or key == "name":
                raise ConfigError(f"policies have no key {key}", hint=nearest(key, SandboxPolicy.model_fields))
        SandboxPolicy.model_validate(changes)
        self._surroundings.tightened.setdefault(name, {}).update(changes)

    def call(
        self,
        function: str,
        path: str = "/",
        *,
        version: str | None = None,
        policy: str | None = None,
        params: Mapping[str, str] | None = None,
        **sent: Unpack[Sent],
    ) -> Answer:
        """Call a function with one request, under ``edge-none`` if no policy is named.

        ``path`` may have a query; ``params`` are those that a rule would find, ``sent`` may have ``method``,
        ``headers``, and ``body``, ``json`` or ``form``. A function that fails does not raise: the answer is what a
        client gets, and ``error`` says why.
        """
        app = self._function_app(function, version, policy, dict(params or {}))
        return self._ask(app, *_request(path, **sent))

    def request(self, path: str, **sent: Unpack[Sent]) -> Answer:
        """Send a request through the rules and pipelines of the config, as an app would serve it.

        ``sent`` is as for call().
        """
        return self._ask(self._rules_app, *_request(path, **sent))

    @contextmanager
    def client(self, app: ASGIApp, **options: Any) -> Iterator[TestClient]:
        """Give a TestClient of a Starlette or FastAPI app, whose runtimes are in the surroundings of this kit.

        ``options`` are those of TestClient.
        """
        from starlette.testclient import TestClient

        with substituted(app, self._surroundings), TestClient(app, **options) as client:
            yield client

    def close(self) -> None:
        """End what runs."""
        if self._loop is None or self._thread is None:
            return
        if self._runtime is not None:
            self._run(self._runtime.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_SECONDS)
        self._loop.close()
        self._loop = self._thread = self._runtime = None

    async def _started(self) -> RecordingRuntime:
        if self._runtime is None:
            around = self._surroundings
            runtime = RecordingRuntime(self._config, around.settings(), around)
            await runtime.start()
            self._runtime = runtime
        return self._runtime

    def _ask(self, app: ASGIApp, scope: Scope, body: bytes) -> Answer:
        begun = len(self.calls)
        answer = self._run(ask(app, scope, body))
        answer.calls = self.calls[begun:]
        return answer

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            self._thread = threading.Thread(target=self._loop.run_forever, name="wasm-kit", daemon=True)
            self._thread.start()
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(_SECONDS)

    async def _rules_app(self, scope: Scope, receive: Receive, send: Send) -> None:
        await WasmMiddleware(_not_found, runtime=await self._started())(scope, receive, send)

    def _function_app(self, function: str, version: str | None, policy: str | None, params: dict[str, str]) -> ASGIApp:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            runtime = await self._started()
            runtime.target(function, version, policy)  # what is wrong with it raises here
            route = WasmRoute("/{rest:path}", function=function, version=version, policy=policy, runtime=runtime)
            await route.app({**scope, "path_params": params}, receive, send)

        return app


def _request(
    path: str,
    method: str | None = None,
    headers: Mapping[str, str] | None = None,
    body: str | bytes | None = None,
    json: Any = None,
    form: Mapping[str, str] | None = None,
) -> tuple[Scope, bytes]:
    sent = {name.lower(): value for name, value in (headers or {}).items()}
    content = body.encode() if isinstance(body, str) else body or b""
    if json is not None:
        content = json_module.dumps(json).encode()
        sent.setdefault("content-type", "application/json")
    if form is not None:
        content = urlencode(form).encode()
        sent.setdefault("content-type", "application/x-www-form-urlencoded")
    return make_scope(method or ("POST" if content else "GET"), path, sent), content


async def _not_found(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 404, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": b"no rule serves this path"})

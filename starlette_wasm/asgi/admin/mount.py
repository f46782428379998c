"""``wasm_admin``: the admin API as a Mount."""

from __future__ import annotations

import json
import logging
import re
import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route

from ...capabilities import CapabilityError
from ...exceptions import CanaryConflict, ConfigError, FunctionNotFound, RuntimeClosed, WasmError
from ...runtime.nodes import NodeWatch
from ...runtime.runtime import WasmRuntime
from ..scope import RUNTIME
from . import actions, reads
from .access import AdminIdentity, AdminToken, Authorize, Gatekeeper, RateLimit, Refused
from .audit import AuditEntry, AuditLog, now
from .call import AdminCall
from .dashboard.routes import Dashboard
from .figures import Figures, Recorder
from .openapi import document
from .upload import Uploads, refusal

logger = logging.getLogger("starlette_wasm")

Handler = Callable[[AdminCall], Awaitable[Response]]
_FAILURES_A_MINUTE = 60
_FOLDERS = re.compile(r"(?<![\w./])/(?:[^\s/:;,'\"]+/)+(?=[^\s/:;,'\"])")
"""The folders in front of a file, in a message."""
_MOST_NAME = 100
"""Characters of a path's parameter that an entry of the audit log keeps: anybody can send long ones."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path."""

    method: str
    path: str
    scope: str
    handler: Handler

    @property
    def name(self) -> str:
        return self.handler.__name__

    @property
    def of_function(self) -> bool:
        return "{name}" in self.path

    @property
    def acts(self) -> bool:
        return self.method != "GET"


class AdminMount(Mount):
    """The Mount that wasm_admin() gives."""

    def __init__(self, path: str, admin: Admin) -> None:
        self.admin = admin
        super().__init__(path, routes=admin.routes, name="wasm_admin")

    def attach(self, runtime: WasmRuntime) -> None:
        """Count what ``runtime`` serves from now on; called by the WasmMiddleware around."""
        self.admin.attach(self.admin.runtime or runtime)


def wasm_admin(
    path: str = "/admin",
    *,
    tokens: Sequence[AdminToken] = (),
    authorize: Authorize | None = None,
    runtime: WasmRuntime | None = None,
    requests_per_minute: int = 600,
    max_upload_bytes: int = 16 << 20,
    upload_keys: Sequence[str | PathLike[str]] = (),
    dashboard: bool = True,
) -> AdminMount:
    """Return the admin API and the dashboard as a Mount, for ``routes=[...]`` of an app. There are none without it.

    A request is let in by a bearer token of ``tokens``, or by ``authorize``, a callable of the app's own that names
    the caller (``AdminIdentity``). ``runtime`` is that of the nearest WasmMiddleware by default. Versions that
    are uploaded may have ``max_upload_bytes``, and must be signed by one of ``upload_keys`` if there are any, and as
    ``requireSignatures`` asks. ``dashboard=False`` leaves the pages for browsers out; they need Jinja2, which the extra
    ``dashboard`` installs.

    Raises ConfigError without tokens and authorize: nobody could come in.
    """
    if not tokens and authorize is None:
        hint = "give AdminToken.new(...) or a callable of the app"
        raise ConfigError("wasm_admin has neither tokens nor authorize", key="tokens", hint=hint)
    gate, uploads = Gatekeeper(tokens, authorize), Uploads(max_upload_bytes, [Path(key) for key in upload_keys])
    admin = Admin(gate, RateLimit(requests_per_minute), uploads, runtime)
    if dashboard:
        admin.routes += Dashboard(admin).routes
    return AdminMount(path, admin)


class Admin:
    """The app behind the Mount."""

    def __init__(
        self, gate: Gatekeeper, limit: RateLimit, uploads: Uploads, runtime: WasmRuntime | None = None
    ) -> None:
        self.runtime = runtime
        self.gate = gate
        self._limit = limit
        self._failures = RateLimit(_FAILURES_A_MINUTE)
        self._figures, self._recorder, self._audit = Figures(), Recorder(), AuditLog()
        self._node_watch = NodeWatch()
        self.operations = _operations(uploads)
        self._document = document(self.operations)
        self.routes = [
            Route(each.path, self._endpoint(each), methods=[each.method], name=each.name) for each in self.operations
        ]
        self.routes.append(Route("/openapi.json", self._openapi, methods=["GET"]))
        if runtime is not None:
            self.attach(runtime)

    def attach(self, runtime: WasmRuntime) -> None:
        """Count what a runtime serves, and keep its faults, from now on."""
        runtime.telemetry.listen(self._figures)
        self._recorder.runtimes.add(runtime)
        log = logging.getLogger("starlette_wasm")
        if self._recorder not in log.handlers:
            log.addHandler(self._recorder)

    async def _openapi(self, request: Request) -> Response:
        return JSONResponse(self._document | {"servers": [{"url": request.scope.get("root_path", "") or "/"}]})

    def _endpoint(self, operation: Operation) -> Callable[[Request], Awaitable[Response]]:
        async def endpoint(request: Request) -> Response:
            request_id = uuid.uuid4().hex
            identity: AdminIdentity | None = None
            try:
                identity = await self.identify(request)
                response = await self._serve(operation, request, identity)
                self._record(operation, request, request_id, identity, response.status_code, "done")
            except (Refused, WasmError, CapabilityError) as error:
                status, detail = _told(error, operation)
                if identity is None or not identity.may(operation.scope):  # a tenant need not know the host's folders
                    detail = _FOLDERS.sub("", detail)
                response = _problem(status, detail, request_id, getattr(error, "retry_after", None))
                if status != 429:  # or who is refused would fill the log
                    self._record(operation, request, request_id, identity, status, "refused", detail)
            response.headers["x-request-id"] = request_id
            response.headers.setdefault("cache-control", "no-store")
            return response

        return endpoint

    async def identify(self, request: Request) -> AdminIdentity:
        """Return who a request is from. Raises Refused for an unknown caller, and for one who asks too often."""
        try:
            identity = await self.gate.identify(request)
        except Refused:
            self.count_failure(request)
            raise
        self._limit.take(identity.name)
        return identity

    def count_failure(self, request: Request) -> None:
        """Raise Refused if the address that the request comes from has guessed too often."""
        self._failures.take("" if request.client is None else request.client.host)

    def call(self, request: Request, identity: AdminIdentity) -> AdminCall:
        """Return the call that a handler takes. Raises Refused without a runtime."""
        runtime = self.runtime or request.scope.get(RUNTIME)
        if not isinstance(runtime, WasmRuntime):
            raise Refused(503, "there is no runtime: give wasm_admin(runtime=...) or mount it inside WasmMiddleware")
        self.attach(runtime)
        return AdminCall(request, runtime, identity, self._figures, self._recorder, self._audit, self._node_watch)

    async def _serve(self, operation: Operation, request: Request, identity: AdminIdentity) -> Response:
        # A path around the Mount may have a parameter called name, too: it says nothing of the function.
        function = request.path_params["name"] if operation.of_function else None
        # Lists show what is somebody's own; all else is about one function, or about the runtime as a whole.
        of_all = (operation.acts and operation.name != "reset_circuit") or operation.name in (
            "audit",
            "stores",
            "tenants",
            "nodes",
        )
        allowed = identity.may(operation.scope, function) if function or of_all else operation.scope in identity.scopes
        if not allowed:
            what = f" for {function or 'the runtime as a whole'}" if operation.scope in identity.scopes else ""
            raise Refused(403, f"the scope {operation.scope} is not granted{what}")
        return await operation.handler(self.call(request, identity))

    def _record(
        self,
        operation: Operation,
        request: Request,
        request_id: str,
        identity: AdminIdentity | None,
        status: int,
        outcome: str,
        detail: str = "",
    ) -> None:
        if not operation.acts and status < 400:
            return
        given = request.path_params
        named = (str(given[key])[:_MOST_NAME] for key in ("action", "version") if key in given)
        what = " ".join([operation.name, *named])
        self._audit.write(
            AuditEntry(
                time=now(),
                who="" if identity is None else identity.name,
                what=what,
                function=str(given.get("name", ""))[:_MOST_NAME],
                source="" if request.client is None else request.client.host,
                request_id=request_id,
                status=status,
                outcome=outcome,
                detail=detail[:500],
            )
        )


def _operations(uploads: Uploads) -> list[Operation]:
    return [
        Operation("GET", "/functions", "read", reads.functions),
        Operation("GET", "/functions/{name}", "read", reads.function),
        Operation("GET", "/functions/{name}/log", "read", reads.log),
        Operation("GET", "/routes", "read", reads.routes),
        Operation("GET", "/canaries", "read", reads.canaries),
        Operation("GET", "/canaries/{name}", "read", reads.canary),
        Operation("GET", "/pipelines", "read", reads.pipelines),
        Operation("GET", "/circuits", "read", reads.circuits),
        Operation("GET", "/stores", "read", reads.stores),
        Operation("GET", "/tenants", "read", reads.tenants),
        Operation("GET", "/nodes", "read", reads.nodes),
        Operation("GET", "/faults", "read", reads.faults),
        Operation("GET", "/audit", "read", reads.audit),
        Operation("POST", "/canaries/{name}/{action}", "operate", actions.move_canary),
        Operation("POST", "/functions/{name}/shift", "operate", actions.shift),
        Operation("DELETE", "/functions/{name}/shift", "operate", actions.unshift),
        Operation("POST", "/circuits/reset", "operate", actions.reset_circuit),
        Operation("POST", "/reload", "operate", actions.reload),
        Operation("POST", "/drain", "operate", actions.drain),
        Operation("PUT", "/functions/{name}/versions/{version}", "deploy", uploads.put),
    ]


def _told(error: Exception, operation: Operation) -> tuple[int, str]:
    """Return the status of an error, and what the caller, who is known, may read of it."""
    if isinstance(error, Refused):
        return error.status, error.reason
    if isinstance(error, CapabilityError):
        return 503, "the store cannot be reached"
    assert isinstance(error, WasmError)
    if isinstance(error, CanaryConflict | FunctionNotFound | RuntimeClosed):
        return error.status, str(error)
    if operation.name == "put":
        return refusal(error), str(error)
    return 422, str(error)


def _problem(status: int, detail: str, request_id: str, retry_after: int | None) -> Response:
    body = {"type": "about:blank", "title": _TITLES.get(status, "refused"), "status": status, "detail": detail}
    headers = {} if retry_after is None else {"retry-after": str(retry_after)}
    if status == 401:
        headers["www-authenticate"] = "Bearer"
    return Response(
        json.dumps(body | {"request_id": request_id}), status, headers, media_type="application/problem+json"
    )


_TITLES = {
    401: "not authenticated",
    403: "not allowed",
    404: "not found",
    409: "not possible in this state",
    413: "too large",
    415: "of another kind",
    422: "not accepted",
    429: "too many requests",
    503: "not available",
    507: "not stored",
}

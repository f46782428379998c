"""Which calls of the host component.c and wasi_http.c answer without Python: those of nearly every request.

What handlers of ``wasi:http`` 0.2 call is answered there until something comes up that is unusual: see http_call.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum, auto
from typing import Any

from ..engine.native.component_state import QuickCall
from .flat_plan import FlatPlan, HostFunction, ImportedFunction, LiftedFunction
from .glue import form_of
from .types import FuncType, HandleType, ListType, Resource, ValueType, VariantType
from .wasi import bodies, cli, fields, http, streams
from .wasi.offers import Offer


class Quick(IntEnum):
    """The way in which a call is answered. Also in component.h: LEFT is what is left to Python."""

    LEFT = 0
    MONOTONIC = auto()
    REALTIME = auto()
    RESOLUTION = auto()
    RANDOM = auto()
    RANDOM_BYTES = auto()
    READ = auto()
    CHECK_WRITE = auto()
    WRITE = auto()
    READ_NOW = auto()
    DROP = auto()
    NOTHING = auto()
    ENVIRONMENT = auto()
    ALL_ARGUMENTS = auto()
    POLL = auto()
    AWAIT = auto()
    READY = auto()
    METHOD = auto()
    SCHEME = auto()
    AUTHORITY = auto()
    PATH = auto()
    REQUEST_HEADERS = auto()
    NEW_FIELDS = auto()
    FIELDS_FROM_LIST = auto()
    FIELDS_APPEND = auto()
    FIELDS_GET = auto()
    FIELDS_ENTRIES = auto()
    FIELDS_CLONE = auto()
    NEW_RESPONSE = auto()
    SET_STATUS = auto()
    STATUS_CODE = auto()
    RESPONSE_HEADERS = auto()
    SET_OUTPARAM = auto()
    RESPONSE_BODY = auto()
    BODY_WRITE = auto()
    BODY_FINISH = auto()
    CONSUME = auto()
    BODY_STREAM = auto()
    FINISH_INPUT = auto()
    GET_TRAILERS = auto()
    SUBSCRIBE = auto()
    FLUSH = auto()


_OF_ALL = {
    cli.monotonic_now: Quick.MONOTONIC,
    cli.monotonic_resolution: Quick.RESOLUTION,
    cli.wall_now: Quick.REALTIME,
    cli.random_u64: Quick.RANDOM,
    cli.random_bytes: Quick.RANDOM_BYTES,
}
"""What is answered for any component."""
_OF_STREAMS = {
    streams.read: Quick.READ_NOW,
    streams.blocking_read: Quick.READ,
    streams.check_write: Quick.CHECK_WRITE,
    streams.write: Quick.WRITE,
    streams.write_and_flush: Quick.WRITE,
}
"""What is answered of what is lent (lent_streams.py), for any component as well, and before that as what follows."""
_OF_HTTP = {
    cli.initial_cwd: Quick.NOTHING,
    cli.no_terminal: Quick.NOTHING,
    cli.get_environment: Quick.ENVIRONMENT,
    cli.get_arguments: Quick.ALL_ARGUMENTS,
    streams.poll: Quick.POLL,
    streams.block: Quick.AWAIT,
    streams.ready: Quick.READY,
    streams.subscribe: Quick.SUBSCRIBE,
    streams.flush: Quick.FLUSH,
    streams.blocking_flush: Quick.FLUSH,
    http.request_method: Quick.METHOD,
    http.request_scheme: Quick.SCHEME,
    http.request_authority: Quick.AUTHORITY,
    http.request_path: Quick.PATH,
    http.request_headers: Quick.REQUEST_HEADERS,
    http.request_consume: Quick.CONSUME,
    http.new_response: Quick.NEW_RESPONSE,
    http.response_set_status: Quick.SET_STATUS,
    http.response_status: Quick.STATUS_CODE,
    http.response_headers: Quick.RESPONSE_HEADERS,
    http.response_body: Quick.RESPONSE_BODY,
    http.outparam_set: Quick.SET_OUTPARAM,
    bodies.body_stream: Quick.BODY_STREAM,
    bodies.body_finish: Quick.FINISH_INPUT,
    bodies.trailers_get: Quick.GET_TRAILERS,
    bodies.trailers_subscribe: Quick.SUBSCRIBE,
    bodies.body_write: Quick.BODY_WRITE,
    bodies.body_done: Quick.BODY_FINISH,
    fields.new_fields: Quick.NEW_FIELDS,
    fields.fields_from_list: Quick.FIELDS_FROM_LIST,
    fields.fields_append: Quick.FIELDS_APPEND,
    fields.fields_get: Quick.FIELDS_GET,
    fields.fields_entries: Quick.FIELDS_ENTRIES,
    fields.fields_clone: Quick.FIELDS_CLONE,
}
"""What is answered for the instance that handles requests of ``wasi:http``, and for no other."""
_MOST = 255
"""The largest number of a resource, and size of a result."""


class QuickCalls:
    """How each function of the host is answered, by its number."""

    def __init__(
        self, plan: FlatPlan, offers: Mapping[ImportedFunction, Offer], handler: LiftedFunction | None = None
    ) -> None:
        """Take ``handler``, the function that handles requests of ``wasi:http`` 0.2, if there is one."""
        self._numbers: dict[Resource, int] = {}
        self._handler = handler
        self.of_streams: dict[int, Quick] = {}
        """With which functions streams are read and written, by their number."""
        self.calls: Any = (QuickCall * max(len(plan.hosts), 1))()
        for host in plan.hosts:
            self.calls[host.number] = self._call(host, offers)
        params = () if handler is None else handler.type.params
        self.of_handler = [self.number(_resource_of(kind)) for _, kind in params]
        """The resources of the handler's parameters: the request, and where its answer goes."""

    def kind(self, number: int) -> Quick:
        return Quick(self.calls[number].kind)

    @property
    def resources(self) -> dict[int, Resource]:
        """Those of the host, by the numbers that wasi_http.c knows them by."""
        return {number: resource for resource, number in self._numbers.items()}

    def number(self, resource: Resource | None) -> int:
        """Return the number of a resource of the host; 0 for none, and for those beyond what wasi_http.c can hold."""
        if resource is None or resource.instance is not None:
            return 0
        number = self._numbers.setdefault(resource, len(self._numbers) + 1)
        return number if number <= _MOST else 0

    def _call(self, host: HostFunction, offers: Mapping[ImportedFunction, Offer]) -> QuickCall:
        if isinstance(host.of, Resource):
            dropped = host.kind == "drop" and self._is_handlers(host)
            return QuickCall(Quick.DROP, self.number(host.of), of_handler=1) if dropped else QuickCall(Quick.LEFT)
        found = offers.get(host.of) if isinstance(host.of, ImportedFunction) and not host.options.is_async else None
        if found is None:
            return QuickCall(Quick.LEFT)
        assert isinstance(host.of, ImportedFunction)
        kind = _OF_ALL.get(found.call)
        if kind is not None:
            return QuickCall(kind)
        kind = _OF_STREAMS.get(found.call)
        if kind is not None:
            self.of_streams[host.number] = kind
        if self._is_handlers(host) and host.options.encoding == "utf8":
            kind = kind or _OF_HTTP.get(found.call)
            return QuickCall(Quick.LEFT) if kind is None else self._typed(kind, host, host.of.type)
        return QuickCall(kind or Quick.LEFT)

    def _is_handlers(self, host: HostFunction) -> bool:
        return self._handler is not None and host.instance == self._handler.instance

    def _typed(self, kind: Quick, host: HostFunction, of: FuncType) -> QuickCall:
        given = [self.number(found) for _, each in of.params if (found := _resource_of(each)) is not None]
        size, payload, alignment = _layout(of.result) if _is_spilled(host, of) else (0, 0, 0)
        if size > _MOST:
            return QuickCall(Quick.LEFT)
        own, other = (*given, 0, 0)[:2]
        return QuickCall(kind, own, other, self.number(_resource_of(of.result)), size, payload, alignment, 1)


def _is_spilled(host: HostFunction, of: FuncType) -> bool:
    """Return whether the last parameter is the place for the result."""
    return len(form_of(host).params) > sum(len(each.flat) for _, each in of.params)


def _layout(result: ValueType | None) -> tuple[int, int, int]:
    """Size of a result, place of its payload, and alignment."""
    assert result is not None
    payload = result.payload_at if isinstance(result, VariantType) else 0
    return result.size, payload, result.alignment


def _resource_of(kind: ValueType | None) -> Resource | None:
    """Return the resource of a handle, or of those in a list, or of what the case ``ok`` has."""
    match kind:
        case HandleType(resource=resource):
            return resource
        case ListType(element=element):
            return _resource_of(element)
        case VariantType(cases=cases) if kind.kind == "result":
            return _resource_of(cases[0][1])
    return None

"""Private parts of Starlette, FastAPI, uvicorn and the API of OpenTelemetry that this package uses, in one place.

Each function names what it assumes and what happens if that no longer holds; tests/test_compat.py has a test for each.
"""

from __future__ import annotations

import asyncio.coroutines
import inspect
import sys
from collections.abc import Callable, Iterator
from types import CellType, CodeType, FrameType, FunctionType
from typing import Any, TypeVar

from opentelemetry import trace
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.context import Context
from opentelemetry.metrics import Meter, NoOpMeter
from opentelemetry.metrics import _internal as _metrics_internal
from opentelemetry.propagators.textmap import TextMapPropagator
from opentelemetry.trace import Span, propagation
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from starlette.requests import Request
from starlette.types import Message, Receive, Scope, Send

# HTTP/1.1: one answer at a time is on a connection. HTTP/2 has many, and the order of their frames must stay.
_UVICORN = {"uvicorn.protocols.http.httptools_impl", "uvicorn.protocols.http.h11_impl"}
CORKABLE: dict[type, bool] = {}
"""Whether what ``receive`` is a method of is a cycle as uvicorn_cycle() finds it: by class, once it was looked at."""
_without: dict[tuple[int, str], CodeType] = {}
"""The ``__call__`` of apps that lack an attribute."""
_MOST_CODES = 1000
_SUSPENDS = inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR | inspect.CO_GENERATOR | inspect.CO_ITERABLE_COROUTINE
_W3C = [TraceContextTextMapPropagator, W3CBaggagePropagator]
F = TypeVar("F", bound=Callable[..., Any])
_FASTAPI_DEPENDENCIES = "fastapi.dependencies.utils"

TRACE_GLOBALS = vars(trace)
"""Holds the global tracer provider as ``_TRACER_PROVIDER``.

The public getters cost 0.8 us each, on every request, as long as none is set. If the name is gone, they are asked.
"""
METRICS_GLOBALS = vars(_metrics_internal)
"""Holds the global meter provider as ``_METER_PROVIDER``, likewise."""
SPAN_KEY: str = getattr(propagation, "_SPAN_KEY", "")
"""The key of the span in a context. If it is gone, get_current_span() is asked, which takes three times as long."""


def get_route_path(scope: Scope) -> str:
    """Return the path of a request below its mounts, as Starlette's routes match it.

    Starlette's own is private. Both follow ASGI: ``path`` begins with ``root_path``, if a server or mount set one.
    """
    path: str = scope["path"]
    root: str = scope.get("root_path", "")
    if not root or not path.startswith(root):
        return path
    below = path[len(root) :]
    return below if not below or below[0] == "/" else path


def uvicorn_cycle(receive: Receive) -> Any:
    """Return uvicorn's request cycle, whose ``transport`` and ``on_response`` may be replaced for one answer.

    Assumes that ``receive`` is a method of the cycle. Else None: an answer then takes two writes.
    """
    cycle: Any = getattr(receive, "__self__", None)
    kind = type(cycle)
    known = CORKABLE.get(kind)
    if known is None:
        known = kind.__module__ in _UVICORN and hasattr(cycle, "on_response") and hasattr(cycle, "transport")
        CORKABLE[kind] = known
    return cycle if known else None


def _wrapper_of(send: Send) -> Any:
    """Wrap ``send`` as Starlette does: behind_starlette() compares what is called with this."""
    response_started = False

    async def sender(message: Message) -> None:
        nonlocal response_started

        if message["type"] == "http.response.start":
            response_started = True
        await send(message)

    return sender


def _body_of(code: CodeType) -> tuple[object, ...]:
    """Return all that decides what a function does, but for what its free variables hold."""
    return code.co_code, code.co_consts, code.co_names, code.co_freevars, code.co_flags, code.co_argcount


_WRAPPER = _body_of(_wrapper_of(None).__code__)  # type: ignore[arg-type]
_wrappers: dict[CodeType, bool] = {}
"""Functions that were compared with it."""


def behind_starlette(send: Send) -> tuple[Any, list[CellType]]:
    """Return what Starlette's own wrappers hand messages to, and the variables in which they note that one has come.

    Assumes that ServerErrorMiddleware, ExceptionMiddleware and routes wrap ``send`` in a function that does what
    _wrapper_of() does, instruction for instruction. One that does anything else is what is returned.
    """
    notes: list[CellType] = []
    while type(send) is FunctionType:
        code = send.__code__
        known = _wrappers.get(code)
        if known is None:
            known = _body_of(code) == _WRAPPER
            if len(_wrappers) < _MOST_CODES:
                _wrappers[code] = known
        if not known:
            break
        started, behind = send.__closure__ or ()
        notes.append(started)
        send = behind.cell_contents
    return send, notes


def read_body(request: Request) -> bytes | None:
    """Return the body that Starlette keeps in a request once it was read; None if it was not, or is kept elsewhere."""
    body: bytes | None = getattr(request, "_body", None)
    return body


def read_form(request: Request) -> Any:
    """Return the form that Starlette keeps in a request once it was parsed; None if it was not."""
    return getattr(request, "_form", None)


def is_stream_consumed(request: Request) -> bool:
    """Return whether somebody has read the request's stream; False if Starlette no longer notes that."""
    return bool(getattr(request, "_stream_consumed", False))


def keep_body(request: Request, body: bytes) -> None:
    """Put a body that was read for a request to where Starlette's own ``body()`` finds it."""
    request._body = body


def is_placeholder(meter: Meter) -> bool:
    """Return whether nobody has configured metrics: the API then hands out a meter of its own."""
    return isinstance(meter, NoOpMeter) or type(meter).__module__ == _metrics_internal.__name__


def fastapi_path() -> str | None:
    """Return the path for which FastAPI asks for the signature of an endpoint right now.

    Assumes a frame of fastapi.dependencies.utils with a local ``path``. Else None: no path parameter is declared.
    """
    for frame in _frames():
        if frame.f_globals.get("__name__") == _FASTAPI_DEPENDENCIES:
            path = frame.f_locals.get("path")
            if isinstance(path, str):
                return path
    return None


def marked_as_coroutine(function: F) -> F:
    """Mark a function that returns a coroutine, so that Starlette, FastAPI and others await it.

    Python 3.11 has no public way; assumes the marker for which asyncio.iscoroutinefunction() looks there.
    """
    if sys.version_info >= (3, 12):
        return inspect.markcoroutinefunction(function)
    vars(function)["_is_coroutine"] = vars(asyncio.coroutines)["_is_coroutine"]
    return function


def calling_apps(deepest: int, having: str) -> list[object]:
    """Return the ASGI apps with an attribute that have called this one, the nearest first, none of another task.

    Assumes that a class whose ``__call__`` was seen without the attribute has no subclass with it. To look at a frame's
    variables takes a microsecond, and there are ten around a request.
    """
    found: list[object] = []
    frame: FrameType | None = sys._getframe(1)
    in_task = False
    for _ in range(deepest):
        if frame is None:
            break
        code = frame.f_code
        if code.co_flags & _SUSPENDS:
            in_task = True
        elif in_task:  # the event loop
            break
        if code.co_name == "__call__" and (id(code), having) not in _without:
            app = frame.f_locals.get("self")
            if hasattr(app, having):
                found.append(app)
            elif len(_without) < _MOST_CODES:
                _without[id(code), having] = code  # which keeps the id from being used again
        frame = frame.f_back
    return found


def context_with(context: Context, span: Span) -> Context:
    """Return a context with a span in it, as set_span_in_context() does, in a third of the time.

    Assumes the key of the span. Else the API is asked.
    """
    return Context({**context, SPAN_KEY: span}) if SPAN_KEY else trace.set_span_in_context(span, context)


def is_w3c(propagator: TextMapPropagator) -> bool:
    """Return whether it is OpenTelemetry's default, whose context is empty for a request without its headers.

    Assumes that a composite one has its parts in a list. Else False: it is asked about each request.
    """
    return [type(each) for each in getattr(propagator, "_propagators", ())] == _W3C


def _frames() -> Iterator[FrameType]:
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        yield frame
        frame = frame.f_back

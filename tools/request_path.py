"""Prints the files of the package that one request goes through, in order: ``python tools/request_path.py``.

The first request warms up; the second is followed. With ``--count`` there is one line for each path: its files, and the
moves from file to file. With ``--time`` nothing is followed: it prints the CPU time of requests of one guest by the
fast path, by the slow one, which takes its steps one by one, and by ``runtime.invoke``; of a POST of 2 KB; of a
``wasm_route`` with a handler; and of a route of Starlette without this package, all in alternated rounds.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from statistics import median
from types import FrameType
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

import starlette_wasm
from starlette_wasm import Call, EdgeRequest, WasmMiddleware, WasmRuntime, WasmSettings, wasm_route

PACKAGE = str(Path(starlette_wasm.__file__).parent) + "/"
GUESTS = Path(__file__).parents[1] / "tests" / "guests"
FAST, SLOW, STEPS = "/fast/a", "/slow/a", "/steps/a"
_ROUNDS, _REQUESTS = 21, 300
_JSON = b'{"a":1}' * 250
NATIVE = dict.fromkeys(
    ("follows", "dispatch", "answer", "call", "encode", "run", "decode"), "engine/native/fast_path.c"
)
"""The functions of the C library that a request calls; the library counts as one file."""


@dataclass
class Trace:
    """The functions that one request called, each with its file."""

    calls: list[tuple[str, str]] = field(default_factory=list)

    @property
    def files(self) -> set[str]:
        """The files that it went through."""
        return {file for file, _ in self.calls}

    @property
    def visits(self) -> list[str]:
        """The files in order, once for each visit."""
        return [file for file, _ in groupby(file for file, _ in self.calls)]

    @contextmanager
    def following(self) -> Iterator[None]:
        """Take down each call that is made in the block."""

        def called(frame: FrameType, event: str, argument: Any) -> None:
            if event == "call" and frame.f_code.co_filename.startswith(PACKAGE):
                self.calls.append((frame.f_code.co_filename.removeprefix(PACKAGE), frame.f_code.co_name))
            elif (
                event == "c_call"
                and not isinstance(getattr(argument, "__self__", None), str)
                and (name := getattr(argument, "__name__", "")) in NATIVE
            ):
                self.calls.append((NATIVE[name], name))

        sys.setprofile(called)
        try:
            yield
        finally:
            sys.setprofile(None)


def config(folder: Path) -> dict[str, Any]:
    """Make a config of two functions: one takes the fast path, the other may not."""
    for name in ("echo", "environ"):
        home = folder / "functions" / name / "v1"
        home.mkdir(parents=True)
        (home / f"{name}.wasm").write_bytes((GUESTS / f"{name}.wasm").read_bytes())
    policies = folder / "policies"
    policies.mkdir()
    (policies / "granted.yaml").write_text("allowedEnvVars: [TRACEPARENT]\n")  # which the fast path does not replace
    (policies / "steps.yaml").write_text("{}\n")
    rules = [
        {"pathPattern": "/fast/{x}", "functionName": "echo"},
        {"pathPattern": "/slow/{x}", "functionName": "environ", "policy": "granted"},
        {"pathPattern": "/steps/{x}", "functionName": "echo", "policy": "steps"},
    ]
    return {"functionsDir": str(folder / "functions"), "policiesDir": str(policies), "rules": rules}


def scope_of(path: str, method: str = "GET") -> dict[str, Any]:
    """Make the scope of a request."""
    return {
        "type": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [(b"host", b"example.org")],
        "http_version": "1.1",
        "scheme": "http",
    }


async def _receive() -> dict[str, Any]:
    return {"type": "http.request", "body": b"", "more_body": False}


async def _receive_json() -> dict[str, Any]:
    return {"type": "http.request", "body": _JSON, "more_body": False}


@wasm_route("/handler/{x}", function="echo")
async def _handled(request: Request, call: Call) -> Response:
    return await call(request)


async def _native(request: Request) -> Response:
    await request.body()
    return JSONResponse({"message": "hello"})


async def follow(path: str, method: str = "GET") -> Trace:
    """Return the way of a request through a middleware that is warm, with telemetry off."""

    async def send(message: Any) -> None:
        sent.append(message)

    sent: list[Any] = []
    scope = scope_of(path, method)
    os.environ["TRACEPARENT"] = "granted"
    with tempfile.TemporaryDirectory() as folder:
        async with WasmRuntime(config(Path(folder)), WasmSettings(canary_url="sqlite://")) as runtime:
            app = WasmMiddleware(_missing, runtime=runtime)
            for _ in range(3):
                await app(dict(scope), _receive, send)
                await asyncio.sleep(0.05)
            trace = Trace()
            with trace.following():
                await app(dict(scope), _receive, send)
    assert all(each["status"] == 200 for each in sent if "status" in each), sent
    return trace


async def timed() -> dict[str, list[float]]:
    """Return the microseconds of CPU that a request takes each way, one figure for each round."""

    async def send(message: Any) -> None:
        pass

    async def get(path: str) -> None:
        await app(scope_of(path), _receive, send)

    async def post(path: str) -> None:
        scope = scope_of(path, "POST")
        scope["headers"] += [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(_JSON))]
        await app(scope, _receive_json, send)

    async def invoke(path: str) -> None:
        await runtime.invoke("echo", EdgeRequest(path=path, headers={"host": "example.org"}))

    ways: dict[str, tuple[Callable[[str], Awaitable[None]], str]] = {
        "fast": (get, FAST),
        "slow": (get, STEPS),
        "invoke": (invoke, FAST),
        "post": (post, FAST),
        "route": (get, "/handler/a"),
        "native": (lambda path: native(scope_of(path), _receive, send), "/native"),
    }
    taken: dict[str, list[float]] = {way: [] for way in ways}
    with tempfile.TemporaryDirectory() as folder:
        async with WasmRuntime(config(Path(folder)), WasmSettings(canary_url="sqlite://")) as runtime:
            app = WasmMiddleware(Starlette(routes=[_handled]), runtime=runtime)
            native = Starlette(routes=[Route("/native", _native)])
            for target in runtime.deployment.bound:
                if target.policy.name == "steps" and target.fast_path is not None:
                    target.fast_path.dispatches = False
            for number in range(_ROUNDS + 1):
                for way, (request, path) in ways.items():
                    begin = time.process_time()
                    for _ in range(_REQUESTS):
                        await request(path)
                        await asyncio.sleep(0)  # for what is done once an answer is out
                    if number:  # the first round warms up
                        taken[way].append((time.process_time() - begin) / _REQUESTS * 1e6)
    return taken


async def _missing(scope: object, receive: object, send: object) -> None:
    raise AssertionError("no rule took the request")


def main() -> None:
    """Print the ways of both paths."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", action="store_true", help="only how many files and moves")
    parser.add_argument("--time", action="store_true", help="instead how long they take")
    arguments = parser.parse_args()
    only: bool = arguments.count
    if arguments.time:
        taken = asyncio.run(timed())
        for way, each in taken.items():
            ratio = median(one / fast for one, fast in zip(each, taken["fast"], strict=True))
            print(
                f"{way:6} {min(each):5.1f} us at least, {median(each):5.1f} in the middle, {ratio:.2f} of the fast path"
            )
        return
    for title, path in (("fast", FAST), ("slow", SLOW)):
        trace = asyncio.run(follow(path))
        print(f"{title} GET: {len(trace.files)} files, {len(trace.visits) - 1} moves, {len(trace.calls)} calls")
        if not only:
            for file, calls in groupby(trace.calls, key=lambda call: call[0]):
                print(f"   {file}: {' '.join(name for _, name in calls)}")


if __name__ == "__main__":
    main()

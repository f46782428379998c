"""``call``: one request to a function, without a server."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from starlette.types import ASGIApp

from ..asgi.middleware import WasmMiddleware
from ..asgi.routes import WasmRoute
from ..exceptions import ConfigError, WasmError
from ..testing.answer import Answer, ask, make_scope
from ..testing.hosts import Hosts
from ..testing.runtime import RecordingRuntime, Surroundings
from . import call_output, output
from .call_output import DEFAULT_SHOWN, Shown
from .inspection import without_files
from .options import DEFAULT_CONFIG, ConfigOption

Function = Annotated[
    str | None, typer.Argument(help="NAME or NAME@VERSION of a function, or a path such as /hello.", metavar="FUNCTION")
]
Region = Annotated[str | None, typer.Option(help="The region of the node; by default that of the settings.")]
Repeat = Annotated[int, typer.Option(min=1, max=1_000_000, help="How often, one after the other; with figures.")]
StubHttp = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Answers for requests of the function, in YAML or JSON; see docs/cli.md."),
]
Fail = Annotated[bool, typer.Option("--fail", "-f", help="Exit with 1 for a status of 400 or more.")]


@dataclass(frozen=True, slots=True)
class Sent:
    """What the request is made of: a group of options."""

    path: Annotated[str | None, typer.Option("--path", help="Path of the request, with its query.")] = None
    method: Annotated[str | None, typer.Option("--method", "-X", help="GET, or POST with --data, by default.")] = None
    header: Annotated[list[str] | None, typer.Option("--header", "-H", metavar="NAME:VALUE", help="Repeatable.")] = None
    data: Annotated[str | None, typer.Option("--data", "-d", metavar="DATA|@FILE", help="The body; @- is stdin.")] = (
        None
    )
    policy: Annotated[str | None, typer.Option(help="Policy to call it under; by default that of its first rule.")] = (
        None
    )

    def request(self, function: str | None) -> Request:
        """Return the request for a function, or for a path that stands in its place. Raises BadParameter."""
        by_path = function if function is not None and function.startswith("/") else None
        return Request(
            None if by_path else function,
            by_path or self.path,
            self.method or ("GET" if self.data is None else "POST"),
            [_header(each) for each in self.header or ()],
            _body(self.data),
            self.policy,
        )


_NOTHING_SENT = Sent()


def call(
    function: Function = None,
    sent: Sent = _NOTHING_SENT,
    region: Region = None,
    repeat: Repeat = 1,
    stub_http: StubHttp = None,
    shown: Shown = DEFAULT_SHOWN,
    fail: Fail = False,
    config: ConfigOption = DEFAULT_CONFIG,
) -> None:
    """Call a function or a path of a config, without a server, and print the body of the answer as curl does.

    A function is called as its rule would: under the rule's policy, with the parameters that its pattern finds in the
    path. A path goes through all rules and pipelines. -v shows the EdgeRequest that the guest read, its stderr, CPU
    time, memory and host calls, and what its policy refused. Stores that are not there yet are kept in memory.

    The exit code is 1 if the function fails; a status that the function itself answers with is a success without -f.

    Example: starlette-wasm call hello --path '/hello?lang=fr' -H accept:text/plain -v
    """
    request = sent.request(function)
    with output.own_call_logs():
        answers = asyncio.run(_answers(request, config, region, stub_http, repeat))
    answer = answers[-1]
    call_output.show(answer, shown)
    if repeat > 1 and not shown.json:
        call_output.show_figures(answers)
    failed = next((each.error for each in answers if each.error is not None and each.status >= 500), None)
    if failed is not None:
        if not (shown.json or shown.verbose or repeat > 1):
            call_output.show_logs(answer)
        output.fail("call", failed)
        raise typer.Exit(1)
    if fail and answer.status >= 400:
        raise typer.Exit(1)


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked for. Without a function it goes by the path."""

    function: str | None
    path: str | None
    method: str
    headers: Sequence[tuple[str, str]]
    body: bytes
    policy: str | None


async def _answers(
    request: Request, config: Path, region: str | None, stub_http: Path | None, repeat: int
) -> list[Answer]:
    surroundings = Surroundings(hosts=_stubs(stub_http))
    settings = without_files(**({} if region is None else {"region": region}))
    with output.loading():
        runtime = RecordingRuntime(config, settings, surroundings)
        await runtime.start()
    try:
        app, path, params = _app(runtime, request)
        answers = []
        for _ in range(repeat):
            scope = make_scope(request.method, path, request.headers)
            begun = len(surroundings.calls)
            answer = await ask(app, {**scope, "path_params": params}, request.body)
            answer.calls = surroundings.calls[begun:]
            answers.append(answer)
        return answers
    finally:
        await runtime.close()


def _app(runtime: RecordingRuntime, request: Request) -> tuple[ASGIApp, str, dict[str, str]]:
    """Return what serves the request, its path, and the parameters of it. Raises WasmError."""
    if request.function is None:
        if request.path is None:
            raise ConfigError("nothing to call", hint="name a function, or a path with --path")
        path = request.path if request.path.startswith("/") else f"/{request.path}"
        _check_served(runtime, path.partition("?")[0])
        return WasmMiddleware(_nothing, runtime=runtime), path, {}
    name, _, version = request.function.partition("@")
    path, params, policy = _of_rule(runtime, name, request)
    runtime.target(name, version or None, policy)
    route = WasmRoute("/{rest:path}", function=name, version=version or None, policy=policy, runtime=runtime)
    return route.app, path, params


def _of_rule(runtime: RecordingRuntime, name: str, request: Request) -> tuple[str, dict[str, str], str | None]:
    """Return path, parameters and policy as the function's rule has them, the first one if the path fits none."""
    rules = [rule for rule in runtime.deployment.config.rules if rule.function_name == name]
    path = request.path
    if path is None:
        path = next((rule.path_pattern for rule in rules if "{" not in rule.path_pattern), "/")
    path = path if path.startswith("/") else f"/{path}"
    assert runtime.router is not None
    match = runtime.router.match(path.partition("?")[0])
    fitting = [rule for rule in rules if match is not None and rule.path_pattern == match.pattern]
    params = dict(match.params) if match is not None and fitting else {}
    policy = next((rule.policy for rule in fitting or rules), None)
    return path, params, request.policy or policy


def _check_served(runtime: RecordingRuntime, path: str) -> None:
    assert runtime.router is not None
    if runtime.router.match(path) is None:
        config = runtime.deployment.config
        patterns = [*(rule.path_pattern for rule in config.rules), *(each.path for each in config.pipelines)]
        known = ", ".join(dict.fromkeys(patterns)) or "none"
        raise ConfigError(f"no rule serves the path {path}", hint=f"the patterns are {known}")


def _stubs(file: Path | None) -> Hosts | None:
    if file is None:
        return None
    hosts = Hosts()
    hosts.load(file)
    return hosts


def _header(given: str) -> tuple[str, str]:
    name, colon, value = given.partition(":")
    if not colon or not name.strip():
        raise typer.BadParameter(f"{given!r} is not NAME:VALUE")
    return name.strip(), value.strip()


def _body(data: str | None) -> bytes:
    if data is None or not data.startswith("@"):
        return (data or "").encode()
    if data == "@-":
        return sys.stdin.buffer.read()
    try:
        return Path(data[1:]).read_bytes()
    except OSError as error:
        raise ConfigError(
            f"{data[1:]} cannot be read: {error.strerror}", hint="give --data a file behind the @"
        ) from None


async def _nothing(scope: object, receive: object, send: object) -> None:
    raise WasmError("a rule that serves the path has gone")

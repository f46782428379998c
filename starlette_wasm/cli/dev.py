"""``dev``: an app with its functions, rebuilt and swapped in as their sources change."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

from ..config.settings import WINCH_IS_HERE
from ..exceptions import ConfigError
from . import output
from .options import DEFAULT_CONFIG, ConfigOption

App = Annotated[
    str | None,
    typer.Argument(
        help="MODULE:NAME of an app; by default app:app if there is an app.py, else the rules alone.", metavar="APP"
    ),
]
Host = Annotated[str, typer.Option(help="Address to listen on.")]
Allowed = Annotated[
    list[str], typer.Option("--allow-host", help="Another name that requests may be for; repeat it for more.")
]
Port = Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")]


def dev(
    app: App = None,
    config: ConfigOption = DEFAULT_CONFIG,
    host: Host = "127.0.0.1",
    port: Port = 8000,
    allow_host: Allowed = [],  # noqa: B006
) -> None:
    """Serve an app under uvicorn, and rebuild and swap in functions as their sources change.

    Each request gets a line with its status, time and memory, and below it what the function logged. A compile error is
    shown as the compiler prints it, and what was served is served on. In a browser a function that fails shows why,
    with the line of its source if the module has debug information. A change of a Python file starts the app again.

    To answer soon, a function is built by build.quick of its function.yaml first, if it has that, and by build.command
    behind it; and modules are compiled by winch, which is quicker than what serves in production, and whose code is
    slower. STARLETTE_WASM_COMPILER=cranelift takes the other.

    Requests are answered for localhost, IP addresses, --host and the hosts of rules and tenants: the page of another
    site could have its name point here, and read what is served. --allow-host adds others, such as that of a tunnel.

    Keys: r builds all anew, o opens the browser, q quits.

    Example: starlette-wasm dev app:app --port 8000
    """
    if importlib.util.find_spec("uvicorn") is None:
        raise ConfigError("dev needs uvicorn", hint="run python -m pip install 'starlette-wasm[cli,server]'")
    from .dev_server import COMPILER, DevServer
    from .routes import check_there

    if app is None and Path("app.py").exists():
        app = "app:app"
    if app is not None:
        check_there(app)
    if WINCH_IS_HERE:
        os.environ.setdefault(COMPILER, "winch")
    server = DevServer(app, config, host, port, allow_host)
    signal.signal(signal.SIGTERM, _interrupt)  # so that what builds is ended, too
    try:
        with output.own_call_logs():
            again = asyncio.run(server.run())
    except KeyboardInterrupt:  # the way to end it if no key is read
        return
    if again:
        sys.stdout.flush()
        sys.stderr.flush()
        os.execv(
            sys.executable,
            [sys.executable, "-m", "starlette_wasm", "dev", *_arguments(app, config, host, server.port, allow_host)],
        )
    if server.failed:
        raise typer.Exit(1)


def _interrupt(*_: object) -> None:
    """End as for Ctrl-C: asyncio cancels its main task then, while an error raised here could hit any callback."""
    signal.raise_signal(signal.SIGINT)


def _arguments(app: str | None, config: Path, host: str, port: int, allowed: list[str]) -> list[str]:
    options = ["--config", str(config), "--host", host, "--port", str(port)]
    options += [part for each in allowed for part in ("--allow-host", each)]
    return options if app is None else [app, *options]

"""The commands of ``starlette-wasm``, put together."""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typer.main import get_command

from ..exceptions import WasmError
from . import (
    bench,
    build,
    call,
    canary,
    check,
    compile,
    dev,
    doctor,
    gc,
    inspect,
    lock,
    new,
    nodes,
    output,
    pipeline,
    policy,
    pull,
    push,
    routes,
    run_tests,
    sign,
    stubs,
    sync,
    verify,
)
from .option_groups import with_groups

PANELS: dict[str, dict[str, Callable[..., None]]] = {
    "Make": {"new": new.new, "build": build.build, "dev": dev.dev},
    "Try": {"call": call.call, "test": run_tests.run_tests, "bench": bench.bench},
    "Look": {
        "check": check.check,
        "doctor": doctor.doctor,
        "inspect": inspect.inspect,
        "stubs": stubs.stubs,
        "routes": routes.routes,
        "policy": policy.policy,
        "pipeline": pipeline.pipeline,
        "nodes": nodes.nodes,
    },
    "Deploy": {
        "compile": compile.compile_all,
        "canary": canary.canary,
        "push": push.push,
        "sign": sign.sign,
        "pull": pull.pull,
        "lock": lock.lock,
        "sync": sync.sync,
        "verify": verify.verify,
        "gc": gc.gc,
    },
}
"""The commands by their names, in groups as the help shows them."""


class _Commands(TyperGroup):
    """Turns the errors of this package, and those of files, into a message and the exit code 1."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except typer.BadParameter as error:
            error.message = error.message.removeprefix("Value error, ")  # of pydantic, which typer asks
            raise
        except WasmError as error:
            output.fail(ctx.invoked_subcommand or "", error)
            raise typer.Exit(1) from None
        except OSError as error:
            if (
                error.errno == errno.EPIPE or error.filename is None
            ):  # whoever reads stdout has gone: typer ends quietly
                raise
            told = f"{error.filename}: {error.strerror}; check path, owner and mode"
            output.fail(ctx.invoked_subcommand or "", told)
            raise typer.Exit(1) from None


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"starlette-wasm {version('starlette-wasm')}")
        raise typer.Exit


_Version = Annotated[
    bool, typer.Option("--version", help="Show the version, and exit.", callback=_show_version, is_eager=True)
]


def _root(show_version: _Version = False) -> None:
    """WebAssembly functions for Starlette and FastAPI apps.

    Each command explains itself: starlette-wasm COMMAND --help. They print tables on a terminal, plain text elsewhere,
    and JSON with --json. The exit code is 0 only on success.
    """


def make_app(*, rich: bool) -> typer.Typer:
    """Return the app of all commands; ``rich``: with panels and colour in its help and its messages."""
    app = typer.Typer(
        cls=_Commands,
        no_args_is_help=True,
        rich_markup_mode="rich" if rich else None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_root)
    for panel, commands in PANELS.items():
        for name, command in commands.items():
            app.command(name, rich_help_panel=panel)(with_groups(command))
    return app


def run(argv: Sequence[str] | None = None) -> int:
    """Run a command. Return the exit code: 0 only on success, 2 for options that are not understood."""
    command = get_command(make_app(rich=output.console().is_terminal))
    try:
        command(args=None if argv is None else list(argv), prog_name="starlette-wasm")
    except SystemExit as ended:
        sys.stdout.flush()
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    return 0

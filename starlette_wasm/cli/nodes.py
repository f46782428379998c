"""``nodes``: compares what several nodes serve, by their ``/ready``."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer

from ..exceptions import ConfigError
from ..runtime.nodes import FORM, compare_nodes
from . import output
from .options import Json

DIFFER, NOT_COMPARED = 1, 2
"""Exit codes."""


def nodes(
    urls: Annotated[list[str], typer.Argument(metavar="URL...", help=f"Address of a node; /ready is added: {FORM}.")],
    token: Annotated[
        str | None,
        typer.Option(envvar="STARLETTE_WASM_ENDPOINTS_TOKEN", show_envvar=True, help="Token that /ready requires."),
    ] = None,
    json: Json = False,
) -> None:
    """Compare several nodes by their /ready, and name the ones that differ.

    A node differs if it has a version that most others lack, lacks one that they have, has another module under the
    same version, or goes by another policy, wasm.yaml or other settings; /ready has digests of these, never values.
    What nodes of different regions differ in anyway, such as the region and the URLs of stores, is left out.

    The exit code is 1 if a node differs, and 2 if none does but one cannot be compared: it is not reached, or
    does not answer as a node.

    Example: starlette-wasm nodes http://10.0.0.7:8000 http://10.0.0.8:8000
    """
    rows = asyncio.run(compare_nodes(urls, token))
    output.show_rows(rows, json=json)
    code = verdict(rows)
    if code:
        raise typer.Exit(code)


def verdict(rows: Sequence[Mapping[str, Any]]) -> int:
    """Print what is wrong with the nodes of compare(), and return the exit code."""
    odd = [f"{row['node']}: {row['differs']}" for row in rows if row["differs"]]
    away = [f"{row['node']}: {row['problem']}" for row in rows if row["problem"]]
    if odd:
        hint = "bring them to one functions.lock with sync, and to one wasm.yaml, policies and settings"
        output.fail("nodes", ConfigError("\n".join(["the nodes differ", *odd]), hint=hint))
    if away:
        hint = "check whether they run, and the addresses"
        output.fail("nodes", ConfigError("\n".join(["these nodes cannot be compared", *away]), hint=hint))
    return DIFFER if odd else NOT_COMPARED if away else 0

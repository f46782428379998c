"""``pipeline``: the steps of the pipelines of a config."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from ..config.error_text import nearest
from ..config.pipelines import PipelineCall, PipelineConfig
from ..config.settings import load_settings
from ..exceptions import ConfigError
from ..runtime.runtime import WasmRuntime
from . import output
from .inspection import in_order, without_files
from .options import DEFAULT_CONFIG, ConfigOption, Json
from .table import Row

At = Annotated[str | None, typer.Argument(help="Path of one pipeline; by default all of them.", metavar="PATH")]


def pipeline(path: At = None, config: ConfigOption = DEFAULT_CONFIG, json: Json = False) -> None:
    """List the steps of pipelines: function, version, policy, time limit, retries and fallback of each.

    The config is loaded as an app would, so that the fault of a step is found. To run one, call its path: each
    step is then shown with what it was asked and took.

    Example: starlette-wasm pipeline /api/v1/enrich
    """
    rows = asyncio.run(_rows(path, config))
    output.show_rows(rows, json=json, empty=in_order(config, "pipelines"))


async def _rows(path: str | None, config: Path) -> list[Row]:
    with output.loading():
        runtime = WasmRuntime(config, without_files())
        await runtime.start()
    try:
        pipelines = runtime.deployment.config.pipelines
    finally:
        await runtime.close()
    wanted = [each for each in pipelines if path in (None, each.path)]
    if path is not None and not wanted:
        hint = (
            nearest(path, [each.path for each in pipelines])
            if pipelines
            else "it has no pipelines: see docs/pipelines.md"
        )
        raise ConfigError(f"has no pipeline at {path}", file=config, key="pipelines", hint=hint)
    return [row for each in wanted for row in _steps(each)]


def _steps(pipeline: PipelineConfig) -> list[Row]:
    rows = []
    for number, step in enumerate(pipeline.steps, 1):
        calls = getattr(step, "parallel", None) or [step]
        rows += [
            _row(pipeline, f"{number}{chr(97 + i) if len(calls) > 1 else ''}", call) for i, call in enumerate(calls)
        ]
    return rows


def _row(pipeline: PipelineConfig, number: str, call: PipelineCall) -> Row:
    fallback = call.fallback
    return {
        "path": pipeline.path,
        "methods": ", ".join(pipeline.methods or ()) or "all",
        "step": number,
        "function": call.function or "",
        "version": call.version or "highest",
        "policy": call.policy or load_settings().default_policy,
        "time": f"{call.timeout_ms} ms",
        "retries": call.retries,
        "fallback": "none" if fallback is None else getattr(fallback, "function", None) or "a fixed answer",
    }

"""Canaries as JSON and as a line for humans."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .board import standing_of
from .verdict import Action

if TYPE_CHECKING:
    from .state import CanaryState
    from .window import Window


def line(stable: Window, canary: Window) -> str:
    """Return a line such as ``Stable: 895/900 (99.4%) | Canary: 99/100 (99.0%)``."""
    return f"Stable: {_share(stable)} | Canary: {_share(canary)}"


def _share(window: Window) -> str:
    rate = window.success_rate
    return f"{window.succeeded}/{window.samples} ({'-' if rate is None else f'{rate * 100:.1f}%'})"


def success_rate(canaries: Mapping[str, CanaryState]) -> float | None:
    """Return the lowest rate of the rollouts that run, or, if none does, of those that are over.

    None until all that run have the minimum of samples: no canary may pass by the figures of another.
    """
    running = [live for live in canaries.values() if live.mine is not None and live.mine.runs]
    rates = [live.success_rate for live in running or canaries.values()]
    if running and None in rates:
        return None
    return min((rate for rate in rates if rate is not None), default=None)


def samples_missing(canaries: Mapping[str, CanaryState]) -> int | None:
    """Return how many requests are missing until those that run have a success_rate(); None if none runs."""
    running = [live for live in canaries.values() if live.mine is not None and live.mine.runs]
    return max((live.samples_missing for live in running), default=None)


def describe(function: str, live: CanaryState) -> dict[str, Any]:
    """Describe one canary, for ``GET /metrics/canary`` and ``starlette-wasm canary status``."""
    stable, canary = live.versions
    described: dict[str, Any] = {
        "function": function,
        "stable_version": stable,
        "canary_version": canary,
        "steps": live.config.steps,
    }
    if live.config.waves:
        described["waves"] = _waves(live)
    record, verdict = live.mine, live.verdict
    if record is None:
        status = "unknown" if live.record is None else "superseded"
        if not live.takes_part:
            status = "none in this region"
        return described | {"status": status, "weight": 0, "note": live.note}
    described |= {
        "status": record.status.value,
        "weight": record.percent,
        "step": sum(step <= record.percent for step in live.config.steps),
        "success_rate": live.success_rate,
        "verdict": None,
        "reason": record.reason,
        "seconds_left": None,
        "samples_left": None,
        "bakes": record.bakes,
    }
    if verdict is not None and record.is_judged:
        described["verdict"] = verdict.action.value
        described["reason"] = live.held_by if live.held_by and verdict.action is Action.ADVANCE else verdict.reason
        described["seconds_left"] = round(verdict.seconds, 1)
        described["samples_left"] = verdict.samples
    return described | {
        "started": record.started,
        "changed": record.changed,
        "comparisons": record.looks.count,
        "stable": _figures(live.stable),
        "canary": _figures(live.canary),
        "report": line(live.stable, live.canary),
        "note": live.note,
    }


def _waves(live: CanaryState) -> list[dict[str, Any]]:
    """Return how each region stands, in their order; null for those that are not known."""
    board = live.board
    if board is not None and board.versions != live.versions:
        board = None
    standings = {region: None if board is None else board.regions.get(region) for region in live.config.waves}
    if live.mine is not None and live.place.region in standings:  # the board has that at the next look
        standings[live.place.region] = standing_of(live.mine)
    return [
        {"region": region, "status": None, "weight": None, "bakes": False}
        if standing is None
        else {
            "region": region,
            "status": standing.status.value,
            "weight": standing.percent,
            "bakes": standing.bakes,
        }
        for region, standing in standings.items()
    ]


def _figures(window: Window) -> dict[str, Any]:
    return {
        "requests": window.samples,
        "succeeded": window.succeeded,
        "failed": window.failed,
        "success_rate": window.success_rate,
        "p50_ms": _rounded(window.quantile_ms(0.5)),
        "p99_ms": _rounded(window.quantile_ms(0.99)),
        "timeouts": window.timeouts,
        "memory_limits": window.memory_limits,
    }


def _rounded(milliseconds: float | None) -> float | None:
    return None if milliseconds is None else float(f"{milliseconds:.3g}")

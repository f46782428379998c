"""The plots of the docs: throughput of all contenders, and what production sends, as bars in SVG written by hand."""

from __future__ import annotations

import math
from collections.abc import Iterable
from xml.sax.saxutils import escape

from .measure import Row
from .report import number

_WIDTH, _BAR, _GAP, _LEFT, _RIGHT, _TOP = 900, 22, 10, 380, 90, 56
_OURS, _THEIRS, _INK, _GRID = "#6d4aff", "#9aa5b1", "#1f2933", "#d9dee4"


def throughput(rows: Iterable[Row], connections: int) -> str | None:
    """Plot requests a second on a logarithmic axis, the quickest on top; None if http was not measured."""
    bars: dict[str, tuple[float, bool]] = {}
    for row in rows:
        if not (row.group == "http" and row.id.endswith(f"/{connections}") and row.measure == "req/s"):
            continue
        if "edge-processor" in row.id or row.ours is None or row.theirs is None:
            continue
        name = "`wasm_route` with a Python handler" if "/route/" in row.id else "middleware-mapped function"
        bars.setdefault(f"starlette-wasm: {name}", (row.ours, True))
        bars.setdefault(row.against, (row.theirs, False))
    if not bars:
        return None
    ordered = sorted(bars.items(), key=lambda bar: -bar[1][0])
    return _draw(f"Requests a second, {connections} connections, one core (logarithmic)", ordered)


def production(rows: Iterable[Row]) -> str | None:
    """Return the CPU of a request, native / mapped, by kind of request; None for a kind without a figure."""
    bars = [
        (row.title.partition(":")[0], (row.value, row.value >= 1))
        for row in rows
        if row.id.startswith("production/") and row.id.endswith("/mapped/cpu") and row.value
    ]
    return (
        _draw("CPU of a request, native route / mapped function, 64 connections (logarithmic)", bars) if bars else None
    )


def _draw(title: str, bars: list[tuple[str, tuple[float, bool]]]) -> str:
    low = 10 ** math.floor(math.log10(min(value for _, (value, _) in bars)))
    high = max(low * 10, *(value for _, (value, _) in bars))
    span = _WIDTH - _LEFT - _RIGHT
    height = _TOP + len(bars) * (_BAR + _GAP) + 16

    def x(value: float) -> float:
        return _LEFT + span * math.log10(value / low) / math.log10(high / low)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" font-family="sans-serif" '
        f'font-size="13" role="img"><title>{escape(title)}</title>',
        f'<rect width="{_WIDTH}" height="{height}" fill="#fff"/>',
        f'<text x="16" y="24" font-size="16" font-weight="bold" fill="{_INK}">{escape(title)}</text>',
    ]
    tick = low
    while tick <= high:
        at = x(tick)
        parts.append(f'<line x1="{at:.1f}" y1="{_TOP - 8}" x2="{at:.1f}" y2="{height - 12}" stroke="{_GRID}"/>')
        style = f'text-anchor="middle" font-size="11" fill="{_INK}"'
        parts.append(f'<text x="{at:.1f}" y="{_TOP - 12}" {style}>{number(tick)}</text>')
        tick *= 10
    for i, (label, (value, ours)) in enumerate(bars):
        y = _TOP + i * (_BAR + _GAP)
        text_y = y + _BAR * 0.7
        plain = escape(label.replace("`", ""))
        parts.append(f'<text x="{_LEFT - 10}" y="{text_y:.1f}" text-anchor="end" fill="{_INK}">{plain}</text>')
        parts.append(
            f'<rect x="{_LEFT}" y="{y}" width="{max(1.0, x(value) - _LEFT):.1f}" height="{_BAR}" '
            f'fill="{_OURS if ours else _THEIRS}"/>'
        )
        parts.append(f'<text x="{x(value) + 6:.1f}" y="{text_y:.1f}" fill="{_INK}">{number(value)}</text>')
    return "\n".join([*parts, "</svg>", ""])

"""Small charts as points of an SVG polyline."""

from __future__ import annotations

from collections.abc import Sequence

WIDTH, HEIGHT = 120, 24


def points(values: Sequence[float], top: float | None = None) -> str:
    """Return the ``points`` of a polyline in a box of 120 by 24; ``top`` is the value at its upper edge."""
    most = max(values, default=0) if top is None else top
    if len(values) < 2 or most <= 0:
        return f"0,{HEIGHT} {WIDTH},{HEIGHT}"
    step = WIDTH / (len(values) - 1)
    return " ".join(f"{i * step:.1f},{HEIGHT - value / most * (HEIGHT - 1):.1f}" for i, value in enumerate(values))

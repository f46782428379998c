"""A trace as a picture: a row for each span, in the order of the tree, with its bar on the time axis."""

from __future__ import annotations

from collections.abc import Iterator
from xml.sax.saxutils import escape

from collector import Span

_WIDTH, _NAMES, _TIMES, _ROW, _TOP = 900, 300, 90, 26, 34
_COLOURS = {"SERVER": "#4c78a8", "INTERNAL": "#72b7b2", "CLIENT": "#f58518"}
_GUEST = "#b279a2"


def draw(spans: list[Span]) -> str:
    """Draw the spans of one trace as SVG."""
    ids = {span.id for span in spans}
    (root,) = [span for span in spans if span.parent not in ids]
    rows = list(_rows(root, spans, 0))
    height = _TOP + _ROW * len(rows) + 10
    scale = (_WIDTH - _NAMES - _TIMES) / (root.end - root.begin)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" '
        'font-family="system-ui, sans-serif" font-size="13">',
        f'<rect width="{_WIDTH}" height="{height}" fill="#fff"/>',
        *_legend(),
    ]
    for number, (span, depth) in enumerate(rows):
        y = _TOP + _ROW * number
        begin = _NAMES + (span.begin - root.begin) * scale
        width = max((span.end - span.begin) * scale, 1.5)
        colour = _GUEST if span.scope == "starlette_wasm.guest" else _COLOURS[span.kind]
        if number % 2 == 0:
            parts.append(f'<rect y="{y}" width="{_WIDTH}" height="{_ROW}" fill="#f4f5f7"/>')
        parts.append(f'<text x="{12 + 18 * depth}" y="{y + 17}">{escape(span.name)}</text>')
        parts.append(
            f'<rect x="{begin:.1f}" y="{y + 6}" width="{width:.1f}" height="14" rx="2" fill="{colour}">'
            f"<title>{escape(_about(span))}</title></rect>"
        )
        parts.append(f'<text x="{begin + width + 6:.1f}" y="{y + 17}" fill="#555">{_duration(span)}</text>')
    return "\n".join([*parts, "</svg>", ""])


def _legend() -> Iterator[str]:
    x = _NAMES
    for name, colour in [*_COLOURS.items(), ("started by the guest", _GUEST)]:
        yield f'<rect x="{x}" y="10" width="12" height="12" rx="2" fill="{colour}"/>'
        yield f'<text x="{x + 17}" y="20" font-size="11" fill="#555">{name}</text>'
        x += 100


def _rows(span: Span, spans: list[Span], depth: int) -> Iterator[tuple[Span, int]]:
    yield span, depth
    for child in sorted(spans, key=lambda each: each.begin):
        if child.parent == span.id:
            yield from _rows(child, spans, depth + 1)


def _duration(span: Span) -> str:
    micros = (span.end - span.begin) / 1e3
    return f"{micros:.0f} µs" if micros < 1000 else f"{micros / 1e3:.1f} ms"


def _about(span: Span) -> str:
    return "\n".join([f"{span.kind} {span.name}", *(f"{name} = {value}" for name, value in span.attributes.items())])

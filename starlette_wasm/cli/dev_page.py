"""The page of a function that failed: why, where in its source, what it logged, and what it was asked."""

from __future__ import annotations

import json
import re
from html import escape
from pathlib import Path

from ..exceptions import FunctionTrapped
from ..protocols import get_protocol
from ..testing.calls import Call

_PLACE = re.compile(r"([^\s():]+\.[A-Za-z]+):(\d+)")
_AROUND = 4
_MOST_BYTES = 1 << 20
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; padding: 0 1rem; }
h1 { font-size: 1.3rem; } h2 { font-size: 1rem; margin-top: 2rem; }
pre { background: #f4f4f5; border-radius: 6px; overflow-x: auto; padding: .8rem; }
.here { background: #fecaca; display: block; } .quiet { color: #71717a; }
@media (prefers-color-scheme: dark) {
  body { background: #18181b; color: #e4e4e7; } pre { background: #27272a; } .here { background: #7f1d1d; }
}
"""


def error_page(call: Call) -> str:
    """Return the page of a call that failed, as HTML."""
    error = call.error
    head, *frames = str(error).splitlines()
    parts = [f"<h1>{escape(head)}</h1>", f'<p class="quiet">{escape(_took(call))}</p>']
    parts += [_snippet(file, line) for file, line in sources(call)[:2]]
    if frames:
        parts += ["<h2>Frames, innermost first</h2>", f"<pre>{escape(chr(10).join(frames))}</pre>"]
    if call.stderr:
        parts += ["<h2>stderr</h2>", f"<pre>{escape(call.stderr)}</pre>"]
    if call.violations:
        refused = "\n".join(each.message for each in call.violations)
        parts += [f"<h2>Refused by the policy {escape(call.policy)}</h2>", f"<pre>{escape(refused)}</pre>"]
    request = json.dumps(json.loads(get_protocol("edge").encode(call.request)), indent=2, ensure_ascii=False)
    parts += ["<h2>EdgeRequest</h2>", f"<pre>{escape(request)}</pre>"]
    title = f"{escape(call.function)} failed"
    page = f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><style>{_STYLE}</style>'
    return page + "\n".join(parts)


def _took(call: Call) -> str:
    return (
        f"{call.function} v{call.version}, policy {call.policy}: ended with {call.end or 'nothing run'} after "
        f"{call.seconds * 1000:.1f} ms, with {call.memory_bytes >> 10} KiB of memory"
    )


def sources(call: Call) -> list[tuple[Path, int]]:
    """Return the places of a trap in files that are here, innermost first."""
    if not isinstance(call.error, FunctionTrapped) or call.folder is None:
        return []
    found = []
    for frame in call.error.frames:
        for name, line in _PLACE.findall(frame):
            file = _file(name, call.folder)
            if file is not None:
                found.append((file, int(line)))
    return list(dict.fromkeys(found))


def _file(name: str, folder: Path) -> Path | None:
    """Return the file that a frame names, if it is below the folder of the function."""
    for file in (folder / name, folder / "src" / name, folder / "src" / Path(name).name):
        if file.is_file() and file.resolve().is_relative_to(folder.resolve()):
            return file
    return None


def _snippet(file: Path, line: int) -> str:
    if file.stat().st_size > _MOST_BYTES:
        return ""
    lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    first = max(line - _AROUND, 1)
    shown = [
        f'<span class="{"here" if number == line else ""}">{number:>5}  {escape(text)}</span>'
        for number, text in enumerate(lines[first - 1 : line + _AROUND - 1], first)
    ]
    return f"<h2>{escape(str(file))}:{line}</h2><pre>{chr(10).join(shown)}</pre>"

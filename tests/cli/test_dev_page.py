"""The page of ``dev`` for a function that failed."""

from __future__ import annotations

from pathlib import Path

from starlette_wasm import EdgeRequest, FunctionTrapped
from starlette_wasm.capabilities import Code, Violation
from starlette_wasm.cli.dev_page import error_page, sources
from starlette_wasm.testing import Call


def trapped(folder: Path, *frames: str) -> Call:
    error = FunctionTrapped("f", "1", reason="unreachable <b>", frames=frames)
    call = Call("f", "1", "own", EdgeRequest(path="/<script>"), error=error, end="trap", folder=folder)
    call.stderr = "what & why"
    call.violations = [Violation("kv.get", Code.KV_NAMESPACE_NOT_ALLOWED, "kv namespace not allowed: a<b")]
    return call


def test_the_line_of_the_source_is_marked(tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "src/f.c").write_text("".join(f"line {number} <\n" for number in range(1, 21)))
    page = error_page(trapped(tmp_path, "inner (src/f.c:7)", "outer (/somewhere/libc.c:3)"))
    assert '<span class="here">    7  line 7 &lt;</span>' in page
    assert "line 12" not in page
    for part in ("unreachable &lt;b&gt;", "/&lt;script&gt;", "what &amp; why", "not allowed: a&lt;b"):
        assert part in page
    assert "<script>" not in page


def test_only_files_of_the_function_are_shown(tmp_path: Path) -> None:
    folder = tmp_path / "f"
    folder.mkdir()
    (tmp_path / "secret.txt").write_text("secret")
    assert sources(trapped(folder, "x (../secret.txt:1)", f"y ({tmp_path}/secret.txt:1)")) == []

"""What MkDocs is to know beside the pages in ``docs/``: the start page, the changes, the Python API, and links.

The pages are written for the repository. A link to one of its other files becomes the file's name: the site has no
sources, and names no host that has them.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
_LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\((?!https?:|#|mailto:)([^)#\s]+)(#[^)\s]*)?\)")
_FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_PAGES = {"README.md": "index.md", "CHANGELOG.md": "changelog.md"}
_API_HEAD = "# The Python API\n\nWhat `starlette_wasm` exports; everything else may change without notice.\n"


def on_config(config: Any) -> Any:
    """Put pages that ``nav`` leaves out behind the others, so that each is reached."""
    listed = pages_of(config["nav"])
    more = [page.name for page in sorted((ROOT / "docs").glob("*.md")) if page.name not in listed]
    if more:
        config["nav"].append({"More": more})
    return config


def pages_of(nav: object) -> set[str]:
    """Return the pages that a part of ``nav`` names."""
    if isinstance(nav, str):
        return {nav}
    parts = nav.values() if isinstance(nav, dict) else nav if isinstance(nav, list) else []
    return {name for part in parts for name in pages_of(part)}


def on_files(files: Files, config: Any) -> Files:
    for source, page in _PAGES.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text(encoding="utf-8")))
    files.append(File.generated(config, "api.md", content=api_page()))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    folder = ROOT if page.file.src_uri in _PAGES.values() else ROOT / "docs"
    blocks = _FENCE.findall(markdown)
    texts = _FENCE.split(markdown)
    texts = [_LINK.sub(lambda match: _link(match, folder), text) for text in texts]
    return "".join(text + block for text, block in zip(texts, [*blocks, ""], strict=True))


def _link(match: re.Match[str], folder: Path) -> str:
    """Return a link as it is to be in the site."""
    image, text, target, anchor = match.groups()
    path = (folder / target).resolve()
    name = path.relative_to(ROOT).as_posix()
    if name in _PAGES:
        return f"{image}[{text}]({_PAGES[name]}{anchor or ''})"
    if name.startswith("docs/"):
        return f"{image}[{text}]({name.removeprefix('docs/')}{anchor or ''})"
    return text if name in text else f"{text} (`{name}`)"


def api_page() -> str:
    """Return the page of what the package exports, and the test kit."""
    tree = ast.parse((ROOT / "starlette_wasm" / "__init__.py").read_text(encoding="utf-8"))
    homes = {
        alias.name: f"starlette_wasm.{node.module}"
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.level == 1
        for alias in node.names
    }
    [exported] = [
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == "__all__"
    ]
    names = [f"{homes[name]}.{name}" for name in exported if name in homes]
    return _API_HEAD + "".join(f"\n::: {name}\n" for name in [*names, "starlette_wasm.testing.kit.WasmKit"])

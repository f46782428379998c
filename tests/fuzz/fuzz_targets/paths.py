"""Path patterns: the tree against trying each pattern, and the grammar of the config against that of the tree."""

from __future__ import annotations

import re

from starlette_wasm.config.names import PatternSyntaxError, check_path_pattern, path_params
from starlette_wasm.traffic.router import PathTree

TOKENS = (
    b"/",
    b"//",
    b"{x}",
    b"{y}",
    b"{z:path}",
    b"{x:int}",
    b"{",
    b"}",
    b"/a",
    b"/b",
    b"/ab",
    b"/a/",
    b".",
    b"..",
    b"\n",
)
_PARAM = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")
_REST = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*):path\}")


def check(data: bytes) -> None:
    """Lines: patterns up to an empty one, then paths."""
    first, _, second = data.decode("utf-8", "surrogateescape").partition("\n\n")
    tree: PathTree[str] = PathTree()
    patterns = []
    for pattern in first.split("\n")[:20]:
        _grammar(pattern)
        try:
            tree.add(pattern, pattern)
        except ValueError as error:
            if not isinstance(error, PatternSyntaxError):
                continue
            raise
        patterns.append(pattern)
    for path in second.split("\n")[:20]:
        found = tree.match(path)
        assert found == _best(patterns, path), (patterns, path, found)


def _grammar(pattern: str) -> None:
    """What the config takes the tree takes; the names are the same."""
    try:
        check_path_pattern(pattern)
    except PatternSyntaxError as error:
        assert error.hint
        return
    tree: PathTree[None] = PathTree()
    tree.add(pattern, None)
    path = "/".join("v" if "{" in segment else segment for segment in pattern.split("/"))
    match = tree.match(path)
    assert match is not None
    assert list(match[1]) == path_params(pattern)


def _best(patterns: list[str], path: str) -> tuple[str, dict[str, str]] | None:
    fits = [
        (rank, pattern, params) for pattern in patterns for rank, params in [_fit(pattern, path)] if rank is not None
    ]
    best = min(fits, key=lambda fit: fit[0], default=None)
    return None if best is None else best[1:]


def _fit(pattern: str, path: str) -> tuple[list[int] | None, dict[str, str]]:
    """How specific the fit is, a number a segment, the lower the better; None if there is no fit."""
    if not path.startswith("/"):
        return ([0] if pattern == "/" else None), {}
    wanted, given = pattern[1:].split("/"), path[1:].split("/")
    params: dict[str, str] = {}
    rank: list[int] = []
    has_params = "{" in pattern
    for at, segment in enumerate(wanted):
        last = at == len(wanted) - 1
        if rest := _REST.fullmatch(segment):
            if at >= len(given):
                return None, {}
            params[rest[1]] = "/".join(given[at:])
            return [*rank, 2], params
        if last and not segment and not has_params and at < len(given):
            return ([0] * len(wanted) if path == pattern else [*rank, 3]), params
        if at >= len(given):
            return None, {}
        if param := _PARAM.fullmatch(segment):
            if not given[at]:
                return None, {}
            params[param[1]] = given[at]
            rank.append(1)
        elif segment == given[at]:
            rank.append(0)
        else:
            return None, {}
    if len(given) == len(wanted):
        return rank, params
    return (None if has_params else [*rank, 4]), params

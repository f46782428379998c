from __future__ import annotations

import re
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from starlette_wasm.config.names import MAX_SEGMENTS
from starlette_wasm.traffic.router import PathTree


def tree(*patterns: str) -> PathTree[str]:
    built: PathTree[str] = PathTree()
    for pattern in patterns:
        built.add(pattern, pattern)
    return built


def winner(patterns: Iterable[str], path: str) -> str | None:
    found = tree(*patterns).match(path)
    return None if found is None else found[0]


@pytest.mark.parametrize(
    ("path", "fits"),
    [
        ("/api/v1/process", True),
        ("/api/v1/process/", True),
        ("/api/v1/process/x", True),
        ("/api/v1/process//x", True),
        ("/api/v1/processor", False),
        ("/api/v1/processor/x", False),
        ("/api/v1", False),
        ("/api/v1/", False),
        ("/api//v1/process", False),
        ("//api/v1/process", False),
        ("api/v1/process", False),
        ("/", False),
        ("", False),
    ],
)
def test_plain_prefix_fits_whole_segments(path: str, fits: bool) -> None:
    assert (winner(["/api/v1/process"], path) is not None) is fits


@pytest.mark.parametrize("path", ["/", "", "//", "/a", "/a/b/", "*"])
def test_slash_fits_everything(path: str) -> None:
    assert tree("/").match(path) == ("/", {})


def test_trailing_slash_of_a_prefix_leaves_out_the_path_without_it() -> None:
    only = tree("/api/")
    assert only.match("/api") is None
    assert only.match("/api/") == ("/api/", {})
    assert only.match("/api/x") == ("/api/", {})
    assert only.match("/apix/") is None


@pytest.mark.parametrize(
    ("pattern", "path", "params"),
    [
        ("/cache/{key}", "/cache/a b", {"key": "a b"}),
        ("/cache/{key}", "/cache/", None),
        ("/cache/{key}", "/cache", None),
        ("/cache/{key}", "/cache/a/", None),
        ("/cache/{key}", "/cache/a/b", None),
        ("/cache/{key}/", "/cache/a/", {"key": "a"}),
        ("/cache/{key}/", "/cache/a", None),
        ("/{a}/x/{b}", "/1/x/2", {"a": "1", "b": "2"}),
        ("/files/{name:path}", "/files/", {"name": ""}),
        ("/files/{name:path}", "/files", None),
        ("/files/{name:path}", "/files/a//b/", {"name": "a//b/"}),
        ("/files/{name:path}", "/files//", {"name": "/"}),
        ("/{who}/{name:path}", "/me/a/b", {"who": "me", "name": "a/b"}),
        ("/{all:path}", "/", {"all": ""}),
        ("/{all:path}", "/a/b", {"all": "a/b"}),
    ],
)
def test_pattern_with_parameters_fits_the_whole_path(pattern: str, path: str, params: dict[str, str] | None) -> None:
    found = tree(pattern).match(path)
    assert found == (None if params is None else (pattern, params))


@pytest.mark.parametrize(
    ("patterns", "path", "best"),
    [
        (["/a/{x}/c", "/a/b/d"], "/a/b/c", "/a/{x}/c"),
        (["/a/{x}/c", "/a/b/d"], "/a/b/d", "/a/b/d"),
        (["/a/{x}", "/a/b"], "/a/b", "/a/b"),
        (["/a/{x}", "/a/{x:path}"], "/a/b", "/a/{x}"),
        (["/a/{x}", "/a/{x:path}"], "/a/b/c", "/a/{x:path}"),
        (["/a", "/a/{x}"], "/a/b", "/a/{x}"),
        (["/a", "/a/{x}"], "/a/b/c", "/a"),
        (["/a", "/a/{x:path}"], "/a", "/a"),
        (["/a", "/a/{x:path}"], "/a/", "/a/{x:path}"),
        (["/a", "/a/"], "/a/b", "/a/"),
        (["/a/", "/a/{x:path}"], "/a/", "/a/"),
        (["/a/", "/a/{x:path}"], "/a/b", "/a/{x:path}"),
        (["/", "/a", "/a/b"], "/a/b/c", "/a/b"),
        (["/", "/a", "/a/b"], "/a/c", "/a"),
        (["/", "/a", "/a/b"], "/c", "/"),
        (["/a", "/{x}/b"], "/a/b", "/a"),
        (["/{x}/b/{y}", "/{x:path}", "/a/{y}/d"], "/a/b/c", "/{x}/b/{y}"),
        (["/{x}/b/{y}", "/{x:path}", "/a/{y}/d"], "/a/c/c", "/{x:path}"),
    ],
)
def test_most_specific_pattern_wins_whatever_the_order(patterns: list[str], path: str, best: str) -> None:
    assert winner(patterns, path) == best
    assert winner(reversed(patterns), path) == best


def reference(patterns: Iterable[str], path: str) -> tuple[str, dict[str, str]] | None:
    """The rules of PathTree, one pattern after the other: a regular expression and a sort key each."""
    parts = path.split("/")[1:]
    found: list[tuple[list[int], str, dict[str, str]]] = []
    for pattern in patterns:
        segments = pattern.split("/")[1:]
        if "{" not in pattern:
            if path == pattern:
                rank = [0] * len(segments)
            elif path.startswith(pattern if pattern.endswith("/") else pattern + "/"):
                below = not segments[-1]
                rank = [0] * (len(segments) - below) + [3 if below else 4]
            else:
                continue
            found.append((rank, pattern, {}))
            continue
        expression = re.sub(r"\{(\w)\}", r"(?P<\1>[^/]+)", pattern)
        fit = re.fullmatch(re.sub(r"\{(\w):path\}", r"(?P<\1>.*)", expression), path, re.DOTALL)
        if fit is not None:
            rank = [2 if ":path" in s else 1 if "{" in s else 0 for s in segments]
            found.append((rank, pattern, fit.groupdict()))
    assert all(len(rank) <= len(parts) + 1 for rank, _, _ in found)
    best = min(found, key=lambda entry: entry[0], default=None)
    return None if best is None else best[1:]


def pattern_of(shape: tuple[list[str], bool]) -> str:
    segments, to_the_end = shape
    segments = [each for at, each in enumerate(segments) if each or (at == len(segments) - 1 and not to_the_end)]
    names = iter("stuvwxyz")
    filled = [f"{{{next(names)}}}" if segment == "{}" else segment for segment in segments]
    return "/" + "/".join([*filled, *(["{z:path}"] if to_the_end else [])])


PATTERNS = st.tuples(st.lists(st.sampled_from(["a", "b", "ab", "", "{}"]), max_size=4), st.booleans())
PATHS = st.lists(st.sampled_from(["a", "b", "ab", "c", "", "{s}", "\n"]), min_size=1, max_size=7)


@given(st.sets(PATTERNS.map(pattern_of), max_size=12), st.lists(PATHS, min_size=1, max_size=10))
def test_tree_agrees_with_trying_each_pattern(patterns: set[str], paths: list[list[str]]) -> None:
    built = tree(*patterns)
    for path in ("/" + "/".join(parts) for parts in paths):
        assert built.match(path) == reference(patterns, path)


@pytest.mark.parametrize(
    ("pattern", "says"),
    [
        ("", "does not start with /"),
        ("a/b", "does not start with /"),
        ("{x}", "does not start with /"),
        ("/{}", "has the segment"),
        ("/{x", "has the segment"),
        ("/x}", "has the segment"),
        ("/a{x}", "has the segment"),
        ("/{x}{y}", "has the segment"),
        ("/{1x}", "has the segment"),
        ("/{x:int}", "only path is known"),
        ("/{x:path}/a", "before the end"),
        ("/{x:path}/", "before the end"),
        ("/{x}/{x}", "has the parameter x twice"),
        ("/{x}/{x:path}", "has the parameter x twice"),
        ("/a" * (MAX_SEGMENTS + 1), "has 101 segments; write 100 at most"),
    ],
)
def test_nonsense_is_refused(pattern: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        tree(pattern)


@pytest.mark.parametrize(
    ("first", "second"),
    [("/a", "/a"), ("/a/", "/a/"), ("/a/{x}", "/a/{y}"), ("/{x}/{r:path}", "/{y}/{s:path}")],
)
def test_patterns_that_fit_the_same_paths_are_refused(first: str, second: str) -> None:
    with pytest.raises(ValueError, match=re.escape(f"{second!r} fits the same paths as {first!r}")):
        tree(first, second)


def test_parameters_at_the_same_place_may_have_different_names() -> None:
    built = tree("/{user}/a", "/{team}/b")
    assert built.match("/x/a") == ("/{user}/a", {"user": "x"})
    assert built.match("/x/b") == ("/{team}/b", {"team": "x"})


def test_each_match_has_params_of_its_own() -> None:
    built = tree("/a")
    first = built.match("/a")
    assert first is not None
    first[1]["x"] = "1"
    assert built.match("/a") == ("/a", {})


def test_deepest_pattern_is_within_the_recursion_limit() -> None:
    pattern = "/{p}" + "/a" * (MAX_SEGMENTS - 1)
    assert tree(pattern).match("/x" + pattern[4:]) == (pattern, {"p": "x"})


def test_hostile_paths_are_split_no_further_than_the_patterns_reach() -> None:
    built = tree("/", "/a/{x}/c", "/files/{name:path}")
    many = "/" * 100_000
    assert built.match(many) == ("/", {})
    assert built.match("/a" + many) == ("/", {})
    assert built.match("/files" + many) == ("/files/{name:path}", {"name": many[1:]})
    assert built.match("/a/" + "x" * 1_000_000 + "/c") == ("/a/{x}/c", {"x": "x" * 1_000_000})
    assert built._splits == 4

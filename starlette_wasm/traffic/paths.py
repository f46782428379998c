from __future__ import annotations

from typing import Generic, TypeVar

from starlette_wasm.config.names import PatternSyntaxError, check_path_pattern, path_params

T = TypeVar("T")


class PathTree(Generic[T]):
    """Patterns and their values; the most specific pattern that fits a path wins.

    A pattern is made of literal segments, `{param}` (one non-empty segment) and, at its end,
    `{param:path}` (all that is left, slashes included, or nothing). One with parameters fits the
    whole path. One without is a prefix of whole segments: `/a` fits `/a`, `/a/` and `/a/b`, but not
    `/ab`. With a slash at its end it fits what starts with it: `/a/` fits `/a/` and `/a/b`, but not
    `/a`; `/` fits everything. In a path, empty segments are segments like any other.

    Segment by segment from the left, a literal goes before `{param}`, that before `{param:path}`,
    and that before the end of a prefix, so that a deeper prefix goes before a shallower one.

    A match visits at most those nodes of the tree that agree with the path, whatever the number of
    patterns, and splits the path no further than the longest pattern reaches.
    """

    def __init__(self) -> None:
        self._root: _Node[T] = _Node()
        self._exact: dict[str, _Leaf[T]] = {}
        self._splits = 1
        self._only_literals = True

    def add(self, pattern: str, value: T) -> None:
        """Add a pattern such as `/users/{id}/files/{name:path}`.

        Raises ValueError for one that is malformed, or fits the same paths as an earlier one.
        """
        segments, names = _parse(pattern)
        leaf = _Leaf(pattern, names, value)
        node = self._root
        for segment in segments[:-1]:
            node = node.child(segment)
        last = segments[-1]
        if last.endswith(":path}"):
            node.rest = _free(node.rest, leaf)
        elif names:
            node = node.child(last)
            node.whole = _free(node.whole, leaf)
        elif last:
            node = node.child(last)
            node.prefix = _free(node.prefix, leaf)
        else:
            node.below = _free(node.below, leaf)
        if not names:
            self._exact[pattern] = leaf
        self._splits = max(self._splits, len(segments) + 1)
        self._only_literals = self._root.begins_with_literals()

    @property
    def exact(self) -> dict[str, T]:
        """The values of the patterns without parameters: nothing is more specific for a path that is the same."""
        return {pattern: leaf.value for pattern, leaf in self._exact.items()}

    def match(self, path: str) -> tuple[T, dict[str, str]] | None:
        """The value of the most specific pattern that fits, and its parameters; None where none fits."""
        leaf = self._exact.get(path)
        return self.search(path) if leaf is None else (leaf.value, {})

    def search(self, path: str) -> tuple[T, dict[str, str]] | None:
        """As match(), for a path that is not in ``exact``."""
        if not path.startswith("/"):  # "" at the root of a mount, "*" of OPTIONS
            leaf = self._root.below
            return None if leaf is None else (leaf.value, {})
        if self._only_literals:
            end = path.find("/", 1)
            if (path[1:] if end < 0 else path[1:end]) not in self._root.literals:
                return None
        # The last part holds all segments that no pattern is long enough to look at.
        parts = path.split("/", self._splits)
        found = _find(self._root, parts, 1, ())
        if found is None:
            return None
        leaf, values = found
        return leaf.value, dict(zip(leaf.names, values, strict=True))


class _Leaf(Generic[T]):
    __slots__ = ("names", "pattern", "value")

    def __init__(self, pattern: str, names: tuple[str, ...], value: T) -> None:
        self.pattern = pattern
        self.names = names
        self.value = value


class _Node(Generic[T]):
    __slots__ = ("below", "literals", "param", "prefix", "rest", "whole")

    def __init__(self) -> None:
        self.literals: dict[str, _Node[T]] = {}
        self.param: _Node[T] | None = None
        self.whole: _Leaf[T] | None = None  # a pattern with parameters ends here, and so must the path
        self.rest: _Leaf[T] | None = None  # ends with {param:path}
        self.below: _Leaf[T] | None = None  # a prefix with a slash at its end
        self.prefix: _Leaf[T] | None = None

    def begins_with_literals(self) -> bool:
        """Whether a path fits only if its first segment is one of the literals."""
        return self.param is None and self.rest is None and self.below is None and self.prefix is None

    def child(self, segment: str) -> _Node[T]:
        if not segment.startswith("{"):
            return self.literals.setdefault(segment, _Node())
        if self.param is None:
            self.param = _Node()
        return self.param


def _find(
    node: _Node[T], parts: list[str], at: int, values: tuple[str, ...]
) -> tuple[_Leaf[T], tuple[str, ...]] | None:
    if at == len(parts):
        # A prefix that ends with the path is the path: match() has had it.
        return None if node.whole is None else (node.whole, values)
    part = parts[at]
    literal = node.literals.get(part)
    if literal is not None:
        found = _find(literal, parts, at + 1, values)
        if found is not None:
            return found
    if node.param is not None and part:
        found = _find(node.param, parts, at + 1, (*values, part))
        if found is not None:
            return found
    if node.rest is not None:
        return node.rest, (*values, "/".join(parts[at:]))
    leaf = node.below or node.prefix
    return None if leaf is None else (leaf, values)


def _parse(pattern: str) -> tuple[list[str], tuple[str, ...]]:
    try:
        check_path_pattern(pattern)
    except PatternSyntaxError as error:
        raise ValueError(f"path pattern {pattern[:60]!r} {error}") from None
    return pattern[1:].split("/"), tuple(path_params(pattern))


def _free(taken: _Leaf[T] | None, leaf: _Leaf[T]) -> _Leaf[T]:
    if taken is not None:
        raise ValueError(f"path pattern {leaf.pattern!r} fits the same paths as {taken.pattern!r}")
    return leaf

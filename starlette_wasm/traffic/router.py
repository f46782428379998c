"""``Router``: from a path to the rules for it; choices.py chooses among them. ``PathTree`` holds the patterns."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Generic, TypeVar

from ..config.names import PatternSyntaxError, check_path_pattern, path_params
from .choices import Group, Match, R, Weigh, own_weights

T = TypeVar("T")


class Router(Generic[R, T]):
    """Finds the rules for a path, and among them the one whose turn it is.

    Each rule comes with its target, which is opaque here. `weigh`, where given, replaces the weights
    of rules that compete for the same requests: it gets them once for each region and method that
    they name. So a running canary has its step only if both of its versions serve. `absent` are
    rules without a target, which get nothing: what they alone serve is left without a rule. `phase`, from
    0 to 1, is where each cycle of turns begins.

    Only reweigh() changes a router. Raises ValueError for patterns that PathTree refuses and weights that
    interleave refuses.
    """

    def __init__(
        self,
        rules: Sequence[tuple[R, T]],
        *,
        absent: Sequence[R] = (),
        weigh: Weigh[R, T] | None = None,
        phase: float = 0.0,
    ) -> None:
        by_pattern: dict[str, list[tuple[R, T]]] = {}
        for rule, target in rules:
            by_pattern.setdefault(rule.path_pattern, []).append((rule, target))
        left_out: dict[str, list[R]] = {}
        for rule in absent:
            left_out.setdefault(rule.path_pattern, []).append(rule)
        self._tree: PathTree[Group[R, T]] = PathTree()
        self._groups = [
            Group(pattern, by_pattern.get(pattern, ()), left_out.get(pattern, ()), weigh or own_weights, phase)
            for pattern in {**by_pattern, **left_out}
        ]
        for group in self._groups:
            self._tree.add(group.pattern, group)
        self._exact = {pattern: group.match for pattern, group in self._tree.exact.items()}

    def match(self, path: str) -> Match[R, T] | None:
        """Return the most specific pattern that fits; None if the path is the app's own."""
        match = self._exact.get(path)
        if match is not None:
            return match
        found = self._tree.search(path)
        if found is None:
            return None
        group, params = found
        return Match(group.pattern, params, group) if params else group.match

    def targets(self) -> Iterator[tuple[T, bool]]:
        """Yield the target of each rule, and whether it has a weight, once for each region and method."""
        for group in self._groups:
            yield from group.targets()

    def reweigh(self, weigh: Weigh[R, T], functions: Collection[str]) -> None:
        """Weigh the rules of the patterns that serve one of ``functions`` anew; the turns of the others go on.

        Raises ValueError, and changes nothing then.
        """
        changed = [group for group in self._groups if group.serves(functions)]
        for group, pools in [(group, group.weighed(weigh)) for group in changed]:
            group.take(pools)


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
        """Return the value of the most specific pattern that fits, and its parameters; None if none fits."""
        leaf = self._exact.get(path)
        return self.search(path) if leaf is None else (leaf.value, {})

    def search(self, path: str) -> tuple[T, dict[str, str]] | None:
        """Match as match() does, a path that is not in ``exact``."""
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
        """Return whether a path fits only if its first segment is one of the literals."""
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

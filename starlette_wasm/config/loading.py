"""Reads YAML files, bounded in what they may take: a mapping, or a ``ConfigError`` that names line and column."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from os import PathLike
from typing import Any

import yaml

from ..exceptions import ConfigError
from .error_text import plain, show
from .inside import open_regular
from .yaml_hints import explain

_MERGE_TAG = "tag:yaml.org,2002:merge"
_DECIMAL = re.compile(r"[-+]?(?:0|[1-9][0-9]*)\Z", re.ASCII)

MOST_BYTES = 4 << 20
"""The file of a config."""
MOST_POLICY_BYTES = 256 << 10
MOST_MANIFEST_BYTES = 64 << 10
_MOST_DEPTH = 50
_MOST_EXPLAINED = 16 << 10
"""Characters of a wrong file that are read once more, for a better message."""
_MOST_NODES = 1_000_000
_MOST_MERGED = 10_000


class _Plain:
    """A SafeLoader without YAML 1.1's surprises: no octal, sexagesimal or date literals, and bounded merges."""

    yaml_implicit_resolvers = {  # noqa: RUF012
        first: [(tag, regexp) for tag, regexp in resolvers if not tag.endswith((":int", ":timestamp"))]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    merged = 0

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Merge keys copy the pairs: a few lines of them, each of ten of the line before, would fill the memory."""
        for key, value in node.value:
            if key.tag == _MERGE_TAG:
                for each in value.value if isinstance(value, yaml.SequenceNode) else [value]:
                    if isinstance(each, yaml.MappingNode):
                        self.flatten_mapping(each)
                        self.merged += len(each.value)
                    if self.merged > _MOST_MERGED:
                        raise _marked(f"merge keys bring in more than {_MOST_MERGED} keys", key)
        super().flatten_mapping(node)  # type: ignore[misc]


class PureLoader(_Plain, yaml.SafeLoader):
    """The loader for a PyYAML without libyaml."""


if hasattr(yaml, "CSafeLoader"):

    class Loader(_Plain, yaml.CSafeLoader):
        """The loader: libyaml's, some twenty times as fast."""

else:
    Loader = PureLoader  # type: ignore[misc, assignment]

for _each in (PureLoader, Loader):
    _each.add_implicit_resolver("tag:yaml.org,2002:int", _DECIMAL, list("-+0123456789"))


def load(text: str, loader: Any = Loader) -> Any:
    """Load the one document in ``text``, bounded in nesting and in what aliases expand to. Raises yaml.YAMLError."""
    depth = 0
    for event in yaml.parse(text, loader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > _MOST_DEPTH:
                raise _TooDeep(event.start_mark)
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
    made = loader(text)
    try:
        node = made.get_single_node()
        if node is None:
            return None
        _weigh(node, {})
        return made.construct_document(node)
    finally:
        made.dispose()


def _weigh(node: yaml.Node, known: dict[int, int]) -> int:
    """Count the nodes below one, with those of aliases each time they are named; no key twice."""
    if id(node) in known:
        if not known[id(node)]:
            raise _TooDeep(node.start_mark)  # an alias refers to what it is in
        return known[id(node)]
    known[id(node)] = 0
    weight = 1
    if isinstance(node, yaml.MappingNode):
        _check_keys(node)
        for key, value in node.value:
            below = _weigh(key, known) + _weigh(value, known)
            weight += 1 if key.tag == _MERGE_TAG else below  # merges are counted if they are made
    elif isinstance(node, yaml.SequenceNode):
        weight += sum(_weigh(each, known) for each in node.value)
    if weight > _MOST_NODES:
        raise _marked(f"aliases bring it to more than {_MOST_NODES} entries", node)
    known[id(node)] = weight
    return weight


def _check_keys(node: yaml.MappingNode) -> None:
    seen = set()
    for key, _ in node.value:
        if isinstance(key, yaml.ScalarNode) and key.tag != _MERGE_TAG:
            if key.value in seen:
                raise _marked(f"the key {show(key.value)} is there twice", key)
            seen.add(key.value)


def _marked(problem: str, node: yaml.Node) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)


class _TooDeep(yaml.MarkedYAMLError):
    def __init__(self, mark: Any) -> None:
        super().__init__(problem="nested too deeply", problem_mark=mark)


def read_yaml(
    file: str | PathLike[str], what: str, most: int = MOST_BYTES, opener: Callable[[str, int], int] = open_regular
) -> dict[Any, Any]:
    """Read the mapping that ``file`` holds. ``what`` names its kind in errors.

    A file without content is an error: a full disk or an editor that was interrupted leaves one, and as an empty
    mapping it would take away every rule or grant. ``most`` is how many bytes it may have; ``opener`` is that of
    open().
    """
    try:
        with open(file, "rb", opener=opener) as stream:
            data = stream.read(most + 1)
    except FileNotFoundError:
        problem, hint = f"no such file: {os.fspath(file)!r}", f"give the path of {what}"
        raise ConfigError(problem, file=file, hint=hint, kind="no such file") from None
    except (OSError, ValueError) as error:
        problem = f"cannot be read: {getattr(error, 'strerror', None) or error}"
        hint = f"give a readable file with {what}"
        raise ConfigError(problem, file=file, hint=hint, kind="cannot be read") from None
    if len(data) > most:
        problem = f"is larger than {most >> 10} KiB"
        raise ConfigError(problem, file=file, hint=f"write {what}, and nothing else", kind=problem)
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        problem = f"byte {error.start} is not UTF-8"
        raise ConfigError(problem, file=file, hint="save the file as UTF-8", kind=problem) from None
    return parse_yaml(text, what, file)


def parse_yaml(text: str, what: str, file: str | PathLike[str] | None = None) -> dict[Any, Any]:
    """Read a mapping as ``read_yaml`` does, from text. ``file`` is only named in errors."""
    try:
        data = load(text)
    except yaml.MarkedYAMLError as failure:
        error = _plainly(failure, text)
        mark = error.problem_mark or error.context_mark
        where = _where(mark, text) if mark else ""
        meant = explain(error, text)
        hint = f"write {what}" if isinstance(error, _TooDeep) else "correct the YAML there"
        problem, hint = meant or (error.problem or error.context or "not YAML", hint)
        kind = f"{where}not YAML"
        raise ConfigError(plain(f"{where}{problem}"), file=file, hint=plain(hint), kind=kind) from None
    except yaml.YAMLError as error:
        problem = plain(f"not YAML: {' '.join(str(error).split())}")
        raise ConfigError(problem, file=file, hint="correct the YAML", kind="not YAML") from None
    except (ValueError, OverflowError) as error:
        problem = f"a value cannot be read: {str(error).partition(':')[0]}"
        raise ConfigError(problem, file=file, hint="put it in quotes", kind="a value cannot be read") from None
    if data is None:
        hint = f"restore the file, or write {{}} if it is meant to be {what.split(',')[0]} without keys"
        raise ConfigError("has no content, as if it had been cut off", file=file, hint=hint, kind="has no content")
    if not isinstance(data, dict):
        hint = f"write {what}, as key: value"
        raise ConfigError(f"{show(data)} is not a mapping", file=file, hint=hint, kind="is not a mapping")
    return data


def _plainly(error: yaml.MarkedYAMLError, text: str) -> yaml.MarkedYAMLError:
    """Find the same complaint by PyYAML's own parser, which knows better than libyaml what was meant."""
    if len(text) <= _MOST_EXPLAINED:
        try:
            load(text, PureLoader)
        except yaml.MarkedYAMLError as other:
            return other
        except (yaml.YAMLError, ValueError, OverflowError):
            return error
    return error


def _where(mark: Any, text: str) -> str:
    """Correct libyaml's marks of an end, which are on a line that is not there."""
    lines = text.split("\n")
    line = min(mark.line, len(lines) - 1)
    column = mark.column if mark.line == line else len(lines[line])
    return f"line {line + 1}, column {column + 1}: "

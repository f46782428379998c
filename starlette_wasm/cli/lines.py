"""Adds to an error the line of the file that it is about."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from ..config.inside import open_regular

_PLACE = re.compile(r"^(?P<file>[^\n]*?\.(?:yaml|yml|json)): (?P<key>[A-Za-z_][\w.\[\]-]*)(?=:? )", re.MULTILINE)
_PARTS = re.compile(r"\[(\d+)\]|([^.\[\]]+)")
_MOST = 4 << 20
"""Characters of a file that is read for this."""


def with_lines(message: str) -> str:
    """Return the message with the number of the line behind each file that a line of it begins with."""
    return _PLACE.sub(_with_line, message)


def _with_line(found: re.Match[str]) -> str:
    line = line_of(Path(found["file"]), found["key"])
    return found[0] if line is None else f"{found['file']}:{line}: {found['key']}"


def line_of(file: Path, key: str) -> int | None:
    """Return the line of a key such as ``rules[0].weight``, of the mapping around it if it is missing there.

    None if the file cannot be read, or has nothing of the key.
    """
    try:
        with open(file, encoding="utf-8", opener=open_regular) as stream:
            text = stream.read(_MOST + 1)
        if len(text) > _MOST:
            return None
        root = yaml.compose(text, yaml.SafeLoader)
    except (OSError, ValueError, yaml.YAMLError, RecursionError):
        return None
    found = None
    node = root
    for index, name in _PARTS.findall(key):
        step = _item(node, int(index)) if index else _value(node, name)
        if step is None:
            break
        found, node = step
    return None if found is None else found.start_mark.line + 1


def _item(node: yaml.Node | None, index: int) -> tuple[yaml.Node, yaml.Node] | None:
    if isinstance(node, yaml.SequenceNode) and index < len(node.value):
        return node.value[index], node.value[index]
    return None


def _value(node: yaml.Node | None, name: str) -> tuple[yaml.Node, yaml.Node] | None:
    """Return the nodes of a key and of its value."""
    if isinstance(node, yaml.MappingNode):
        return next(((key, value) for key, value in node.value if getattr(key, "value", None) == name), None)
    return None

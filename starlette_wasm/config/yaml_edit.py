"""Edits of a YAML file in place: everything that is not edited stays byte for byte, comments too."""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import yaml

from ..exceptions import ConfigError
from .loading import load


class YamlEdit:
    """The text of a file with edits that are still to be made, by the nodes of its one document."""

    def __init__(self, file: Path) -> None:
        """Raise ConfigError for what is not YAML."""
        self.file = file
        try:
            with open(file, encoding="utf-8", newline="") as stream:
                self.text = stream.read()
            load(self.text)
            root = yaml.compose(self.text, yaml.SafeLoader)
        except (OSError, ValueError, yaml.YAMLError) as error:
            raise ConfigError(f"cannot be read: {error}", file=file, hint="give a wasm.yaml") from None
        self.root = root if isinstance(root, yaml.MappingNode) else yaml.MappingNode("", [])
        self._edits: list[tuple[int, int, str]] = []
        self._seen: Counter[int] = Counter()
        self._count(self.root)

    def _count(self, node: yaml.Node) -> None:
        """Count how often each node is named: what an alias names cannot be edited for one place alone."""
        self._seen[id(node)] += 1
        if self._seen[id(node)] == 1 and isinstance(node, yaml.CollectionNode):
            for child in _children(node):
                self._count(child)

    def check(self, node: yaml.Node, key: str) -> None:
        """Raise ConfigError if the node is named by an alias."""
        if self._seen[id(node)] > 1:
            raise ConfigError("is named by an alias", file=self.file, key=key, hint="edit it by hand")

    def set(self, mapping: yaml.MappingNode, names: tuple[str, ...], text: str) -> None:
        """Give the key of any of the ``names`` the value ``text``; a new one comes after the first key."""
        value = find(mapping, *names)
        if value is not None:
            self._edits.append((value.start_mark.index, _end(value), text))
            return
        after = mapping.value[0][1]
        if mapping.flow_style:
            self._edits.append((_end(after), _end(after), f", {names[0]}: {text}"))
        else:
            at, indent = self._line_end(_end(after)), " " * mapping.start_mark.column
            self._edits.append((at, at, f"{self._newline}{indent}{names[0]}: {text}"))

    def remove(self, sequence: yaml.SequenceNode, items: list[yaml.Node]) -> None:
        """Take items out of a sequence; one that has no others is left as ``[]``."""
        left = [item for item in sequence.value if item not in items]
        if sequence.flow_style:
            kept = (self.text[item.start_mark.index : _end(item)] for item in left)
            self._edits.append((sequence.start_mark.index, _end(sequence), f"[{', '.join(kept)}]"))
            return
        for item in items:
            begin = self.text.rindex("\n", 0, item.start_mark.index) + 1
            self._edits.append((begin, min(self._line_end(_end(item)) + len(self._newline), len(self.text)), ""))
        if not left:
            colon = self.text.rindex(":", 0, sequence.start_mark.index - 1) + 1
            self._edits.append((colon, colon, " []"))

    def result(self) -> str:
        """Return the text with all edits made."""
        text = self.text
        for begin, end, new in sorted(self._edits, reverse=True):
            text = text[:begin] + new + text[end:]
        return text

    def write(self) -> None:
        """Put the result in the place of the file, at once or not at all. Raises ConfigError."""
        target = Path(os.path.realpath(self.file))
        try:
            handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
            try:
                with open(handle, "w", encoding="utf-8", newline="") as stream:
                    stream.write(self.result())
                    os.fsync(stream.fileno())
                os.chmod(name, target.stat().st_mode & 0o7777)
                os.replace(name, target)
            except BaseException:
                with suppress(FileNotFoundError):
                    os.unlink(name)
                raise
        except OSError as error:
            hint = "let this user write the file and its folder, or edit it where it comes from"
            raise ConfigError(f"cannot be written: {error.strerror}", file=self.file, hint=hint) from None

    @property
    def _newline(self) -> str:
        return "\r\n" if "\r\n" in self.text else "\n"

    def _line_end(self, at: int) -> int:
        end = self.text.find(self._newline, at)
        return len(self.text) if end < 0 else end


def find(mapping: yaml.MappingNode, *names: str) -> yaml.Node | None:
    """Return the value of the key of any of the names, or None."""
    return next((value for key, value in mapping.value if key.value in names), None)


def _children(node: yaml.CollectionNode) -> Iterator[yaml.Node]:
    for child in node.value:
        yield from child if isinstance(child, tuple) else (child,)


def _end(node: yaml.Node) -> int:
    """Return where a node ends: PyYAML has the end of what stands in block style behind the comments that follow."""
    if isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value:
        return _end(list(_children(node))[-1])
    return int(node.end_mark.index)

"""Changes YAML files that people write: all that is not changed stays as it is, to the byte."""

from __future__ import annotations

import io
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import YAMLError

from ..exceptions import ConfigError

_PLAIN = re.compile(r"[A-Za-z/][A-Za-z0-9./_-]*")
_KEYWORDS = frozenset({"yes", "no", "on", "off", "true", "false", "null", "y", "n"})


class YamlFile:
    """A file that is read and changed. Raises ConfigError for what is not a mapping in YAML."""

    def __init__(self, file: Path) -> None:
        self.file = file
        try:
            self.text = file.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            problem = f"byte {error.start} is not UTF-8"
            raise ConfigError(problem, file=file, hint="save the file as UTF-8") from None
        self.document = self._load(self.text)

    def _load(self, text: str) -> CommentedMap:
        try:
            document: Any = YAML().load(text)
        except YAMLError as error:
            raise ConfigError(f"is not valid YAML: {error}", file=self.file, hint="correct it first") from None
        if document is None:
            return CommentedMap()
        if not isinstance(document, CommentedMap):
            raise ConfigError("is not a mapping", file=self.file, hint="write keys such as rules")
        return document

    def append(self, key: str, item: Mapping[str, str]) -> None:
        """Put a mapping, on one line, at the end of a list, and replace the file; the list is made if there is none.

        A list in brackets is written by ruamel.yaml, which keeps comments, but not each space.
        """
        lines = self.text.splitlines(keepends=True)
        if lines and not lines[-1].endswith("\n"):
            lines[-1] += "\n"
        items = self.document.get(key)
        entry = f"- {flow(item)}\n"
        if key not in self.document:
            lines += [f"{key}:\n", f"  {entry}"]
        elif not items:
            self._begin(lines, key, entry)
        elif items.fa.flow_style():
            lines = [self._dumped(items, item)]
        else:
            self._extend(lines, items, entry)
        self._replace("".join(lines))

    def _dumped(self, items: CommentedSeq, item: Mapping[str, str]) -> str:
        items.append(CommentedMap(item))
        text = io.StringIO()
        dumper = YAML()
        dumper.width, dumper.preserve_quotes = 4096, True
        dumper.dump(self.document, text)
        return text.getvalue()

    def _replace(self, text: str) -> None:
        document = self._load(text)
        new = self.file.with_name(f".{self.file.name}.new")
        new.write_text(text, encoding="utf-8")
        os.replace(new, self.file)
        self.text, self.document = text, document

    def _begin(self, lines: list[str], key: str, entry: str) -> None:
        """Put the first item behind a key without a value, or with an empty list."""
        number: int = self.document.lc.key(key)[0]
        lines[number] = re.sub(r":[ \t]*(?:\[\s*\]|~|null)?([ \t]*(?:#.*)?)\n", r":\1\n", lines[number], count=1)
        lines.insert(number + 1, f"  {entry}")

    def _extend(self, lines: list[str], items: CommentedSeq, entry: str) -> None:
        """Put an item behind the last line of the last one."""
        number: int = items.lc.item(len(items) - 1)[0]
        dash = len(lines[number]) - len(lines[number].lstrip())
        end = number
        for at in range(number + 1, len(lines)):
            content = lines[at].strip()
            if content and not content.startswith("#"):
                if len(lines[at]) - len(lines[at].lstrip()) <= dash:
                    break
                end = at
        lines.insert(end + 1, " " * dash + entry)


def flow(item: Mapping[str, str]) -> str:
    """Return a mapping on one line, with quotes if YAML needs them."""
    return "{" + ", ".join(f"{key}: {_scalar(value)}" for key, value in item.items()) + "}"


def _scalar(value: str) -> str:
    return (
        value if _PLAIN.fullmatch(value) and value.lower() not in _KEYWORDS else json.dumps(value, ensure_ascii=False)
    )

"""Renders the Helm chart without helm, for machines that have none.

It knows the part of Helm's template language that the chart uses, and refuses anything else: values, ``.Release``,
``.Files.Get``, ``quote``, ``toJson``, ``toYaml``, ``nindent``, and ``if`` around a whole block. It does not know
``values.schema.json``, notes, or hooks.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import textwrap
from pathlib import Path
from typing import Any

import yaml

_TAG = re.compile(r"(\s*)\{\{(-?) (.*?) (-?)\}\}")
_STRING = re.compile(r'"([^"]*)"\Z')


def render(chart: Path, values: dict[str, Any], namespace: str) -> str:
    """Return all objects as YAML: by helm if it is on PATH, else by the renderer of this module."""
    helm = shutil.which("helm")
    if helm is None:
        return "\n---\n".join(_Template(chart, values, namespace).render(file) for file in _templates(chart))
    command = [helm, "template", "fleet", str(chart), "--namespace", namespace, "--values", "-"]
    run = subprocess.run(command, input=yaml.safe_dump(values), capture_output=True, text=True, timeout=120, check=True)
    return run.stdout


def _templates(chart: Path) -> list[Path]:
    return sorted((chart / "templates").glob("*.yaml"))


class _Template:
    def __init__(self, chart: Path, values: dict[str, Any], namespace: str) -> None:
        self._chart = chart
        defaults = yaml.safe_load((chart / "values.yaml").read_text())
        self._root = {
            "Values": _merged(defaults, values),
            "Release": {"Service": "Helm", "Namespace": namespace, "Name": "fleet"},
        }

    def render(self, file: Path) -> str:
        out, shown = [""], [True]
        text, at = file.read_text(), 0
        for tag in _TAG.finditer(text):
            space, trims, action = tag[1], tag[2] == "-", tag[3]
            if shown[-1]:
                out.append(text[at : tag.start()] + ("" if trims else space))
            at = tag.end()
            if action.startswith("if "):
                shown.append(shown[-1] and bool(self._value(action[3:])))
            elif action == "end":
                shown.pop()
            elif shown[-1]:
                out.append(str(self._value(action)))
        assert len(shown) == 1, f"{file}: an if without end"
        return "".join(out) + text[at:]

    def _value(self, expression: str) -> Any:
        first, *filters = expression.split(" | ")
        value = self._first(first)
        for each in filters:
            value = self._filter(each, value)
        return value

    def _first(self, expression: str) -> Any:
        name, _, argument = expression.partition(" ")
        if name == ".Files.Get":
            file = _STRING.match(argument)
            assert file, expression
            return (self._chart / file[1]).read_text()
        if name in ("toYaml", "toJson"):
            return self._filter(name, self._first(argument))
        assert name.startswith("."), f"not known to this renderer: {expression}"
        value: Any = self._root
        for part in name[1:].split("."):
            value = value[part]
        return value

    def _filter(self, name: str, value: Any) -> Any:
        if name == "quote":
            return json.dumps(str(value))
        if name == "toJson":
            return json.dumps(value)
        if name == "toYaml":
            return yaml.safe_dump(value).rstrip("\n")
        assert name.startswith("nindent "), f"not known to this renderer: {name}"
        return "\n" + textwrap.indent(value, " " * int(name.removeprefix("nindent ")))


def _merged(defaults: Any, values: Any) -> Any:
    if not isinstance(defaults, dict) or not isinstance(values, dict):
        return values
    return {
        key: _merged(defaults.get(key), values[key]) if key in values else defaults[key] for key in defaults | values
    }

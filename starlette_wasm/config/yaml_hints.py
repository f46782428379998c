"""Says what is meant by YAML's own complaints, which name tokens instead of mistakes."""

from __future__ import annotations

import re

import yaml

_BRACES = re.compile(r"""(?<![\w-])([\w-]+):\s+(?!["'])([^\s,"'{\[][^\s,]*\{[^{}]*\}[^\s,}\]]*)""")
_UNQUOTED = re.compile(r"(?<![\w-])([\w-]+):\s+([*@`%][^\s,}\]]*)")
_NO_SPACE = re.compile(r"\s*(?:-\s+)?([\w-]+):(?=[^\s/])(\S+)")
_MOST_LINE = 1000
"""Characters of a line that are looked at: these expressions try each word from each of its letters on."""

Hint = tuple[str, str]


def explain(error: yaml.MarkedYAMLError, text: str) -> Hint | None:
    """Explain the problem and the remedy in the user's terms; None if YAML's own words have to do."""
    mark = error.problem_mark or error.context_mark
    lines = [line[:_MOST_LINE] for line in text.splitlines()]
    if mark is None or not lines:
        return None
    line = lines[min(mark.line, len(lines) - 1)]
    problem = error.problem or ""
    return (
        _tab(line, mark.column, problem)
        or _odd_space(lines)
        or _braces(line, problem)
        or _unquoted(line, problem)
        or _open_quote(error, problem)
        or _open_bracket(error, problem)
        or _indent(lines, mark, error)
        or _colon(lines, mark, problem)
    )


def _tab(line: str, column: int, problem: str) -> Hint | None:
    if "\\t" in problem or "\t" in line[: column + 1]:
        return "a tab in the indentation", "indent with spaces"
    return None


def _odd_space(lines: list[str]) -> Hint | None:
    for number, line in enumerate(lines, 1):
        if not line.lstrip(" ").startswith(("\u00a0", "\u2007", "\u202f", "\u3000")):
            continue
        return (
            f"line {number} is indented with a space that YAML does not know, such as U+00A0",
            "indent with plain spaces",
        )
    return None


def _braces(line: str, problem: str) -> Hint | None:
    found = _BRACES.search(line)
    if found is None or not any(each in problem for each in ("expected ',' or", "block end", "not allowed here")):
        return None
    key, value = found.groups()
    return f"{key} has braces without quotes, which YAML reads as a mapping", f'write {key}: "{value}"'


def _unquoted(line: str, problem: str) -> Hint | None:
    found = _UNQUOTED.search(line)
    if found is None or not ("alias" in problem or "alphabetic" in problem or "cannot start any token" in problem):
        return None
    key, value = found.groups()
    return f"{key} begins with {value[0]}, which has a meaning in YAML", f'put the value in quotes: {key}: "{value}"'


def _open_quote(error: yaml.MarkedYAMLError, problem: str) -> Hint | None:
    if "quoted scalar" not in (error.context or "") or error.context_mark is None:
        return None
    return f"a quote that begins in line {error.context_mark.line + 1} does not end well", "close it, in the same line"


def _open_bracket(error: yaml.MarkedYAMLError, problem: str) -> Hint | None:
    context = error.context or ""
    if "flow" not in context or "expected ',' or" not in problem or error.context_mark is None:
        return None
    kind, close = ("{", "}") if "mapping" in context else ("[", "]")
    line = error.context_mark.line + 1
    return (
        f"the {kind} of line {line} is not closed, or a comma is missing",
        f"put a comma between two of them, or close it with {close}",
    )


def _indent(lines: list[str], mark: yaml.Mark, error: yaml.MarkedYAMLError) -> Hint | None:
    problem = error.problem or ""
    if "<block end>" not in problem and "<document start>" not in problem:
        return None
    here = _key_column(lines[min(mark.line, len(lines) - 1)])
    above = next((_key_column(each) for each in reversed(lines[: mark.line]) if each.strip()), here)
    if here == above:
        return None
    return (
        f"the indentation does not fit: it begins in column {here + 1}, the line above in column {above + 1}",
        "begin the keys of one mapping in the same column",
    )


def _key_column(line: str) -> int:
    """Return the column of a line's first key, behind the dashes of lists."""
    found = re.match(r"\s*(?:-\s+)*", line)
    return found.end() if found else 0


def _colon(lines: list[str], mark: yaml.Mark, problem: str) -> Hint | None:
    keyless = "expected ':'" in problem
    if not keyless and "mapping values are not allowed" not in problem:
        return None
    before = lines[mark.line - 1] if mark.line else ""
    if found := _NO_SPACE.match(before):
        return f"no space behind {found[1]}: in the line above", f"write {found[1]}: {found[2]}"
    if re.match(r"\s*-\w", before):
        return "no space behind the dash in the line above", f"write - {before.strip()[1:]}"
    if keyless:
        return "a key without a colon", "write it as key: value"
    return (
        "a second colon in one value, or a line that is indented too far",
        "begin the keys of one mapping in the same column, and put a value with a colon and a space in quotes",
    )

"""Every code block of the docs is run or checked, by its language; one of another language fails."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sdk_page
import typer.main
import yaml
from typer.core import TyperGroup

from starlette_wasm.cli.app import make_app

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")]
PAGES += sorted((ROOT / "docs").glob("*.md"))
COMMANDS = typer.main.get_command(make_app(rich=False))
assert isinstance(COMMANDS, TyperGroup)
BUILT_BY_TESTS = re.compile(r"<!-- (?:file|test): \S+ -->\n$")
"""What stands before a block that a test builds or runs."""


def blocks(page: Path) -> Iterator[tuple[int, str, str, str]]:
    """Line, language, text, and what stands before it."""
    text = page.read_text()
    for found in re.finditer(r"^ *```(\w*)\n(.*?)^ *```$", text, re.MULTILINE | re.DOTALL):
        yield text.count("\n", 0, found.start()) + 1, found[1], found[2], text[: found.start()]


def check_python(text: str) -> None:
    body = "".join(f"    {line}\n" for line in text.splitlines())
    compile(f"async def page():\n{body}", "page", "exec")


def check_shell(text: str) -> None:
    done = subprocess.run(["sh", "-n"], input=text, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    for command in commands(text):
        check_command(command)


def commands(text: str) -> Iterator[list[str]]:
    """The commands of ours in a script, without what belongs to the shell."""
    joined = re.sub(r"<<'?(\w+)'?\n.*?^\1$", "", text.replace("\\\n", " "), flags=re.MULTILINE | re.DOTALL)
    for line in joined.splitlines():
        found = re.search(r"(?:^|&& |\| |\$ |-m )starlette[-_]wasm ([^|;&>)]*)", line)
        if found:
            yield shlex.split(found[1], comments=True)


def check_command(words: list[str]) -> None:
    """The command and its options are there."""
    command: Any = COMMANDS
    while isinstance(command, TyperGroup) and words and not words[0].startswith("-"):
        name, *words = words
        assert name in command.commands, f"there is no command {name}"
        command = command.commands[name]
    known = {option for parameter in command.params for option in [*parameter.opts, *parameter.secondary_opts]}
    for word in words[: words.index("--") if "--" in words else len(words)]:
        if re.match(r"--?[A-Za-z]", word) and not isinstance(command, TyperGroup):
            assert word.partition("=")[0] in known | {"--help", "-h"}, f"{command.name} has no option {word}"


def check_sources(language: str) -> Callable[[str], None]:
    """A block of a compiled language is an example of an SDK, or is built by a test."""
    texts = [(ROOT / path).read_text() for each, path in sdk_page.SOURCES.values() if each == language]
    examples = {sdk_page.example(text, name) for text in texts for name in sdk_page.EXAMPLES}

    def check(text: str) -> None:
        assert text.strip("\n") in examples, "no test builds it: put <!-- test: NAME --> before it, and let one do so"

    return check


def nothing(text: str) -> None:
    """It is the output of a command, or a shape."""


CHECKS: dict[str, Callable[[str], Any]] = {
    "python": check_python,
    "py": check_python,
    "yaml": yaml.safe_load,
    "json": json.loads,
    "toml": tomllib.loads,
    "sh": check_shell,
    "console": nothing,
    "text": nothing,
    **{language: check_sources(language) for language in ("c", "rust", "js", "go", "zig", "ts")},
}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_code_block_is_checked(page: Path) -> None:
    for line, language, text, before in blocks(page):
        assert language in CHECKS, f"{page.name}:{line}: nothing checks {language or 'a block without a language'}"
        if BUILT_BY_TESTS.search(before):
            continue
        try:
            CHECKS[language](text)
        except (AssertionError, ValueError, SyntaxError, yaml.YAMLError) as error:
            pytest.fail(f"{page.name}:{line}: {error}")


def test_each_marked_block_is_used_by_a_test() -> None:
    used = "".join(file.read_text() for file in (ROOT / "tests").glob("test_*.py"))
    for page in PAGES:
        for _, _, _, before in blocks(page):
            found = BUILT_BY_TESTS.search(before)
            if found and "test:" in found[0]:
                assert found[0].split()[2] in used, f"{page.name}: {found[0].strip()}"

"""Runs the .wast tests of the component model as this package runs components, and says what passed.

usage: python tools/component_wast.py FOLDER [--all] [--messages]

FOLDER has .wast files, such as ``test`` of a checkout of WebAssembly/component-model. Each command passes, fails, or
is not run, as the component needs something that is refused by name when it is loaded, or that is not there in these
tests. The exit code is 1 if one fails.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import re
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from wast_file import Result, run_file


def summary(found: dict[Path, list[Result]]) -> list[str]:
    """Return one line for each file, and one for all."""
    lines = [f"{path}: {_counts(results)}" for path, results in found.items()]
    return [*lines, f"{len(found)} files: {_counts([each for results in found.values() for each in results])}"]


def _counts(results: Sequence[Result]) -> str:
    counts = Counter(each.status for each in results)
    return ", ".join(f"{counts[status]} {status}" for status in ("passed", "failed", "not run"))


def reasons(found: dict[Path, list[Result]]) -> list[str]:
    """Return why assertions were not run, with how many there are of each."""
    counts = Counter(
        re.sub(r"\d+", "N", each.detail) for results in found.values() for each in results if each.status == "not run"
    )
    return [f"{count:5} not run: {reason}" for reason, count in counts.most_common()]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="with .wast files, at any depth; or one file")
    parser.add_argument("--all", action="store_true", help="name each assertion")
    parser.add_argument("--messages", action="store_true", help="name traps whose message differs")
    options = parser.parse_args()
    folder: Path = options.folder
    files = [folder] if folder.is_file() else sorted(folder.rglob("*.wast"))
    if not files:
        parser.error(f"{folder} has no .wast files")
    logging.getLogger("starlette_wasm").setLevel(logging.CRITICAL)
    found = {each: asyncio.run(run_file(each)) for each in files}
    for path, results in found.items():
        for each in results:
            if options.all or each.status == "failed" or (options.messages and each.differs):
                print(f"{path}:{each.line}: {each.status}: {each.what}: {each.detail}")
    for line in [*reasons(found), *summary(found)]:
        print(line)
    return int(any(each.status == "failed" for results in found.values() for each in results))


if __name__ == "__main__":
    sys.exit(main())

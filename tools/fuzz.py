"""The command line of scripts/fuzz."""

from __future__ import annotations

import argparse
import importlib.metadata
import itertools
import logging
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import outputs
import sanitized
import variants
from fuzz_targets import CORPUS, NAMES, checker, target
from variants import WORK

HERE = Path(__file__).parent
# Not in the lock: it has wheels for these only, and the test suite does not need it.
ATHERIS = {(3, 11): "3.0.0", (3, 12): "3.1.0", (3, 13): "3.1.0"}
MAX_BYTES = 4096
SECONDS_AN_INPUT = 20


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="scripts/fuzz", description="Coverage-guided fuzzing with atheris, from the corpus in tests/fuzz/corpus."
    )
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of {', '.join(NAMES)}; default: all")
    parser.add_argument("--minutes", type=float, default=1, help="for each target; default: 1")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="targets at once; default: CPUs")
    parser.add_argument("--keep", action="store_true", help="then write what adds coverage into the corpus, minimised")
    parser.add_argument(
        "--sanitize",
        action="store_true",
        help=f"instead {' and '.join(sanitized.TARGETS)}, at random, with gcc's sanitizers in the C",
    )
    parser.add_argument("--replay", type=Path, metavar="FILE", help="only run one target on this input")
    parser.add_argument("--outputs", type=int, metavar="N", help="only judge N made-up guest outputs")
    parser.add_argument("--seed", type=int, default=0, help="of --outputs; default: 0")
    options = parser.parse_args()
    names = options.targets or NAMES
    if unknown := set(names) - set(NAMES):
        parser.error(f"no such target: {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}")
    if options.outputs:
        return not outputs.report(options.outputs, options.seed)
    if options.replay:
        if len(names) != 1:
            parser.error("--replay takes one TARGET")
        logging.lastResort = None
        checker(names[0])(options.replay.read_bytes())
        print(f"{names[0]}: passes")
        return 0
    if options.sanitize:
        if set(options.targets) - set(sanitized.TARGETS):
            parser.error(f"--sanitize is for {' and '.join(sanitized.TARGETS)}")
        names, environment = options.targets or sanitized.TARGETS, variants.sanitized()
        with ThreadPoolExecutor(options.jobs) as pool:
            return not all(list(pool.map(lambda name: sanitized.fuzz(name, options.minutes, environment), names)))
    _need_atheris(parser)
    with ThreadPoolExecutor(options.jobs) as pool:
        results = list(pool.map(lambda name: _fuzz(name, options.minutes), names))
        if options.keep:
            list(pool.map(_keep, itertools.compress(names, results)))
    return not all(results)


def _need_atheris(parser: argparse.ArgumentParser) -> None:
    wanted = ATHERIS.get(sys.version_info[:2])
    if wanted is None or not sys.platform.startswith("linux"):
        versions = ", ".join(f"{major}.{minor}" for major, minor in ATHERIS)
        parser.error(f"atheris has wheels for Python {versions} on Linux only; --outputs and the test suite need none")
    try:
        there = importlib.metadata.version("atheris")
    except importlib.metadata.PackageNotFoundError:
        there = None
    if there != wanted:
        print(f"installing atheris {wanted} into the virtual environment ...", file=sys.stderr)
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        if subprocess.run([*pip, "--only-binary", ":all:", f"atheris=={wanted}"]).returncode:
            parser.error(f"cannot install atheris {wanted}; see the message of pip above")


def _fuzz(name: str, minutes: float) -> bool:
    """Fuzz, and return whether nothing was found. What adds coverage is left in the work folder."""
    work = WORK / name
    (work / "corpus").mkdir(parents=True, exist_ok=True)
    words = work / "dictionary"
    words.write_text("".join(f'"{_escaped(token)}"\n' for token in target(name).TOKENS))
    log = work / "log"
    arguments = [f"-max_total_time={minutes * 60:.0f}", f"-dict={words}", f"-artifact_prefix={work}/"]
    folders = [work / "corpus", *_committed(name)]
    with log.open("wb") as stream:
        status = _atheris(name, *arguments, *folders, stdout=stream, stderr=subprocess.STDOUT)
    text = log.read_text(errors="replace")
    runs = [line for line in text.splitlines() if line.startswith("Done ")]
    if status == 0 and runs:
        cover = next(line for line in reversed(text.splitlines()) if "cov:" in line).partition("cov:")[2].split()[0]
        print(f"{name:14} {runs[-1].lower()}, {cover} edges")
        return True
    print(f"{name:14} FOUND something; the end of {log}:")
    print("".join(f"    {line}\n" for line in text.splitlines()[-25:]))
    for file in sorted(work.glob("*-*")):
        print(f"    again: scripts/fuzz {name} --replay {file}")
    return False


def _keep(name: str) -> None:
    """Keep the least that covers what corpus and work folder cover together, beside what was found once."""
    with tempfile.TemporaryDirectory() as least:
        _atheris(
            name, "-merge=1", "-use_counters=0", least, *_committed(name), WORK / name / "corpus",
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        inputs = list(Path(least).iterdir())
        if inputs:
            for folder in _committed(name):
                for each in folder.iterdir():
                    if not each.name.startswith(("found-", "kept-")):
                        each.unlink()
            shutil.copytree(least, CORPUS / name, dirs_exist_ok=True)
        print(f"{name:14} {len(inputs)} inputs, {sum(each.stat().st_size for each in inputs)} bytes in the corpus")


def _committed(name: str) -> Iterator[Path]:
    if (CORPUS / name).is_dir():
        yield CORPUS / name


def _atheris(name: str, *arguments: object, **options: object) -> int:
    common = [f"-timeout={SECONDS_AN_INPUT}", f"-max_len={MAX_BYTES}", "-rss_limit_mb=4096"]
    command = [sys.executable, str(HERE / "coverage_guided.py"), name, *common, *map(str, arguments)]
    return subprocess.run(command, **options).returncode  # type: ignore[call-overload,no-any-return]


def _escaped(token: bytes) -> str:
    return "".join(f"\\x{byte:02x}" for byte in token)


if __name__ == "__main__":
    sys.exit(main())

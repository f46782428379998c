"""One module a target: ``check(data)`` raises where the package does what it must not, and ``TOKENS`` are pieces of
what it reads. The same ``check`` serves the test suite, the corpus and the coverage-guided fuzzer.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

CORPUS = Path(__file__).parent.parent / "corpus"
_SHARED = ("__init__", "component_ways", "source", "ways")
NAMES = sorted(each.stem for each in Path(__file__).parent.glob("*.py") if each.stem not in _SHARED)


def target(name: str) -> ModuleType:
    return importlib.import_module(f"{__name__}.{name}")


def checker(name: str) -> Callable[[bytes], None]:
    check: Callable[[bytes], None] = target(name).check
    return check


def corpus(name: str) -> list[bytes]:
    """The committed inputs of a target, in a fixed order."""
    return [each.read_bytes() for each in sorted((CORPUS / name).glob("*"))]

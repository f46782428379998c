"""One target under atheris, until the time is up or something is found: TARGET, then arguments of libFuzzer."""

from __future__ import annotations

import logging
import shlex
import sys

import atheris


def main() -> None:
    name, *arguments = sys.argv[1:]
    logging.lastResort = None
    with atheris.instrument_imports(include=["starlette_wasm"], enable_loader_override=False):
        from fuzz_targets import checker

        check = checker(name)
    # To merge, libFuzzer starts itself again, by way of a shell.
    again = shlex.join([sys.executable, __file__, name])
    atheris.Setup([again, *arguments], check)
    atheris.Fuzz()


main()

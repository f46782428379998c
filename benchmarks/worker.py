"""The child side of processes.Worker: ``python -m benchmarks.worker MODULE:CLASS ARGUMENTS``."""

from __future__ import annotations

import importlib
import json
import os
import sys


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what the contender prints is no answer
    module, name = sys.argv[1].split(":")
    target = getattr(importlib.import_module(f"benchmarks.contenders.{module}"), name)(**json.loads(sys.argv[2]))
    for line in sys.stdin:
        method, arguments = json.loads(line)
        answers.write(json.dumps(getattr(target, method)(**arguments)) + "\n")
        answers.flush()


main()

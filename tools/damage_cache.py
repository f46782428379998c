"""Damages an AOT cache: bits flipped in compiled code, and writers killed as they write.

``scripts/damage-cache --flips 10000 --kills 1000`` is the long form of what the tests do.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import random
import signal
import sys
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path

from starlette_wasm.engine.engine import Engine, EngineConfig
from starlette_wasm.engine.invocation import Invocation
from starlette_wasm.engine.outcome import End
from starlette_wasm.engine.plan import Limits, Plan
from starlette_wasm.functions import aot
from starlette_wasm.functions.aot import AotCache
from starlette_wasm.functions.catalog import FunctionManifest, FunctionSource
from starlette_wasm.functions.loader import LoadedFunction, load

_HELLO = Path(__file__).parents[1] / "tests" / "guests" / "hello.wasm"
_KEY = "0" * 64


def flip_bits(place: Path, count: int, seed: int, mend_every: int = 500) -> int:
    """Flip ``count`` bits, one at a time, in the code of a real function; gives how often it was loaded again.

    Nothing damaged may come out of the cache, and the loader mends what is damaged.
    """
    chance = random.Random(seed)
    engine = Engine.shared(EngineConfig(max_instances=10))
    cache = AotCache(place)
    source = FunctionSource("hello", "1", _HELLO, FunctionManifest())
    first = load(engine, source, cache)
    assert not first.cached
    (file,) = place.glob("*.cwasm")
    whole, mended = file.read_bytes(), 0
    descriptor = os.open(file, os.O_RDWR)
    try:
        for number in range(count):
            at, bit = chance.randrange(len(whole)), chance.randrange(8)
            os.pwrite(descriptor, bytes([whole[at] ^ 1 << bit]), at)
            assert cache.load(file.stem) is None, (at, bit)
            if number % mend_every == 0:
                again = load(engine, source, cache)
                assert not again.cached
                assert _greets(again)
                assert cache.load(file.stem) is not None
                again.module.close()
                os.close(descriptor)
                descriptor, whole = os.open(file, os.O_RDWR), file.read_bytes()
                mended += 1
            else:
                os.pwrite(descriptor, whole[at : at + 1], at)
        last = load(engine, source, cache)
        assert last.cached
        assert _greets(last)
    finally:
        os.close(descriptor)
    return mended


def _greets(function: LoadedFunction) -> bool:
    invocation = Invocation(Plan(function.module, Limits()), b"")
    outcome = asyncio.run(invocation.run(time.monotonic() + 60, nullcontext))
    return outcome.end is End.OK and b"hello" in outcome.stdout


def kill_writers(place: Path, count: int, seed: int) -> dict[str, int]:
    """Kill ``count`` processes as they write; gives what was found after each: nothing yet, or whole code.

    Forks: no thread may run here.
    """
    chance = random.Random(seed)
    found = {"nothing": 0, "code": 0, "left behind": 0}
    for number in range(count):
        if number % 50 == 0:  # also before there is a key, or any code
            for file in place.glob("*"):
                file.unlink()
        ready, writes = os.pipe()
        child = os.fork()
        if not child:
            _write_for_ever(place, chance.randrange(1 << 20), writes)
        os.close(writes)
        os.read(ready, 1)  # it has begun
        os.close(ready)
        time.sleep(chance.random() * 0.01)
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL
        found["left behind"] += len(list(place.glob(f"{aot._NEW}*")))
        _age(place)
        cache = AotCache(place)  # the next process
        stored = cache.load(_KEY)
        if stored is None:
            found["nothing"] += 1
            assert not list(place.glob("*.cwasm")), "there was code, and it was not whole"
        else:
            found["code"] += 1
            code, facts = stored
            assert code == bytes([facts["number"]]) * len(code)
        assert {file.name for file in place.iterdir()} <= {"key", f"{_KEY}.cwasm"}
    cache.store(_KEY, b"mended", {})
    assert AotCache(place).load(_KEY) == (b"mended", {})
    return found


def _write_for_ever(place: Path, seed: int, started: int) -> None:
    try:
        os.write(started, b".")
        cache = AotCache(place)
        while True:
            seed += 1
            cache.store(_KEY, bytes([seed % 256]) * (300_000 + seed % 1000), {"number": seed % 256})
    finally:
        os._exit(1)


def _age(place: Path) -> None:
    for file in place.glob(f"{aot._NEW}*"):
        os.utime(file, (time.time() - 2 * aot._ABANDONED_AFTER,) * 2)


def main() -> None:
    parser = argparse.ArgumentParser(description="Damage an AOT cache, and see that it is never trusted and mended.")
    parser.add_argument("--flips", type=int, default=10_000)
    parser.add_argument("--kills", type=int, default=1_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder, "cache")
        place.mkdir(mode=0o700)
        begin = time.monotonic()
        found = kill_writers(place, options.kills, options.seed)
        print(f"{options.kills} writers killed in {time.monotonic() - begin:.0f} s, then found: {found}")
        begin = time.monotonic()
        mended = flip_bits(Path(folder, "flips"), options.flips, options.seed)
        print(f"{options.flips} bits flipped in {time.monotonic() - begin:.0f} s, none loaded; mended {mended} times")


if __name__ == "__main__":
    sys.exit(main())

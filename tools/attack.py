"""The attack suite by hand, as ``scripts/attack``: each guest many times, then all at once beside healthy functions."""

from __future__ import annotations

import argparse
import asyncio
import logging
import random
import sys
import tempfile
import time
from pathlib import Path

from hostile_range import REFUSED, RUNNING, Range, refusal, serving, used


async def one_by_one(there: Range, repeat: int) -> None:
    """Run each guest ``repeat`` times, one after the other."""
    for guest in RUNNING:
        for _ in range(repeat):
            await there.shoot(guest)
    await there.quiet()


async def together(there: Range, *, width: int, seconds: float, seed: int, healthy: int = 4) -> list[float]:
    """Run ``width`` guests at a time, drawn at random, and ``healthy`` clients of healthy functions beside them.

    Gives the seconds that the healthy functions took.
    """
    until = time.monotonic() + seconds
    draw = random.Random(seed)
    took: list[float] = []

    async def attack() -> None:
        while time.monotonic() < until:
            await there.shoot(draw.choice(RUNNING))

    async def live(number: int) -> None:
        once = False
        while time.monotonic() < until or not once:
            begin = time.perf_counter()
            await there.ask_healthy(number)
            took.append(time.perf_counter() - begin)
            number += healthy
            once = True
            await asyncio.sleep(0.01)

    async with asyncio.TaskGroup() as group:
        for _ in range(width):
            group.create_task(attack())
        for number in range(healthy):
            group.create_task(live(number))
    await there.quiet()
    return took


def quantile(values: list[float], part: float) -> float:
    return sorted(values)[min(int(len(values) * part), len(values) - 1)]


def level(before: tuple[int, int, int], after: tuple[int, int, int]) -> list[str]:
    """Return what grew that must not."""
    grown = []
    if after[1] > before[1]:
        grown.append(f"descriptors grew from {before[1]} to {after[1]}")
    if after[2] > before[2]:
        grown.append(f"threads grew from {before[2]} to {after[2]}")
    return grown


async def grown(before: tuple[int, int, int]) -> list[str]:
    """Return what stays above ``before``, once files that wasmtime closes in the background had time for it."""
    until = time.monotonic() + 60
    while (found := level(before, used())) and time.monotonic() < until:
        await asyncio.sleep(0.1)
    return found


def show(what: str) -> None:
    rss, fds, threads = used()
    print(f"{what}: {rss / 2**20:.0f} MiB resident, {fds} descriptors, {threads} threads", flush=True)


async def attack(repeat: int, minutes: float, width: int, seed: int) -> list[str]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        wrong: list[str] = []
        async with serving(folder, RUNNING, stop_ms=200) as there:
            await there.warm()
            await one_by_one(there, 1)
            await together(there, width=width, seconds=2, seed=seed)  # all threads of the workers have begun
            show("warm")
            before = used()
            begin = time.monotonic()
            await one_by_one(there, repeat)
            print(f"{len(RUNNING)} guests x {repeat}, one by one: {len(there.wrong)} wrong,", end=" ")
            print(f"{time.monotonic() - begin:.0f} s")
            show("after them")
            if minutes:
                shots = there.shots
                took = await together(there, width=width, seconds=minutes * 60, seed=seed + 1)
                print(f"{width} at once for {minutes:g} minutes: {there.shots - shots} runs, {len(there.wrong)} wrong")
                p50, p99 = (quantile(took, part) * 1000 for part in (0.5, 0.99))
                print(f"healthy functions beside them: {len(took)} requests, p50 {p50:.1f} ms, p99 {p99:.1f} ms")
                show("after them")
            print(f"stats: {there.runtime.stats()}")
            wrong += there.wrong + await grown(before)
        for _ in range(repeat):
            for guest in REFUSED:
                if problem := await refusal(folder, guest):
                    wrong.append(f"{guest.name}: {problem}")
        print(f"{len(REFUSED)} modules that are refused at load x {repeat}")
        show("at the end")
        return wrong


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/attack", description=__doc__)
    parser.add_argument("--repeat", type=int, default=20, help="runs of each guest, one by one (default: 20)")
    parser.add_argument("--minutes", type=float, default=10, help="minutes of all at once (default: 10)")
    parser.add_argument("--width", type=int, default=32, help="guests at once (default: 32)")
    parser.add_argument("--seed", type=int, default=1, help="for the order of guests")
    parser.add_argument("--goals", action="store_true", help="measure the goals under load instead")
    parser.add_argument("--only", nargs="*", default=[], help="names of goals (default: all)")
    parser.add_argument("--runs", type=int, default=200, help="of each kind of guest, for the goal deadline")
    parser.add_argument("--invocations", type=int, default=1_000_000, help="for the goal tenants")
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)  # hostile guests have much to say
    if options.goals:
        from attack_goals import measure

        wrong = measure(options.only, options.runs, options.invocations)
    else:
        wrong = asyncio.run(attack(options.repeat, options.minutes, options.width, options.seed))
    for problem in wrong[:50]:
        print(f"WRONG {problem}")
    print(f"{len(wrong)} wrong" if wrong else "as wanted, all of it")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

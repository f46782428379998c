"""Simulated rollouts, by the verdict and the transitions that production runs.

``python -m benchmarks.rollouts`` prints the table of docs/canary.md, with ``--low-traffic`` the one there of few
requests; ``--rollouts 500`` does it sooner.
"""

from __future__ import annotations

import argparse
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import Pool

import numpy

from starlette_wasm import CanaryConfig
from starlette_wasm.canary.low_traffic import rule
from starlette_wasm.canary.record import begin, follow, rival
from starlette_wasm.canary.status import Status
from starlette_wasm.canary.window import Window

TICK = 5.0
"""Seconds between two verdicts, as with the default steps."""
AHEAD = 64
"""Ticks drawn at once: more than a step has."""
Counts = tuple[int, int, int]
HOURS, LOW_TRAFFIC_HOURS = 4, 24
"""After which a rollout that neither ended nor was rolled back counts as held."""


@dataclass(frozen=True)
class World:
    """Success rates of both versions, and how many requests a second both have together.

    ``outage``: from second to second, the share of requests that a dependency fails for both alike.
    """

    name: str
    stable: float = 0.995
    canary: float = 0.995
    slow: float = 0.002
    canary_slow: float = 0.002
    per_second: float = 50
    outage: tuple[float, float, float] | None = None
    low_traffic: bool = False


A_FEW = 3 / 60
"""Requests a second: three a minute."""
WORLDS = (
    World("equal, 99.5 %"),
    World("equal, 99.5 %, 5 requests a second", per_second=5),
    World("equal, 99.9 %", stable=0.999, canary=0.999),
    World("equal, a dependency fails 40 % for 100 s", outage=(400, 500, 0.4)),
    World("equal, a dependency fails 90 % for 100 s", outage=(400, 500, 0.9)),
    World("canary 98.5 %", canary=0.985),
    World("canary 97.5 %", canary=0.975),
    World("canary 97.5 %, 5 requests a second", canary=0.975, per_second=5),
    World("canary 95 %", canary=0.95),
    World("canary 50 %", canary=0.5),
    World("canary slow for 3 %, stable for 0.2 %", canary_slow=0.03),
)
LOW_TRAFFIC = tuple(
    replace(world, per_second=A_FEW, low_traffic=True)
    for world in (
        World("equal, 99.5 %"),
        World("equal, 99.9 %", stable=0.999, canary=0.999),
        World("equal, a dependency fails 90 % for 10 min", outage=(1200, 1800, 0.9)),
        World("canary 90 %", canary=0.9),
        World("canary 75 %", canary=0.75),
        World("canary 50 %", canary=0.5),
        World("canary 0 %", canary=0.0),
        World("canary slow for 30 %, stable for 0.2 %", canary_slow=0.3),
    )
)


def simulate(world: World, seed: int) -> tuple[str, int, float]:
    """Return how one rollout ends, the step in which it does, in per cent, and after how many seconds."""
    random = numpy.random.default_rng(seed)
    config = CanaryConfig(function_name="f", stable_version="1", canary_version="2", low_traffic=world.low_traffic)
    hours = LOW_TRAFFIC_HOURS if world.low_traffic else HOURS
    record, now = begin(config, 0.0, None, config.steps[0], ""), 0.0
    percent, epoch, tick = record.percent, 0, 0
    stables: list[Counts] = []
    canaries: list[Counts] = []
    while record.runs and now < hours * 3600:
        if record.epoch != epoch or tick == len(stables):
            begun = (stables[-1], canaries[-1]) if record.epoch == epoch else ((0, 0, 0), (0, 0, 0))
            percent, epoch, tick = record.percent, record.epoch, 0
            stables = _draw(random, world, now, 100 - percent, world.stable, world.slow, begun[0])
            canaries = _draw(random, world, now, percent, world.canary, world.canary_slow, begun[1])
        now += TICK
        stable, canary = Window(*stables[tick]), Window(*canaries[tick])
        tick += 1
        verdict = rule(config)(config, canary, rival(record, stable), now - record.since, record.looks)
        record = follow(record, config, verdict, now, stable, held=False)
    return ("held" if record.runs else record.status.value), percent, now


def _draw(
    random: numpy.random.Generator,
    world: World,
    now: float,
    share: int,
    good: float,
    slow: float,
    begun: Counts,
) -> list[Counts]:
    """Draw successes, failures and slow answers of a version after each of the next ticks."""
    mean = world.per_second * TICK * share / 100
    requests = random.poisson(mean, AHEAD) if world.low_traffic else numpy.full(AHEAD, round(mean))
    rates = numpy.full(AHEAD, good)
    if world.outage is not None:
        first, last, lost = world.outage
        times = now + TICK * numpy.arange(1, AHEAD + 1)
        rates[(times >= first) & (times < last)] *= 1 - lost
    succeeded = random.binomial(requests, rates)
    drawn = numpy.stack([succeeded, requests - succeeded, random.binomial(requests, slow)], axis=1)
    return [tuple(each) for each in (drawn.cumsum(axis=0) + begun).tolist()]


def run(world: World, seeds: Sequence[int], processes: int | None = None) -> dict[str, float]:
    """Return shares of the rollouts: promoted, rolled back, rolled back before half of the traffic, held."""
    if processes == 1:
        ends = [simulate(world, seed) for seed in seeds]
    else:
        with Pool(processes or os.cpu_count()) as pool:
            ends = pool.map(partial(simulate, world), seeds, chunksize=50)
    count: Counter[str] = Counter(status for status, _, _ in ends)
    early = [after for status, percent, after in ends if status == Status.ROLLED_BACK and percent < 50]
    return {
        "promoted": count[Status.PROMOTED] / len(ends),
        "rolled back": count[Status.ROLLED_BACK] / len(ends),
        "before 50 %": len(early) / len(ends),
        "held": count["held"] / len(ends),
        "median seconds to roll-back": float(numpy.median(early)) if early else float("nan"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rollouts", type=int, default=10_000, help="of each kind (default 10,000)")
    parser.add_argument("--low-traffic", action="store_true", help="three requests a minute, with lowTraffic")
    options = parser.parse_args()
    print("| versions | promoted | rolled back | before 50 % | held | roll-back after (median) |")
    print("| --- | --- | --- | --- | --- | --- |")
    for world in LOW_TRAFFIC if options.low_traffic else WORLDS:
        figures = run(world, range(options.rollouts))
        *shares, seconds = figures.values()
        after = "" if seconds != seconds else f"{seconds:.0f} s"
        print(f"| {world.name} | {' | '.join(f'{share:.2%}' for share in shares)} | {after} |", flush=True)


if __name__ == "__main__":
    main()

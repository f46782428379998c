"""The state of a rollout, as all workers share it, and how it changes."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace

from ..config.router import CanaryConfig
from .status import RUNS, Status
from .untrusted_record import read_record
from .verdict import Action, Baseline, Looks, Verdict
from .window import Window

_REMEMBERED = 50
"""Rollouts of one function that are known to be over."""


@dataclass(frozen=True, slots=True)
class Record:
    """One rollout. Times are in seconds since 1970, by the clock of the store."""

    stable: str
    canary: str
    status: Status
    percent: int
    """The canary's part of the traffic of both versions, in percent."""
    epoch: int
    """Which observation this is, over all rollouts of the function. What is counted belongs to one of them."""
    since: float
    """When the observation began."""
    started: float
    changed: float
    reason: str
    looks: Looks = field(default_factory=Looks)
    baseline: tuple[int, int, int] | None = None
    """Successes, failures and slow answers of stable in the last step in which it had traffic."""
    past: tuple[tuple[str, str], ...] = ()
    """Versions, stable and canary, of rollouts that others took the place of."""
    digest: str = ""
    """SHA-256 of the canary's module; empty if it is not known yet."""
    replaced: tuple[str, ...] = ()
    """Digests of modules that others took the place of, under the same version."""
    seen: float = 0.0
    """When the worker that decides last looked; 0 if none has."""
    announced: str = ""
    """The stage of which there was an event last."""
    bakes: bool = False
    """It is promoted, and goes back to stable if it does clearly worse within ``bakeSeconds``."""
    turn: int = 0
    """With waves: which start by hand this is of, over all regions; 0 until the region has joined the others."""

    @property
    def versions(self) -> tuple[str, str]:
        return self.stable, self.canary

    @property
    def runs(self) -> bool:
        return self.status in RUNS

    @property
    def is_judged(self) -> bool:
        return self.runs or self.bakes

    @classmethod
    def load(cls, text: str) -> Record:
        """Raise CapabilityError for what dump() did not write, such as a newer version of this package."""
        return cls(**read_record(text))

    def dump(self) -> str:
        return json.dumps(asdict(self), separators=(",", ":"))


def begin(
    config: CanaryConfig, now: float, before: Record | None, percent: int, reason: str, *, waits: bool = False
) -> Record:
    """Begin a rollout at its first step, in place of ``before``; ``waits``: for another region."""
    past: tuple[tuple[str, str], ...] = ()
    if before is not None:
        mine = (config.stable_version, config.canary_version)
        past = tuple(each for each in (*before.past, before.versions) if each != mine)[-_REMEMBERED:]
    return Record(
        stable=config.stable_version,
        canary=config.canary_version,
        status=Status.WAITING if waits else Status.RUNNING,
        percent=0 if waits else percent,
        epoch=1 if before is None else before.epoch + 1,
        since=now,
        started=now,
        changed=now,
        reason=reason,
        past=past,
        seen=now,
    )


def rebuild(
    config: CanaryConfig, now: float, before: Record, percent: int, digest: str, *, waits: bool = False
) -> Record:
    """Begin the rollout at its first step, as the module of its canary is another one. What is paused stays so."""
    record = begin(config, now, before, percent, f"the module of v{before.canary} is another one", waits=waits)
    replaced = tuple(each for each in (*before.replaced, before.digest) if each != digest)[-_REMEMBERED:]
    # The observation before is not to be joined with this one.
    status = before.status if before.status is Status.PAUSED else record.status
    epoch = before.epoch + 2
    return replace(record, status=status, epoch=epoch, digest=digest, replaced=replaced, turn=before.turn)


def first_percent(config: CanaryConfig, *, gated: bool) -> int:
    """Return the percent to begin with: 0 if it shadows, or gates are to be asked before the first step."""
    return 0 if gated or config.shadow else config.steps[0]


def next_percent(config: CanaryConfig, percent: int) -> int | None:
    """Return the step after ``percent``; None if that is the last one."""
    return next((step for step in config.steps if step > percent), None)


def advance(record: Record, config: CanaryConfig, now: float, stable: Window, reason: str) -> Record:
    """Take the next step, or end; ``stable`` is what stable did in this one."""
    percent = next_percent(config, record.percent)
    if percent is None:
        return promote(record, config, now, stable, reason)
    baseline = _baseline(record, stable)
    return replace(observe(record, now), percent=percent, changed=now, reason=reason, baseline=baseline)


def promote(record: Record, config: CanaryConfig, now: float, stable: Window, reason: str) -> Record:
    """End as was hoped for; with ``bakeSeconds`` the canary is still observed."""
    promoted = replace(record, status=Status.PROMOTED, percent=100, changed=now, reason=reason)
    if not config.bake_seconds:
        return promoted
    return replace(observe(promoted, now), baseline=_baseline(record, stable), bakes=True)


def _baseline(record: Record, stable: Window) -> tuple[int, int, int] | None:
    return (stable.succeeded, stable.failed, stable.slow) if stable.samples else record.baseline


def postpone(record: Record, seconds: float, now: float) -> Record:
    """Return the same record as if it had begun later: nothing ran for so long."""
    return replace(record, since=record.since + seconds, changed=record.changed + seconds, seen=now)


def observe(record: Record, now: float) -> Record:
    """Begin a new observation of the same step. The looks go on: they are those of the whole rollout."""
    return replace(record, epoch=record.epoch + 1, since=now, looks=Looks(record.looks.count))


def rival(record: Record, stable: Window) -> Baseline:
    """Return what the canary is compared with: ``stable`` now, or what it did before, if it has no traffic any more."""
    if record.percent == 100 and record.baseline is not None:
        succeeded, failed, slow = record.baseline
        return Baseline(Window(succeeded, failed, slow), at_the_same_time=False)
    return Baseline(stable)


def follow(record: Record, config: CanaryConfig, verdict: Verdict, now: float, stable: Window, *, held: bool) -> Record:
    """Return what a verdict makes of the record; the same one if it changes nothing. ``held``: nothing may advance."""
    looked = replace(record, looks=verdict.looks)
    if verdict.action is Action.ROLL_BACK:
        when = " after the promotion" if record.bakes else ""
        return end(looked, Status.ROLLED_BACK, now, f"{verdict.reason}{when}")
    if record.bakes and now - record.changed >= config.bake_seconds:
        return replace(looked, bakes=False)
    if held or record.bakes:
        # What was good for long must not hide what goes wrong today.
        too_long = not verdict.samples and now - record.since > 2 * config.step_seconds
        return observe(looked, now) if too_long else looked
    if verdict.action is Action.ADVANCE:
        return advance(looked, config, now, stable, verdict.reason)
    return observe(looked, now) if verdict.again else looked


def end(record: Record, status: Status, now: float, reason: str) -> Record:
    """End as promoted, rolled back or aborted. The observation stays, so that its figures can be read."""
    percent = 100 if status is Status.PROMOTED else 0
    return replace(record, status=status, percent=percent, changed=now, reason=reason, bakes=False)

"""One canary, as this process knows it."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field, replace
from itertools import count

from ..config.router import CanaryConfig
from .board import Board, held_by
from .low_traffic import least_samples, rule
from .place import Place
from .record import Record, end, rival
from .status import Status
from .store import Batch, Reading
from .tally import VersionTally
from .traffic_split import Part
from .verdict import RESTART_AFTER_STEPS, Action, Looks, Verdict
from .window import Window

_MOST_SICK_SECONDS = 60.0


@dataclass
class CanaryState:
    """The record as last read, what was counted by all, and what was counted here and not yet flushed."""

    config: CanaryConfig
    digest: str = ""
    """SHA-256 of the canary's module here; empty for a runtime that only looks."""
    place: Place = field(default_factory=Place)
    newer: bool = False
    """Whether the module has changed here since it was last the record's."""
    record: Record | None = None
    revision: int = 0
    note: str | None = None
    """What the operator should know."""
    seen_at: float = -math.inf
    """When the store was last read, on time.monotonic()."""
    overdue: bool | None = None
    """The last value of the metric of the progress deadline."""
    store_problem: str | None = None
    """Why the store could not be used at the last look."""
    alone: Record | None = None
    """The roll-back that this process decided on while the store was away, until the store has it."""
    sick_since: float | None = None
    """Since when the canary fails its probes here and stable does not, on time.monotonic()."""
    held_by: str | None = None
    """What keeps an advance that is due."""
    board: Board | None = None
    """How the regions stand, as last read; with waves alone."""
    board_revision: int = 0
    waves_problem: str | None = None
    """Why the board could not be used at the last look."""
    stable: Window = field(default_factory=Window)
    canary: Window = field(default_factory=Window)
    longer: Window = field(default_factory=Window)
    """The canary, with the observation before."""
    verdict: Verdict | None = None
    _tallies: dict[tuple[int, str], VersionTally] = field(default_factory=dict)
    _unsent: dict[tuple[int, str], Batch] = field(default_factory=dict)
    _alone_looks: Looks | None = None
    """The looks at what was counted here alone."""
    _numbers: count[int] = field(default_factory=lambda: count(1))

    @property
    def versions(self) -> tuple[str, str]:
        return self.config.stable_version, self.config.canary_version

    @property
    def key(self) -> str:
        """The name of the record in the store."""
        return self.place.record(self.config)

    @property
    def waits(self) -> bool:
        """Whether another region comes before this one."""
        return self.config.before(self.place.region) is not None

    @property
    def takes_part(self) -> bool:
        """Whether a canary ever begins in this region."""
        return not self.config.waves or self.place.region in self.config.waves

    def waits_for(self, record: Record) -> str | None:
        """Return what keeps this region from its beginning; None if it may."""
        return self.waves_problem or held_by(self.board, record, self.config, self.place.region)

    @property
    def mine(self) -> Record | None:
        """The record, if it is of the versions in the config and, if it serves, of the module that is here.

        What is promoted is a module, not a version number: a node with other bytes goes on with stable.
        """
        record = self.record
        if record is None or record.versions != self.versions:
            return None
        serves = record.runs or record.status is Status.PROMOTED
        return None if serves and self.has_other_module(record) else record

    def has_other_module(self, record: Record) -> bool:
        return bool(self.digest and record.digest) and record.digest != self.digest

    @property
    def serving(self) -> str:
        """The version for callers that name none."""
        promoted = self.mine is not None and self.mine.status is Status.PROMOTED
        return self.versions[promoted]

    def part(self) -> Part:
        """Return what the rules of the function are to get."""
        record = self.mine
        if record is None:
            return Part(*self.versions, 0, out=self.record is not None)
        out = record.status in (Status.ROLLED_BACK, Status.ABORTED)
        if not record.is_judged:
            return Part(*self.versions, record.percent, out)
        stable, canary = (self._tally(record.epoch, version) for version in self.versions)
        return Part(*self.versions, record.percent, out, (stable, canary), self._shadows(record))

    def _shadows(self, record: Record) -> bool:
        begun = record.status is Status.RUNNING or not self.waits
        return self.config.shadow and not record.percent and begun

    def _tally(self, epoch: int, version: str) -> VersionTally:
        key = epoch, version
        if key not in self._tallies:
            self._tallies[key] = VersionTally(self._slow_after)
        return self._tallies[key]

    @property
    def _slow_after(self) -> float:
        limit = self.config.latency_p99_threshold_ms
        return math.inf if limit is None else limit / 1000

    def configure(self, config: CanaryConfig) -> None:
        """Go on with other thresholds or steps; the versions are the same."""
        self.config = config
        for tally in self._tallies.values():
            tally.slow_after = self._slow_after

    def unseen_seconds(self, record: Record, now: float) -> float:
        """Return for how long nobody looked at a record, as far as this process knows.

        What this process has run since its last look is not part of that, so neither a store that was away counts,
        nor a clock that was set.
        """
        if not record.seen:
            return 0.0
        own = 0.0 if self.record is None else time.monotonic() - self.seen_at
        return now - record.seen - own

    def load(self, digest: str) -> None:
        """Go on with the module of that digest, which may be another one."""
        self.newer = self.newer or digest != self.digest
        self.digest = digest

    def batches(self) -> list[Batch]:
        """Return what is to be sent, and sent again until it is confirmed: until then nothing new is taken."""
        for key, tally in list(self._tallies.items()):
            if key not in self._unsent:
                counts = tally.take()
                if counts:
                    self._unsent[key] = Batch(*key, next(self._numbers), counts)
        return list(self._unsent.values())

    def sent(self, batch: Batch) -> None:
        del self._unsent[batch.epoch, batch.version]

    def see(self, reading: Reading, record: Record, revision: int) -> bool:
        """Take over what was read. Says whether the router has to know."""
        before = self.part_key
        self.record, self.revision = record, revision
        self.seen_at, self.store_problem, self.alone, self._alone_looks = time.monotonic(), None, None, None
        epoch = record.epoch
        for key in [key for key in self._tallies if key[0] < epoch - 1]:
            del self._tallies[key]
            self._unsent.pop(key, None)
        self.verdict = None
        if self.mine is not None:
            stable, canary = self.versions
            self.stable = Window.of(reading.counts.get((epoch, stable), {}))
            self.canary = Window.of(reading.counts.get((epoch, canary), {}))
            self.longer = Window.of(*(reading.counts.get((each, canary), {}) for each in (epoch - 1, epoch)))
            if record.is_judged:
                self.verdict = self._judge(record, reading.now)
        return self.part_key != before

    def judge_probes(self, sick: bool) -> None:
        """Condemn a canary that fails its probes for the time of a step, or a minute; ``sick``: it does now."""
        now = time.monotonic()
        self.sick_since = (self.sick_since or now) if sick else None
        grace = min(self.config.step_seconds, _MOST_SICK_SECONDS)
        if self.sick_since is not None and self.verdict is not None and now - self.sick_since >= grace:
            reason = f"has failed its probes for {grace:g} s"
            self.verdict = replace(self.verdict, action=Action.ROLL_BACK, reason=reason)

    def trouble(self, record: Record, now: float) -> str | None:
        """Return what keeps a running canary from its end besides the verdict, if anything does."""
        if not record.runs:
            return None
        if self.is_overdue(record, now):
            deadline = self.config.progress_deadline_seconds
            return f"no step was taken at {record.percent} % within progressDeadlineSeconds, {deadline:g} s"
        if self.sick_since is not None:
            return "fails its probes"
        if record.percent and not self.canary.samples and now - record.since > self.config.step_seconds:
            return f"no traffic at {record.percent} % for the time of a step: nothing can be judged"
        if record.percent and now - record.since > RESTART_AFTER_STEPS * self.config.step_seconds:
            return self._lacking(now - record.since)
        return None

    def _lacking(self, seconds: float) -> str | None:
        """Return how long the samples of an observation of that long take, if there are too few."""
        samples, least = self.canary.samples, least_samples(self.config)
        if samples >= least:
            return None
        hint = "" if self.config.low_traffic else "; with lowTraffic: true fewer are enough"
        return f"{samples} canary requests in {seconds:.0f} s: {least} take {seconds * least / samples:.0f} s{hint}"

    def is_overdue(self, record: Record, now: float) -> bool:
        """Return whether a running canary has taken no step within ``progressDeadlineSeconds``."""
        deadline = self.config.progress_deadline_seconds
        runs = record.runs and record.status is not Status.WAITING
        return runs and deadline is not None and now - record.changed > deadline

    def judge_alone(self) -> bool:
        """Roll back, without the store, what fails by the counts of this process. Says whether it did."""
        record = self.mine
        if record is None or not record.is_judged:
            return False
        stable, canary = (self._untold(record.epoch, version) for version in self.versions)
        looks = self._alone_looks or Looks(record.looks.count)
        seconds = max(0.0, time.monotonic() - self.seen_at)
        verdict = rule(self.config)(self.config, canary, rival(record, stable), seconds, looks)
        self._alone_looks = verdict.looks
        if verdict.action is not Action.ROLL_BACK:
            return False
        reason = f"{verdict.reason}, by one worker while the store was away"
        self.alone = self.record = end(record, Status.ROLLED_BACK, record.changed, reason)
        return True

    def _untold(self, epoch: int, version: str) -> Window:
        """Return what this process has counted and the store has not confirmed."""
        key = epoch, version
        batch = self._unsent.get(key)
        return Window.of({} if batch is None else batch.counts, self._tally(*key).peek())

    @property
    def part_key(self) -> tuple[object, ...]:
        """Differs if part() does."""
        record = self.record
        if record is None:
            return ()
        stage = record.versions, record.status, record.percent, record.epoch
        return *stage, record.bakes, self.mine is None

    def _judge(self, record: Record, now: float) -> Verdict:
        if not record.percent and not self.config.shadow:
            return Verdict(Action.ADVANCE, "not begun", 0, least_samples(self.config), Looks(record.looks.count))
        seconds = max(0.0, now - record.since)
        return rule(self.config)(self.config, self.canary, rival(record, self.stable), seconds, record.looks)

    @property
    def success_rate(self) -> float | None:
        """The success rate of this observation, or with the one before; None until there is the minimum of samples.

        The figures of an ended canary are given for any number of samples: a script may wait for them.
        """
        if self.mine is None:
            return None
        least = least_samples(self.config)
        window = self.canary if self.canary.samples >= least else self.longer
        if self.mine.runs:
            return window.success_rate if window.samples >= least else None
        return window.success_rate if self.mine.bakes else self.canary.success_rate

    @property
    def samples_missing(self) -> int:
        """Requests of the canary until there is a success rate."""
        return max(0, least_samples(self.config) - max(self.canary.samples, self.longer.samples))

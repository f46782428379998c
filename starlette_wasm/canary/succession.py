"""Which record takes the place of the one in the store, whoever decides: of a new canary, module, or verdict."""

from __future__ import annotations

from dataclasses import replace

from .record import Record, begin, end, postpone, rebuild
from .state import CanaryState
from .status import Status

_CLOCK_SECONDS = 5.0
"""How far clocks may differ."""


def succeed(live: CanaryState, record: Record | None, now: float, first: int, longest_gap: float) -> Record | None:
    """Return the record to write, or None.

    ``first`` is the share that a rollout begins with, ``longest_gap`` for how many seconds nobody has to look.
    """
    if record is None:
        # A store that lost its data gets it back from any worker that knows.
        return live.mine or replace(
            begin(live.config, now, None, first, "started", waits=live.waits), digest=live.digest
        )
    if record.versions == live.versions:
        alone = live.alone
        if alone is not None and record.is_judged and record.started == alone.started:
            return end(record, Status.ROLLED_BACK, now, alone.reason)
        return _retimed(live, record, now, longest_gap) or _of_module(live, record, now, first)
    if live.versions in record.past:
        return None
    newer = begin(live.config, now, record, first, f"takes the place of v{record.canary}", waits=live.waits)
    return replace(newer, digest=live.digest)


def _retimed(live: CanaryState, record: Record, now: float, longest_gap: float) -> Record | None:
    """Return a record that counts no time in which nothing was observed, if there was such a time."""
    if not record.is_judged:
        return None
    if record.since > now + _CLOCK_SECONDS:  # the clock was ahead when that was written
        return replace(record, since=now, changed=min(record.changed, now), seen=now)
    lost = live.unseen_seconds(record, now)
    return postpone(record, lost, now) if lost > longest_gap else None


def _of_module(live: CanaryState, record: Record, now: float, first: int) -> Record | None:
    """Return what is to be written of the module, if anything: what is known of another does not hold for this one."""
    if not (record.runs or record.status is Status.PROMOTED):
        return None
    if not record.digest:  # such as of a rollout that was started from a shell
        return replace(record, digest=live.digest)
    if record.digest == live.digest:
        live.newer = False
        return None
    if not record.runs:
        return None
    if live.digest in record.replaced and not live.newer:  # an old replica
        return None
    return rebuild(live.config, now, record, first, live.digest, waits=live.waits)


def superseded_by(record: Record, live: CanaryState) -> str:
    """Return what has taken the place of the canary that is configured here."""
    if record.versions == live.versions and record.status is Status.PROMOTED:
        return (
            f"v{record.canary} was promoted with another module (sha256:{record.digest[:12]}) than is here, and "
            f"v{record.stable} serves: bring that module, or start the canary by hand"
        )
    if record.versions == live.versions:
        return f"another module has taken the place of this one as v{record.canary}"
    return f"v{record.canary} has taken the place of v{live.config.canary_version}"

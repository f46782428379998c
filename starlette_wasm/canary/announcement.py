"""What is told of a canary, once for all workers: each stage of a record, by the worker that marks it as told."""

from __future__ import annotations

from dataclasses import replace

from ..config.events import Kind
from ..events.event import Event
from .record import Record
from .state import CanaryState
from .status import Status
from .store import Reading, Store

_ENDS = {
    Status.PAUSED: Kind.CANARY_PAUSED,
    Status.PROMOTED: Kind.CANARY_PROMOTED,
    Status.ROLLED_BACK: Kind.CANARY_ROLLED_BACK,
    Status.ABORTED: Kind.CANARY_ABORTED,
}
_OVERDUE = "/overdue"


async def announce(store: Store, live: CanaryState, reading: Reading, record: Record) -> tuple[Record, Event] | None:
    """Return the record as it is now and what is to be told, if this worker is the one to tell it.

    At most one worker is: who writes first that the stage is told. Raises CapabilityError.
    """
    overdue = live.is_overdue(record, reading.now)
    stage = _stage(record) + (_OVERDUE if overdue else "")
    if record.told == stage or (record.told == stage + _OVERDUE and not overdue):
        return None
    told = replace(record, told=stage)
    if not await store.swap(live.config.function_name, reading.revision, told.dump(), told.epoch):
        return None  # the next look sees what another worker wrote
    return told, _event(live, record, _kind(record, overdue=overdue))


def _stage(record: Record) -> str:
    return f"{record.started!r}/{record.status}/{record.percent}"


def _kind(record: Record, *, overdue: bool) -> Kind:
    """By what was told last."""
    if overdue:
        return Kind.CANARY_HELD
    if record.status is not Status.RUNNING:
        return _ENDS[record.status]
    started, _, before = record.told.partition("/")
    if started != repr(record.started):
        return Kind.CANARY_STARTED
    return Kind.CANARY_RESUMED if before.startswith(Status.PAUSED) else Kind.CANARY_STEPPED


def _event(live: CanaryState, record: Record, kind: Kind) -> Event:
    function = live.config.function_name
    reason = live.trouble(record, record.since) if kind is Kind.CANARY_HELD else record.reason
    status = f"{record.status} at {record.percent} %"
    text = f"canary of {function}, v{record.canary} over v{record.stable}: {status}: {reason}"
    data = {
        "stable_version": record.stable,
        "canary_version": record.canary,
        "status": record.status.value,
        "percent": record.percent,
        "reason": reason,
        "digest": f"sha256:{record.digest}" if record.digest else None,
    }
    return Event(kind, text, function, data, id=f"canary/{function}/{_stage(record)}/{kind}")

"""Announces each stage of a canary once for all workers: the worker does that marks it as announced."""

from __future__ import annotations

from dataclasses import replace

from ..config.events import Kind
from ..telemetry.events.event import Event
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
    """Return the record as it is now and the event, if this worker is the one to send it.

    At most one worker is: the first to write that the stage is announced. Raises CapabilityError.
    """
    if record.status is Status.WAITING:  # nothing has happened here yet
        return None
    overdue = live.is_overdue(record, reading.now)
    stage = _stage(record) + (_OVERDUE if overdue else "")
    if record.announced == stage or (record.announced == stage + _OVERDUE and not overdue):
        return None
    announced = replace(record, announced=stage)
    if not await store.swap(live.key, reading.revision, announced.dump(), announced.epoch):
        return None  # the next look sees what another worker wrote
    return announced, _event(live, record, _kind(record, overdue=overdue))


def _stage(record: Record) -> str:
    return f"{record.started!r}/{record.status}/{record.percent}"


def _kind(record: Record, *, overdue: bool) -> Kind:
    """Return what happened since the stage that was announced last."""
    if overdue:
        return Kind.CANARY_HELD
    if record.status is not Status.RUNNING:
        return _ENDS[record.status]
    started, _, before = record.announced.partition("/")
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

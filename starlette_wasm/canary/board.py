"""Regional waves: what the regions of one rollout know of each other, and what follows from it.

Each region decides from its own figures, by its own record. What they share is the board: how each of them stands.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from ..config.router import CanaryConfig
from .record import Record, begin, end, observe
from .status import Status
from .untrusted_record import MAX_COUNT, MAX_RECORD_BYTES, read_field, unreadable, whole

_REMEMBERED = 50
_ENDED = (Status.ROLLED_BACK, Status.ABORTED)


@dataclass(frozen=True, slots=True)
class Standing:
    """How one region stands."""

    status: Status
    percent: int
    turn: int
    digest: str = ""
    bakes: bool = False

    @property
    def is_through(self) -> bool:
        return self.status is Status.PROMOTED and not self.bakes


@dataclass(frozen=True, slots=True)
class Board:
    """How the regions of one rollout stand. Its ``turn`` rises with each start by hand."""

    stable: str
    canary: str
    turn: int
    regions: Mapping[str, Standing] = field(default_factory=dict)
    past: tuple[tuple[str, str], ...] = ()
    """Versions, stable and canary, of rollouts that others took the place of."""

    @property
    def versions(self) -> tuple[str, str]:
        return self.stable, self.canary

    def stopped_by(self, config: CanaryConfig) -> str | None:
        """Return the first region, in their order, that has rolled this rollout back or aborted it."""
        for region in config.waves:
            standing = self.regions.get(region)
            if standing is not None and standing.turn == self.turn and standing.status in _ENDED:
                return region
        return None

    def dump(self) -> str:
        return json.dumps(asdict(self), separators=(",", ":"))

    @classmethod
    def load(cls, text: str) -> Board:
        """Raise CapabilityError for what dump() did not write."""
        if len(text) > MAX_RECORD_BYTES:
            raise unreadable(f"it has more than {MAX_RECORD_BYTES} characters", "waves")
        try:
            given = json.loads(text)
            fields = {name: read_field(name, given[name]) for name in ("stable", "canary", "past")}
            turn = whole(given["turn"], 1, MAX_COUNT)
            regions = {region: _standing(each) for region, each in given["regions"].items()}
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise unreadable(f"what the regions share is odd: {error!r:.80}", "waves") from None
        return cls(turn=turn, regions=regions, **fields)


def _standing(given: Mapping[str, Any]) -> Standing:
    """Raise CapabilityError, KeyError, ValueError and TypeError."""
    fields = {name: read_field(name, given[name]) for name in ("status", "percent", "digest", "bakes")}
    return Standing(turn=whole(given["turn"], 0, MAX_COUNT), **fields)


def note_on(board: Board | None, record: Record, region: str) -> Board | None:
    """Return the board with the standing of this region; None if it has that, or is of a newer rollout."""
    if board is None:
        turn = max(record.turn, 1)
        return Board(record.stable, record.canary, turn, {region: standing_of(record, turn)})
    if board.versions != record.versions:
        if record.versions in board.past and record.turn <= board.turn:
            return None
        turn = max(record.turn, board.turn + 1)
        past = tuple(each for each in (*board.past, board.versions) if each != record.versions)[-_REMEMBERED:]
        return Board(record.stable, record.canary, turn, {region: standing_of(record, turn)}, past)
    turn = max(record.turn, board.turn)
    standing = standing_of(record, turn)
    if turn == board.turn and board.regions.get(region) == standing:
        return None
    return replace(board, turn=turn, regions={**board.regions, region: standing})


def standing_of(record: Record, turn: int = 0) -> Standing:
    """Return how a record stands; ``turn`` is for one that has not joined the others yet."""
    return Standing(record.status, record.percent, record.turn or turn, record.digest, record.bakes)


def follow_board(board: Board, record: Record, config: CanaryConfig, region: str, first: int, now: float) -> Record:
    """Return what the other regions make of the record; the same one if they change nothing.

    ``first`` is the share that a region begins with once it may.
    """
    if board.versions != record.versions:
        return record
    if record.turn < board.turn:
        return _in_turn(board, record, config, region, first, now)
    stopper = board.stopped_by(config)
    if stopper is not None and stopper != region and record.runs:
        return end(record, Status.ABORTED, now, f"{board.regions[stopper].status} in {stopper}")
    if record.status is Status.WAITING and held_by(board, record, config, region) is None:
        reason = f"{config.before(region)} has promoted"
        return replace(observe(record, now), status=Status.RUNNING, percent=first, changed=now, reason=reason)
    return record


def _in_turn(board: Board, record: Record, config: CanaryConfig, region: str, first: int, now: float) -> Record:
    """Return the record of a region for which another one has begun anew; what is promoted stays so."""
    if not record.turn or record.status is Status.PROMOTED:
        return replace(record, turn=board.turn)
    waits = config.before(region) is not None
    started = begin(config, now, record, first, "started by hand in another region", waits=waits)
    return replace(started, digest=record.digest, replaced=record.replaced, turn=board.turn)


def held_by(board: Board | None, record: Record, config: CanaryConfig, region: str) -> str | None:
    """Return what a region waits for; None if it may begin."""
    waits = config.before(region)
    if waits is None:
        return None
    if board is not None and board.versions != record.versions:
        return f"v{board.canary} over v{board.stable} has taken its place in other regions"
    standing = None if board is None else board.regions.get(waits)
    if standing is None or not standing.is_through:
        return f"waits for {waits}"
    if standing.digest and record.digest and standing.digest != record.digest:
        return f"{waits} has promoted another module (sha256:{standing.digest[:12]}) than is here"
    return None

"""``Waves``: the board of each rollout, in the store that the regions share."""

from __future__ import annotations

import asyncio

from ..capabilities.errors import CapabilityError
from ..exceptions import ConfigError
from .backends import open_store
from .board import Board, note_on
from .place import Place
from .record import Record
from .state import CanaryState
from .store import Store

_SECONDS = 3.0
"""What the board may take of a look."""


class Waves:
    """Uses the canary store itself, or a store of its own if ``url`` names one."""

    def __init__(self, place: Place, url: str = "") -> None:
        self._place = place
        self._url = url
        self._store: Store | None = None
        self._turn = asyncio.Lock()

    async def look(self, own: Store, live: CanaryState) -> bool:
        """Read the board, and return whether that could be done. If not, a region that waits goes on waiting."""
        try:
            async with asyncio.timeout(_SECONDS):
                live.board_revision, live.board = await self.read(own, live)
            live.waves_problem = None
        except TimeoutError:
            live.waves_problem = "the store of the waves does not answer"
        except (CapabilityError, ConfigError) as error:
            live.waves_problem = f"waves: {error.public if isinstance(error, ConfigError) else error.message}"
        return live.waves_problem is None

    async def read(self, own: Store, live: CanaryState) -> tuple[int, Board | None]:
        """Read the board and its revision. Raises CapabilityError and ConfigError."""
        reading = await (await self._get(own)).read(self._place.board(live.config))
        return reading.revision, None if reading.record is None else Board.load(reading.record)

    async def publish(self, own: Store, live: CanaryState, record: Record) -> None:
        """Write how this region stands. If another region was first, the next look does it."""
        board = note_on(live.board, record, self._place.region)
        if board is None:
            return
        try:
            async with asyncio.timeout(_SECONDS):
                store, name = await self._get(own), self._place.board(live.config)
                if await store.swap(name, live.board_revision, board.dump(), 1):
                    live.board, live.board_revision = board, live.board_revision + 1
        except (CapabilityError, ConfigError, TimeoutError):
            live.waves_problem = "the store of the waves does not take how this region stands"

    async def close(self) -> None:
        store, self._store = self._store, None
        if store is not None:
            await store.close()

    async def _get(self, own: Store) -> Store:
        if not self._url:
            return own
        async with self._turn:
            if self._store is None:
                store = open_store(self._url)
                await store.open()
                self._store = store
            return self._store

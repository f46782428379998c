"""``EdgeCall``: a call of ``handle`` of the world ``edge`` that component.c makes as a whole.

What the guest gives that is not as it should be, or is long, is left to Python, which takes the same steps one by one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ..engine.scratch import Scratch
from .errors import CanonicalTrap
from .flat_plan import LiftedFunction
from .handles import HandleTable
from .lifting import lift_result
from .side import Side
from .worlds import Entry

if TYPE_CHECKING:
    from .instance import CoreInstances

TICKED, ENDED, ASKED, ODD_ROOM, ODD_RESULT = range(5)
"""What polling comes to. Also in component.c."""
ALLOCATING, HANDLING, RETURNING = 1, 2, 3
"""What is called of the guest. Also in native.h."""


def can_be_made(entry: Entry | None) -> bool:
    """Return whether the entry of a component is such a function, as all tools make them."""
    if entry is None or entry.world != "edge" or entry.is_task:
        return False
    options = entry.function.options
    return options.encoding == "utf8" and options.memory is not None and options.realloc is not None


class EdgeCall:
    """One call, of an instance that has not been called yet since its first state."""

    def __init__(
        self,
        cores: CoreInstances,
        function: LiftedFunction,
        message: bytes,
        scratch: Scratch,
        room: Callable[[], int],
    ) -> None:
        """Take ``room``, which gives how many bytes the values of the call may take."""
        self._cores = cores
        self._function = function
        self._message = message
        self._room = room
        self.answer: bytes | None = None
        """What it has returned, once it has ended well."""
        self._scratch = scratch
        cores.prepare_edge(function)

    def begin(self) -> None:
        """Begin it, if component_path.c has not."""
        cores, message = self._cores, self._message
        if not message.isascii():
            message.decode()  # what a guest gets is valid
        cores.native.edge_begin(cores.state_at, self._scratch.at, message, len(message))

    @property
    def future(self) -> int | None:
        """The call of the guest that is under way."""
        found: int | None = self._cores.state.future
        return found

    @property
    def may_call_host(self) -> bool:
        return bool(self._cores.state.phase == HANDLING)

    def poll(self) -> int:
        """Let the guest go on: ENDED, TICKED or ASKED. Raises CanonicalTrap."""
        return self.came_to(self._cores.native.edge_poll(self._cores.state_at))

    def came_to(self, how: int) -> int:
        """Take what polling it has come to, and return what that comes to: as poll()."""
        native, at = self._cores.native, self._cores.state_at
        if how == ODD_ROOM:
            raise CanonicalTrap("out of bounds memory access")
        if how == ODD_RESULT:
            self.answer = self._lifted()
            how = native.edge_poll(at) if native.edge_return(at) else ENDED
        if how == ENDED:
            if self._scratch.trap.value or self._scratch.error.value:
                self.answer = None  # what it has returned counts for nothing if its post-return traps
            elif self.answer is None:
                self.answer = self._checked(self._scratch.result()[2])
        return how

    def _lifted(self) -> bytes:
        cores, function = self._cores, self._function
        memory = function.options.memory
        assert memory is not None
        side = Side(function.instance, HandleTable(), cores.memory(memory), room=self._room)
        text: str = lift_result(side, function.type, [cores.state.returned])
        return text.encode()

    @staticmethod
    def _checked(answer: bytes) -> bytes:
        if not answer.isascii():
            try:
                answer.decode()
            except UnicodeDecodeError:
                raise CanonicalTrap("invalid utf-8 in a string") from None
        return answer

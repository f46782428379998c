"""What is wrong with a component, or with what it does."""

from __future__ import annotations


class ComponentError(Exception):
    """A component cannot be used: its bytes are damaged, it is out of bounds, or it needs what is not there.

    ``where`` names the section and the byte, if it was found while reading.
    """

    def __init__(self, problem: str, where: str = "") -> None:
        self.problem = problem
        self.where = where
        super().__init__(f"{problem} ({where})" if where else problem)


class UnsupportedComponentError(ComponentError):
    """A valid component, as far as was looked, that needs what this package lacks. ``hint`` is what to do."""

    def __init__(self, problem: str, hint: str) -> None:
        self.hint = hint
        super().__init__(problem)


class CanonicalTrap(Exception):
    """A guest broke a rule of the canonical ABI, and ends, as at a trap of its own."""


class OutOfTime(CanonicalTrap):
    """A guest's time ended while its values were read or written."""

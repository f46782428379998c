"""What a component is, found by what it exports."""

from __future__ import annotations

from dataclasses import dataclass

from .errors import UnsupportedComponentError
from .flat_plan import ExportTree, FlatPlan, LiftedFunction

EDGE = "func(request: string) -> string"


@dataclass(frozen=True, slots=True)
class Entry:
    """The function that answers a request. ``world`` is ``edge``."""

    world: str
    function: LiftedFunction


def find_entry(plan: FlatPlan) -> Entry:
    """Raises UnsupportedComponentError for a component that is no function of a kind that is known."""
    sort, handle = plan.exports.get("handle", ("", None))
    if sort == "func" and isinstance(handle, LiftedFunction):
        if handle.type.text == EDGE:
            return Entry("edge", handle)
        raise UnsupportedComponentError(
            f"its export handle is {handle.type.text:.200}, not {EDGE}; build it for the world edge of sdk/wit"
        )
    raise UnsupportedComponentError(
        f"it exports {_names(plan.exports)}; a function exports handle: {EDGE} (the world edge of sdk/wit)"
    )


def _names(exports: ExportTree) -> str:
    names = [name for name, (sort, _) in exports.items() if sort in ("func", "instance")]
    return ", ".join(names[:10]) + (", ..." if len(names) > 10 else "") if names else "nothing"

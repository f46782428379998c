"""What a component is, found by what it exports."""

from __future__ import annotations

from dataclasses import dataclass

from .flat_plan import ExportTree, FlatPlan, LiftedFunction

EDGE = "func(request: string) -> string"


FOR_A_WORLD = f"build it for the world edge of sdk/wit, which exports handle: {EDGE}"


@dataclass(frozen=True, slots=True)
class Entry:
    """The function that answers a request. ``world`` is ``edge``."""

    world: str
    function: LiftedFunction


def find_entry(plan: FlatPlan) -> Entry | None:
    """What answers requests; None for a component that has only functions of other types."""
    sort, handle = plan.exports.get("handle", ("", None))
    if sort == "func" and isinstance(handle, LiftedFunction) and handle.type.text == EDGE:
        return Entry("edge", handle)
    return None


def why_not_served(plan: FlatPlan) -> str:
    """Why a component without an entry answers no requests, and what one that does exports."""
    _, handle = plan.exports.get("handle", ("", None))
    if isinstance(handle, LiftedFunction):
        return f"its export handle is {handle.type.text:.200}, not {EDGE}"
    return f"it exports {_names(plan.exports)}"


def _names(exports: ExportTree) -> str:
    names = [name for name, (sort, _) in exports.items() if sort in ("func", "instance")]
    return ", ".join(names[:10]) + (", ..." if len(names) > 10 else "") if names else "nothing"

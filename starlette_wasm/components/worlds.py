"""What a component is, found by what it exports."""

from __future__ import annotations

import re
from dataclasses import dataclass

from .flat_plan import ExportTree, FlatPlan, LiftedFunction
from .kinds import EDGE

_INSTANCES = (
    ("http", re.compile(r"wasi:http/incoming-handler@0\.2\.\d+.*"), "handle",
     re.compile(re.escape("func(request: incoming-request, response-out: response-outparam)"))),
    ("http", re.compile(r"wasi:http/handler@0\.3\.\d+.*"), "handle",
     re.compile(r"async func\(request: request\) -> result<response, variant \{.*\}>")),
    ("command", re.compile(r"wasi:cli/run@0\.3\.\d+.*"), "run", re.compile(r"async func\(\) -> result")),
    ("command", re.compile(r"wasi:cli/run@0\.2\.\d+.*"), "run", re.compile(r"func\(\) -> result")),
)  # fmt: skip
"""World, name of the interface, function in it, and its type."""


@dataclass(frozen=True, slots=True)
class Entry:
    """The function that answers a request. ``world`` is ``edge``, ``http`` or ``command``."""

    world: str
    function: LiftedFunction

    @property
    def is_task(self) -> bool:
        """Whether it may wait."""
        return self.function.type.is_async


def find_entry(plan: FlatPlan) -> Entry | None:
    """Find what answers requests; None for a component that has only functions of other types."""
    sort, handle = plan.exports.get("handle", ("", None))
    if sort == "func" and isinstance(handle, LiftedFunction) and handle.type.text.removeprefix("async ") == EDGE:
        return Entry("edge", handle)
    for world, interface, name, kind in _INSTANCES:
        for exported, (_, instance) in plan.exports.items():
            if interface.fullmatch(exported) and isinstance(instance, dict):
                function = instance.get(name, ("", None))[1]
                if isinstance(function, LiftedFunction) and kind.fullmatch(function.type.text):
                    return Entry(world, function)
    return None


def why_not_served(plan: FlatPlan) -> str:
    """Explain why a component without an entry answers no requests, and what one that does exports."""
    _, handle = plan.exports.get("handle", ("", None))
    if isinstance(handle, LiftedFunction):
        return f"its export handle is {handle.type.text:.200}, not {EDGE}"
    return f"it exports {_names(plan.exports)}"


def _names(exports: ExportTree) -> str:
    names = [name for name, (sort, _) in exports.items() if sort in ("func", "instance")]
    return ", ".join(names[:10]) + (", ..." if len(names) > 10 else "") if names else "nothing"

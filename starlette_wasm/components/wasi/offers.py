"""Which functions of WASI 0.2 there are, and of what type.

An import fits whatever the patch version of its interface is. Its type has to be the one that is written beside the
function; in that, ``...`` stands for what nothing here looks at.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

from ..errors import CanonicalTrap, UnsupportedComponentError
from ..flat_plan import FlatPlan, ImportedFunction

_VERSIONED = re.compile(r"(wasi:[a-z-]+/[a-z-]+)@0\.([23])\.\d+(?:[-+].*)?|(wasi:logging/logging)@0\.1\.\d+(?:[-+].*)?")
_SUFFIX = {"2": "", "3": "@0.3"}
"""What follows the name of an interface where it is offered, by its minor version."""
Call = Callable[..., Any]
_Call = TypeVar("_Call", bound=Call)
_ANYTHING = "..."
"""In the text of a type."""


@dataclass(frozen=True, slots=True)
class Offer:
    """A function that the host offers; ``call`` gets the host of the invocation and the lifted arguments."""

    type_text: str
    call: Call

    def fits(self, type_text: str) -> bool:
        """Return whether a function of this type may be answered by it. There are 250 offers: none has a regex."""
        first, *rest = self.type_text.split(_ANYTHING)
        if not rest:
            return type_text == first
        *inner, last = rest
        at, end = len(first), len(type_text) - len(last)
        if at > end or not (type_text.startswith(first) and type_text.endswith(last)):
            return False
        for piece in inner:
            at = type_text.find(piece, at, end)
            if at < 0:
                return False
            at += len(piece)
        return True


_offers: dict[str, dict[str, list[Offer]]] = {}
"""By interface and name. Drafts of one version may have different types for a function."""


def offer(interface: str, name: str, type_text: str) -> Callable[[_Call], _Call]:
    """Offer a function; to be put in front of it."""

    def keep(call: _Call) -> _Call:
        _offers.setdefault(interface, {}).setdefault(name, []).append(Offer(type_text, call))
        return call

    return keep


def refuse(interface: str, names: Iterable[str], reason: str) -> None:
    """Offer functions that end the guest: they need what it cannot have got. ``*`` is any name."""

    def trap(*_: object) -> Any:
        raise CanonicalTrap(reason)

    for name in names:
        offer(interface, name, "...")(trap)


_OURS = ("wasi:", "starlette-wasm:")
"""Packages of which another function satisfies nothing."""


def find_offers(plan: FlatPlan) -> dict[ImportedFunction, Offer]:
    """Find what answers each imported function that is used, if the host does.

    Raises UnsupportedComponentError for one that is missing in what WASI has; another function may satisfy the others.
    """
    found: dict[ImportedFunction, Offer] = {}
    for host in plan.hosts:
        if isinstance(host.of, ImportedFunction) and host.of.interface.startswith(_OURS):
            found[host.of] = _find(host.of)
    return found


def not_offered(function: ImportedFunction, minor: str = "2") -> UnsupportedComponentError:
    """Make the error for a function of an interface that the host knows nothing of."""
    names = [name.removesuffix(_SUFFIX[minor]) for name in _offers if ("@" in name) == (minor == "3")]
    return UnsupportedComponentError(
        f"it imports {function}, which is not offered", f"offered are, of version 0.{minor}: {', '.join(sorted(names))}"
    )


def _find(function: ImportedFunction) -> Offer:
    versioned = _VERSIONED.fullmatch(function.interface)
    minor = (versioned and versioned[2]) or "2"
    interface = (versioned[1] or versioned[3]) + _SUFFIX[minor] if versioned else function.interface
    known = _offers.get(interface)
    if known is None:
        raise not_offered(function, minor)
    given = known.get(function.name) or known.get("*")
    if given is None:
        raise UnsupportedComponentError(
            f"it imports {function}, which is not offered", f"offered of {interface} are: {', '.join(sorted(known))}"
        )
    for each in given:
        if each.fits(function.type.text):
            return each
    raise UnsupportedComponentError(
        f"it imports {function} as {function.type.text:.300}",
        f"the type of WASI 0.{minor} is {' or '.join(f'{each.type_text:.300}' for each in given)}",
    )

"""``DirectCall``: calls of the host whose types are plain, lifted and lowered by what was worked out at loading.

Numbers, handles of the host, bytes and text go in, a number, a handle or a result of those comes out: most of what
``wasi:io`` and ``wasi:http`` have. All else, an error as a result included, goes the way that is right for every type
(calls.py, lifting.py, lowering.py), which these are tested against.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from .errors import CanonicalTrap
from .flat_plan import HostFunction, ImportedFunction
from .glue import form_of
from .handles import Handle, HandleTable
from .lowering import Lowering, Realloc
from .side import MAX_AT_ONCE, Memory
from .types import FuncType, HandleType, ListType, Primitive, Resource, StringType, ValueType, VariantType
from .values import Ok, Value
from .wasi.offers import Offer

if TYPE_CHECKING:
    from .wasi.host import WasiHost

_MASKS = {"u8": 0xFF, "u16": 0xFFFF, "u32": 0xFFFFFFFF, "u64": (1 << 64) - 1}
Lift = Callable[[HandleTable, Memory, list[int]], Value]
Lower = Callable[[HandleTable, Value], int]


class TooLargeError(Exception):
    """A value is too large for a direct call; nothing was done."""


class DirectCall:
    """One function of the host. It may be used by any thread."""

    __slots__ = ("_call", "_lifts", "lower", "placed")

    def __init__(
        self, call: Callable[..., Any], lifts: list[Lift], lower: LowerResult | None, placed: PlacedResult | None
    ) -> None:
        self._call = call
        self._lifts = lifts
        self.lower = lower
        """None if what comes back is not plain."""
        self.placed = placed
        """For bytes or text, which the guest has to give room for."""

    def call(self, host: WasiHost, table: HandleTable, memory: Memory, flat: list[int]) -> Any:
        """Return what the host gives: a value, or an Await. Raises CanonicalTrap, and TooLargeError."""
        return self._call(host, *[lift(table, memory, flat) for lift in self._lifts])


def direct_calls(hosts: list[HostFunction], offers: Mapping[ImportedFunction, Offer]) -> list[DirectCall | None]:
    """Return the direct call of each function of the host, by its number."""
    return [_direct_call(host, offers) for host in hosts]


def _direct_call(host: HostFunction, offers: Mapping[ImportedFunction, Offer]) -> DirectCall | None:
    if not isinstance(host.of, ImportedFunction) or host.options.is_async or host.options.encoding != "utf8":
        return None
    found = offers.get(host.of)
    kind = host.of.type
    kinds = {each.kind for _, each in kind.params}
    if found is None or {"own", "borrow"} <= kinds:  # what is lent may not be given away in one call
        return None
    lifts, at = [], 0
    for _, each in kind.params:
        lift = _lift_of(each, at)
        if lift is None:
            return None
        lifts.append(lift)
        at += len(each.flat)
    count = len(form_of(host).params)
    return DirectCall(found.call, lifts, _lower_of(kind, count), _placed_of(kind, count))


def _lift_of(kind: ValueType, at: int) -> Lift | None:
    """Lift the value whose flat form begins there."""
    match kind:
        case Primitive() if kind.kind in _MASKS:
            mask = _MASKS[kind.kind]
            return lambda table, memory, flat: flat[at] & mask
        case HandleType(resource=resource) if resource.instance is None:
            return _lift_handle(kind.kind, resource, at)
        case StringType():
            return lambda table, memory, flat: _text(_bytes(memory, flat[at], flat[at + 1]))
        case ListType(element=element) if element.kind == "u8":
            return lambda table, memory, flat: _bytes(memory, flat[at], flat[at + 1])
    return None


def _lift_handle(kind: str, resource: Resource, at: int) -> Lift:
    if kind == "own":
        return lambda table, memory, flat: table.take_own(flat[at] & 0xFFFFFFFF, resource)
    return lambda table, memory, flat: table.get(flat[at] & 0xFFFFFFFF, resource).rep


def _bytes(memory: Memory, place: int, size: int) -> bytes:
    size &= 0xFFFFFFFF
    if size > MAX_AT_ONCE:  # whether there is room for it is asked for elsewhere
        raise TooLargeError
    return memory.read(place & 0xFFFFFFFF, size)


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise CanonicalTrap("invalid utf-8 in a string") from None


class LowerResult:
    """Lowers what a call gives, if it is plain."""

    __slots__ = ("_kind", "_lower", "_place", "_wrapped")

    def __init__(
        self, kind: ValueType | None, lower: Lower | None, place: int | None, wrapped: VariantType | None
    ) -> None:
        """Take ``place``, the argument with the address for it; ``wrapped`` is the result whose case ``ok`` it is."""
        self._kind = kind
        self._lower = lower
        self._place = place
        self._wrapped = wrapped

    def __call__(self, table: HandleTable, memory: Memory, flat: list[int], value: Value) -> list[int] | None:
        """Return the flat result; None if it is not plain: nothing was done."""
        wrapped = self._wrapped
        if wrapped is None:
            return self._flat(table, value)
        if type(value) is not Ok:
            return None
        lowered = self._flat(table, value.value)
        if lowered is None:
            return None
        if self._place is None:
            return [0, *lowered]
        return self._put(memory, flat[self._place] & 0xFFFFFFFF, wrapped, lowered)

    def _flat(self, table: HandleTable, value: Value) -> list[int] | None:
        if self._lower is None:
            return [] if value is None else None
        return [self._lower(table, value)]

    def _put(self, memory: Memory, at: int, wrapped: VariantType, lowered: list[int]) -> list[int]:
        if at % wrapped.alignment:
            raise CanonicalTrap(f"unaligned pointer: {at} for {wrapped}")
        data = bytearray(wrapped.size)
        if self._kind is not None:
            begin = wrapped.payload_at
            data[begin : begin + self._kind.size] = lowered[0].to_bytes(self._kind.size, "little")
        memory.write(at, bytes(data))
        return []


def _lower_of(kind: FuncType, count: int) -> LowerResult | None:
    """Find how to lower the result; of ``count`` core parameters, a place for it is the last."""
    result = kind.result
    spilled = count > sum(len(each.flat) for _, each in kind.params)
    if isinstance(result, VariantType) and result.kind == "result":
        payload = result.cases[0][1]
        if not spilled and (payload is not None or len(result.flat) > 1):
            return None
        lower = None if payload is None else _lower_plain(payload)
        if payload is not None and lower is None:
            return None
        return LowerResult(payload, lower, count - 1 if spilled else None, result)
    lower = None if result is None else _lower_plain(result)
    if spilled or (result is not None and lower is None):
        return None
    return LowerResult(result, lower, None, None)


class PlacedResult:
    """Bytes or text as a result, in its case ``ok``, in an option, or alone."""

    __slots__ = ("_at", "_kind", "_place", "_tag")

    def __init__(self, kind: ValueType, place: int, at: int, tag: int | None) -> None:
        """Take ``at``, where in the result its place and length are noted."""
        self._kind = kind
        self._place = place
        self._at = at
        self._tag = tag

    def data(self, value: Value) -> bytes | None:
        """Return what is to be written; None if it is not that."""
        if self._kind.kind == "result":
            if type(value) is not Ok:
                return None
            value = value.value
        if type(value) is str:
            value = value.encode()  # what is not valid raises, and would anywhere
        return value if type(value) is bytes else None

    def lower(self, memory: Memory, flat: list[int], data: bytes) -> Lowering:
        """Ask the guest for room for it, and write it there."""
        at = yield Realloc(1, len(data))
        self.put(memory, flat, at & 0xFFFFFFFF, data)
        return []

    def put(self, memory: Memory, flat: list[int], given: int, data: bytes) -> None:
        """Write it where the guest has given room, and note that. Traps if that is not there."""
        into = flat[self._place] & 0xFFFFFFFF
        if into % self._kind.alignment:
            raise CanonicalTrap(f"unaligned pointer: {into} for {self._kind}")
        noted = bytearray(self._kind.size)
        if self._tag is not None:
            noted[0] = self._tag
        noted[self._at : self._at + 8] = _PLACE.pack(given, len(data))
        memory.write(given, data)
        memory.write(into, bytes(noted))


_PLACE = struct.Struct("<II")


def _placed_of(kind: FuncType, count: int) -> PlacedResult | None:
    result = kind.result
    if isinstance(result, VariantType) and result.kind in ("result", "option"):
        tag = int(result.kind == "option")
        payload = result.cases[tag][1]
        return None if not _is_data(payload) else PlacedResult(result, count - 1, result.payload_at, tag)
    return PlacedResult(result, count - 1, 0, None) if result is not None and _is_data(result) else None


def _is_data(kind: ValueType | None) -> bool:
    return isinstance(kind, StringType) or (isinstance(kind, ListType) and kind.element.kind == "u8")


def _lower_plain(kind: ValueType) -> Lower | None:
    match kind:
        case Primitive() if kind.kind in _MASKS:
            return _lower_number(kind)
        case Primitive() if kind.kind == "bool":
            return lambda table, value: int(value)
        case HandleType(resource=resource) if kind.kind == "own" and resource.instance is None:
            return lambda table, value: table.add(Handle(resource, value))
    return None


def _lower_number(kind: ValueType) -> Lower:
    most = _MASKS[kind.kind]

    def lower(_: HandleTable, value: Value) -> int:
        if not 0 <= value <= most:
            raise ValueError(f"{value} does not fit {kind}")
        number: int = value
        return number

    return lower

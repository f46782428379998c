"""The resource ``fields`` of ``wasi:http/types``: header fields and trailers."""

from __future__ import annotations

import re

from ..errors import CanonicalTrap
from ..values import Err, Ok, Value
from .host import WasiHost
from .offers import offer

TYPES = "wasi:http/types"
_HEADER_ERROR = "variant {invalid-syntax, forbidden, immutable...}"
_LONGEST_NAME = 4096
_NAME = re.compile(rf"[!#$%&'*+\-.^_`|~0-9A-Za-z]{{1,{_LONGEST_NAME}}}").fullmatch
_VALUE = re.compile(rb"[\t\x20-\x7e\x80-\xff]*").fullmatch
valid_length = re.compile(rb"[0-9]{1,18}").fullmatch
FORBIDDEN = frozenset(
    ("connection", "host", "http2-settings", "keep-alive", "proxy-authenticate", "proxy-authorization",
     "proxy-connection", "transfer-encoding", "upgrade")
)  # fmt: skip
"""Names that guests do not see in a request, and may not set. Also in request.c."""
_MOST_FIELDS = 1000
_ENTRY = 200
"""What an entry takes beside its bytes."""


class Fields:
    """Names, in small letters, and values, in their order. Those of a request cannot be changed."""

    def __init__(self, entries: list[tuple[str, bytes]] | None = None, *, fixed: bool = False) -> None:
        self.entries = entries or []
        self.fixed = fixed

    def get(self, name: str) -> list[bytes]:
        if len(name) > _LONGEST_NAME:
            return []
        wanted = name.lower()
        return [value for each, value in self.entries if each == wanted]

    def remove(self, name: str) -> None:
        unwanted = name.lower()
        self.entries = [entry for entry in self.entries if entry[0] != unwanted]

    @staticmethod
    def wrong_name(name: str) -> Err | None:
        """Return what is wrong with the name of a field, in small letters."""
        if not _NAME(name):
            return Err(("invalid-syntax", None))
        return Err(("forbidden", None)) if name in FORBIDDEN else None

    def add(self, name: str, value: bytes) -> Value:
        """Return Ok, or what is wrong."""
        name = name.lower()
        wrong = self.wrong_name(name)
        if wrong is not None:
            return wrong
        if not _VALUE(value) or (name == "content-length" and not valid_length(value)):
            return Err(("invalid-syntax", None))
        if len(self.entries) >= _MOST_FIELDS:
            raise CanonicalTrap(f"more than {_MOST_FIELDS} header fields")
        self.entries.append((name, value))
        return Ok()

    @property
    def size(self) -> int:
        """Bytes that it takes, about."""
        return sum(len(name) + len(value) + _ENTRY for name, value in self.entries)


@offer(TYPES, "[constructor]fields", "func() -> fields")
def new_fields(_: WasiHost) -> Value:
    return Fields()


@offer(
    TYPES,
    "[static]fields.from-list",
    f"func(entries: list<tuple<string, list<u8>>>) -> result<fields, {_HEADER_ERROR}>",
)
def fields_from_list(host: WasiHost, entries: list[tuple[str, bytes]]) -> Value:
    host.spend_on_fields(sum(len(name) + len(value) + _ENTRY for name, value in entries))
    made = Fields()
    for name, value in entries:
        added = made.add(name, value)
        if isinstance(added, Err):
            return added
    return Ok(made)


@offer(TYPES, "[method]fields.get", "func(self: borrow<fields>, name: string) -> list<list<u8>>")
def fields_get(_: WasiHost, fields: Fields, name: str) -> Value:
    return fields.get(name)


@offer(TYPES, "[method]fields.has", "func(self: borrow<fields>, name: string) -> bool")
def fields_has(_: WasiHost, fields: Fields, name: str) -> Value:
    return bool(fields.get(name))


@offer(
    TYPES,
    "[method]fields.set",
    f"func(self: borrow<fields>, name: string, value: list<list<u8>>) -> result<_, {_HEADER_ERROR}>",
)
def fields_set(host: WasiHost, fields: Fields, name: str, values: list[bytes]) -> Value:
    if fields.fixed:
        return Err(("immutable", None))
    wrong = fields.wrong_name(name.lower())
    if wrong is not None:
        return wrong
    host.spend_on_fields(sum(len(name) + len(value) + _ENTRY for value in values))
    before = fields.entries
    fields.remove(name)
    for value in values:
        added = fields.add(name, value)
        if isinstance(added, Err):
            fields.entries = before
            return added
    return Ok()


@offer(TYPES, "[method]fields.delete", f"func(self: borrow<fields>, name: string) -> result<_, {_HEADER_ERROR}>")
def fields_delete(_: WasiHost, fields: Fields, name: str) -> Value:
    if fields.fixed:
        return Err(("immutable", None))
    wrong = fields.wrong_name(name.lower())
    if wrong is not None:
        return wrong
    fields.remove(name)
    return Ok()


@offer(
    TYPES,
    "[method]fields.append",
    f"func(self: borrow<fields>, name: string, value: list<u8>) -> result<_, {_HEADER_ERROR}>",
)
def fields_append(host: WasiHost, fields: Fields, name: str, value: bytes) -> Value:
    host.spend_on_fields(len(name) + len(value) + _ENTRY)
    return Err(("immutable", None)) if fields.fixed else fields.add(name, value)


@offer(TYPES, "[method]fields.entries", "func(self: borrow<fields>) -> list<tuple<string, list<u8>>>")
@offer(TYPES, "[method]fields.copy-all", "func(self: borrow<fields>) -> list<tuple<string, list<u8>>>")
def fields_entries(_: WasiHost, fields: Fields) -> Value:
    return list(fields.entries)


@offer(TYPES, "[method]fields.clone", "func(self: borrow<fields>) -> fields")
def fields_clone(host: WasiHost, fields: Fields) -> Value:
    host.spend_on_fields(fields.size)
    return Fields(list(fields.entries))

"""From a guest's text to a module: what most guests need is put around it.

A text that is no whole ``(module ...)`` gets the imports that it names, a memory of one page where it has none, and,
where it defines ``$main``, a ``_start`` that calls it and then ``$answer``. There are for it:

* ``$say`` appends a number and a space to the answer's body; ``$answer`` prints the answer, 200 with that body;
* ``$open`` (path, length, oflags, rights) opens below the first granted directory; the descriptor is at 60000;
* ``$edge_call`` and ``$edge_take`` are the functions of the import module ``edge``.

All of that uses memory from 60000 to 65535.
"""

from __future__ import annotations

import re
import struct

from support import SIGNATURES, imported

from starlette_wasm.engine import capi

_EDGE = {
    "edge_call": '(import "edge" "call" (func $edge_call (param i32 i32 i32) (result i32)))',
    "edge_take": '(import "edge" "take" (func $edge_take (param i32) (result i32)))',
}
_OPEN = """
  (func $open (param $path i32) (param $len i32) (param $oflags i32) (param $rights i64) (result i32)
    (call $path_open (i32.const 3) (i32.const 1) (local.get $path) (local.get $len) (local.get $oflags)
      (local.get $rights) (local.get $rights) (i32.const 0) (i32.const 60000)))"""
_ANSWER = r"""
  (data (i32.const 60008) "{\"status_code\":200,\"body\":\"")
  (data (i32.const 60040) "\"}")
  (global $end (mut i32) (i32.const 61000))
  (func $put (param $char i32)
    (i32.store8 (global.get $end) (local.get $char))
    (global.set $end (i32.add (global.get $end) (i32.const 1))))
  (func $digits (param $value i32)
    (if (i32.gt_u (local.get $value) (i32.const 9))
      (then (call $digits (i32.div_u (local.get $value) (i32.const 10)))))
    (call $put (i32.add (i32.const 48) (i32.rem_u (local.get $value) (i32.const 10)))))
  (func $say (param $value i32)
    (if (i32.lt_s (local.get $value) (i32.const 0))
      (then (call $put (i32.const 45)) (local.set $value (i32.sub (i32.const 0) (local.get $value)))))
    (call $digits (local.get $value))
    (call $put (i32.const 32)))
  (func $answer
    (i32.store (i32.const 60048) (i32.const 60008)) (i32.store (i32.const 60052) (i32.const 27))
    (i32.store (i32.const 60056) (i32.const 61000))
    (i32.store (i32.const 60060) (i32.sub (global.get $end) (i32.const 61000)))
    (i32.store (i32.const 60064) (i32.const 60040)) (i32.store (i32.const 60068) (i32.const 2))
    (drop (call $fd_write (i32.const 1) (i32.const 60048) (i32.const 3) (i32.const 60072))))
  (func (export "_start") (call $main) (call $answer))"""


def whole(text: str) -> str:
    """The text of a whole module."""
    if re.search(r"^\s*\(module\b", text, re.MULTILINE):
        return text
    parts = [text]
    if re.search(r"\(func \$main\b", text):
        parts.append(_ANSWER)
    if "$open" in text:
        parts.append(_OPEN)
    if not re.search(r"\(memory \(export|^\(memory \d", text, re.MULTILINE):
        parts.append('(memory (export "memory") 1)')
    used = set(re.findall(r"\$(\w+)", "".join(parts)))
    wasi = imported(*(name for name in SIGNATURES if name in used))
    return "\n".join(["(module", wasi, *(_EDGE[name] for name in _EDGE if name in used), *parts, ")"])


def printing(stdout: bytes) -> str:
    """A guest that prints these bytes."""
    return f"""(module {imported("fd_write")}
      (memory (export "memory") {1 + (len(stdout) + 16 >> 16)})
      (data (i32.const 0) "{escaped(struct.pack("<II", 16, len(stdout)))}")
      (data (i32.const 16) "{escaped(stdout)}")
      (func (export "_start")
        (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))"""


def calling(operation: int, payload: bytes) -> str:
    """A guest of the CGI protocol: calls the host once, and answers with what came back."""
    at = 1 << 16
    pages = 4 + (len(payload) >> 16)
    return f"""(module {imported("fd_write")} {" ".join(_EDGE.values())}
      (memory (export "memory") {pages})
      (data (i32.const 0) "content-type: text/plain\\0a\\0a")
      (data (i32.const {at}) "{escaped(payload)}")
      (func (export "_start") (local $len i32)
        (local.set $len (call $edge_call (i32.const {operation}) (i32.const {at}) (i32.const {len(payload)})))
        (drop (call $edge_take (i32.const 1024)))
        (i32.store (i32.const 64) (i32.const 0)) (i32.store (i32.const 68) (i32.const 26))
        (i32.store (i32.const 72) (i32.const 1028))
        (i32.store (i32.const 76) (i32.sub (local.get $len) (i32.const 4)))
        (drop (call $fd_write (i32.const 1) (i32.const 64) (i32.const 2) (i32.const 80)))))"""


def escaped(data: bytes) -> str:
    return "".join(f"\\{byte:02x}" for byte in data)


def assemble(text: str) -> bytes:
    return capi.assemble(whole(text))

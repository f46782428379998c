"""Says what a file is that is no WebAssembly module, by how it begins, and what to do about it."""

from __future__ import annotations

import re

_BUILD = "put the module there that the compiler made for WASI"

# How a file begins, what it is, and the remedy. The first that fits counts.
_KINDS: tuple[tuple[bytes, str, str], ...] = (
    (rb"\Z", "the file is empty", "build or copy it again"),
    (rb"\xef\xbb\xbf\0asm", "it has a byte order mark in front", "copy it as a binary file"),
    (rb"\0asm", "its header is damaged", "build or copy it again"),
    (rb"\x7fELF", "it is an ELF file: native code for Linux, or wasmtime's compiled .cwasm", _BUILD),
    (rb"(\xfe\xed\xfa[\xce\xcf]|[\xce\xcf]\xfa\xed\xfe)", "it is a Mach-O file: native code for macOS", _BUILD),
    (rb"\xca\xfe\xba\xbe", "it is a Java class file, or native code for macOS", _BUILD),
    (rb"MZ", "it is a PE file: native code for Windows", _BUILD),
    (rb"!<arch>\n", "it is a static library", "link it into a program"),
    (rb"(BC\xc0\xde|\xde\xc0\x17\x0b)", "it is LLVM bitcode", "link it into a module"),
    (rb"version https://git-lfs", "it is a pointer of Git LFS, not the file", "run git lfs pull"),
    (rb"(?i)\s*(<!doctype html|<html|<\?xml|<!--)", "it is a web page", "download the file itself"),
    (rb"\x1f\x8b", "it is compressed with gzip", "decompress it"),
    (rb"\x28\xb5\x2f\xfd", "it is compressed with zstd", "decompress it"),
    (rb"(BZh|\xfd7zXZ)", "it is compressed", "decompress it"),
    (rb"PK\x03\x04", "it is a ZIP archive", "unpack it"),
    (rb"AGFzbQ", "it is encoded as base64", "decode it: base64 -d"),
    (rb"0061736d", "it is encoded as hexadecimal", "decode it: xxd -r -p"),
    (rb"#!", "it is a script", _BUILD),
    (rb"(?s)\s*(;;[^\n]*\n\s*|\(;.*?;\)\s*)*\(\s*(module|component|func)\b", "it is WebAssembly text",
     "turn it into binary: wat2wasm, or wasm-tools parse"),
    (rb"\s*\{", "it is JSON, or source code", _BUILD),
)  # fmt: skip
_COMPILED = tuple((re.compile(pattern), what, hint) for pattern, what, hint in _KINDS)
_HEAD = 4096


def recognise(content: bytes) -> tuple[str, str]:
    """Return what the bytes are, and the remedy."""
    head = content[:_HEAD]
    for pattern, what, hint in _COMPILED:
        if pattern.match(head):
            return what, hint
    if len(content) >= 257 and content[257:262] == b"ustar":
        return "it is a tar archive", "unpack it"
    try:
        head.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.start < len(head) - 3:
            return f"it begins with the bytes {head[:8].hex(' ')}", "build or copy it again"
    return "it is text", _BUILD

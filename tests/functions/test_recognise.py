"""What a file is that is no WebAssembly module."""

from __future__ import annotations

import gzip
import io
import tarfile
from pathlib import Path

import pytest

from starlette_wasm.config.router import load_config
from starlette_wasm.exceptions import FunctionNotFound, ModuleLoadError
from starlette_wasm.functions.catalog import Catalog
from starlette_wasm.functions.recognise import recognise


def tar() -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("f.wasm"))
    return stream.getvalue()


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "empty"),
        (b"\x7fELF\x02", "ELF"),
        (b"MZ\x90\0", "PE file"),
        (b"\xcf\xfa\xed\xfe", "Mach-O"),
        (b"!<arch>\n", "static library"),
        (b"version https://git-lfs.github.com/spec/v1\noid x", "Git LFS"),
        (b"<!DOCTYPE html><html>", "web page"),
        (b"\n<HTML>", "web page"),
        (gzip.compress(b"\0asm", mtime=0), "gzip"),
        (b"PK\x03\x04", "ZIP"),
        (tar(), "tar"),
        (b"AGFzbQEAAAA=", "base64"),
        (b"0061736d01000000", "hexadecimal"),
        (b";; a comment\n(module)", "WebAssembly text"),
        (b"(; x ;) ( module $m)", "WebAssembly text"),
        (b"#!/bin/sh\n", "script"),
        (b'{"a": 1}', "JSON"),
        ("hell\u00f6".encode(), "it is text"),
        (b"\xff\xfe\x00\x01\x02", "ff fe 00 01 02"),
        (b"\0asm\x02\0\0\0", "header is damaged"),
        (b"\xef\xbb\xbf\0asm", "byte order mark"),
    ],
)
def test_a_file_is_recognised_by_how_it_begins(content: bytes, what: str) -> None:
    assert what in recognise(content)[0]


def test_a_misplaced_function_is_found(tmp_path: Path) -> None:
    functions = load_config({"functionsDir": str(tmp_path)}).functions_dir
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare/bare.wasm").touch()
    (tmp_path / "numbered/1").mkdir(parents=True)
    (tmp_path / "flat.wasm").touch()
    (tmp_path / "empty").mkdir()
    catalog = Catalog(functions)
    for name, hint in {
        "bare": f"move {tmp_path}/bare/bare.wasm to {tmp_path}/bare/v1/bare.wasm",
        "numbered": f"rename {tmp_path}/numbered/1 to v1",
        "flat": f"move {tmp_path}/flat.wasm to {tmp_path}/flat/v1/flat.wasm",
        "empty": f"put its module into {tmp_path}/empty/v1/empty.wasm",
    }.items():
        with pytest.raises(FunctionNotFound) as caught:
            catalog.get(name)
        assert str(caught.value).endswith(hint)
    with pytest.raises(FunctionNotFound, match=r"there is none$"):
        catalog.get("../etc")


def test_a_module_under_another_name_is_to_be_renamed(tmp_path: Path) -> None:
    (tmp_path / "f/v1").mkdir(parents=True)
    (tmp_path / "f/v1/main.wasm").touch()
    with pytest.raises(ModuleLoadError, match=r"f\.wasm: no such file; rename main\.wasm to f\.wasm"):
        Catalog(tmp_path)


def test_a_version_with_v_is_told_without(tmp_path: Path) -> None:
    (tmp_path / "f/v1").mkdir(parents=True)
    (tmp_path / "f/v1/f.wasm").touch()
    with pytest.raises(FunctionNotFound, match='known versions: 1; write "1"'):
        Catalog(tmp_path).get("f", "v1")

"""``PUT`` of a version of a function: bounded, checked and compiled before it is taken."""

from __future__ import annotations

import asyncio
import binascii
import os
import re
import secrets
import shutil
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starlette.responses import JSONResponse, Response

from ...config.names import is_function_name, is_version
from ...exceptions import WasmError
from ...functions.admission import admit
from ...functions.catalog import FunctionManifest, FunctionSource
from ...functions.registry import place, signatures_file
from ...functions.registry.directory_lock import directory_lock
from ...functions.registry.errors import RegistryError
from ...functions.registry.reference import digest_of
from ...functions.required_signatures import load_required
from ...protocols.small_json import load_small
from ...sync.own_thread import in_own_thread
from ...sync.slots import FairSlots
from .access import Refused
from .call import AdminCall

_PARTS = ".parts"
_LOCK_SECONDS = 30.0
"""Seconds that an upload waits for others who put versions in place."""
_KEY = b'"module"'
_TEXT = re.compile(rb'[ \t\r\n]*:[ \t\r\n]*"').match
_MOST_BESIDE = 2 * signatures_file.MOST_BYTES
"""Bytes of an upload as JSON beside its module."""
_PIECE = 256 << 10
_MOST_AT_ONCE = 8
"""Uploads that are read or wait at once, each with max_upload_bytes and more; one of each caller always may."""


@dataclass(frozen=True, slots=True)
class _Upload:
    module: bytes
    manifest: str | None = None
    signatures: bytes | None = None


@dataclass(frozen=True, slots=True)
class _Version:
    """The place of a version, for a module with that digest."""

    directory: Path
    name: str
    number: str
    digest: str

    def __str__(self) -> str:
        return f"{self.name} v{self.number}"

    def is_same(self, given: _Upload) -> bool:
        """Return whether it is there. Raises Refused if it has other content."""
        there = place.digest_of_file(place.module_file(self.directory, self.name, self.number))
        if not there:
            return False
        if there != self.digest or not place.has_manifest(self.directory, self.name, self.number, given.manifest):
            raise Refused(409, f"{self} is there, with other content; give it another version")
        return True

    def has(self, given: _Upload) -> bool:
        """Return whether it has the signatures too, if any are given."""
        beside = (self.directory, self.name, self.number, given.manifest, given.signatures)
        return given.signatures is None or place.has_beside(*beside)


class Uploads:
    """Takes versions: of each caller one at a time, of whom each is compiled without waiting for others."""

    def __init__(self, most_bytes: int, keys: Sequence[Path]) -> None:
        self._most = most_bytes
        self._keys = list(keys)
        self._shares = FairSlots(most=os.cpu_count() or 1, each=1, waiting=_MOST_AT_ONCE)
        self._turn = asyncio.Lock()
        self._under_way: Counter[str] = Counter()

    async def put(self, call: AdminCall) -> Response:
        """Take a new version of a function, and serve it.

        The body is the module (``application/wasm``), or JSON with ``module`` in base64, and the text of
        ``function.yaml`` as ``manifest`` and that of ``signatures.json`` as ``signatures``. A version never changes:
        other bytes under one that is there are refused with 409.
        """
        name, version = call.function, str(call.request.path_params["version"])
        if not is_function_name(name) or not is_version(version):
            raise Refused(422, "that is no name of a function and version, such as greeter and 1.2")
        who = call.identity.name
        if self._under_way[who] and self._under_way.total() >= _MOST_AT_ONCE:
            raise Refused(503, "too many versions are uploaded at once", retry_after=5)
        self._under_way[who] += 1
        try:
            return await self._put(call, name, version)
        finally:
            self._under_way[who] -= 1
            self._under_way += Counter()  # without those that have none

    async def _put(self, call: AdminCall, name: str, version: str) -> Response:
        given = await self._read(call)
        await in_own_thread(lambda: _check_imports(call, given.manifest))
        digest = await in_own_thread(lambda: digest_of(given.module))
        version_there = _Version(call.runtime.deployment.config.functions_dir, name, version, digest)
        async with self._shares.slot(call.identity.name):
            fresh = await self._taken(call, version_there, given)
        answer = {"function": name, "version": version, "digest": digest}
        return JSONResponse(answer, 201 if fresh else 200)

    async def _taken(self, call: AdminCall, version: _Version, given: _Upload) -> bool:
        """Check it in a folder that the app does not look at, then put it in place. Raise what the check raises.

        Return whether the version is new.
        """
        if await in_own_thread(lambda: version.is_same(given)) and version.has(given):
            return False
        folder = version.directory / _PARTS / f"upload-{secrets.token_hex(8)}"
        try:
            file = await in_own_thread(lambda: _unpacked(folder, version.name, given))
            await in_own_thread(lambda: self._check(call, version, file, given))
            async with self._turn_at(version.directory):
                if await in_own_thread(lambda: version.is_same(given)):
                    await _sign_anew(call, version, given)
                    return False
                await _place(call, version, file, given)
                return True
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    async def _read(self, call: AdminCall) -> _Upload:
        kind = call.request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind == "application/wasm":
            return _Upload(await call.read(self._most))
        if kind != "application/json":
            raise Refused(415, "send application/wasm or application/json")
        data = await call.read(self._most * 4 // 3 + _MOST_BESIDE)
        given, module = await in_own_thread(lambda: _parts_of(data))
        manifest, signatures = given.get("manifest"), given.get("signatures")
        if not all(each is None or _is_text(each) for each in (manifest, signatures)):
            raise Refused(422, "manifest and signatures must be text")
        if len(module) > self._most:
            raise Refused(413, f"the module may have {self._most} bytes")
        return _Upload(module, manifest, None if signatures is None else signatures.encode())

    @asynccontextmanager
    async def _turn_at(self, directory: Path) -> AsyncIterator[None]:
        """Wait until nobody else puts versions there: whoever does may be reading them from a slow registry."""
        async with AsyncExitStack() as stack:
            try:
                async with asyncio.timeout(_LOCK_SECONDS):
                    await stack.enter_async_context(self._turn)  # of each caller, one waits
                    await stack.enter_async_context(directory_lock(directory))
            except TimeoutError:
                raise Refused(503, "others put versions into functionsDir", retry_after=30) from None
            yield

    def _check(self, call: AdminCall, version: _Version, file: Path, given: _Upload) -> None:
        runtime = call.runtime
        digest = admit(runtime.engine, runtime.settings, version.name, version.number, file, given.manifest)
        source = FunctionSource(version.name, version.number, file, _manifest(given.manifest))
        for keys in (self._keys, runtime.deployment.config.require_signatures or ()):
            required = load_required(keys, None)
            if required is not None:
                required.check(source, digest)


async def _place(call: AdminCall, version: _Version, file: Path, given: _Upload) -> None:
    """Put it in place and serve it, or take it away again and raise what the reload raises."""
    directory, name, number = version.directory, version.name, version.number
    put = lambda: place.place(directory, name, number, file, given.manifest, given.signatures)  # noqa: E731
    placing = asyncio.ensure_future(in_own_thread(put))
    try:
        await asyncio.shield(placing)
        await call.runtime.reload()
    except BaseException:  # a cancelled one too, which nobody has answered
        await asyncio.wait([placing])
        if place.module_file(directory, name, number).exists():
            place.remove(directory, name, number)
        raise


async def _sign_anew(call: AdminCall, version: _Version, given: _Upload) -> None:
    """Take other signatures, which were checked, for a version that is there."""
    signatures = given.signatures
    if signatures is None or version.has(given):
        return
    target = place.module_file(version.directory, version.name, version.number).with_name(signatures_file.NAME)
    try:
        await in_own_thread(lambda: place.write(target, signatures))
    except OSError as error:
        raise RegistryError(f"cannot be written: {error.strerror}", source=str(target)) from None
    await call.runtime.reload()


def refusal(error: WasmError) -> int:
    """Return the status for an upload that was not taken."""
    return 507 if isinstance(error, RegistryError) else 422


def _unpacked(folder: Path, name: str, given: _Upload) -> Path:
    try:
        folder.mkdir(parents=True, mode=0o700)
        file = folder / f"{name}.wasm"
        file.write_bytes(given.module)
        if given.signatures is not None:
            (folder / signatures_file.NAME).write_bytes(given.signatures)
    except OSError as error:
        raise RegistryError(
            f"cannot be written: {error.strerror}", source=str(folder), hint="check owner, mode and free space"
        ) from None
    return file


def _manifest(text: str | None) -> FunctionManifest:
    from ...config.loading import parse_yaml
    from ...config.validation import validate

    return FunctionManifest() if text is None else validate(FunctionManifest, parse_yaml(text, "a manifest"))


def _check_imports(call: AdminCall, text: str | None) -> None:
    """Raise Refused for an import of a function that is not the caller's: it would run under what that is granted."""
    imports = _manifest(text).imports.values()
    foreign = sorted({each.function for each in imports if not call.identity.sees(each.function)})
    if foreign:
        raise Refused(403, f"imports of functions that are not yours are not allowed: {', '.join(foreign)}")


def _is_text(value: Any) -> bool:
    """Return whether it can be stored as UTF-8: JSON may have half a surrogate pair."""
    try:
        return isinstance(value, str) and value.encode() is not None
    except UnicodeEncodeError:
        return False


def _parts_of(data: bytes) -> tuple[dict[str, Any], bytes]:
    """Return an upload as JSON without its module, and the module. Raises Refused.

    That text is cut out first, and decoded piece by piece: a call for all of it would hold the GIL for too long.
    """
    at = data.find(_KEY) + len(_KEY)
    found = _TEXT(data, at, at + 64) if at >= len(_KEY) else None
    begin = found.end() if found else 0
    end = data.find(b'"', begin) if found else 0
    if end < 0 or len(data) - (end - begin) > _MOST_BESIDE:
        raise Refused(422, "the body is not a JSON object with the text module")
    try:
        document = load_small(data[:begin] + data[end:])
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise Refused(422, "the body is not a JSON object")
    if document.get("module") != "":  # another one behind it, or none
        raise Refused(422, "module must be base64")
    return document, _decoded(memoryview(data)[begin:end])


def _decoded(text: memoryview) -> bytes:
    module = bytearray()
    try:
        for at in range(0, len(text), _PIECE):
            piece = text[at : at + _PIECE]
            if at + len(piece) < len(text) and b"=" in bytes(piece[-2:]):
                raise ValueError("it ends in the middle")
            module += binascii.a2b_base64(piece, strict_mode=True)
    except (binascii.Error, ValueError):
        raise Refused(422, "module must be base64") from None
    return bytes(module)

"""``PUT`` of a version of a function: bounded, checked and compiled before it is taken."""

from __future__ import annotations

import asyncio
import base64
import binascii
import secrets
import shutil
from collections import Counter
from collections.abc import Sequence
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
from ...sync.own_thread import in_own_thread
from .access import Refused
from .call import AdminCall

_PARTS = ".parts"
_MOST_AT_ONCE = 8
"""Uploads that are read or wait at once, each with max_upload_bytes and more; one of each caller always may."""


@dataclass(frozen=True, slots=True)
class _Upload:
    module: bytes
    manifest: str | None = None
    signatures: bytes | None = None


class Uploads:
    """Takes versions, one at a time."""

    def __init__(self, most_bytes: int, keys: Sequence[Path]) -> None:
        self._most = most_bytes
        self._keys = list(keys)
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
        directory = call.runtime.deployment.config.functions_dir
        digest = await in_own_thread(lambda: digest_of(given.module))
        answer = {"function": name, "version": version, "digest": digest}
        # Requests of this process take turns fairly, then processes that share the directory.
        async with self._turn, directory_lock(directory):
            there = await in_own_thread(lambda: place.digest_of_file(place.module_file(directory, name, version)))
            if there:
                same = there == answer["digest"] and place.has_manifest(directory, name, version, given.manifest)
                if not same:
                    raise Refused(409, f"{name} v{version} is there, with other content; give it another version")
                if given.signatures is not None:
                    await self._sign_anew(call, directory, name, version, given)
                return JSONResponse(answer, 200)
            await self._take(call, directory, name, version, given)
        return JSONResponse(answer, 201)

    async def _read(self, call: AdminCall) -> _Upload:
        kind = call.request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind == "application/wasm":
            return _Upload(await call.read(self._most))
        if kind != "application/json":
            raise Refused(415, "send application/wasm or application/json")
        given = await call.json(self._most * 4 // 3 + (2 * signatures_file.MOST_BYTES))
        manifest, signatures = given.get("manifest"), given.get("signatures")
        if not all(each is None or _is_text(each) for each in (manifest, signatures)):
            raise Refused(422, "manifest and signatures must be text")
        module = await in_own_thread(lambda: _decoded(given.get("module")))
        if len(module) > self._most:
            raise Refused(413, f"the module may have {self._most} bytes")
        return _Upload(module, manifest, None if signatures is None else signatures.encode())

    async def _take(self, call: AdminCall, directory: Path, name: str, version: str, given: _Upload) -> None:
        """Check it in a folder that the app does not look at, then put it in place. Raise what the check raises."""
        runtime = call.runtime
        folder = directory / _PARTS / f"upload-{secrets.token_hex(8)}"
        try:
            file = await in_own_thread(lambda: _unpacked(folder, name, given))
            await in_own_thread(lambda: self._check(call, name, version, file, given))
            placed = await in_own_thread(
                lambda: place.place(directory, name, version, file, given.manifest, given.signatures)
            )
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        try:
            await runtime.reload()
        except Exception:
            if placed.exists():
                place.remove(directory, name, version)
            raise

    async def _sign_anew(self, call: AdminCall, directory: Path, name: str, version: str, given: _Upload) -> None:
        """Take other signatures for a version that is there. Raise what the check raises."""
        if place.has_beside(directory, name, version, given.manifest, given.signatures):
            return
        folder = directory / _PARTS / f"upload-{secrets.token_hex(8)}"
        target = place.module_file(directory, name, version).with_name(signatures_file.NAME)
        assert given.signatures is not None
        signatures = given.signatures
        try:
            file = await in_own_thread(lambda: _unpacked(folder, name, given))
            await in_own_thread(lambda: self._check(call, name, version, file, given))
            await in_own_thread(lambda: place.write(target, signatures))
        except OSError as error:
            raise RegistryError(f"cannot be written: {error.strerror}", source=str(target)) from None
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        await call.runtime.reload()

    def _check(self, call: AdminCall, name: str, version: str, file: Path, given: _Upload) -> None:
        runtime = call.runtime
        digest = admit(runtime.engine, runtime.settings, name, version, file, given.manifest)
        manifest = _manifest(given.manifest)
        source = FunctionSource(name, version, file, manifest)
        for keys in (self._keys, runtime.deployment.config.require_signatures or ()):
            required = load_required(keys, None)
            if required is not None:
                required.check(source, digest)


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


def _decoded(text: Any) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError, TypeError):
        raise Refused(422, "module must be base64") from None

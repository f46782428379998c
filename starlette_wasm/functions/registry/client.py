"""A client of the OCI distribution API: manifests and blobs, with every digest checked."""

from __future__ import annotations

import asyncio
import hashlib
import os
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self, TypeVar

import httpx

from ...sync.own_thread import in_own_thread
from .answers import joined, pause, read_object, refusal, unreachable
from .artifact import MANIFEST
from .auth import Authenticator
from .bounded import MAX_ANSWER, MOST, BoundedTransport
from .errors import RegistryError
from .reach import check_place
from .reference import Reference, digest_of

_ACCEPT = ", ".join((
    MANIFEST,
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
))  # fmt: skip
_TRIES = 5
_AGAIN = (408, 429, 500, 502, 503, 504)
_PIECE = 1 << 20
_MOST_TAGS = 100_000
_MOST_HOPS = 10
_LONGEST_SECONDS, _LEAST_PACE = 300.0, 32 << 10
"""Seconds for one thing that is read or written, all tries and redirects included, and one more for so many bytes."""
_HEAD_SECONDS = 60.0
"""How long the head of an answer may take; each of its bytes may take as long as httpx waits."""
T = TypeVar("T")
Progress = Callable[[str, int, int], None]
"""Called with a name, bytes done and bytes in all."""


class Client:
    """Speaks to registries. An async context manager.

    ``plain_http`` uses HTTP for every host; without it only for this machine. ``ca`` is a file of certificates to trust
    beside the system's. ``mirrors`` maps a host to another that is asked first when something is read.
    """

    def __init__(
        self,
        *,
        plain_http: bool = False,
        ca: Path | None = None,
        mirrors: Mapping[str, str] | None = None,
        progress: Progress | None = None,
    ) -> None:
        verify = ssl.create_default_context()
        if ca is not None:
            try:
                verify.load_verify_locations(ca)
            except (OSError, ssl.SSLError) as error:
                raise RegistryError(f"is not a file of certificates: {error}", source=str(ca)) from None
        timeout = httpx.Timeout(30.0, connect=10.0)
        self._http = httpx.AsyncClient(transport=BoundedTransport(verify), timeout=timeout, trust_env=False)
        self._auth = Authenticator(self._http, plain=plain_http)
        self._plain = plain_http
        self._mirrors = dict(mirrors or {})
        self._progress = progress or (lambda name, done, size: None)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.aclose()

    async def manifest(self, reference: Reference) -> tuple[bytes, str]:
        """Return a manifest's bytes and digest. Raises RegistryError, also if the bytes are not what was asked for."""
        return await self._first_source(reference, self._manifest)

    async def _manifest(self, reference: Reference) -> tuple[bytes, str]:
        async with _in_time(reference, MAX_ANSWER):
            data = await self._read(reference, f"manifests/{reference.wanted}", MAX_ANSWER)
        digest = digest_of(data)
        if reference.digest is not None and digest != reference.digest:
            raise RegistryError(f"the registry sent another manifest, {digest}", source=str(reference))
        return data, digest

    async def exists(self, reference: Reference) -> bool:
        """Return whether a tag or digest is there."""
        async with _in_time(reference):
            answer = await self._send(reference, "HEAD", f"manifests/{reference.wanted}", headers={"accept": _ACCEPT})
        if answer.status_code not in (200, 404):
            raise refusal(reference, answer)
        return answer.status_code == 200

    async def tags(self, reference: Reference) -> list[str]:
        """Return the tags of a repository, sorted, without those of signatures."""
        async with _in_time(reference):
            return await self._tags(reference)

    async def _tags(self, reference: Reference) -> list[str]:
        found: list[str] = []
        path = "tags/list?n=1000"
        for _ in range(1000):
            answer = await self._send(reference, "GET", path)
            if answer.status_code != 200:
                raise refusal(reference, answer)
            tags = read_object(answer, reference).get("tags")
            given = tags if isinstance(tags, list) else []
            found += [tag for tag in given if isinstance(tag, str) and not tag.startswith("sha256-")]
            following = answer.links.get("next", {}).get("url")
            if not following:
                break
            if len(found) > _MOST_TAGS:
                raise RegistryError(f"has more than {_MOST_TAGS} tags", source=str(reference))
            path = joined(answer, following, reference)
        return sorted(set(found))

    async def blob(self, reference: Reference, digest: str, size: int, file: Path, name: str = "") -> None:
        """Download a blob into ``file``, going on with what an earlier try has left there. Raises RegistryError."""

        async def download(source: Reference) -> None:
            await self._blob(source, digest, size, file, name or digest)

        await self._first_source(reference, download)

    async def _blob(self, reference: Reference, digest: str, size: int, file: Path, name: str) -> None:
        async with _in_time(reference, size):
            for attempt in range(_TRIES):
                try:
                    await self._download(reference, digest, size, file, name)
                    return
                except httpx.TransportError as error:
                    if attempt + 1 == _TRIES:
                        raise unreachable(reference, error) from None
                    await pause(attempt, None)
        raise AssertionError("unreachable")

    async def _download(self, reference: Reference, digest: str, size: int, file: Path, name: str) -> None:
        try:
            await self._write(reference, digest, size, file, name)
        except OSError as error:  # those of the connection are of httpx
            with suppress(OSError):
                os.truncate(file, 0)
            hint = "check owner, mode and free space"
            raise RegistryError(f"cannot be written: {error.strerror}", source=str(file), hint=hint) from None

    async def _write(self, reference: Reference, digest: str, size: int, file: Path, name: str) -> None:
        with open(file, "ab+") as out:
            hashed, have = await in_own_thread(lambda: _read_on(out))
            if have > size:
                out.truncate(0)
                hashed, have = hashlib.sha256(), 0
            if have < size:
                headers = {"range": f"bytes={have}-"} if have else {}
                async with _Stream(self, reference, f"blobs/{digest}", headers, size + 1) as answer:
                    if have and answer.status_code != 206:
                        out.truncate(0)
                        hashed, have = hashlib.sha256(), 0
                    async for piece in answer.aiter_raw(_PIECE):
                        have += len(piece)
                        if have > size:
                            out.truncate(0)
                            raise RegistryError(f"sends more than the {size} bytes of {digest}", source=str(reference))
                        hashed.update(piece)
                        out.write(piece)
                        self._progress(name, have, size)
            if have != size or f"sha256:{hashed.hexdigest()}" != digest:
                out.truncate(0)
                raise RegistryError(f"sent other bytes than those of {digest}", source=str(reference))
            out.flush()
            await in_own_thread(lambda: os.fsync(out.fileno()))

    async def small_blob(self, reference: Reference, digest: str, most: int) -> bytes:
        """Return a blob of at most ``most`` bytes. Raises RegistryError."""
        async with _in_time(reference, most):
            data = await self._read(reference, f"blobs/{digest}", most)
        if digest_of(data) != digest:
            raise RegistryError(f"sent other bytes than those of {digest}", source=str(reference))
        return data

    async def push_blob(self, reference: Reference, data: bytes, name: str = "") -> str:
        """Upload a blob that is not there yet, and return its digest."""
        async with _in_time(reference, len(data)):
            return await self._push_blob(reference, data, name)

    async def _push_blob(self, reference: Reference, data: bytes, name: str) -> str:
        digest = digest_of(data)
        if (await self._send(reference, "HEAD", f"blobs/{digest}", actions="pull,push")).status_code == 200:
            self._progress(name or digest, len(data), len(data))
            return digest
        for attempt in range(_TRIES):
            opened = await self._send(reference, "POST", "blobs/uploads/", actions="pull,push")
            if opened.status_code != 202 or "location" not in opened.headers:
                raise refusal(reference, opened)
            place = joined(opened, opened.headers["location"], reference)
            place += ("&" if "?" in place else "?") + f"digest={digest}"
            headers = {"content-type": "application/octet-stream"}
            done = await self._send(
                reference, "PUT", place, headers=headers, content=data, actions="pull,push", tries=1
            )
            if done.status_code == 201:
                self._progress(name or digest, len(data), len(data))
                return digest
            if done.status_code not in _AGAIN or attempt + 1 == _TRIES:
                raise refusal(reference, done)
            await pause(attempt, done)
        raise AssertionError("unreachable")

    async def push_manifest(self, reference: Reference, data: bytes, kind: str = MANIFEST) -> str:
        """Upload a manifest under the reference's tag, or its own digest without one; return its digest."""
        digest = digest_of(data)
        place = f"manifests/{reference.tag or digest}"
        async with _in_time(reference, len(data)):
            answer = await self._send(
                reference, "PUT", place, headers={"content-type": kind}, content=data, actions="pull,push"
            )
        if answer.status_code not in (200, 201, 202):
            raise refusal(reference, answer)
        return digest

    async def _first_source(self, reference: Reference, read: Callable[[Reference], Awaitable[T]]) -> T:
        """Read from the mirror of a host if it has one, else, or if that fails, from the host itself."""
        mirror = self._mirrors.get(reference.host)
        if mirror is not None:
            with suppress(RegistryError):
                return await read(Reference(mirror, reference.repository, reference.tag, reference.digest))
        return await read(reference)

    async def _read(self, reference: Reference, path: str, most: int) -> bytes:
        for attempt in range(_TRIES):
            try:
                async with _Stream(self, reference, path, {"accept": _ACCEPT}, most + 1) as answer:
                    data = bytearray()
                    async for piece in answer.aiter_raw():
                        data += piece
                        if len(data) > most:
                            raise RegistryError(f"{path} has more than {most} bytes", source=str(reference))
                    return bytes(data)
            except httpx.TransportError as error:
                if attempt + 1 == _TRIES:
                    raise unreachable(reference, error) from None
                await pause(attempt, None)
        raise AssertionError("unreachable")

    async def _send(
        self,
        reference: Reference,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        content: bytes | None = None,
        actions: str = "pull",
        tries: int = _TRIES,
        most: int | None = None,
    ) -> httpx.Response:
        """Send a request, with a login if one is asked for, and again after faults that pass.

        The body of the answer is left unread if it may have ``most`` bytes.
        """
        url = path if "://" in path else f"{self._base(reference)}{path}"
        for attempt in range(tries):
            try:
                answer = await self._once(reference, method, url, headers or {}, content, actions, most)
            except (httpx.TransportError, TimeoutError) as error:
                if attempt + 1 == tries:
                    raise unreachable(reference, error) from None
                answer = None
            except RegistryError:
                raise
            except (httpx.RequestError, httpx.InvalidURL, ValueError, ExceptionGroup):
                # Of a redirect or a token service, by their text: one that leads in circles, or is not an address.
                raise RegistryError("leads to an address that cannot be used", source=str(reference)) from None
            if answer is not None and (answer.status_code not in _AGAIN or attempt + 1 == tries):
                return answer
            if answer is not None:
                await answer.aclose()
            await pause(attempt, answer)
        raise AssertionError("unreachable")

    async def _once(
        self,
        reference: Reference,
        method: str,
        url: str,
        headers: Mapping[str, str],
        content: bytes | None,
        actions: str,
        most: int | None,
    ) -> httpx.Response:
        base = self._base(reference)
        same_host = httpx.URL(url).netloc == httpx.URL(base).netloc
        value = self._auth.header(reference, actions) if same_host else None
        for _ in range(2):
            given = dict(headers, **({"authorization": value} if value else {}), **{"accept-encoding": "identity"})
            extensions = {} if most is None else {MOST: most}
            request = self._http.build_request(method, url, headers=given, content=content, extensions=extensions)
            async with asyncio.timeout(_HEAD_SECONDS if content is None else None):
                answer = await self._follow(reference, base, request, stream=most is not None)
            challenge = answer.headers.get("www-authenticate")
            if answer.status_code != 401 or challenge is None or not same_host:
                return answer
            await answer.aclose()
            value = await self._auth.answer(reference, actions, challenge)
        return answer

    async def _follow(self, reference: Reference, base: str, request: httpx.Request, *, stream: bool) -> httpx.Response:
        """Send a request, and one that reads also to where the registry leads; each place is checked before."""
        for _ in range(_MOST_HOPS):
            await check_place(reference, base, request.url)
            answer = await self._http.send(request, stream=stream)
            if answer.next_request is None or request.method not in ("GET", "HEAD"):
                return answer
            await answer.aclose()
            request = answer.next_request
        raise httpx.TooManyRedirects("too many redirects", request=request)

    def _base(self, reference: Reference) -> str:
        scheme = "http" if self._plain or reference.loopback else "https"
        return f"{scheme}://{reference.host}/v2/{reference.repository}/"


class _Stream:
    """The answer to a GET, whose body is read piece by piece. Used by ``async with``."""

    def __init__(self, client: Client, reference: Reference, path: str, headers: Mapping[str, str], most: int) -> None:
        self._arguments = client, reference, path, headers, most
        self._answer: httpx.Response | None = None

    async def __aenter__(self) -> httpx.Response:
        client, reference, path, headers, most = self._arguments
        self._answer = await client._send(reference, "GET", path, headers=headers, most=most)
        if self._answer.status_code not in (200, 206):
            await self._answer.aread()
            raise refusal(reference, self._answer)
        return self._answer

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._answer is not None
        await self._answer.aclose()


@asynccontextmanager
async def _in_time(reference: Reference, size: int = 0) -> AsyncIterator[None]:
    """Bound how long the registry may take for the block, in which so many bytes are moved. Raises RegistryError."""
    seconds = _LONGEST_SECONDS + size / _LEAST_PACE
    try:
        async with asyncio.timeout(seconds) as bound:
            yield
    except TimeoutError:
        if bound.expired():
            raise RegistryError(f"took more than {seconds:.0f} s", source=str(reference)) from None
        raise


def _read_on(out: IO[bytes]) -> tuple[Any, int]:
    """Return the hash of what an earlier try has left there, and its length."""
    hashed, have = hashlib.sha256(), 0
    out.seek(0)
    while piece := out.read(_PIECE):
        hashed.update(piece)
        have += len(piece)
    return hashed, have


async def gather_bounded(jobs: Sequence[Callable[[], Awaitable[None]]], at_once: int) -> None:
    """Run jobs, at most ``at_once`` of them at a time; the first error ends the others."""
    places = asyncio.Semaphore(at_once)

    async def run(job: Callable[[], Awaitable[None]]) -> None:
        async with places:
            await job()

    try:
        async with asyncio.TaskGroup() as group:
            for job in jobs:
                group.create_task(run(job))
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None

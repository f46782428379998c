"""A form as bytes again: for a function behind something that has read the request as a form."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable
from functools import partial
from urllib.parse import urlencode

from starlette.datastructures import FormData, UploadFile

from ..exceptions import RequestTooLarge
from ..invocation.off_loop import off_loop

_MOST_ON_LOOP = 16 << 10
"""Characters that are escaped on the event loop, each of which may become twelve."""
_BOUNDARY = re.compile(r'boundary="?([^";,]+)"?', re.IGNORECASE)


async def encode_form(form: FormData, content_type: str, limit: int, tenant: Hashable = None) -> bytes:
    """Encode the fields and files of ``form``, in their order, as a body of ``content_type``.

    Raises RequestTooLarge where that has more than ``limit`` bytes: whoever read the form did not ask how many it had.
    A large one is encoded in a thread, of the share of ``tenant``.
    """
    boundary = _BOUNDARY.search(content_type)
    if boundary is None:
        fields = [(name, value) for name, value in form.multi_items() if isinstance(value, str)]
        size = sum(len(name) + len(value) for name, value in fields)
        if size > limit:
            raise RequestTooLarge(limit)
        encode = partial(urlencode, fields)
        text = await off_loop(tenant, encode) if size > _MOST_ON_LOOP else encode()
        return _checked(text.encode("ascii"), limit)
    delimiter = b"--" + boundary[1].encode("latin-1")
    body = bytearray()
    for name, value in form.multi_items():
        if len(body) + (0 if isinstance(value, str) else value.size or 0) > limit:
            raise RequestTooLarge(limit)
        body += delimiter + b"\r\n" + await _part(name, value) + b"\r\n"
    return _checked(bytes(body + delimiter + b"--\r\n"), limit)


def _checked(body: bytes, limit: int) -> bytes:
    if len(body) > limit:
        raise RequestTooLarge(limit)
    return body


def with_length(headers: Iterable[tuple[bytes, bytes]], length: int) -> list[tuple[bytes, bytes]]:
    """Return the headers of a request, with the length of the form as it was put together again."""
    return [(name, b"%d" % length if name == b"content-length" else value) for name, value in headers]


async def _part(name: str, value: str | UploadFile) -> bytes:
    if isinstance(value, str):
        return b'Content-Disposition: form-data; name="%s"\r\n\r\n' % _quoted(name) + value.encode()
    head = b"".join(b"%s: %s\r\n" % header for header in value.headers.raw)
    await value.seek(0)
    return head + b"\r\n" + await value.read()


def _quoted(name: str) -> bytes:
    """Escape it as browsers do (HTML, section 4.10.21.8)."""
    return name.replace("\r", "%0D").replace("\n", "%0A").replace('"', "%22").encode()

"""A form as bytes again: for a function behind something that has read the request as a form."""

from __future__ import annotations

import re
from urllib.parse import urlencode

from starlette.datastructures import FormData, UploadFile

_BOUNDARY = re.compile(r'boundary="?([^";,]+)"?', re.IGNORECASE)


async def encode_form(form: FormData, content_type: str) -> bytes:
    """The fields and files of ``form``, in their order, as a body of ``content_type``."""
    boundary = _BOUNDARY.search(content_type)
    if boundary is None:
        fields = [(name, value) for name, value in form.multi_items() if isinstance(value, str)]
        return urlencode(fields).encode("ascii")
    delimiter = b"--" + boundary[1].encode("latin-1")
    parts = [delimiter + b"\r\n" + await _part(name, value) + b"\r\n" for name, value in form.multi_items()]
    return b"".join([*parts, delimiter, b"--\r\n"])


async def _part(name: str, value: str | UploadFile) -> bytes:
    if isinstance(value, str):
        return b'Content-Disposition: form-data; name="%s"\r\n\r\n' % _quoted(name) + value.encode()
    head = b"".join(b"%s: %s\r\n" % header for header in value.headers.raw)
    await value.seek(0)
    return head + b"\r\n" + await value.read()


def _quoted(name: str) -> bytes:
    """As browsers escape it (HTML, section 4.10.21.8)."""
    return name.replace("\r", "%0D").replace("\n", "%0A").replace('"', "%22").encode()

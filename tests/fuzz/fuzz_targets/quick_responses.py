"""What a guest prints, through fast_path.c: the answer that Python gives, or that it is left to Python."""

from __future__ import annotations

from .responses import TOKENS as _TOKENS
from .ways import compare_answer

TOKENS = (*_TOKENS, b'"te":["a"]', b'"x-request-id":"a"', b'["', b'","', b'":"', b'"},"', b'":["', b"\\/", b'\\"',
          b"\\u00e9", b"\\ud83d\\ude00", b'"is_base64_encoded":true', b"AP8=", b'"content-length":"12"',
          b"null", b"204", b'"status":', b'"data":"', b'"kv":{}', b"status: 404\n", b"content-type: a/b\r\n",
          b"location:/\n\n")  # fmt: skip


def check(data: bytes) -> None:
    for protocol in ("edge", "wws", "cgi"):
        compare_answer(data, protocol=protocol)
        compare_answer(data, method="HEAD", protocol=protocol)

"""``wasi:config`` and ``wasi:logging``: the values of ``env:`` in function.yaml, and the function's log."""

from __future__ import annotations

from ..values import Ok, Value
from .host import WasiHost
from .offers import offer

_ERROR = "variant {upstream(string), io(string)}"
_LONGEST_CONTEXT = 128
_MOST_LINES = 1000
"""Lines of one message: the log shows no more of an invocation."""

for _interface in ("wasi:config/store", "wasi:config/runtime"):

    @offer(_interface, "get", f"func(key: string) -> result<option<string>, {_ERROR}>")
    def get(host: WasiHost, key: str) -> Value:
        return Ok(host.config.get(key))

    @offer(_interface, "get", "func(key: string) -> option<string>")
    def get_plain(host: WasiHost, key: str) -> Value:
        return host.config.get(key)

    @offer(_interface, "get-all", f"func() -> result<list<tuple<string, string>>, {_ERROR}>")
    def get_all(host: WasiHost) -> Value:
        return Ok(list(host.config.items()))

    @offer(_interface, "get-all", "func() -> list<tuple<string, string>>")
    def get_all_plain(host: WasiHost) -> Value:
        return list(host.config.items())


@offer(
    "wasi:logging/logging",
    "log",
    "func(level: enum {trace, debug, info, warn, error, critical}, context: string, message: string)",
)
def log(host: WasiHost, level: str, context: str, message: str) -> Value:
    """Write a line, or as many as the message has, each with the level in front, which the host's log reads.

    No more is made of a message than the log has room for: one of line breaks alone would become many times larger.
    """
    context = " ".join(context[:_LONGEST_CONTEXT].split())
    front = f"[{level}] {context}: " if context else f"[{level}] "
    at = lines = 0
    while at <= len(message) and host.err_left and lines < _MOST_LINES:
        lines += 1
        end = message.find("\n", at)
        end = len(message) if end < 0 else end
        shown = message[at : min(end, at + host.err_left)]
        host.write_err(f"{front}{shown}\n".encode("utf-8", "replace"))
        host.stderr_dropped += end - at - len(shown)
        at = end + 1
    host.stderr_dropped += max(len(message) - at, 0)

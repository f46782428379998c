"""``canary wait``: waits until a rollout is over, for the steps of a deployment pipeline."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from ..canary.status import Status
from ..exceptions import ConfigError
from . import output
from .admin_api import Unreachable

PROMOTED, ROLLED_BACK, UNDECIDED = 0, 1, 2
"""Exit codes."""
_OVER = {
    Status.PROMOTED.value: PROMOTED,
    Status.ROLLED_BACK.value: ROLLED_BACK,
    Status.ABORTED.value: ROLLED_BACK,
}
_LOOK_SECONDS = 1.0
_LAST_LOOK_SECONDS = 0.05

Look = Callable[[], Awaitable[list[dict[str, Any]]]]


async def wait(look: Look, version: str | None, timeout: float) -> int:
    """Print what a canary does until it is over, or the time is. Returns the exit code.

    With ``version`` a canary of another version is passed over: the nodes may not have the new config yet. What cannot
    be reached is asked again. Raises ConfigError if the answer cannot change, such as for a token that is not known.
    """
    until, said = time.monotonic() + timeout, ""
    while True:
        line, code = await _see(look, version)
        if line != said:
            print(line, flush=True)
            said = line
        if code is not None:
            return code
        left = until - time.monotonic()
        if left <= 0:
            print(f"undecided after {timeout:g} s", flush=True)
            return UNDECIDED
        await asyncio.sleep(max(_LAST_LOOK_SECONDS, min(_LOOK_SECONDS, left)))


async def _see(look: Look, version: str | None) -> tuple[str, int | None]:
    """Return a line about the canary, and the exit code if it is over."""
    try:
        rows = await look()
    except Unreachable as error:
        return str(error), None
    if len(rows) > 1:
        names = ", ".join(sorted(str(row.get("function")) for row in rows))
        raise ConfigError("there are several canaries", hint=f"name one of {names}")
    if not rows:
        return "no canary yet", None
    [row] = rows
    if version is not None and row.get("canary_version") != version:
        return f"the canary is v{row.get('canary_version')}, and v{version} is waited for", None
    status = str(row.get("status"))
    report, reason = row.get("report") or "no figures yet", row.get("reason")
    line = f"v{row.get('canary_version')} {status} at {row.get('weight', 0)} %: {report} ({reason})"
    bakes = status == "promoted" and row.get("bakes")
    return line, None if bakes else _OVER.get(status)


def finish(look: Look, version: str | None, timeout: float) -> int:
    """Run wait(). Return 2 for what is wrong with the call: 1 would mean that the canary was rolled back."""
    try:
        return asyncio.run(wait(look, version, timeout))
    except ConfigError as error:
        output.fail("canary", error)
        return UNDECIDED

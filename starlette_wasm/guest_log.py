"""What a guest says on stderr, and what the file system refused it, as log records."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from .capabilities import Violation
from .engine.instance import Outcome
from .messages import EdgeContext
from .target import Target

logger = logging.getLogger("starlette_wasm.guest")

MAX_LINES = 1000
"""Lines of one invocation that become records; the rest is counted."""


def log_guest(target: Target, outcome: Outcome, context: EdgeContext) -> None:
    """Log each line of stderr, escaped, and each refusal, on the logger ``starlette_wasm.guest``."""
    extra = {"function": target.name, "version": target.version, "request_id": context.request_id}
    for denial in outcome.denials:
        what = "sandbox violation: fs write" if denial.write else "permission denied"
        logger.warning("%s: %s: %s", target, what, _escape(denial.path), extra=extra)
    if not outcome.stderr:
        return
    if logger.isEnabledFor(logging.INFO):
        lines = outcome.stderr.decode("utf-8", "replace").splitlines()
        for line in lines[:MAX_LINES]:
            logger.info("%s: %s", target, _escape(line), extra=extra)
        if len(lines) > MAX_LINES:
            logger.info("%s: %d more lines dropped", target, len(lines) - MAX_LINES, extra=extra)
    if outcome.stderr_dropped:
        logger.warning("%s: %d bytes of stderr dropped (maxLogBytes)", target, outcome.stderr_dropped, extra=extra)


def log_violations(target: Target, violations: Sequence[Violation], context: EdgeContext) -> None:
    """Log what the policy refused to ``edge.call``."""
    extra = {"function": target.name, "version": target.version, "request_id": context.request_id}
    for violation in violations:
        detail = f" ({violation.detail})" if violation.detail else ""
        logger.warning("%s: %s: %s%s", target, violation.operation, _escape(violation.message), detail, extra=extra)


def _escape(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() or char == "\t" else ascii(char)[1:-1] for char in text)

"""What went wrong, as log records: the whole cause, for the operator."""

from __future__ import annotations

import logging

from ..exceptions import FunctionError, WasmError
from ..messages import EdgeContext
from .conventions import Attribute, error_type
from .guest_log import LINES_PER_SECOND, share_of

logger = logging.getLogger("starlette_wasm")


def log_failure(error: WasmError, context: EdgeContext, cause: Exception | None = None) -> None:
    """Log why an invocation failed, in the context of the current span.

    The template is the same for all failures of one kind of one function, so that error trackers group them. The
    record has the error, and the attributes of an exception in the semantic conventions. There is no Python traceback:
    it would only show where the host found out. The guest's frames are in the message.
    """
    level = logging.ERROR if isinstance(error, FunctionError) else logging.WARNING
    template = f"{context.function} ({error.slug}): %s%s"
    _log(level, template, (error, f": {cause}" if cause else ""), error, context)


def log_after_answer(error: WasmError, context: EdgeContext) -> None:
    """Log how a guest ended that went on after its answer, which the client has."""
    _log(logging.WARNING, f"{context.function} ({error.slug}) after its answer: %s", (error,), error, context)


def _log(level: int, template: str, args: tuple[object, ...], error: WasmError, context: EdgeContext) -> None:
    """Log it, if the function has any of its share of the log left: it may fail as often as clients like."""
    share = share_of(context.function)
    if dropped := share.lines.report():
        logger.warning("%s: %d lines dropped (%d a second)", context.function, dropped, LINES_PER_SECOND)
    if not share.lines.take(1):
        return
    kind = type(error)
    extra = {
        "function": context.function,
        "version": context.version,
        "request_id": context.request_id,
        Attribute.ERROR_TYPE.value: error_type(error).value,
        "exception.type": f"{kind.__module__}.{kind.__qualname__}",
        "exception.message": str(error),
    }
    logger.log(level, template, *args, extra=extra, exc_info=(kind, error, None))

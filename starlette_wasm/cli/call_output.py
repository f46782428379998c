"""How ``call`` prints an answer, and what it took."""

from __future__ import annotations

import json as json_module
import statistics
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated, Any

import typer
from rich.text import Text

from ..engine.printable import escape
from ..protocols import get_protocol
from ..testing.answer import Answer
from ..testing.calls import Call, Span
from ..testing.recorder import level_name
from . import output

LEVELS = {"debug": "dim", "info": "", "warning": "yellow", "error": "red", "critical": "bold red"}


@dataclass(frozen=True, slots=True)
class Shown:
    """What is printed of an answer: a group of options."""

    trace: Annotated[bool, typer.Option("--trace", help="Print the tree of spans, on stderr.")] = False
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Print all there is to know, on stderr.")] = False
    include: Annotated[bool, typer.Option("--include", "-i", help="Print status and headers, too.")] = False
    json: Annotated[bool, typer.Option("--json", help="Print the answer and what it took as JSON.")] = False


DEFAULT_SHOWN = Shown()


def show(answer: Answer, shown: Shown) -> None:
    """Print the answer on stdout, and what it took on stderr."""
    if shown.json:
        output.show_json(_as_json(answer))
        return
    if shown.verbose:
        for call in answer.calls:
            _say(_about(call))
        _say([(f"< {_status_line(answer)}", "bold"), *((f"< {name}: {value}", "") for name, value in answer.headers)])
    if shown.trace:
        for call in answer.calls:
            _say(_tree(call))
    if shown.include:
        head = [_status_line(answer), *(f"{name}: {value}" for name, value in answer.headers)]
        sys.stdout.write("\r\n".join([*head, "", ""]))
    sys.stdout.flush()
    sys.stdout.buffer.write(answer.body)
    sys.stdout.buffer.flush()
    if sys.stdout.isatty() and answer.body and not answer.body.endswith(b"\n"):
        print()


def show_figures(answers: Sequence[Answer]) -> None:
    """Print how several answers did, on stderr."""
    taken = sorted(sum(call.seconds for call in answer.calls) * 1000 for answer in answers)
    statuses = Counter(answer.status for answer in answers)
    p99 = taken[min(len(taken) - 1, int(len(taken) * 0.99))]
    _say(
        [
            (f"* {len(answers)} requests: {', '.join(f'{n} of {status}' for status, n in statuses.items())}", "bold"),
            (
                f"* ms each: least {taken[0]:.3f}, median {statistics.median(taken):.3f}, "
                f"p99 {p99:.3f}, most {taken[-1]:.3f}",
                "",
            ),
        ]
    )


def _say(lines: Iterable[tuple[str, str]]) -> None:
    out = output.error_console()
    for text, style in lines:
        if out.is_terminal:
            out.print(Text(text, style), soft_wrap=True)
        else:
            print(text, file=sys.stderr)


def _status_line(answer: Answer) -> str:
    try:
        phrase = HTTPStatus(answer.status).phrase
    except ValueError:
        phrase = ""
    return f"HTTP/1.1 {answer.status} {phrase}".rstrip()


def show_logs(answer: Answer) -> None:
    """Print what the functions of an answer have logged, such as why they failed, on stderr."""
    for call in answer.calls:
        _say(_logged(call))


def _logged(call: Call) -> list[tuple[str, str]]:
    return [(f"* {level_name(line.level):8} {escape(line.text)}", LEVELS[level_name(line.level)]) for line in call.logs]


def _about(call: Call) -> list[tuple[str, str]]:
    lines = [(f"* {call.function} v{call.version} under the policy {call.policy}", "bold")]
    lines += [(f"> {line}", "cyan") for line in _request(call).splitlines()]
    lines += _logged(call)
    lines += [
        (f"* refused by the policy: {escape(each.message)}{_detail(each.detail)}", "red") for each in call.violations
    ]
    if call.end:
        lines.append(
            (
                f"* ended: {call.end}; CPU {call.cpu_s * 1000:.3f} ms, memory {call.memory_bytes >> 10} KiB, "
                f"{call.host_calls} host calls, {call.seconds * 1000:.3f} ms in all",
                "dim",
            )
        )
    if call.error is not None:
        lines.append((f"* failed: {call.error}", "red"))
    return lines


def _detail(detail: str | None) -> str:
    return f" ({escape(detail)})" if detail else ""


def _request(call: Call) -> str:
    """Return the EdgeRequest that the guest read, as JSON; other protocols have the same data in other forms."""
    encoded = get_protocol("edge").encode(call.request)
    return json_module.dumps(json_module.loads(encoded), indent=2, ensure_ascii=False)


def _tree(call: Call) -> list[tuple[str, str]]:
    return [(f"* {'  ' * depth}{_span(span)}", "red" if span.error else "") for depth, span in call.span.walk()]


def _span(span: Span) -> str:
    took = "not ended" if span.seconds is None else f"{span.seconds * 1000:.3f} ms"
    attributes = " ".join(f"{key}={value}" for key, value in span.attributes.items() if key != "kind")
    events = "".join(f" [{event}]" for event in span.events)
    error = f" error: {span.error}" if span.error else ""
    return escape(f"{span.name}  {took}  {attributes}{events}{error}".rstrip())


def _as_json(answer: Answer) -> dict[str, Any]:
    return {
        "status": answer.status,
        "headers": answer.headers,
        "body": answer.text,
        "error": None if answer.error is None else str(answer.error),
        "calls": [
            {
                "function": call.function,
                "version": call.version,
                "policy": call.policy,
                "request": json_module.loads(get_protocol("edge").encode(call.request)),
                "end": call.end,
                "stderr": call.stderr,
                "cpuMs": call.cpu_s * 1000,
                "memoryBytes": call.memory_bytes,
                "hostCalls": call.host_calls,
                "ms": call.seconds * 1000,
                "violations": [{"operation": each.operation, "message": each.message} for each in call.violations],
                "spans": [
                    {"depth": depth, "name": span.name, "ms": span.seconds and span.seconds * 1000, "error": span.error}
                    for depth, span in call.span.walk()
                ],
            }
            for call in answer.calls
        ],
    }

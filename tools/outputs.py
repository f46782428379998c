"""Outputs of guests, made up by the million, through decode() and render(), as the target ``responses`` has it."""

from __future__ import annotations

import json
import multiprocessing
import os
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from random import Random

from fuzz_targets.responses import METHODS, PROTOCOLS, TOKENS, judge

CHUNK = 5000

_TEXTS = (
    "", "a", "x-a", "text/html", "close", "keep-alive, x-a", "chunked", "a=b; Path=/", "é", "ÿ", "\u0100", "😀",
    "\ud800", "\r\n", "a\r\nx-evil: 1", "\n", "\0", "\x7f", "\x85", "\u2028", "\t", " a ", '"', "\\", "x" * 300,
    "YQ==", "YQ", "_a",
)  # fmt: skip
_NAMES = (
    "content-type", "Content-Type", "x-a", "X-A", "x_a", "set-cookie", "location", "status", "connection",
    "Content-Length", "transfer-encoding", "te", "upgrade", "proxy-connection", "", "a b", "a:", "x\r\ny", "x\0", "é",
    "x" * 300,
)  # fmt: skip
_STATUSES = (
    200, 201, 204, 205, 302, 304, 404, 500, 599, 100, 101, 199, 600, 999, 0, -200, 10**20, 200.0, True, None, "200",
)  # fmt: skip
_KEYS = {
    "edge": ("status_code", "headers", "body", "is_base64_encoded"),
    "wws": ("status", "headers", "data", "base64"),
}


def output(random: Random) -> tuple[str, str, bytes]:
    """Make protocol, method and what a guest prints: half of them nearly right, the others less so."""
    protocol = random.choice(PROTOCOLS)
    stdout = _cgi(random) if protocol == "cgi" else _json(random, _KEYS[protocol])
    while random.random() < 0.3:
        at = random.randrange(len(stdout) + 1)
        match random.randrange(4):
            case 0:
                stdout = stdout[:at] + random.choice(TOKENS) + stdout[at:]
            case 1:
                stdout = stdout[:at] + random.randbytes(random.randrange(1, 4)) + stdout[at:]
            case 2:
                stdout = stdout[:at] + stdout[at + random.randrange(1, 5) :]
            case _:
                stdout = stdout[:at]
    return protocol, random.choice(METHODS), stdout


def run(number: int, seed: int = 0, jobs: int | None = None) -> tuple[Counter[str], list[tuple[str, str, bytes, str]]]:
    """Count responses and what was none, by protocol; and return those that went wrong, with the traceback."""
    counts: Counter[str] = Counter()
    wrong: list[tuple[str, str, bytes, str]] = []
    parts = ((seed, first, min(CHUNK, number - first)) for first in range(0, number, CHUNK))
    if jobs == 1:
        for part in map(_chunk, parts):
            _add(counts, wrong, part)
    else:
        with multiprocessing.get_context("spawn").Pool(jobs or os.cpu_count()) as pool:
            for part in pool.imap_unordered(_chunk, parts):
                _add(counts, wrong, part)
    return counts, wrong


def report(number: int, seed: int) -> bool:
    """Run, print the figures; whether all went well."""
    begin = time.monotonic()
    counts, wrong = run(number, seed)
    seconds = time.monotonic() - begin
    for protocol, method, stdout, text in wrong[:10]:
        print(f"{protocol} {method} {stdout!r}\n{text}")
    print(f"{sum(counts.values()) + len(wrong)} outputs in {seconds:.0f} s, seed {seed}, {len(wrong)} went wrong")
    for key, count in sorted(counts.items()):
        print(f"  {key:15} {count:>9}")
    return not wrong


def _add(counts: Counter[str], wrong: list[tuple[str, str, bytes, str]], part: tuple[Counter[str], list]) -> None:  # type: ignore[type-arg]
    counts.update(part[0])
    wrong.extend(part[1])


def _chunk(part: tuple[int, int, int]) -> tuple[Counter[str], list[tuple[str, str, bytes, str]]]:
    seed, first, number = part
    random = Random(f"{seed} {first}")
    counts: Counter[str] = Counter()
    wrong = []
    for _ in range(number):
        protocol, method, stdout = output(random)
        try:
            counts[f"{protocol} {'taken' if judge(protocol, method, stdout) else 'refused'}"] += 1
        except Exception:
            wrong.append((protocol, method, stdout, traceback.format_exc()))
    return counts, wrong


def _text(random: Random) -> str:
    return random.choice(_TEXTS) if random.random() < 0.8 else chr(random.randrange(0x300)) + random.choice(_TEXTS)


def _plain(random: Random) -> str:
    return random.choice(_TEXTS[:8])


def _pairs(random: Random) -> Iterator[tuple[str, str]]:
    hostile = random.random() < 0.5
    for _ in range(random.randrange(5) if random.random() < 0.99 else 120):
        name = random.choice(_NAMES) if hostile else random.choice(_NAMES[:8])
        yield name, _text(random) if hostile else _plain(random)


def _json(random: Random, keys: tuple[str, ...]) -> bytes:
    status, headers, body, is_base64 = keys
    document: dict[str, object] = {}
    if random.random() < 0.95:
        document[status] = random.choice(_STATUSES if random.random() < 0.4 else _STATUSES[:9])
    if random.random() < 0.8:
        document[headers] = {
            name: value if random.random() < 0.8 else [value, _plain(random)] for name, value in _pairs(random)
        }
    if random.random() < 0.8:
        document[body] = _text(random) * random.choice((1, 1, 3))
    if random.random() < 0.3:
        document[is_base64] = random.choice((True, False, None, 1))
    if random.random() < 0.2:
        document[random.choice(("kv", "x", "é"))] = random.choice(([], {"a": [1.5, None]}, "x", float("nan"), [[]] * 5))
    text = json.dumps(document, ensure_ascii=random.random() < 0.5, indent=random.choice((None, None, 1)))
    return text.encode("utf-8", "surrogatepass")


def _cgi(random: Random) -> bytes:
    end = random.choice((b"\n", b"\r\n"))
    lines = [f"{name}:{random.choice(('', ' '))}{value}" for name, value in _pairs(random)]
    if random.random() < 0.5:
        lines.insert(0, f"Status: {random.choice(_STATUSES if random.random() < 0.4 else _STATUSES[:9])}")
    if random.random() < 0.5:
        lines.append("Content-Type: text/plain")
    block = end.join(line.encode("utf-8", "surrogatepass") for line in lines)
    return block + end + end + _text(random).encode("utf-8", "surrogatepass")

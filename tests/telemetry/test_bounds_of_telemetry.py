"""What of the telemetry tenants share: none of them, and no client, makes spans or series without bound."""

from __future__ import annotations

import json
import logging
import random
import string
from pathlib import Path

import pytest
from apps import add_function, client, config, run, settings
from collecting import Collector, Make
from starlette.applications import Starlette
from test_guest_trace import C, start

from starlette_wasm import EdgeRequest, WasmMiddleware, WasmRuntime
from starlette_wasm.telemetry import guest_log
from starlette_wasm.telemetry.guest_log import Allowance
from starlette_wasm.telemetry.observation import Observation
from starlette_wasm.telemetry.versions import MOST_VERSIONS, OTHER

EVENT = {"op": "trace.event", "name": "e"}


def series(collector: Collector) -> set[tuple[str, frozenset[tuple[str, object]]]]:
    return {
        (name, frozenset(point.attributes.items()))
        for name, metric in collector.metrics().items()
        for point in metric.data.data_points
    }


@pytest.mark.parametrize("command", [start("guests"), EVENT], ids=["spans", "events"])
def test_one_function_leaves_spans_to_others(
    make: Make, tmp_path: Path, collector: Collector, caplog: pytest.LogCaptureFixture, command: dict[str, object]
) -> None:
    add_function(tmp_path, "modest", guest=C)

    async def ask(runtime: WasmRuntime, function: str) -> list[bool]:
        request = EdgeRequest(method="POST", body=json.dumps([command] * 5))
        return [each["ok"] for each in json.loads((await runtime.invoke(function, request)).body)]

    async def main() -> None:
        async with make(functions=[C]) as runtime:
            guest_log.share_of(C).trace = Allowance(rate=0.0, burst=3)
            assert await ask(runtime, C) == await ask(runtime, C) == [True] * 5  # nobody tells the guest
            assert recorded(collector) == 3
            await ask(runtime, "modest")
            assert recorded(collector) == 3 + 5

    guest_log._shares.clear()
    with caplog.at_level(logging.WARNING, "starlette_wasm.guest"):
        run(main())
    assert any("spans and events not recorded" in message for message in caplog.messages)


def recorded(collector: Collector) -> int:
    return sum(span.name == "guests" for span in collector.spans) + sum(len(span.events) for span in collector.spans)


def test_a_client_makes_no_series(tmp_path: Path, collector: Collector) -> None:
    async def main() -> None:
        given = config(tmp_path, {"/echo/{key}": "echo"})
        runtime = WasmRuntime(given, settings(allow_version_header=True, trust_region_header=True))
        runtime.telemetry = collector.telemetry()
        async with runtime:
            await ask_for(runtime, "GET", "/echo/1", {})
            before = series(collector)
            chosen = random.Random(1)
            for _ in range(100):
                word = "".join(chosen.choices(string.ascii_letters, k=8))
                headers = {"x-wasm-version": chosen.choice(["1", "7", word]), "x-region": word, "x-request-id": word}
                await ask_for(runtime, chosen.choice(["GET", word.upper()]), f"/echo/{word}?{word}", headers)
            names = {name for name, _ in before}
            assert {each for each in series(collector) if each[0] in names} == before

    run(main())


async def ask_for(runtime: WasmRuntime, method: str, path: str, headers: dict[str, str]) -> None:
    async with client(WasmMiddleware(Starlette(), runtime=runtime)) as http:
        await http.request(method, path, headers=headers)


def test_versions_without_end_make_no_series_without_end(collector: Collector) -> None:
    telemetry = collector.telemetry()
    assert telemetry.active
    for number in range(3 * MOST_VERSIONS):
        telemetry.record(Observation("hog", str(number)))
        telemetry.function_healthy("hog", str(number), True)
        telemetry.canary_weight("hog", str(number), 10)
    telemetry.record(Observation("modest", "1"))
    found = series(collector)
    for name in ("faas.invocations", "starlette_wasm.canary.weight"):
        versions = {dict(labels)["faas.version"] for each, labels in found if each == name}
        assert len(versions) == MOST_VERSIONS + 1
        assert OTHER in versions
    assert ("faas.invocations", "modest") in {(name, dict(labels)["faas.name"]) for name, labels in found}
    assert len([name for name, _ in found if name.endswith("healthy")]) == MOST_VERSIONS

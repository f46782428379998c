"""A function that satisfies an import is a span below the one that calls it."""

from __future__ import annotations

import sys
from pathlib import Path

import yaml
from apps import run
from collecting import Collector, Make

from starlette_wasm import EdgeRequest
from starlette_wasm.engine import capi

sys.path.append(str(Path(__file__).parents[1] / "components"))
from wit_linked import ORDER, PRICES


def test_calls_of_imported_functions_are_one_trace(make: Make, collector: Collector, tmp_path: Path) -> None:
    for name, text in (("order", ORDER), ("prices", PRICES)):
        home = tmp_path / "functions" / name / "v1"
        home.mkdir(parents=True)
        (home / f"{name}.wasm").write_bytes(capi.assemble(text))
    imports = {"imports": {"docs:shop/prices": {"function": "prices"}}}
    (tmp_path / "functions/order/v1/function.yaml").write_text(yaml.safe_dump(imports))

    async def main() -> None:
        async with make({"/order": "order"}) as runtime:
            await runtime.invoke("order", EdgeRequest(headers={"x-request-id": "r-7"}))

    run(main())
    prices = ["prices", ["wasm execute"]]
    assert collector.tree() == ["order", ["wasm execute", prices, prices]]
    for span in collector.spans:
        if span.name == "prices":
            told = dict(span.attributes or {})
            assert told["starlette_wasm.export"] == "docs:shop/prices@1.0.0#quote"
            assert told["faas.invocation_id"] == "r-7"

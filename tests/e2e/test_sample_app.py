"""The sample app, as its README shows it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from processes import ROOT, Server


@pytest.fixture(scope="module")
def sample(serve: Callable[..., Server], tmp_path_factory: pytest.TempPathFactory) -> Server:
    url = f"sqlite:///{tmp_path_factory.mktemp('canary') / 'canary.db'}"
    return serve(ROOT, "sample_app.app:app", STARLETTE_WASM_CANARY_URL=url)


def process(sample: Server, method: str = "POST", region: str = "ap-east-1", **kwargs: object) -> httpx.Response:
    return httpx.request(method, f"{sample.url}/api/v1/process", headers={"x-region": region}, timeout=30, **kwargs)  # type: ignore[arg-type]


@pytest.mark.parametrize(("action", "result"), [("transform", "HELLO"), ("hash", "310f923099"), ("something", "hello")])
def test_the_processor_does_what_is_asked(sample: Server, action: str, result: str) -> None:
    response = process(sample, json={"action": action, "data": "hello"})
    assert response.status_code == 200
    assert response.json()["result"] == result
    assert response.json()["region"] == "ap-east-1"


def test_the_processor_tells_where_it_runs(sample: Server) -> None:
    response = process(sample, "GET")
    assert response.json() == {"path": "/api/v1/process", "region": "ap-east-1", "coldStart": False}
    assert process(sample, "DELETE").status_code == 405


def test_two_versions_share_a_region_eight_to_two(sample: Server) -> None:
    for region, split in (("ap-east-1", {"2": 80, "3": 20}), ("ap-southeast-1", {"2": 100})):
        seen = [process(sample, "GET", region).headers["x-function-version"] for _ in range(100)]
        assert Counter(seen) == split
        if region == "ap-east-1":
            assert all(Counter(seen[at : at + 10]) == {"2": 8, "3": 2} for at in range(90))


@pytest.mark.parametrize("region", ["eu-west-1", ""])
def test_elsewhere_the_fallback_answers(sample: Server, region: str) -> None:
    response = process(sample, "GET", region)
    assert (response.status_code, response.headers["x-fallback"]) == (200, "1")


def test_a_pipeline_answers_without_the_quote_where_its_api_is_down(sample: Server) -> None:
    url, command = f"{sample.url}/api/v1/enrich", {"action": "transform", "data": "hello"}
    response = httpx.post(url, json=command, headers={"x-region": "hk"}, timeout=30)
    assert response.status_code == 200
    assert response.json() == {"action": "transform", "result": "HELLO", "region": "hk", "quote": None}
    refused = sample.get("/api/v1/enrich")
    assert (refused.status_code, refused.headers["allow"]) == (405, "POST")


def test_its_fallback_goes_on_answering(sample: Server) -> None:
    url, command = f"{sample.url}/api/v1/enrich", {"action": "transform", "data": "hello"}
    answers = [httpx.post(url, json=command, timeout=30) for _ in range(50)]
    assert {(answer.status_code, answer.json()["quote"]) for answer in answers} == {(200, None)}


def test_an_order_has_the_prices_of_another_language(sample: Server) -> None:
    lines = [{"item": "tea", "count": 2}, {"item": "cake", "count": 1}]
    for _ in range(2):
        answer = httpx.post(f"{sample.url}/order", json=lines, timeout=30)
        assert (answer.status_code, answer.json()) == (200, {"cents": 1210})
    answer = httpx.post(f"{sample.url}/order", json=[{"item": "té", "count": 1}], timeout=30)
    assert (answer.status_code, answer.json()) == (422, {"error": "not sold: té"})


def test_native_routes_answer_as_before(sample: Server) -> None:
    assert sample.get("/").text.startswith("a native route")
    assert sample.get("/native?a=1").json() == {"native": True, "query": {"a": "1"}}
    assert sample.get("/nowhere").status_code == 404


def test_the_cache_reads_its_directory_and_nothing_else(sample: Server) -> None:
    assert sample.get("/api/v1/cache/welcome.txt").text == (ROOT / "sample_app/data/welcome.txt").read_text()
    assert sample.get("/api/v1/cache/rates.json").headers["content-type"] == "application/json"
    assert sample.get("/api/v1/cache/nothing").status_code == 404
    assert sample.get("/api/v1/cache/..%2Fwasm.yaml").status_code in (400, 404)


def test_the_greeter_has_python_around_it(sample: Server) -> None:
    response = sample.get("/greet/Ada")
    assert response.json() == {"greeting": "Hello, Ada!"}
    assert response.headers["x-served-by"] == "sample-app"


def test_one_greeting_of_ten_comes_from_the_canary(sample: Server) -> None:
    [path] = re.findall(r"localhost:8000(/api/v1/greet/[^ ']+)", (ROOT / "README.md").read_text())
    seen = Counter(sample.get(path).json()["greeting"] for _ in range(20))
    assert seen == {"Hello, Ada!": 18, "Bonjour, Ada!": 2}
    assert sample.get("/metrics/canary").status_code == 503  # too few samples to say anything


def test_ready_lists_every_function_with_its_digest(sample: Server) -> None:
    body = sample.get("/ready").json()
    built = ("hello-go", "hello-python")  # by scripts/build-guests, if at all
    there = {name: sorted(versions) for name, versions in body["functions"].items() if name not in built}
    assert there == {
        "edge-cache": ["1"],
        "edge-fallback": ["1"],
        "edge-processor": ["2", "3"],
        "enrich": ["1"],
        "greeter": ["1", "2"],
        "hello-javascript": ["1"],
        "order": ["1"],
        "prices": ["1"],
        "quote": ["1"],
    }


def test_a_token_that_is_too_short_ends_the_start_with_a_line(tmp_path: Path) -> None:
    environ = os.environ | {"WASM_ADMIN_TOKEN": "short", "XDG_CACHE_HOME": str(tmp_path)}
    command = [sys.executable, "-c", "import sample_app.app"]
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("WASM_ADMIN_TOKEN: ")
    assert "Traceback" not in done.stderr

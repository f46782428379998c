"""Debian's Prometheus scrapes a server that runs, and evaluates the alerts on what it gets."""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from apps import add_constant, add_function
from ports import free_port
from processes import PLAIN, Server

from starlette_wasm.engine import capi

RULES = Path(__file__).parents[2] / "deploy/kustomize/components/monitoring/prometheusrule.yaml"
WITHIN = 120

pytestmark = pytest.mark.skipif(
    shutil.which("prometheus") is None, reason="prometheus is not on PATH; on Debian: apt-get install prometheus"
)


class Prometheus:
    """The HTTP API of a Prometheus."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}/api/v1"

    def get(self, path: str, **query: str) -> Any:
        answer = httpx.get(f"{self._url}/{path}", params=query, timeout=30).json()
        assert answer["status"] == "success", answer
        return answer["data"]

    def is_ready(self) -> bool:
        """Whether it answers."""
        try:
            return httpx.get(f"{self._url}/status/buildinfo", timeout=30).status_code == 200
        except httpx.TransportError:
            return False

    def series(self) -> set[str]:
        return set(self.get("label/__name__/values"))

    def alerts(self) -> set[str]:
        return {alert["labels"]["alertname"] for alert in self.get("alerts")["alerts"] if alert["state"] == "firing"}


def wait(condition: Callable[[], bool], missing: Callable[[], object]) -> None:
    until = time.monotonic() + WITHIN
    while not condition():
        assert time.monotonic() < until, missing()
        time.sleep(0.2)


def groups() -> list[dict[str, Any]]:
    """The rules, with alerts that fire at once."""
    found: list[dict[str, Any]] = yaml.safe_load(RULES.read_text())["spec"]["groups"]
    for group in found:
        for rule in group["rules"]:
            rule.pop("for", None)
    return found


def names_in(expression: str) -> set[str]:
    return set(re.findall(r"\b(?:faas|starlette_wasm)_\w+", expression)) - {"faas_name", "faas_version"}


@pytest.fixture
def app(tmp_path: Path) -> Iterator[Server]:
    """A server on which everything that an alert is for has happened, or could be counted."""
    folder = tmp_path / "app"
    folder.mkdir()
    broken = add_function(folder, "broken", "hello", healthCheck={"path": "/"})
    broken.write_bytes(capi.assemble('(module (memory (export "memory") 1) (func (export "_start") unreachable))'))
    add_function(folder, "failing", "hello").write_bytes(broken.read_bytes())
    add_function(folder, "files")
    add_function(folder, "sleep60")
    (folder / "data").mkdir()
    policies = {
        "reader": {"allowedDirs": [{"hostPath": str(folder / "data"), "guestPath": "/data", "readonly": True}]},
        "alone": {"maxConcurrency": 1, "executionTimeoutMs": 1000},
    }
    (folder / "policies").mkdir()
    for name, policy in policies.items():
        (folder / f"policies/{name}.yaml").write_text(yaml.safe_dump(policy))
    for version in ("1", "2"):
        add_constant(folder, "hello", b'{"status_code": 200, "body": "x"}', version)
    config = {
        "exposeEndpoints": True,
        "policiesDir": "policies",
        "rules": [
            {"pathPattern": "/hello", "functionName": "hello"},
            {"pathPattern": "/broken", "functionName": "broken"},
            {"pathPattern": "/failing", "functionName": "failing"},
            {"pathPattern": "/files", "functionName": "files", "policy": "reader"},
            {"pathPattern": "/sleep", "functionName": "sleep60", "policy": "alone"},
        ],
        "canaries": [
            {"functionName": "hello", "stableVersion": "1", "canaryVersion": "2", "progressDeadlineSeconds": 1}
        ],
        "pipelines": [{"path": "/piped", "steps": [{"function": "broken"}]}],
        "circuitBreaker": {"minimumCalls": 1},
        "healthCheckIntervalMs": 1000,
    }
    (folder / "wasm.yaml").write_text(yaml.safe_dump(config))
    (folder / "app.py").write_text(PLAIN)
    made = Server(folder, tmp_path / "log", "app:app", STARLETTE_WASM_CANARY_URL="sqlite://")
    try:
        made.wait_until_ready()
        yield made
    finally:
        made.close()


@pytest.fixture
def prometheus(tmp_path: Path, app: Server) -> Iterator[Prometheus]:
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": groups()}))
    (tmp_path / "prometheus.yaml").write_text(
        yaml.safe_dump(
            {
                "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
                "rule_files": ["rules.yaml"],
                "scrape_configs": [
                    {
                        "job_name": "app",
                        "static_configs": [
                            {"targets": [f"127.0.0.1:{app.port}"], "labels": {"namespace": "n", "pod": "a"}}
                        ],
                    }
                ],
            }
        )
    )
    port = free_port()
    command = [
        "prometheus", f"--config.file={tmp_path}/prometheus.yaml", f"--storage.tsdb.path={tmp_path}/data",
        f"--web.listen-address=127.0.0.1:{port}", "--log.level=warn",
    ]  # fmt: skip
    with (tmp_path / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        yield Prometheus(port)
    finally:
        process.terminate()
        process.wait(60)


def test_alerts_are_evaluated_on_what_a_server_gives(app: Server, prometheus: Prometheus, tmp_path: Path) -> None:
    """Each metric that an alert names is a series; and those fire whose reason is there."""
    app.get("/hello")
    app.post("/files", json={"op": "write", "path": "/data/new", "data": "x"})
    app.get("/piped")
    (tmp_path / "app/wasm.yaml").write_text("rules: 5\n")
    wanted = {name for group in groups() for rule in group["rules"] for name in names_in(rule["expr"])}
    fire = {"WasmFunctionUnhealthy", "WasmCanaryOverdue", "WasmReloadRefused", "WasmFunctionErrors"}

    def all_there() -> bool:
        app.get("/failing")
        if prometheus.is_ready() and wanted <= prometheus.series():
            return fire <= prometheus.alerts()
        with ThreadPoolExecutor(2) as clients:  # one waits for the other, unless the machine is slow
            list(clients.map(app.get, ["/sleep", "/sleep"]))
        return False

    wait(all_there, lambda: (wanted - prometheus.series(), fire - prometheus.alerts()))
    rules = [rule for group in prometheus.get("rules")["groups"] for rule in group["rules"]]
    assert [(rule["health"], rule.get("lastError")) for rule in rules] == [("ok", None)] * len(rules)
    assert {rule["name"] for rule in rules} >= fire
    targets = prometheus.get("targets")["activeTargets"]
    assert [(target["health"], target["lastError"]) for target in targets] == [("up", "")]

"""A secret is planted wherever one can be, and looked for wherever something is shown to somebody.

Two markers: what is secret is in no log and no span either; what is a value of a config, or of a guest's output, may
be there, but in no endpoint, and in no answer to a fault.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from apps import JSON, add_constant, add_function, client, config_file, eventually, run, settings
from fastapi import FastAPI
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from starlette_wasm import WasmMiddleware, WasmRuntime, wasm_endpoint
from starlette_wasm.telemetry import Telemetry

SECRET = "s3cretOfAnOperator"
VALUE = "valueOfAConfig"
ENDPOINTS = ("/health", "/ready", "/metrics", "/metrics/canary", "/metrics/canary?function=f")
AUTHORIZED = {"authorization": f"Bearer {SECRET}"}
FUNCTIONS = ("edge_c", "environ", "trap", "garbage", "sick", "f")


class Shown:
    """All that anybody, or an operator's log, sees of one runtime."""

    def __init__(self, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
        self.folder = folder
        self.log = caplog
        self.answers: dict[str, str] = {}
        self.exporter = InMemorySpanExporter()
        tracers = TracerProvider()
        tracers.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.telemetry = Telemetry(tracer_provider=tracers)

    @property
    def logged(self) -> str:
        format = logging.Formatter().format
        return "\n".join(f"{format(record)} {record.__dict__}" for record in self.log.records)

    @property
    def spans(self) -> str:
        return "\n".join(span.to_json() for span in self.exporter.get_finished_spans())

    def check(self) -> None:
        for place, text in self.answers.items():
            assert SECRET not in text, (place, text)
            assert VALUE not in text, (place, text)
        assert SECRET not in self.spans
        assert SECRET not in self.logged


def plant(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A config with a secret in each place that may have one; gives its file."""
    monkeypatch.setenv("PLANTED", SECRET)
    file = folder / "planted"
    file.write_text(SECRET)
    env = {"A": {"fromEnv": "PLANTED"}, "B": {"fromFile": str(file)}, "C": SECRET}
    for name in FUNCTIONS[:-2]:
        add_function(folder, name, env=env, envVars=["PLANTED"], openapi={"summary": name})
    said = VALUE.encode() + b' {"status_code": 200} ' + VALUE.encode()
    add_constant(folder, "sick", said)  # its probe's fault quotes what it prints
    manifest = {"env": env, "healthCheck": {"path": f"/{VALUE}"}}
    (folder / "functions" / "sick" / "v1" / "function.yaml").write_text(yaml.safe_dump(manifest))
    for version in "12":
        add_constant(folder, "f", b'{"status_code": 200}', version)
    policy = {
        "allowedEnvVars": ["PLANTED"],
        "allowedSecrets": ["PLANTED", str(file)],
        "allowedHosts": [f"{VALUE}.example"],
        "maxNetworkRequests": 3,
        "kvNamespaces": [VALUE],
        "queues": [VALUE],
        "allowedDirs": [{"hostPath": str(folder / VALUE), "guestPath": f"/{VALUE}"}],
    }
    hook = {"url": f"http://127.0.0.1:1/{SECRET}?token={SECRET}", "timeoutMs": 1000}
    canary = {"functionName": "f", "stableVersion": "1", "canaryVersion": "2", "stepSeconds": 0.3, "hooks": [hook]}
    rules = {f"/{name}": {"functionName": name, "policy": "all"} for name in FUNCTIONS}
    return config_file(
        folder,
        rules,
        policies={"all": policy},
        canaries=[canary],
        exposeEndpoints=True,
        healthCheckIntervalMs=100,
    )


@asynccontextmanager
async def serving(shown: Shown, file: Path, **given: Any) -> AsyncIterator[tuple[WasmRuntime, Any]]:
    folder = shown.folder
    urls: JSON = {
        "kv_url": f"redis://user:{SECRET}@127.0.0.1:1/0",
        "queue_url": f"nats://user:{SECRET}@127.0.0.1:1",
        "canary_url": f"sqlite:///{folder}/canary.db",
        "endpoints_token": SECRET,
        "access_log": True,
    }
    runtime = WasmRuntime(file, settings(**urls | given))
    runtime.telemetry = shown.telemetry
    app = FastAPI()
    app.add_api_route("/api", wasm_endpoint("edge_c", policy="all"), methods=["POST"])
    async with runtime, client(WasmMiddleware(app, runtime=runtime)) as http:
        yield runtime, http
        shown.answers["openapi"] = json.dumps(app.openapi())
        await look(shown, http)


async def look(shown: Shown, http: Any) -> None:
    for path in ENDPOINTS:
        answer = await http.get(path, headers=AUTHORIZED)
        shown.answers[path] = f"{answer.status_code} {answer.headers} {answer.text}"
        refused = await http.get(path, headers={"authorization": "Bearer wrong"})
        shown.answers[f"{path} refused"] = f"{refused.headers} {refused.text}"


def commands() -> list[JSON]:
    return [
        {"op": "kv.get", "namespace": VALUE, "key": "k"},
        {"op": "queue.publish", "queue": VALUE, "body": "x"},
        {"op": "http.fetch", "url": f"http://{VALUE}.example:81/"},
        {"op": "http.fetch", "url": "http://other.example/"},
    ]


def test_no_secret_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    shown = Shown(tmp_path, caplog)
    file = plant(tmp_path, monkeypatch)

    async def main() -> None:
        async with serving(shown, file) as (runtime, http):
            for path in (*(f"/{name}" for name in FUNCTIONS if name != "environ"), "/nowhere"):
                answer = await http.post(path, json=commands()[:3])
                if path in ("/trap", "/garbage", "/sick", "/nowhere"):
                    shown.answers[path] = f"{answer.headers} {answer.text}"
            assert SECRET in (await http.get("/environ")).text  # the guests have it
            await eventually(lambda: any("sick v1 is" in each for each in runtime.health.reasons()), within=60)
            canary = runtime.canaries.all["f"]
            await eventually(lambda: "hooks[0]" in (canary.held_by or ""), within=60)
            shown.answers["held by"] = canary.held_by or ""

    run(main())
    assert "sick v1 is unhealthy: its answer is not a response" in shown.answers["/ready"]
    assert "sick v1" in shown.logged
    shown.check()


BAD: dict[str, tuple[str, str]] = {
    "a value of wasm.yaml": ("wasm.yaml", f"healthCheckIntervalMs: {VALUE}\nfunctionsDir: functions\n"),
    "a key of wasm.yaml": ("wasm.yaml", f"'{VALUE}-1': 1\n"),
    "a hook": ("wasm.yaml", f"canaries: [{{functionName: f, hooks: [{{url: 'ftp://u:{SECRET}@{VALUE}/'}}]}}]\n"),
    "no YAML": ("wasm.yaml", f"functionsDir: [{VALUE}\n"),
    "a policy": ("policies/all.yaml", f"maxNetworkRequests: {VALUE}\n"),
    "a host of a policy": ("policies/all.yaml", f"allowedHosts: ['http://{VALUE}:x']\n"),
    "a manifest": ("functions/f/v1/function.yaml", f"protocol: {VALUE}\n"),
    "a secret of a manifest": ("functions/f/v1/function.yaml", f"env: {{A: {{fromEnv: {VALUE}}}}}\n"),
    "a path of a manifest": ("functions/f/v1/function.yaml", f"env: {{A: {{fromFile: /{VALUE}}}}}\n"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_refused_reload_shows_no_value(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    caplog.set_level(logging.INFO)
    shown = Shown(tmp_path, caplog)
    file = plant(tmp_path, monkeypatch)

    async def main() -> None:
        async with serving(shown, file, reload_interval_ms=0) as (runtime, _):
            bad, text = BAD[name]
            (tmp_path / bad).write_text(text)
            with pytest.raises(Exception, match=r"."):
                await runtime.reload()
            assert runtime.reloader.last is not None
            assert runtime.reloader.last.refused is not None

    run(main())
    shown.check()


@pytest.mark.parametrize("key", ["kv_url", "queue_url", "canary_url"])
def test_a_store_that_is_away_shows_no_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, key: str
) -> None:
    caplog.set_level(logging.INFO)
    shown = Shown(tmp_path, caplog)
    file = plant(tmp_path, monkeypatch)

    async def main() -> None:
        async with serving(shown, file, **{key: f"redis://user:{SECRET}@127.0.0.1:1/0"}) as (_, http):
            assert (await http.post("/edge_c", json=commands()[:2])).status_code == 200
            await asyncio.sleep(0.5)

    run(main())
    shown.check()


@pytest.mark.parametrize("url", [f"redis://user:{SECRET}@127.0.0.1:port/0", f"what://user:{SECRET}@host/"])
@pytest.mark.parametrize("key", ["kv_url", "queue_url", "canary_url"])
def test_a_wrong_url_shows_no_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str, url: str) -> None:
    file = plant(tmp_path, monkeypatch)

    async def main() -> str:
        with pytest.raises(Exception, match=r".") as caught:
            async with WasmRuntime(file, settings(**{key: url})):
                pass
        return str(caught.value)

    assert SECRET not in asyncio.run(main())

"""The manifests in ``deploy/``: what Kubernetes would take, and what neither its schemas nor kubectl look at."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from chart import render

from starlette_wasm.config.policy import load_policies
from starlette_wasm.config.router import load_config
from starlette_wasm.config.settings import WasmSettings
from starlette_wasm.functions.registry import lockfile
from starlette_wasm.telemetry import conventions
from starlette_wasm.telemetry.conventions import Metric
from starlette_wasm.telemetry.prometheus import name_of

DEPLOY = Path(__file__).parents[2] / "deploy"
KUSTOMIZE = DEPLOY / "kustomize"
REGIONS = sorted(folder.name for folder in (KUSTOMIZE / "overlays").iterdir())
BUILDS = [*(f"overlays/{region}" for region in REGIONS), "fluent-bit"]
CHART = DEPLOY / "helm" / "starlette-wasm"
QUANTITY = re.compile(r"[0-9]+(\.[0-9]+)?(m|[KMGT]i)?\Z")

Objects = dict[tuple[str, str], dict[str, Any]]


def program(name: str) -> str:
    return str(Path(sys.executable).parent / name)


@pytest.fixture(scope="module")
def built() -> dict[str, str]:
    """What ``kubectl kustomize`` makes of each folder."""
    return {
        name: subprocess.run(
            [program("kubectl"), "kustomize", str(KUSTOMIZE / name)],
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        ).stdout
        for name in BUILDS
    }


def objects(text: str) -> Objects:
    return {(each["kind"], each["metadata"]["name"]): each for each in yaml.safe_load_all(text) if each}


@pytest.fixture(scope="module", params=BUILDS)
def fleet(request: pytest.FixtureRequest, built: dict[str, str]) -> Objects:
    return objects(built[request.param])


def pods(found: Objects) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    """Yield (name, labels of the pod, its spec) of each workload."""
    for (kind, name), each in found.items():
        if kind in ("Deployment", "StatefulSet", "DaemonSet"):
            template = each["spec"]["template"]
            yield name, template["metadata"]["labels"], template["spec"]


def containers(spec: dict[str, Any]) -> list[dict[str, Any]]:
    return [*spec.get("initContainers", ()), *spec["containers"]]


def test_there_are_three_regions() -> None:
    assert len(REGIONS) == 3


@pytest.mark.parametrize("version", ["1.31", "1.36"])
def test_kubernetes_takes_the_objects(version: str, built: dict[str, str], tmp_path: Path) -> None:
    """By its own schemas. Those of the Prometheus operator are not among them: their objects are looked at below."""
    file = tmp_path / "objects.yaml"
    file.write_text("\n---\n".join(built.values()))
    command = [program("kubernetes-validate"), "--strict", "-k", version, str(file)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    said = run.stdout + run.stderr
    assert run.returncode == 0, said
    known = [each for each in yaml.safe_load_all(file.read_text()) if "monitoring.coreos.com" not in each["apiVersion"]]
    assert len(re.findall(" passed for resource ", said)) == len(known)


@pytest.mark.parametrize("region", REGIONS)
def test_the_chart_gives_the_same_objects(region: str, built: dict[str, str]) -> None:
    """Rendered by helm if it is on PATH, else by ``chart.py``, which says what it covers."""
    kustomized, charted = (
        objects(built[f"overlays/{region}"]),
        objects(render(CHART, {"region": region}, "starlette-wasm")),
    )
    del kustomized["Namespace", "starlette-wasm"]  # helm install --create-namespace makes it
    assert charted.keys() == kustomized.keys()
    for key, each in charted.items():
        assert common(each) == common(kustomized[key])


def common(value: Any) -> Any:
    """Leave out what differs on purpose: who manages an object, and how a namespace is told."""
    if isinstance(value, dict):
        skipped = ("app.kubernetes.io/managed-by", "namespace")
        return {key: common(each) for key, each in value.items() if key not in skipped}
    return [common(each) for each in value] if isinstance(value, list) else value


def test_parts_of_the_chart_can_be_left_out() -> None:
    off = {"enabled": False}
    found = objects(render(CHART, {"region": "x", "redis": off, "telemetry": off, "monitoring": off}, "n"))
    assert {name for _, name in found} == {
        "starlette-wasm",
        "starlette-wasm-config",
        "starlette-wasm-env",
        "starlette-wasm-policies",
    }


def test_regions_differ_by_their_name_alone(built: dict[str, str]) -> None:
    texts = {built[f"overlays/{region}"].replace(region, "REGION") for region in REGIONS}
    assert len(texts) == 1


def test_the_region_reaches_the_app(built: dict[str, str]) -> None:
    for region in REGIONS:
        found = objects(built[f"overlays/{region}"])
        assert found["ConfigMap", "starlette-wasm-env"]["data"]["REGION"] == region


def test_selectors_fit_the_pods(fleet: Objects) -> None:
    labels = {name: set(each.items()) for name, each, _ in pods(fleet)}
    for (kind, name), each in fleet.items():
        spec = each.get("spec", {})
        if kind in ("Deployment", "StatefulSet", "DaemonSet", "PodDisruptionBudget"):
            assert set(spec["selector"]["matchLabels"].items()) <= labels[name]
        elif kind == "Service":
            assert set(spec["selector"].items()) <= labels[name]
        elif kind == "NetworkPolicy":
            assert set(spec["podSelector"]["matchLabels"].items()) <= labels[name]
        elif kind == "HorizontalPodAutoscaler":
            assert (spec["scaleTargetRef"]["kind"], spec["scaleTargetRef"]["name"]) in fleet
            assert "replicas" not in fleet["Deployment", name]["spec"]


def test_ports_are_named_where_they_are_used(fleet: Objects) -> None:
    for name, _, spec in pods(fleet):
        ports = {port["name"] for container in spec["containers"] for port in container.get("ports", ())}
        used = re.findall(r"'port': '([a-z-]+)'", str(spec))
        service = fleet.get(("Service", name), {"spec": {"ports": ()}})
        assert {*used, *(port["targetPort"] for port in service["spec"]["ports"])} <= ports


def test_every_container_is_hardened(fleet: Objects) -> None:
    for name, _, spec in pods(fleet):
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert spec.get("automountServiceAccountToken", name == "fluent-bit") is (name == "fluent-bit")
        assert spec["enableServiceLinks"] is False
        assert name == "fluent-bit" or spec["securityContext"]["runAsNonRoot"] is True
        for container in containers(spec):
            context = container["securityContext"]
            assert context["allowPrivilegeEscalation"] is False
            assert context["readOnlyRootFilesystem"] is True
            assert context["capabilities"]["drop"] == ["ALL"]
            assert context["capabilities"].get("add", []) == (["DAC_READ_SEARCH"] if name == "fluent-bit" else [])


def test_every_container_says_what_it_takes(fleet: Objects) -> None:
    for _, _, spec in pods(fleet):
        for container in containers(spec):
            resources = container["resources"]
            assert {"cpu", "memory"} <= resources["requests"].keys()
            assert "cpu" not in resources["limits"], "a CPU limit below a core makes starts slow"
            for quantity in [*resources["requests"].values(), *resources["limits"].values()]:
                assert QUANTITY.match(quantity), quantity


def test_images_are_pinned(fleet: Objects) -> None:
    for _, _, spec in pods(fleet):
        for container in containers(spec):
            assert re.search(r"(@sha256:[0-9a-f]{64}|:[0-9]+\.[0-9]+\.[0-9]+[a-z0-9.-]*)\Z", container["image"])


def test_what_is_mounted_is_there(fleet: Objects) -> None:
    for _, _, spec in pods(fleet):
        volumes = {volume["name"]: volume for volume in spec.get("volumes", ())}
        claimed = {"data"}
        for container in containers(spec):
            assert {mount["name"] for mount in container.get("volumeMounts", ())} <= volumes.keys() | claimed
            for source in container.get("envFrom", ()):
                [(kind, ref)] = source.items()
                assert ({"configMapRef": "ConfigMap", "secretRef": "Secret"}[kind], ref["name"]) in fleet
        for volume in volumes.values():
            if "configMap" in volume:
                assert ("ConfigMap", volume["configMap"]["name"]) in fleet
            if "secret" in volume:
                assert volume["secret"]["optional"] is True


def test_a_pod_has_time_to_drain(built: dict[str, str]) -> None:
    spec = objects(built[BUILDS[0]])["Deployment", "starlette-wasm"]["spec"]["template"]["spec"]
    settings = WasmSettings()
    pause = spec["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    needed = pause + (settings.drain_timeout_ms + settings.flush_timeout_ms) / 1000 + 5
    assert spec["terminationGracePeriodSeconds"] >= needed


def test_the_compiled_code_lies_in_a_folder_of_its_own(built: dict[str, str]) -> None:
    """The init container makes it with mode 0700; whoever compiles or serves mounts that folder, not the volume."""
    spec = objects(built[BUILDS[0]])["Deployment", "starlette-wasm"]["spec"]["template"]["spec"]
    by_name = {container["name"]: container for container in containers(spec)}
    assert "mkdir -p -m 0700 /work/aot" in " ".join(by_name["sync"]["command"])
    for name in ("compile", "app"):
        mounts = [mount for mount in by_name[name]["volumeMounts"] if mount["name"] == "work"]
        assert mounts == [{"name": "work", "mountPath": "/cache", "subPath": "aot"}]
        assert {"name": "STARLETTE_WASM_CACHE_DIR", "value": "/cache"} in by_name[name]["env"]
    order = [container["name"] for container in spec["initContainers"]]
    assert order.index("sync") < order.index("compile")


def test_variables_of_the_app_are_settings(fleet: Objects) -> None:
    known = {f"STARLETTE_WASM_{field.upper()}" for field in WasmSettings.model_fields}
    assert set(re.findall(r"STARLETTE_WASM_\w+", str(list(fleet.values())))) <= known


def test_the_config_of_the_fleet_is_valid() -> None:
    base = KUSTOMIZE / "base"
    config = load_config(base / "config/wasm.yaml")
    policies = load_policies(base / "policies", None)
    assert {rule.policy for rule in config.rules} <= policies.keys()
    locked = {entry.name for entry in lockfile.read(base / "config/functions.lock")}
    assert {rule.function_name for rule in config.rules} <= locked


def test_alerts_ask_for_metrics_that_exist() -> None:
    metrics = {name_of(each): each for each in vars(conventions).values() if isinstance(each, Metric)}
    series = {
        f"{name}{suffix}"
        for name, metric in metrics.items()
        for suffix in (("_bucket", "_count", "_sum") if metric.kind == "histogram" else ("",))
    }
    rules = yaml.safe_load((KUSTOMIZE / "components/monitoring/prometheusrule.yaml").read_text())["spec"]["groups"]
    alerts = [rule for group in rules for rule in group["rules"]]
    assert alerts
    for alert in alerts:
        used = set(re.findall(r"\b(?:faas|starlette_wasm)_\w+", alert["expr"])) - {"faas_name", "faas_version"}
        assert used
        assert used <= series, alert["alert"]
        assert {"summary", "description"} == alert["annotations"].keys()
        assert alert["labels"]["severity"] in ("warning", "critical")


def test_the_monitor_names_a_port_of_the_service(built: dict[str, str]) -> None:
    found = objects(built[BUILDS[0]])
    monitor = found["ServiceMonitor", "starlette-wasm"]["spec"]
    service = found["Service", "starlette-wasm"]
    assert monitor["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert {each["port"] for each in monitor["endpoints"]} == {port["name"] for port in service["spec"]["ports"]}


def test_fluent_bit_reads_whole_lines_once() -> None:
    config = yaml.safe_load((KUSTOMIZE / "fluent-bit/fluent-bit.yaml").read_text())
    [tail] = config["pipeline"]["inputs"]
    assert tail["multiline.parser"] == "docker, cri"
    assert "parser" not in tail
    assert tail["skip_long_lines"] is True, "a long line else ends the reading of its file"
    assert tail["db"].startswith("/var/lib/fluent-bit/")
    [kubernetes] = config["pipeline"]["filters"]
    assert kubernetes["match"] == tail["tag"] == config["pipeline"]["outputs"][0]["match"]

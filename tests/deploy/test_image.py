"""The image of ``starlette-wasm new --app``: built without Docker, and started as a pod of ``deploy/``.

It needs root, runc and what tools/image.py names, which scripts/test installs if it can. For the image of the sample
app, and a second build, which must give the same layers, there is ``scripts/image --twice``.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import stat
from collections.abc import Iterator
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from apps import GUESTS
from containers import PROFILE, Container, Runc, Started, bytes_of, config_volume, empty_volume, wait_for
from image import PROGRAMS, Builder, ImageError, missing
from ports import free_port

from starlette_wasm.cli.languages import Lang
from starlette_wasm.cli.main import main
from starlette_wasm.cli.scaffold import new_app

BASE = Path(__file__).parents[2] / "deploy/kustomize/base"
USER = 10001


def why_not() -> str:
    """Return why no container can be built and started here; empty if it can."""
    lacking = missing(*PROGRAMS, "runc")
    if os.geteuid() != 0:
        return "containers are built and started by root"
    if lacking:
        return f"{', '.join(lacking)} not on PATH; on Debian: apt-get install {' '.join(lacking)}"
    if not PROFILE.exists():
        return f"{PROFILE} is not there: Debian's golang-github-containers-common has it"
    if not os.access("/sys/fs/cgroup", os.W_OK) or "ro" in _options("/sys/fs/cgroup"):
        return "/sys/fs/cgroup is read-only: no container can be limited in memory"
    return ""


def _options(place: str) -> list[str]:
    mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    return next((fields[3].split(",") for fields in mounts if fields[1] == place), [])


pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not() or "-")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The root folder of the image of a new app, whose function is a guest of these tests."""
    folder = tmp_path_factory.mktemp("image")
    project = folder / "shop"
    new_app(project, Lang.C)
    shutil.copy(GUESTS / "hello.wasm", project / "functions/hello/v1/hello.wasm")
    builder = Builder(folder, installed=True)
    try:
        builder.try_out()
    except ImageError as error:
        pytest.skip(f"no base of an image can be made and entered here: {error}")
    builder.build(project, "shop")
    place = builder.unpack("shop")
    starter = Runc(folder)
    code, output = starter.run(Container("probe", place, ["true"], {"PATH": "/bin:/usr/bin"}))
    starter.close()
    if code != 0:
        pytest.skip(f"runc starts nothing here: {output}")
    return place


@pytest.fixture
def runc(tmp_path: Path) -> Iterator[Runc]:
    made = Runc(tmp_path)
    yield made
    made.close()


class Pod:
    """The Deployment's pod: its containers run one after the other, on volumes that they share."""

    def __init__(self, root: Path, folder: Path, config: dict[str, str], variables: dict[str, str]) -> None:
        deployment = yaml.safe_load((BASE / "deployment.yaml").read_text())
        self.spec: dict[str, Any] = deployment["spec"]["template"]["spec"]
        self._root = root
        self._variables = variables
        group = self.spec["securityContext"]["fsGroup"]
        self._volumes: dict[str, Path] = {}
        for volume in self.spec["volumes"]:
            place = folder / volume["name"]
            if "emptyDir" in volume:
                self._volumes[volume["name"]] = empty_volume(place, group)
            elif volume["name"] == "policies":
                text = (BASE / "policies/fleet.yaml").read_text()
                self._volumes["policies"] = config_volume(place, {"fleet.yaml": text})
            else:  # a ConfigMap, or the optional Secret, which is empty
                self._volumes[volume["name"]] = config_volume(place, config if volume["name"] == "config" else {})

    def container(self, name: str, **changed: str) -> Container:
        """Return one of its containers; in its command texts are changed as in ``{"8080": "1234"}``."""
        [found] = [each for each in [*self.spec["initContainers"], *self.spec["containers"]] if each["name"] == name]
        context, hardened = self.spec["securityContext"], found["securityContext"]
        assert hardened["capabilities"] == {"drop": ["ALL"]}
        assert hardened["readOnlyRootFilesystem"]
        assert not hardened["allowPrivilegeEscalation"]
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}
        given = {each["name"]: each.get("value", "") for each in found.get("env", ())}
        mounts = [
            (self._volumes[each["name"]] / each.get("subPath", ""), each["mountPath"], each.get("readOnly", False))
            for each in found["volumeMounts"]
        ]
        return Container(
            name,
            self._root,
            [changed.get(f"_{each}", each) for each in found["command"]],
            image_environ(self._root) | self._variables | given,
            mounts,
            bytes_of(found["resources"]["limits"]["memory"]),
            context["runAsUser"],
            context["runAsGroup"],
        )


def image_environ(root: Path) -> dict[str, str]:
    """Return the variables of the Dockerfile's last stage."""
    text = (Path(__file__).parents[2] / "starlette_wasm/cli/templates/Dockerfile.tmpl").read_text()
    last = text.rpartition("\nFROM ")[2].replace("\\\n", " ")
    [line] = re.findall(r"^ENV (.*)$", last, re.MULTILINE)
    pairs = dict(each.split("=", 1) for each in line.split())
    return pairs | {"PATH": pairs["PATH"].replace("$PATH", "/usr/bin:/bin")}


def is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/ready", timeout=30).status_code == 200
    except httpx.TransportError:
        return False


def serve(runc: Runc, container: Container, port: int) -> Started:
    started = runc.start(container)
    wait_for(lambda: is_ready(f"http://127.0.0.1:{port}"), started)
    return started


def check_restrictions(started: Started, limit: int) -> None:
    status = started.status()
    assert status["Uid"].split() == status["Gid"].split() == [str(USER)] * 4
    assert {int(status[each], 16) for each in ("CapEff", "CapPrm", "CapBnd", "CapAmb", "CapInh")} == {0}
    assert status["NoNewPrivs"] == "1"
    assert status["Seccomp"] == "2"  # a filter
    given, used = started.memory()
    assert given == limit
    assert 0 < used < limit


def test_the_image_holds_what_its_sbom_lists(root: Path) -> None:
    site = root / "venv/lib/python3.11/site-packages"
    installed = {each.name.lower() for each in distributions(path=[str(site)])}
    listed = json.loads((root / "venv/sbom.cdx.json").read_text())
    assert listed["bomFormat"] == "CycloneDX"
    assert {each["name"].lower() for each in listed["components"]} == installed
    assert {"starlette-wasm", "uvicorn", "redis", "cryptography"} <= installed
    assert not installed & {"pip", "setuptools", "cyclonedx-bom", "pytest"}
    assert not list(root.glob("wheels/*")) + list(root.glob("app/**/src"))


def test_compiled_python_in_the_image_holds_no_times(root: Path) -> None:
    """The second word of a file is 1 if neither the time nor the bytes of its source are looked at."""
    files = list((root / "venv").rglob("*.pyc"))
    assert len(files) > 1000
    assert {file.read_bytes()[4:8] for file in files} == {b"\1\0\0\0"}


def test_the_cache_in_the_image_is_its_users_alone(root: Path) -> None:
    cache = root / "var/cache/starlette-wasm"
    [code] = cache.glob("*.cwasm")
    for path, mode in ((cache, 0o700), (cache / "key", 0o600), (code, 0o600)):
        info = path.stat()
        assert (info.st_uid, stat.S_IMODE(info.st_mode)) == (USER, mode)


def test_the_image_serves_as_it_is(root: Path, runc: Runc, tmp_path: Path) -> None:
    """With the cache that was made with it, on a read-only root, within what the Deployment grants."""
    port = free_port()
    command = ["uvicorn", "app:app", "--host", "127.0.0.1", "--port", str(port)]
    environ = image_environ(root) | {"STARLETTE_WASM_LOG": "text"}
    mounts = [(empty_volume(tmp_path / "tmp", None), "/tmp", False)]
    started = serve(runc, Container("app", root, command, environ, mounts), port)
    check_restrictions(started, 256 << 20)
    assert httpx.get(f"http://127.0.0.1:{port}/hello", timeout=60).text == "hello"
    assert "from the AOT cache" in started.output
    assert "compiled" not in started.output
    started.terminate()
    assert started.process.wait(120) == 0, started.output


def test_a_pod_of_the_deployment_runs(root: Path, runc: Runc, registry: str, redis_url: str, tmp_path: Path) -> None:
    """Its init containers bring functions from a registry and compile them; the app starts with what they left."""
    made = tmp_path / "made"
    for name in ("edge-processor", "sleeper"):
        place = made / "functions" / name / "v2"
        place.mkdir(parents=True)
        shutil.copy(GUESTS / ("sleep60.wasm" if name == "sleeper" else "hello.wasm"), place / f"{name}.wasm")
    config = yaml.safe_load((BASE / "config/wasm.yaml").read_text())
    config["rules"].append({"pathPattern": "/sleep", "functionName": "sleeper", "policy": "fleet"})
    (made / "wasm.yaml").write_text(yaml.safe_dump(config | {"functionsDir": "functions", "policiesDir": None}))
    for name in ("edge-processor", "sleeper"):
        assert main(["push", f"{name}@2", f"oci://{registry}/pod/{name}", "--config", str(made / "wasm.yaml")]) == 0
    files = {"wasm.yaml": yaml.safe_dump(config), "functions.lock": (made / "functions.lock").read_text()}
    port = free_port()
    variables = {"REGION": "eu-west-1", "APP_MODE": "production", "STARLETTE_WASM_CANARY_URL": redis_url}
    pod = Pod(root, tmp_path, files, variables)
    for name, wanted in (("sync", "pulled"), ("compile", "compiled")):
        code, output = runc.run(pod.container(name))
        assert code == 0, output
        assert len(re.findall(rf"\b{wanted}\b", output)) == 2, output
    folder = (tmp_path / "work/aot").stat()
    assert (folder.st_uid, folder.st_gid, stat.S_IMODE(folder.st_mode)) == (USER, USER, 0o2700)

    started = serve(runc, pod.container("app", _8080=str(port), **{"_0.0.0.0": "127.0.0.1"}), port)
    check_restrictions(started, 256 << 20)
    url = f"http://127.0.0.1:{port}"
    assert httpx.post(f"{url}/api/v1/process", timeout=60).text == "hello"
    lines = [json.loads(line) for line in started.output.splitlines() if line.startswith("{")]
    loaded = [line["message"] for line in lines if "loaded " in line.get("message", "")]
    assert len(loaded) == 2
    assert all("from the AOT cache" in each for each in loaded), loaded
    with socket.create_connection(("127.0.0.1", port), 60) as asked:
        asked.settimeout(120)
        asked.sendall(b"GET /sleep HTTP/1.1\r\nhost: pod\r\nconnection: close\r\n\r\n")
        wait_for(lambda: 'starlette_wasm_running{faas_name="sleeper"} 1.0' in metrics(url), started)
        started.terminate()
        answer = asked.recv(4096)
    assert answer.startswith(b"HTTP/1.1 504"), answer  # its own deadline: the drain has waited for it
    assert started.process.wait(120) == 0, started.output


def metrics(url: str) -> str:
    return httpx.get(f"{url}/metrics", timeout=60).text


def test_a_volume_is_a_cache_only_if_a_setting_names_it(root: Path, runc: Runc, tmp_path: Path) -> None:
    """The root of an emptyDir is open to all: nothing there is trusted, until the pod says that it is its own."""
    volume = empty_volume(tmp_path / "volume", None)
    mounts = [(volume, "/cache", False), (empty_volume(tmp_path / "tmp", None), "/tmp", False)]
    environ = image_environ(root) | {"STARLETTE_WASM_CACHE_DIR": "/cache"}
    command = ["starlette-wasm", "compile", "wasm.yaml", "--json"]
    code, output = runc.run(Container("refused", root, command, environ, mounts))
    assert code == 0, output
    assert "/cache belongs to another user" in output
    assert not list(volume.iterdir())
    environ["STARLETTE_WASM_CACHE_VOLUME"] = "true"
    for wanted in ("compiled", "in the AOT cache already"):
        code, output = runc.run(Container("taken", root, command, environ, mounts))
        assert code == 0, output
        assert f'"code": "{wanted}"' in output
    [folder] = volume.iterdir()
    assert (folder.name, folder.stat().st_uid, stat.S_IMODE(folder.stat().st_mode)) == (f"uid-{USER}", USER, 0o700)

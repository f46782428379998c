"""The Dockerfiles, instruction by instruction: no image can be built where the base image cannot be had.

Looked at: what is copied exists, the extras are there and cover what the manifests run, its user, its port.
Run: the commands of the last stage that need only the package. The base image, apt and the size are not checked.
"""

from __future__ import annotations

import ast
import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
SAMPLE, OWN = ROOT / "Dockerfile", ROOT / "deploy" / "docker" / "Dockerfile"
FILES = pytest.mark.parametrize("file", [SAMPLE, OWN], ids=["sample", "own"])
NEEDED = {"cli", "otel", "prometheus", "redis", "registry", "server"}
"""The extras for what the manifests run: sync, compile, telemetry, /metrics, Redis and uvicorn."""


def instructions(file: Path) -> list[list[tuple[str, str]]]:
    """Return (instruction, argument) of each stage."""
    text = re.sub(r"^#.*\n", "", file.read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    stages: list[list[tuple[str, str]]] = []
    for line in filter(str.strip, text.splitlines()):
        name, _, argument = line.strip().partition(" ")
        if name == "FROM":
            stages.append([])
        stages[-1].append((name, argument.strip()))
    return stages


def arguments(file: Path, name: str) -> list[str]:
    return [argument for stage in instructions(file) for each, argument in stage if each == name]


@FILES
def test_a_dockerfile_has_two_stages_on_one_pinned_base(file: Path) -> None:
    bases = {argument.partition(" ")[0] for argument in arguments(file, "FROM")}
    assert len(instructions(file)) == 2
    assert len(bases) == 1
    assert re.fullmatch(r"python:3\.[0-9]+-slim", bases.pop())
    assert not arguments(file, "ADD")


@FILES
def test_the_image_runs_as_another_user_than_root(file: Path) -> None:
    last = instructions(file)[-1]
    assert "--uid 10001" in " ".join(argument for name, argument in last if name == "RUN")
    names = [name for name, _ in last]
    assert names.index("USER") < names.index("HEALTHCHECK")
    assert dict(last)["USER"] in ("10001", "edge")


@FILES
def test_the_extras_cover_what_the_manifests_run(file: Path) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    [found] = re.findall(r'"(?:\.|starlette-wasm)\[([a-z,]+)\]"', file.read_text())
    extras = set(found.split(","))
    assert extras <= project["optional-dependencies"].keys()
    assert extras >= NEEDED


def test_what_the_sample_copies_is_in_the_context() -> None:
    ignored = (ROOT / ".dockerignore").read_text().split()
    for argument in arguments(SAMPLE, "COPY"):
        *sources, _ = [part for part in shlex.split(argument) if not part.startswith("--from=")]
        for source in sources if "--from=" not in argument else ():
            assert (ROOT / source).exists(), source
            assert source not in ignored


def test_the_image_starts_as_the_manifests_start_it() -> None:
    deployment = yaml.safe_load((ROOT / "deploy/kustomize/base/deployment.yaml").read_text())
    [app] = deployment["spec"]["template"]["spec"]["containers"]
    last = dict(instructions(OWN)[-1])
    assert ast.literal_eval(last["CMD"]) == app["command"]
    assert {"name": "WASM_CONFIG", "value": "/config/wasm.yaml"} in app["env"]
    assert "WASM_CONFIG=/config/wasm.yaml" in last["ENV"]
    assert last["EXPOSE"] == str(app["ports"][0]["containerPort"])


@FILES
def test_the_health_check_asks_ready(file: Path) -> None:
    [check] = arguments(file, "HEALTHCHECK")
    code = shlex.split(check.partition(" CMD ")[2])
    assert code[:2] == ["python", "-c"]
    compile(code[2], "HEALTHCHECK", "exec")
    assert "127.0.0.1:8080/ready" in code[2]


def test_the_commands_of_the_sample_work(tmp_path: Path) -> None:
    """The AOT cache that the image is made with: compiled once, and found by the next start."""
    runs = [argument for name, argument in instructions(SAMPLE)[-1] if name == "RUN"]
    [command] = [shlex.split(each) for each in runs if each.startswith("starlette-wasm ")]
    environ = {**os.environ, "STARLETTE_WASM_CACHE_DIR": str(tmp_path / "aot"), "HOME": str(tmp_path)}
    outputs = []
    for _ in range(2):
        run = [sys.executable, "-m", "starlette_wasm", *command[1:]]
        done = subprocess.run(run, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=280, check=False)
        assert done.returncode == 0, done.stderr
        outputs.append(done.stdout)
    assert "in the AOT cache already" in outputs[1]
    assert "compiled" not in outputs[1]

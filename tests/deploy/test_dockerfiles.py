"""The Dockerfiles, instruction by instruction: the sample app's, and that of ``starlette-wasm new --app``.

Looked at: what is copied exists, the extras are there and cover what the manifests run, user and port, and that both
make an image by the same steps. ``test_image.py`` builds and starts one where that can be done.
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
TEMPLATES = ROOT / "starlette_wasm/cli/templates"
SAMPLE, OWN = ROOT / "Dockerfile", TEMPLATES / "Dockerfile.tmpl"
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
        if stages:
            stages[-1].append((name, " ".join(argument.split())))
    return stages


def arguments(file: Path, name: str) -> list[str]:
    return [argument for stage in instructions(file) for each, argument in stage if each == name]


@FILES
def test_a_dockerfile_has_two_stages_on_one_pinned_base(file: Path) -> None:
    assert arguments(file, "FROM") == ["${BASE} AS build", "${BASE}"]
    assert re.search(r"^ARG BASE=python:3\.[0-9]+-slim$", file.read_text(), re.MULTILINE)
    assert not arguments(file, "ADD")


def test_both_images_are_made_by_the_same_steps() -> None:
    """But for where the package comes from, and which app is copied."""
    sample, own = ([dict.fromkeys(stage) for stage in instructions(file)] for file in (SAMPLE, OWN))
    only = [step for stage, other in zip(own, sample, strict=True) for step in stage if step not in other]
    assert [(name, argument.partition(" ")[0]) for name, argument in only] == [
        ("COPY", "requirements.txt"),
        ("RUN", "/tools/bin/python"),
        ("COPY", "app.py"),
        ("COPY", "policies"),
        ("COPY", "functions"),
        ("RUN", "umask"),
        ("CMD", '["uvicorn",'),
    ]
    both = [step for stage in sample for step in stage]
    for name, argument in only:
        if name == "RUN":
            same = argument.replace("-r /wheels/requirements.txt", "").replace("wasm.yaml", "sample_app/wasm.yaml")
            assert any(same in each for _, each in both), argument


@FILES
def test_the_image_runs_as_another_user_than_root(file: Path) -> None:
    last = instructions(file)[-1]
    assert "edge:x:10001:10001:" in " ".join(argument for name, argument in last if name == "RUN")
    names = [name for name, _ in last]
    assert names.index("USER") < names.index("HEALTHCHECK")
    assert dict(last)["USER"] == "10001"


@FILES
def test_the_extras_cover_what_the_manifests_run(file: Path) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    text = file.read_text() if file == SAMPLE else (TEMPLATES / "requirements.txt.tmpl").read_text()
    [found] = re.findall(r"\bstarlette-wasm\[([a-z,]+)\]", text)
    extras = set(found.split(","))
    assert extras <= project["optional-dependencies"].keys()
    assert extras >= NEEDED


def test_what_the_sample_copies_is_in_the_context() -> None:
    ignored = (ROOT / ".dockerignore").read_text().split()
    for argument in arguments(SAMPLE, "COPY"):
        *sources, _ = [part for part in shlex.split(argument) if not part.startswith("--from=")]
        for source in sources if "--from=" not in argument else ():
            assert (ROOT / source).exists() or source == "wheel[s]", source
            assert source not in ignored


def test_the_image_starts_as_the_manifests_start_it() -> None:
    deployment = yaml.safe_load((ROOT / "deploy/kustomize/base/deployment.yaml").read_text())
    [app] = deployment["spec"]["template"]["spec"]["containers"]
    last = dict(instructions(OWN)[-1])
    assert ast.literal_eval(last["CMD"]) == app["command"]
    assert {"name": "WASM_CONFIG", "value": "/config/wasm.yaml"} in app["env"]
    assert 'os.environ.get("WASM_CONFIG")' in (TEMPLATES / "app.py.tmpl").read_text()
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
    [command] = [each for each in runs if "starlette-wasm compile" in each]
    (tmp_path / "aot").mkdir(mode=0o700)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environ = {**os.environ, "STARLETTE_WASM_CACHE_DIR": str(tmp_path / "aot"), "HOME": str(tmp_path), "PATH": path}
    outputs, keys = [], []
    for _ in range(2):
        done = subprocess.run(
            ["sh", "-c", command], cwd=ROOT, env=environ, capture_output=True, text=True, timeout=280, check=False
        )
        assert done.returncode == 0, done.stderr
        outputs.append(done.stdout)
        keys.append((tmp_path / "aot/key").read_bytes())
    assert keys[0] == keys[1]
    assert len(keys[0]) == 32
    assert "in the AOT cache already" in outputs[1]
    assert "compiled" not in outputs[1]

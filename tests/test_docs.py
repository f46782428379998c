"""The README and the docs do what they say."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from apps import add_function, config, settings
from starlette.testclient import TestClient

from starlette_wasm import EdgeRequest, WasmRuntime
from starlette_wasm.config.pipelines import CircuitBreakerConfig, PipelineBranch, PipelineCall, PipelineConfig
from starlette_wasm.functions.catalog import FunctionManifest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.fixture(scope="module")
def quick_start(tmp_path_factory):
    """The files of the quick start, and its function built as it says."""
    folder = tmp_path_factory.mktemp("quick_start")
    for name, text in re.findall(r"<!-- file: (\S+) -->\n```\w*\n(.*?)```", README, re.DOTALL):
        (folder / name).write_text(text)
    [build] = re.findall(r"^python (-m ziglang cc .*?\.c)$", README, re.DOTALL | re.MULTILINE)
    (folder / "functions/hello/v1").mkdir(parents=True)
    subprocess.run([sys.executable, *build.replace("\\\n", " ").split()], cwd=folder, check=True, timeout=300)
    return folder


@pytest.mark.parametrize("language", ["c", "zig", "go"])
def test_the_page_of_a_language_leads_to_an_answer(language, tmp_path):
    page = (ROOT / "docs" / f"{language}.md").read_text()
    [script] = re.findall(r"<!-- script: \w+ -->\n```sh\n(.*?)```", page, re.DOTALL)
    script = re.sub(r"^python -m pip install .*\n", "set -eu\n", script).replace("/path/to/the/clone", str(ROOT))
    environ = os.environ | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "GOCACHE": str(ROOT / "tests" / ".built" / "go"),
        "STARLETTE_WASM_CACHE_DIR": str(tmp_path / "aot"),
    }
    given = {"cwd": tmp_path, "env": environ, "capture_output": True, "text": True, "timeout": 600, "check": False}
    done = subprocess.run(["sh", "-c", script], **given)
    assert (done.returncode, done.stdout.strip()) == (0, "hello /hello"), done.stderr


def load(folder: Path, name: str, monkeypatch):
    monkeypatch.chdir(folder)
    spec = importlib.util.spec_from_file_location(name, folder / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.app


def test_the_quick_start_answers(quick_start, monkeypatch):
    with TestClient(load(quick_start, "app", monkeypatch)) as client:
        for path in ("/hello", "/greeting"):
            assert client.get(path).text == "hello from wasm\n"
        assert client.get("/other").status_code == 404


def test_the_fastapi_app_answers(quick_start, monkeypatch):
    with TestClient(load(quick_start, "fast", monkeypatch)) as client:
        for path in ("/hello", "/greeting", "/raw"):
            assert client.get(path, headers={"authorization": "Bearer secret"}).text == "hello from wasm\n"
        assert client.get("/hello").status_code == 401
        assert "/greeting" in client.get("/openapi.json").json()["paths"]


def test_the_runtime_answers_without_http(quick_start):
    given = [sys.executable, "plain.py"]
    done = subprocess.run(given, cwd=quick_start, check=True, timeout=300, capture_output=True, text=True)
    assert done.stdout.strip() == "hello from wasm"


def test_what_the_quick_start_needs_is_installed_before_it_is_used():
    commands = ["python3 -m venv", "/bin/activate", "pip install '/path/to/the/clone[server]' ziglang",
                "python -m ziglang", "uvicorn app:app", "pip install fastapi", "uvicorn fast:app"]  # fmt: skip
    assert sorted(commands, key=README.index) == commands
    assert "pip install 'starlette-wasm" not in README  # it is on no index


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page):
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
        assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_to_headings_lead_to_one(page):
    for target, anchor in re.findall(r"\]\((?!https?:)([^)#]*)#([^)]+)\)", page.read_text()):
        assert anchor in anchors(page.parent / target if target else page), f"{target}#{anchor}"


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_page_is_linked_from_the_readme():
    for page in (ROOT / "docs").glob("*.md"):
        assert f"(docs/{page.name})" in README, page.name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_and_yaml_in_the_pages_is_python_and_yaml(page):
    for language, text in re.findall(r"```(python|yaml)\n(.*?)```", page.read_text(), re.DOTALL):
        if language == "yaml":
            yaml.safe_load(text)
        else:
            body = "".join(f"    {line}\n" for line in text.splitlines())
            compile(f"async def page():\n{body}", page.name, "exec")


def test_the_pipelines_of_the_docs_run(tmp_path):
    """With the defaults that the page says, and every function there is in it being the same guest."""
    page = (ROOT / "docs/pipelines.md").read_text()
    text = "".join(re.findall(r"```yaml\n(.*?)```", page, re.DOTALL))
    for name in ("parse", "enrich", "enrich-lite", "price", "stock", "page"):
        add_function(tmp_path, name, "stage")
    # A loaded machine may need longer than is good for an example.
    given = config(tmp_path) | yaml.safe_load(text.replace("timeoutMs: ", "timeoutMs: 20"))
    assert CircuitBreakerConfig.model_validate(given["circuitBreaker"]) == CircuitBreakerConfig()

    async def main():
        async with WasmRuntime(given, settings()) as runtime:
            request = EdgeRequest(method="POST", body="x", query={"enrich": "trap", "stock": "trap"})
            return await runtime.run_pipeline("/api/v1/enrich", request)

    merged = re.fullmatch(r"page\((.*)\)", asyncio.run(main()).body, re.DOTALL)[1]
    bodies = {name: answer["body"] for name, answer in json.loads(merged).items()}
    assert bodies == {"price": "price(enrich-lite(parse(x)))", "stock": "unknown"}


def test_the_keys_of_pipelines_in_the_docs_are_those_of_the_config():
    page = (ROOT / "docs/pipelines.md").read_text()
    listed = {name for row in re.findall(r"^\| (`.*?) \|", page, re.MULTILINE) for name in re.findall(r"`(\w+)`", row)}
    for model in (PipelineConfig, PipelineCall, PipelineBranch):
        aliases = {field.alias or name for name, field in model.model_fields.items()}
        assert aliases - listed == set()


def test_the_manifest_in_the_docs_is_one():
    [text] = re.findall(r"```yaml\n(protocol:.*?)```", (ROOT / "docs/functions.md").read_text(), re.DOTALL)
    assert FunctionManifest.model_validate(yaml.safe_load(text)).env_vars == ["APP_MODE"]

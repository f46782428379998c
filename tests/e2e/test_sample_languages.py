"""The sample app's functions in JavaScript, Python and Go; the last two are built as scripts/build-guests does it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from processes import ROOT, Server
from toolchains import sample_go, sample_python

MOST_COMMITTED = 2 << 20
"""Bytes of a module that is kept with the sources."""


@pytest.fixture(scope="module")
def sample(serve: Callable[..., Server], tmp_path_factory: pytest.TempPathFactory) -> Server:
    """The sample app in a folder of its own, with the modules that are not kept with the sources."""
    folder = tmp_path_factory.mktemp("languages")
    shutil.copytree(
        ROOT / "sample_app", folder / "sample_app", ignore=shutil.ignore_patterns("hello-go", "hello-python")
    )
    for name, module in (("hello-go", sample_go()), ("hello-python", sample_python())):
        version = folder / "sample_app" / "functions" / name / "v1"
        version.mkdir(parents=True)
        shutil.copyfile(module, version / f"{name}.wasm")
        shutil.copyfile(ROOT / "sample_app" / "src" / name / "function.yaml", version / "function.yaml")
    return start(serve, folder)


def start(serve: Callable[..., Server], folder: Path) -> Server:
    url = f"sqlite:///{folder / 'canary.db'}"
    return serve(folder, "sample_app.app:app", within=600, STARLETTE_WASM_CANARY_URL=url)


@pytest.mark.parametrize("language", ["JavaScript", "Python", "Go"])
def test_functions_in_each_language_answer(sample: Server, language: str) -> None:
    path = f"/hello/{language.lower()}"
    greeted = {"greeting": "Hello, Ada Löve!", "from": language}
    answer = sample.get(f"{path}?name=Ada%20L%C3%B6ve")
    assert (answer.status_code, answer.json()) == (200, greeted | {"words": 0})
    assert answer.headers["content-type"] == "application/json"
    for _ in range(3):  # restored instances answer as the first did
        answer = sample.post(path, content="one two\nthree")
        assert answer.json() == {"greeting": "Hello, world!", "from": language, "words": 3}
    refused = httpx.delete(sample.url + path, timeout=30)
    assert (refused.status_code, refused.json()) == (405, {"error": "use GET or POST"})


def test_large_languages_name_what_builds_them(serve: Callable[..., Server], tmp_path: Path) -> None:
    """A clone has neither module: the app starts without them, and the routes name what to run."""
    shutil.copytree(
        ROOT / "sample_app", tmp_path / "sample_app", ignore=shutil.ignore_patterns("hello-go", "hello-python")
    )
    server = start(serve, tmp_path)
    for language in ("go", "python"):
        answer = server.get(f"/hello/{language}")
        assert answer.status_code == 503
        assert answer.text == f"not built yet: run scripts/build-guests hello-{language}, and start again\n"
    assert server.get("/hello/javascript").json()["greeting"] == "Hello, world!"


def test_large_modules_are_not_kept_with_the_sources() -> None:
    """What is above the bound is named in .gitignore, and nothing else is."""
    ignored = (ROOT / ".gitignore").read_text()
    for module in (ROOT / "sample_app" / "functions").rglob("*.wasm"):
        name = module.parent.parent.name
        assert (module.stat().st_size > MOST_COMMITTED) == (f"sample_app/functions/{name}/" in ignored), name

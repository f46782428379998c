"""Both loaders of YAML, that of libyaml and the one for a PyYAML without it, read the same, within the same bounds."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from starlette_wasm.config import loading
from starlette_wasm.config.loading import Loader, PureLoader, load
from starlette_wasm.config.policy import load_policy_file
from starlette_wasm.config.router import load_config
from starlette_wasm.config.secrets import Secret, SecretUnavailable
from starlette_wasm.exceptions import ConfigError

SAMPLES = Path(__file__).parents[2] / "sample_app"
TEXTS = {
    "words": "a: yes\nb: 010\nc: 0x1f\nd: 1e3\ne: 1.50\nf: 2026-01-01\ng: 1:30\nh: ~\ni: null\nj: 'x'\n",
    "anchors": "a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}\nc: [*a, *a]\n",
    "blocks": "a: |\n  one\n  two\nb: >-\n  one\n  two\nc: 'é😀'\n",
}
BAD = {
    "nested": "a: " + "[" * 2000 + "]" * 2000,
    "aliases": "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
        f"{chr(98 + number)}: &{chr(98 + number)} [{','.join([f'*{chr(97 + number)}'] * 9)}]\n" for number in range(9)
    ),
    "merges": "a: &a {x: 1}\n" + "b:\n" + "  <<: *a\n" * 1 + "c: [unclosed\n",
    "two documents": "a: 1\n---\nb: 2\n",
    "a tag": "a: !!python/object/apply:os.getcwd []\n",
}  # fmt: skip


@pytest.mark.parametrize("name", TEXTS)
def test_both_loaders_read_the_same(name: str) -> None:
    assert load(TEXTS[name], PureLoader) == load(TEXTS[name], Loader)


@pytest.mark.parametrize("file", sorted(SAMPLES.rglob("*.yaml")), ids=lambda file: file.name)
def test_both_loaders_read_the_samples(file: Path) -> None:
    text = file.read_text()
    assert load(text, PureLoader) == load(text, Loader)


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("loader", [PureLoader, Loader])
def test_both_loaders_refuse_the_same_at_once(loader: type, name: str) -> None:
    begin = time.thread_time()
    with pytest.raises(yaml.YAMLError):
        load(BAD[name], loader)
    assert time.thread_time() - begin < 5


def test_a_manifest_is_bounded_without_libyaml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading.load, "__defaults__", (PureLoader,))
    file = tmp_path / "function.yaml"
    file.write_text("a: [" + "x, " * 22_000)
    begin = time.thread_time()
    with pytest.raises(ConfigError, match=r"function\.yaml"):
        loading.parse_yaml(file.read_text(), "a function's manifest", file)
    assert time.thread_time() - begin < 20


@pytest.mark.parametrize(
    "read",
    [load_config, load_policy_file, lambda file: Secret(from_file=str(file)).reveal()],
    ids=["config", "policy", "secret"],
)
def test_a_fifo_is_refused_and_not_waited_for(tmp_path: Path, read: Callable[[Path], object]) -> None:
    os.mkfifo(tmp_path / "p.yaml")
    with pytest.raises((ConfigError, SecretUnavailable), match="it is not a regular file"):
        read(tmp_path / "p.yaml")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("rules:\n\u00a0\u00a0- {pathPattern: /x, functionName: f}\n", "line 2 is indented with a space"),
        ("rules:\n  - pathPattern: \u201c/x\u201d\n    functionName: f\n", 'has typographic quotes; write "/x"'),
    ],
)
def test_what_a_word_processor_writes_is_named(tmp_path: Path, text: str, complaint: str) -> None:
    (tmp_path / "wasm.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=complaint):
        load_config(tmp_path / "wasm.yaml")

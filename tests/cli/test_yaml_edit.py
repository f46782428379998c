"""Rules that are added to files that people write."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from starlette_wasm.cli.yaml_edit import YamlFile
from starlette_wasm.exceptions import ConfigError

ITEM = {"pathPattern": "/new/{x}", "functionName": "no", "policy": "own"}
LINE = '- {pathPattern: "/new/{x}", functionName: "no", policy: own}\n'
FILES = {
    "# top\nfunctionsDir: functions   # here\nrules:   # the rules\n- {pathPattern: /a, functionName: a}   # one\n"
    "# before canaries\ncanaries: []\n": ("# before canaries", ""),
    "rules:\n    - pathPattern: /a\n      functionName: a   # why\n\n    # last\n    - pathPattern: '/b/{x}'\n"
    "      functionName: b\n\n# the end\ndefaultFunction: a\n": ("\n# the end", "    "),
    "a: 1\nrules: []  # none\nb: 2\n": ("b: 2", "  "),
    "rules:\n  # nothing yet\n": ("  # nothing yet", "  "),
    "rules: ~\n": ("", "  "),
    "functionsDir: f": ("", "  "),
    "# only a comment\n": ("", "  "),
}


@pytest.mark.parametrize("text", FILES)
def test_an_item_is_added_and_nothing_is_lost(tmp_path: Path, text: str) -> None:
    file = tmp_path / "wasm.yaml"
    file.write_text(text)
    YamlFile(file).append("rules", ITEM)
    after = file.read_text()
    before_text, indent = FILES[text]
    assert indent + LINE + before_text in after
    kept = [line for line in text.splitlines() if not line.startswith("rules")]
    assert [line for line in after.splitlines() if line in kept] == kept
    assert all(comment in after for comment in ("# none", "# the rules") if comment in text)
    assert yaml.safe_load(after)["rules"] == [*((yaml.safe_load(text) or {}).get("rules") or []), ITEM]


def test_items_can_be_added_one_after_the_other(tmp_path: Path) -> None:
    file = tmp_path / "wasm.yaml"
    file.write_text("rules: []\n")
    for name in ("a", "b", "c"):
        YamlFile(file).append("rules", {"functionName": name})
    assert [rule["functionName"] for rule in yaml.safe_load(file.read_text())["rules"]] == ["a", "b", "c"]


def test_a_list_in_brackets_gets_an_item_too(tmp_path: Path) -> None:
    file = tmp_path / "wasm.yaml"
    file.write_text("# top\nrules: [{functionName: 'a'}]  # in brackets\nb: 1\n")
    YamlFile(file).append("rules", {"functionName": "b"})
    assert yaml.safe_load(file.read_text()) == {"rules": [{"functionName": "a"}, {"functionName": "b"}], "b": 1}
    assert "# top\n" in file.read_text()
    assert "# in brackets" in file.read_text()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a\n", "is not a mapping"),
        ("a: [\n", "is not valid YAML"),
    ],
)
def test_what_cannot_be_changed_is_left_alone(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "wasm.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=message):
        YamlFile(file).append("rules", ITEM)
    assert file.read_text() == text

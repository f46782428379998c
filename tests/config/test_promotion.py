"""Writing a promotion into a ``wasm.yaml``: comments and order stay."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from starlette_wasm.config.promotion import Promotion, write_back
from starlette_wasm.config.router import load_config
from starlette_wasm.config.yaml_edit import YamlEdit
from starlette_wasm.exceptions import ConfigError

CANARIES = """
# what is tried
canaries:
  # the greeter of the summer
  - {functionName: f, stableVersion: "1", canaryVersion: "2"}  # soon

# of the shop
pipelines:
  - path: /p
    steps: [{function: f}]
"""


def after(tmp_path: Path, text: str, highest: str = "2") -> str:
    file = tmp_path / "wasm.yaml"
    file.write_bytes(text.encode())
    edit = YamlEdit(file)
    assert write_back(edit, Promotion("f", "1", "2", highest))
    edit.write()
    load_config(file)
    return file.read_bytes().decode()


def test_four_lines_lose_their_canary_and_keep_their_comments(tmp_path: Path) -> None:
    rules = "rules:  # all of them\n  - {pathPattern: /f, functionName: f}   # greets\n"
    assert after(tmp_path, rules + CANARIES) == rules + CANARIES.replace("canaries:\n", "canaries: []\n").replace(
        '  - {functionName: f, stableVersion: "1", canaryVersion: "2"}  # soon\n', ""
    )


def test_what_names_no_version_gets_one_if_a_higher_one_is_there(tmp_path: Path) -> None:
    text = "rules:\n- pathPattern: /f   # a\n  functionName: f  # b\n  policy: edge-none\n" + CANARIES
    found = after(tmp_path, text, highest="3")
    assert '- pathPattern: /f   # a\n  version: "2"\n  functionName: f  # b\n' in found
    assert 'steps: [{function: f, version: "2"}]' in found


def test_rules_of_both_versions_become_one_with_both_weights(tmp_path: Path) -> None:
    text = (
        "rules:\n"
        "  # the old one\n"
        '  - {pathPattern: /f, functionName: f, version: "1", weight: 80}\n'
        '  - {pathPattern: /f, functionName: f, version: "2", weight: 20} # new\n'
        '  - {pathPattern: /f, functionName: g, version: "1", weight: 50}\n'
    )
    assert after(tmp_path, text + CANARIES).startswith(
        "rules:\n"
        "  # the old one\n"
        '  - {pathPattern: /f, functionName: f, version: "2", weight: 100} # new\n'
        '  - {pathPattern: /f, functionName: g, version: "1", weight: 50}\n'
    )


def test_stable_goes_on_in_the_regions_of_its_own(tmp_path: Path) -> None:
    text = """rules:
  - pathPattern: /f
    functionName: f
    version: "1"
    regions:
      - ap
      - eu
  - {pathPattern: /f, functionName: f, version: "2", regions: [ap]}
  - {pathPattern: /other, functionName: f, version: "1"}
"""
    file = tmp_path / "found.yaml"
    file.write_text(after(tmp_path, text + CANARIES))
    stable, canary, other = load_config(file).rules
    assert (stable.version, stable.regions) == ("1", ["eu"])
    assert (canary.version, canary.regions, canary.weight) == ("2", ["ap"], 200)
    assert (other.version, other.regions) == ("1", [])


def test_what_needs_a_hand_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    text = (
        'rules: [{pathPattern: /f, functionName: f, version: "1"},'
        ' {pathPattern: /f, functionName: f, version: "2", regions: [ap]}]\n' + CANARIES
    )
    with pytest.raises(ConfigError, match=r"rules\[0\]: serves more regions than the canary's rules of /f"):
        after(tmp_path, text)
    assert (tmp_path / "wasm.yaml").read_text() == text
    aliased = "x-one: &one {pathPattern: /f, functionName: f}\nrules: [*one]\n" + CANARIES
    with pytest.raises(ConfigError, match=r"rules\[0\]: is named by an alias"):
        after(tmp_path, aliased, highest="3")


def test_line_ends_links_and_rights_stay(tmp_path: Path) -> None:
    text = ("rules:\n  - pathPattern: /f\n    functionName: f\n" + CANARIES).replace("\n", "\r\n")
    (tmp_path / "real").mkdir()
    real = tmp_path / "real/wasm.yaml"
    real.touch(mode=0o640)
    (tmp_path / "wasm.yaml").symlink_to(real)
    found = after(tmp_path, text, highest="3")
    assert "\n" not in found.replace("\r\n", "")
    assert (tmp_path / "wasm.yaml").is_symlink()
    assert stat.S_IMODE(real.stat().st_mode) == 0o640
    assert os.listdir(real.parent) == ["wasm.yaml"]

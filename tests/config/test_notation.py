"""Notations of other frameworks, and misspelt methods, are refused with what is meant."""

from __future__ import annotations

from pathlib import Path

import pytest
from apps import settings

from starlette_wasm import ConfigError, RouteRule, WasmSettings
from starlette_wasm.config.names import PatternSyntaxError, check_path_pattern
from starlette_wasm.config.router import load_config
from starlette_wasm.config.settings import load_settings
from starlette_wasm.config.validation import validate


@pytest.mark.parametrize(
    ("pattern", "meant"),
    [
        ("/x/*", "write /x, which takes all below it too, or /x/{rest:path}"),
        ("/x/**", "or /x/{rest:path}"),
        ("/*", "write /, which takes every path, or /{rest:path}"),
        ("/x/...", "or /x/{rest:path}"),
        ("/x/*tail", "write /x/{tail:path}"),
        ("/x/{*tail}", "write /x/{tail:path}"),
        ("/x/{tail...}", "write /x/{tail:path}"),
        ("/x/<path:tail>", "write /x/{tail:path}"),
        ("/x/[...tail]", "write /x/{tail:path}"),
        ("/x/:id", "write /x/{id}"),
        ("/x/:id?", "write /x/{id}"),
        (r"/x/:id(\d+)/y", "write /x/{id}/y"),
        ("/x/<id>", "write /x/{id}"),
        ("/x/<int:user-id>/y", "write /x/{user_id}/y"),
        ("/x/[id]", "write /x/{id}"),
        ("/x/{id?}", "write /x/{id}"),
        ("/x/*.txt", "let a parameter be a whole segment"),
        ("/x/*/y", "write /x/{rest}/y"),
        ("^/x$", "write /x"),
        ("GET /x", "write /x, and methods: [GET]"),
        ("https://shop.example/x/y", "write the path alone: /x/y"),
        ("/a%20b", "write /a b"),
        ("/x ", "write /x"),
    ],
)
def test_a_foreign_pattern_is_refused_with_ours(pattern: str, meant: str) -> None:
    with pytest.raises(PatternSyntaxError) as caught:
        check_path_pattern(pattern)
    assert meant in caught.value.hint


@pytest.mark.parametrize("pattern", ["/v1/documents:batch", "/a/$metadata", "/a.b/c-d", "/100%", "/(x)", "/~x", "/@me"])
def test_literals_with_signs_are_kept(pattern: str) -> None:
    check_path_pattern(pattern)


@pytest.mark.parametrize(
    ("key", "value", "meant"),
    [
        ("methods", ["get", "PSOT"], "did you mean POST?"),
        ("methods", ["DELET"], "did you mean DELETE?"),
        ("version", "v1", 'write "1", for the folder v1'),
        ("version", "V1.2", 'write "1.2", for the folder v1.2'),
    ],
)
def test_a_misspelt_value_of_a_rule_is_refused(key: str, value: object, meant: str) -> None:
    with pytest.raises(ConfigError) as caught:
        validate(RouteRule, {"pathPattern": "/x", "functionName": "f", key: value})
    assert meant in str(caught.value)


def test_methods_of_webdav_and_own_ones_are_kept() -> None:
    rule = validate(RouteRule, {"pathPattern": "/x", "functionName": "f", "methods": ["propfind", "QUERY", "FROB"]})
    assert rule.methods == ["PROPFIND", "QUERY", "FROB"]


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("rules:\n  - {pathPattern: /x/{name}, functionName: f}\n", ["line 2", 'write pathPattern: "/x/{name}"']),
        ("rules:\n  - pathPattern: /x\n   functionName: f\n", ["line 3", "column 4, the line above in column 5"]),
        ("rules:\n\t- pathPattern: /x\n", ["line 2", "a tab", "indent with spaces"]),
        ("rules:\n  - pathPattern: /x\n      functionName: f\n", ["line 3", "indented too far"]),
        ("rules:\n  - pathPattern: /x\n    functionName:f\n    weight: 1\n", ["write functionName: f"]),
        ("rules:\n  -pathPattern: /x\n   functionName: f\n", ["no space behind the dash"]),
        ("rules:\n  - {pathPattern: *x, functionName: f}\n", ["begins with *", "in quotes"]),
        ("rules:\n  - {pathPattern: /x functionName: f}\n", ["a comma"]),
        ("rules:\n  - {pathPattern: '/x, functionName: f}\n", ["a quote that begins in line 2"]),
        ("rules:\n  - {pathPattern: /x, functionName: f\n", ["line 2 is not closed", "close it with }"]),
    ],
)
def test_yaml_mistakes_are_told_in_the_users_terms(tmp_path: Path, text: str, parts: list[str]) -> None:
    file = tmp_path / "wasm.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_config(file)
    assert all(part in str(caught.value) for part in [str(file), *parts])


def test_keys_that_begin_with_x_hold_anchors(tmp_path: Path) -> None:
    file = tmp_path / "wasm.yaml"
    file.write_text("x-base: &base {policy: p}\nrules:\n  - {<<: *base, pathPattern: /x, functionName: f}\n")
    (rule,) = load_config(file).rules
    assert rule.policy == "p"
    with pytest.raises(ConfigError, match="unknown key"):
        load_config({"xbase": {}})


def test_an_unknown_argument_of_settings_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"max_instance: unknown setting, with the value 3; did you mean max_inst"):
        WasmSettings(max_instance=3)
    with pytest.raises(ConfigError, match="did you mean drain_timeout_ms"):
        settings(drain_timeout=5)
    assert WasmSettings(REGION="here").region == "here"


def test_a_typo_in_the_env_file_is_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_text("STARLETTE_WASM_DEBG=1\nOTHER=2\nstarlette_wasm_workers=1\n")
    assert load_settings().workers == 1
    assert caplog.messages == [
        ".env: STARLETTE_WASM_DEBG is not a setting, and has no effect; did you mean STARLETTE_WASM_DEBUG?"
    ]

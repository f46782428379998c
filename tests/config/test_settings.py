from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from starlette_wasm.config.settings import WasmSettings, env_names, load_settings
from starlette_wasm.exceptions import ConfigError

DOCS = Path(__file__).parents[2] / "docs" / "settings.md"


@pytest.fixture(autouse=True)
def clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No variable of ours, and no ``.env``."""
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.upper().startswith("STARLETTE_WASM_") or name.upper() in ("REGION", "APP_MODE"):
            monkeypatch.delenv(name)


def test_defaults() -> None:
    assert load_settings().model_dump() == {
        "region": "",
        "app_mode": "",
        "trust_region_header": False,
        "allow_version_header": False,
        "request_id_header": "x-request-id",
        "debug": False,
        "cache_dir": None,
        "cache_volume": False,
        "processor": "native",
        "aot_cache": True,
        "max_instances": 1000,
        "workers": None,
        "kv_url": "sqlite:///starlette-wasm-kv.db",
        "queue_url": "sqlite:///starlette-wasm-queue.db",
        "canary_url": "sqlite:///starlette-wasm-canary.db",
        "canary_prefix": "",
        "canary_waves_url": "",
        "body_timeout_ms": 60000,
        "drain_timeout_ms": 10000,
        "flush_timeout_ms": 2000,
        "clock_resolution_ms": 1,
        "default_policy": "edge-none",
        "compile_threads": None,
        "compiler": "cranelift",
        "compile_cpu_s": 60,
        "compile_timeout_s": 300,
        "compile_memory_mb": 2048,
        "max_module_mb": 64,
        "cache_max_mb": 1024,
        "access_log": False,
        "log": None,
        "endpoints_token": None,
        "untraced_paths": "",
        "nodes": "",
        "reload_interval_ms": 1000,
        "max_open_files": 65536,
        "registry_plain_http": False,
        "registry_ca": None,
        "check_restored_every": 10000,
        "guest_nice": 10,
        "max_namespace_mb": 64,
        "max_queue_mb": 64,
    }


def documented() -> list[tuple[str, str, str, str]]:
    rows = re.findall(r"^\| (`STARLETTE.*)\|$", DOCS.read_text(), re.MULTILINE)
    cells = [tuple(cell.strip() for cell in row.split("|")) for row in rows]
    return [(name, kind, default, meaning) for name, kind, default, meaning in cells]


def rows() -> list[tuple[str, str, str, str]]:
    """What the documentation must say, from the code."""
    wanted = []
    for name, field in WasmSettings.model_fields.items():
        is_type = isinstance(field.annotation, type)
        kind = (field.annotation.__name__ if is_type else str(field.annotation)).replace("pathlib._local.", "")
        kind = kind.replace("pydantic.types.", "")
        kind = kind.replace("pathlib.", "").replace(" | None", "").removeprefix("Optional")
        types = (field.annotation, *get_args(field.annotation))
        if literals := [each for each in types if get_origin(each) is Literal]:
            kind = " or ".join(get_args(literals[0]))
        limits = {type(each).__name__: each for each in field.metadata}
        if "Ge" in limits and "Le" in limits:
            kind += f", {limits['Ge'].ge} to {limits['Le'].le}"
        default = "none" if field.default is None else "empty" if field.default == "" else f"`{field.default}`"
        variables = ", ".join(f"`{variable}`" for variable in env_names(name))
        wanted.append((variables, kind, default.lower(), field.description or ""))
    return wanted


def test_the_documentation_lists_every_setting_as_it_is() -> None:
    assert documented() == rows()
    assert all(meaning for *_, meaning in rows())


def test_arguments_win_over_the_environment_and_that_over_the_env_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".env").write_text("STARLETTE_WASM_WORKERS=2\nSTARLETTE_WASM_GUEST_NICE=3\nOTHER=x\n")
    assert load_settings().workers == 2
    monkeypatch.setenv("STARLETTE_WASM_WORKERS", "4")
    assert (load_settings().workers, load_settings().guest_nice) == (4, 3)
    assert load_settings(workers=8).workers == 8
    assert load_settings(workers=None).workers is None


@pytest.mark.parametrize("field", ["region", "app_mode"])
def test_region_and_app_mode_are_read_without_the_prefix_too(
    field: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".env").write_text(f"{field.upper()}=file")
    assert getattr(load_settings(), field) == "file"
    monkeypatch.setenv(field.upper(), "plain")
    assert getattr(load_settings(), field) == "plain"
    monkeypatch.setenv(f"STARLETTE_WASM_{field.upper()}", "prefixed")
    assert getattr(load_settings(), field) == "prefixed"
    assert getattr(load_settings(**{field: "argument"}), field) == "argument"
    assert getattr(load_settings(**{field: ""}), field) == ""


def test_no_other_setting_is_read_without_the_prefix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEBUG", "1")
    monkeypatch.setenv("WORKERS", "7")
    assert load_settings() == WasmSettings()
    assert (load_settings().debug, load_settings().workers) == (False, None)


def test_an_empty_variable_counts_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STARLETTE_WASM_WORKERS", "")
    monkeypatch.setenv("STARLETTE_WASM_CACHE_DIR", "")
    assert (load_settings().workers, load_settings().cache_dir) == (None, None)


BAD = [
    ("max_instances", "0", "too small", "the least is 1"),
    ("max_instances", "10001", "too large", "the most is 10000"),
    ("max_instances", "many", "is not a whole number", "whole number"),
    ("workers", "0", "too small", "the least is 1"),
    ("workers", "1.5", "is not a whole number", "whole number"),
    ("guest_nice", "20", "too large", "the most is 19"),
    ("guest_nice", "-1", "too small", "the least is 0"),
    ("drain_timeout_ms", "-1", "too small", "the least is 0"),
    ("clock_resolution_ms", "0", "too small", "the least is 1"),
    ("compile_threads", "x", "is not a whole number", "whole number"),
    ("debug", "maybe", "is not a boolean", "true or false"),
    ("aot_cache", "2", "is not a boolean", "true or false"),
    ("trust_region_header", "x", "is not a boolean", "true or false"),
    ("cache_dir", "~nobody-of-this-name/x", "a home that is not known", "absolute path"),
]


@pytest.mark.parametrize(("field", "value", "problem", "hint"), BAD)
def test_a_wrong_value_is_one_error_with_name_value_and_hint(
    field: str, value: str, problem: str, hint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    variable = f"STARLETTE_WASM_{field.upper()}"

    def fails(file: str | None, key: str, **kwargs: Any) -> None:
        with pytest.raises(ConfigError) as caught:
            load_settings(**kwargs)
        assert (caught.value.file, caught.value.key) == (file, key)
        assert value in caught.value.problem
        assert problem in caught.value.problem
        assert hint in (caught.value.hint or "")

    fails(None, field, **{field: value})
    (tmp_path / ".env").write_text(f"{variable}={value}")
    fails(".env", variable)
    monkeypatch.setenv(variable.lower(), value)
    fails(None, variable)
    with pytest.raises(ValidationError):
        WasmSettings()


def test_an_empty_default_policy_is_an_error() -> None:
    with pytest.raises(ConfigError, match="default_policy: '' is too short"):
        load_settings(default_policy="")


def test_an_unknown_argument_is_an_error_with_the_nearest_name() -> None:
    with pytest.raises(ConfigError, match=r"regoin: unknown setting, with the value 'eu'; did you mean region\?"):
        load_settings(regoin="eu")


def test_a_misspelt_variable_is_warned_of_with_the_nearest_name(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("STARLETTE_WASM_WORKER", "4")
    monkeypatch.setenv("starlette_wasm_debug", "true")
    load_settings()
    (record,) = caplog.records
    assert record.getMessage() == (
        "STARLETTE_WASM_WORKER is not a setting, and has no effect; did you mean STARLETTE_WASM_WORKERS?"
    )


def test_a_variable_that_is_like_none_is_not_taken_for_another(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("STARLETTE_WASM_FROBNICATE", "1")
    load_settings()
    (message,) = (record.getMessage() for record in caplog.records)
    assert message.startswith("STARLETTE_WASM_FROBNICATE is not a setting, and has no effect; known are APP_MODE, ")


def test_an_env_file_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"A=\xff")
    with pytest.raises(ConfigError, match=r"^\.env: is not UTF-8"):
        load_settings()


@given(
    st.dictionaries(
        st.sampled_from(list(WasmSettings.model_fields)),
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.lists(st.text()),
        max_size=3,
    )
)
def test_any_arguments_are_settings_or_a_config_error(kwargs: dict[str, Any]) -> None:
    with suppress(ConfigError):
        load_settings(**kwargs)


def test_the_cache_is_where_xdg_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert load_settings().aot_cache_dir() == Path("/home/someone/.cache/starlette-wasm")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert load_settings().aot_cache_dir() == Path("/home/someone/.cache/starlette-wasm")
    monkeypatch.setenv("XDG_CACHE_HOME", "/var/cache")
    assert load_settings().aot_cache_dir() == Path("/var/cache/starlette-wasm")
    assert load_settings(cache_dir="~/aot").aot_cache_dir() == Path("/home/someone/aot")
    assert load_settings(aot_cache=False).aot_cache_dir() is None

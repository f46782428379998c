"""``events:`` of ``wasm.yaml``."""

from __future__ import annotations

from pathlib import Path

import pytest

from starlette_wasm.config.events import Kind, WebhookConfig
from starlette_wasm.config.router import load_config
from starlette_wasm.exceptions import ConfigError


def test_types_may_be_groups() -> None:
    wanted = WebhookConfig(url="http://h/", types=["canary.*", "reload.refused"])
    assert [kind for kind in Kind if wanted.wants(kind)] == [
        *(kind for kind in Kind if kind.startswith("canary.")),
        Kind.RELOAD_REFUSED,
    ]
    assert all(WebhookConfig(url="http://h/").wants(kind) for kind in Kind)


@pytest.mark.parametrize(
    ("webhook", "key", "problem"),
    [
        ("{url: ftp://h/}", "events[0].url", "is not an http or https URL"),
        ("{url: 'http://u:p@h/'}", "events[0].url", "has a user or password"),
        ("{url: {fromEnv: A, fromFile: /b}}", "events[0].url", "names no place, or two"),
        ("{url: http://h/, types: [canary.rolledback]}", "events[0].types[0]", "did you mean canary.rolled-back?"),
        ("{url: http://h/, format: teams}", "events[0].format", "'cloudevents' or 'slack'"),
        ('{url: http://h/, headers: {"content-type": x}}', "events[0].headers", "cannot be set"),
        ('{url: http://h/, headers: {x: "a\\nb"}}', "events[0].headers.x", "cannot be sent in a header"),
        ("{uri: http://h/}", "events[0].uri", "did you mean url?"),
    ],
)
def test_a_wrong_webhook_is_refused(tmp_path: Path, webhook: str, key: str, problem: str) -> None:
    file = tmp_path / "wasm.yaml"
    file.write_text(f"events:\n  - {webhook}\n")
    with pytest.raises(ConfigError) as caught:
        load_config(file)
    assert key in str(caught.value)
    assert problem in str(caught.value)


def test_a_secret_that_is_missing_is_named(tmp_path: Path) -> None:
    config = WebhookConfig(url={"fromFile": str(tmp_path / "url")}, headers={"x-token": {"fromEnv": "NO_SUCH_THING"}})
    with pytest.raises(ConfigError, match=r"events\[0\].url: .*url cannot be read: No such file"):
        config.revealed("events[0]")
    (tmp_path / "url").write_text("no url\n")
    with pytest.raises(ConfigError, match=r"events\[0\].url: is not an http or https URL") as caught:
        config.revealed("events[0]")
    assert "no url" not in str(caught.value)
    (tmp_path / "url").write_text("https://user:pass@hooks.example/\n")
    with pytest.raises(ConfigError, match=r"events\[0\].url: is not an http or https URL"):
        config.revealed("events[0]")
    (tmp_path / "url").write_text("https://hooks.example/T0\n")
    with pytest.raises(ConfigError, match=r"headers.x-token: NO_SUCH_THING is not set"):
        config.revealed("events[0]")

from __future__ import annotations

import logging
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from starlette_wasm.config.policy import (
    DirMapping,
    SandboxPolicy,
    load_policies,
    load_policy_file,
    resolve_dirs,
    shipped_policies,
)
from starlette_wasm.exceptions import ConfigError

CONFIG_MAP = """\
apiVersion: v1
kind: ConfigMap
metadata:
  name: wasi-sandbox-policies
data:
  edge-strict.yaml: |
    maxMemoryPages: 256
    executionTimeoutMs: 5000
    allowedHosts:
      - api.example.com
    allowedEnvVars:
      - APP_MODE
      - REGION
    allowedDirs:
      - guestPath: /config
        hostPath: /app/config
        readonly: true
    maxNetworkRequests: 50

  edge-moderate.yaml: |
    maxMemoryPages: 512
    executionTimeoutMs: 30000
    allowedHosts:
      - api.example.com
      - cdn.example.com
    allowedEnvVars:
      - APP_MODE
      - REGION
      - LOG_LEVEL
    allowedDirs:
      - guestPath: /config
        hostPath: /app/config
        readonly: true
      - guestPath: /cache
        hostPath: /app/cache
        readonly: false
    maxNetworkRequests: 200
"""

CONFIG_DIR = DirMapping(host_path="/app/config", guest_path="/config", readonly=True)
CACHE_DIR = DirMapping(host_path="/app/cache", guest_path="/cache", readonly=False)
STRICT = SandboxPolicy(
    name="edge-strict",
    max_memory_pages=256,
    execution_timeout_ms=5000,
    allowed_hosts=["api.example.com"],
    allowed_env_vars=["APP_MODE", "REGION"],
    allowed_dirs=[CONFIG_DIR],
    max_network_requests=50,
)
MODERATE = SandboxPolicy(
    name="edge-moderate",
    max_memory_pages=512,
    execution_timeout_ms=30000,
    allowed_hosts=["api.example.com", "cdn.example.com"],
    allowed_env_vars=["APP_MODE", "REGION", "LOG_LEVEL"],
    allowed_dirs=[CONFIG_DIR, CACHE_DIR],
    max_network_requests=200,
)


def mount_config_map(folder: Path) -> None:
    """As Kubernetes does: files in a dated folder, ``..data`` pointing at it, and a symlink for each key."""
    dated = folder / "..2026_11_22_10_00_00.123"
    dated.mkdir(parents=True)
    (folder / "..data").symlink_to(dated.name)
    for key, text in yaml.safe_load(CONFIG_MAP)["data"].items():
        (dated / key).write_text(text)
        (folder / key).symlink_to(Path("..data", key))


def same(one: SandboxPolicy, other: SandboxPolicy) -> bool:
    return one.name == other.name and one.model_dump() == other.model_dump()


def write(folder: Path, text: str, name: str = "mine.yaml") -> Path:
    file = folder / name
    file.write_text(text)
    return file


def test_the_defaults_grant_nothing() -> None:
    assert SandboxPolicy().model_dump(by_alias=True) == {
        "maxMemoryPages": 256,
        "executionTimeoutMs": 5000,
        "allowedHosts": [],
        "maxNetworkRequests": 0,
        "allowPrivateNetworks": False,
        "allowedEnvVars": [],
        "allowedSecrets": [],
        "allowedDirs": [],
        "maxRequestBytes": 1048576,
        "maxResponseBytes": 8388608,
        "maxLogBytes": 65536,
        "instances": "restored",
        "cpuWeight": None,
        "maxConcurrency": 64,
        "maxQueue": 256,
        "queueTimeoutMs": 1000,
        "kvNamespaces": [],
        "queues": [],
        "maxSpans": 16,
        "maxTraceEvents": 64,
    }
    assert SandboxPolicy().max_memory_bytes == 16 << 20


def test_shipped_policies_are_there_by_name() -> None:
    policies = load_policies()
    assert sorted(policies) == ["edge-moderate", "edge-none", "edge-strict"]
    assert same(policies["edge-strict"], STRICT)
    assert same(policies["edge-moderate"], MODERATE)
    assert policies["edge-none"].model_dump() == SandboxPolicy().model_dump()
    assert shipped_policies().name == "policies"


def test_a_mounted_config_map_loads_unchanged(tmp_path: Path) -> None:
    mount_config_map(tmp_path / "mount")
    policies = load_policies(tmp_path / "mount")
    assert sorted(policies) == ["edge-moderate", "edge-none", "edge-strict"]
    assert same(policies["edge-strict"], STRICT)
    assert same(policies["edge-moderate"], MODERATE)


def test_a_file_takes_precedence_over_the_shipped_policy_of_its_name(tmp_path: Path) -> None:
    write(tmp_path, "maxMemoryPages: 7", "edge-strict.yml")
    write(tmp_path, "{}", "mine.yaml")
    write(tmp_path, "not: [a policy", "README.md")
    write(tmp_path, "not: [a policy", ".hidden.yaml")
    policies = load_policies(tmp_path)
    assert policies["edge-strict"].max_memory_pages == 7
    assert policies["edge-strict"].allowed_hosts == []
    assert same(policies["mine"], SandboxPolicy(name="mine"))


def test_a_file_may_use_snake_case(tmp_path: Path) -> None:
    file = write(tmp_path, "max_memory_pages: 3\nallowed_dirs: [{host_path: /a, guest_path: /b}]")
    policy = load_policy_file(file)
    assert policy.max_memory_pages == 3
    assert policy.allowed_dirs == [DirMapping(host_path="/a", guest_path="/b")]


def test_policies_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        SandboxPolicy().max_memory_pages = 1  # type: ignore[misc]


def test_allows_host_asks_every_entry() -> None:
    assert MODERATE.allows_host("https", "cdn.example.com", 443)
    assert not MODERATE.allows_host("https", "www.example.com", 443)
    assert not SandboxPolicy().allows_host("https", "api.example.com", 443)


BAD = [
    ("maxMemoryPages: 0", "maxMemoryPages", "0 is too small", "the least is 1"),
    ("maxMemoryPages: 65537", "maxMemoryPages", "65537 is too large", "the most is 65536"),
    ("maxMemoryPages: true", "maxMemoryPages", "true is not a whole number", "write a whole number"),
    ("maxMemoryPages: 1.5", "maxMemoryPages", "1.5 is not a whole number", "write a whole number"),
    ("maxMemoryPages: '256'", "maxMemoryPages", "'256' is not a whole number", "without quotes"),
    ("maxMemoryPages: 0400", "maxMemoryPages", "'0400' is not a whole number", "write a whole number"),
    ("maxMemoryPages:", "maxMemoryPages", "null is not a whole number", "write a whole number"),
    ("max_memory_pages: 0", "max_memory_pages", "0 is too small", "the least is 1"),
    ("executionTimeoutMs: 0", "executionTimeoutMs", "0 is too small", "the least is 1"),
    ("maxNetworkRequests: -1", "maxNetworkRequests", "-1 is too small", "the least is 0"),
    ("maxResponseBytes: 0", "maxResponseBytes", "0 is too small", "the least is 1"),
    ("maxConcurrency: 0", "maxConcurrency", "0 is too small", "the least is 1"),
    ("allowPrivateNetworks: 1", "allowPrivateNetworks", "1 is not a boolean", "true or false"),
    ("timeoutMs: 1", "timeoutMs", "unknown key", "did you mean executionTimeoutMs or queueTimeoutMs?"),
    ("maxMemoryPage: 1", "maxMemoryPage", "unknown key, with the value 1", "did you mean maxMemoryPages?"),
    ("ALLOWEDHOSTS: [a]", "ALLOWEDHOSTS", "unknown key", "did you mean allowedHosts?"),
    ("zzz: 1", "zzz", "unknown key, with the value 1", "known are allowPrivateNetworks"),
    ("name: x", "name", "unknown key, with the value 'x'", "named mine by its file"),
    ("max_memory_pages: 1\nmaxMemoryPages: 2", "max_memory_pages", "unknown key", "maxMemoryPages"),
    ("1: 2", "[1]", "the key 1 is not a string", "in quotes"),
    ("allowedHosts: api.example.com", "allowedHosts", "'api.example.com' is not a list", "[a, b]"),
    ("allowedHosts: [a, 10]", "allowedHosts[1]", "10 is not a string", "in quotes"),
    ("allowedHosts: ['a/b']", "allowedHosts[0]", "'a/b' has a path", "write a alone"),
    ("allowedHosts: [127.1]", "allowedHosts[0]", "127.1 is not a string", "in quotes"),
    ("allowedEnvVars: [A=B]", "allowedEnvVars[0]", "'A=B' is not a name", "no value"),
    ("allowedEnvVars: [1A]", "allowedEnvVars[0]", "'1A' is not a name", "letters"),
    ('allowedEnvVars: ["A\\0"]', "allowedEnvVars[0]", "is not a name", "letters"),
    ("kvNamespaces: ['a b']", "kvNamespaces[0]", "'a b' is not a valid name", "letters"),
    ("queues: ['']", "queues[0]", "'' is not a valid name", "letters"),
    ("allowedDirs: [/tmp]", "allowedDirs[0]", "'/tmp' is not a mapping", "key: value"),
    ("allowedDirs: [{hostPath: /a}]", "allowedDirs[0].guestPath", "is missing", "add it"),
    (
        "allowedDirs: [{hostPath: /a, guestpath: /b}]",
        "allowedDirs[0].guestpath",
        "unknown key, with the value '/b'",
        "did you mean guestPath?",
    ),
    (
        "allowedDirs: [{hostPath: '', guestPath: /b}]",
        "allowedDirs[0].hostPath",
        "'' is too short",
        "at least 1",
    ),
    (
        'allowedDirs: [{hostPath: "/a\\0b", guestPath: /b}]',
        "allowedDirs[0].hostPath",
        "has a NUL character",
        "take it out",
    ),
    (
        'allowedDirs: [{hostPath: /a, guestPath: "/b\\0"}]',
        "allowedDirs[0].guestPath",
        "has a NUL character",
        "take it out",
    ),
    (
        "allowedDirs: [{hostPath: /a, guestPath: b}]",
        "allowedDirs[0].guestPath",
        "'b' is not absolute",
        "write /b",
    ),
    (
        "allowedDirs: [{hostPath: /a, guestPath: /b/../c}]",
        "allowedDirs[0].guestPath",
        "has a ..",
        "without it",
    ),
    (
        "allowedDirs: [{hostPath: /a, guestPath: /b}, {hostPath: /c, guestPath: //b/./}]",
        "allowedDirs",
        "maps the guestPath /b twice",
        "its own guestPath",
    ),
    ("- a", None, "['a'] is not a mapping", "keys such as maxMemoryPages"),
    ("text", None, "'text' is not a mapping", "keys such as maxMemoryPages"),
    ("queues: [a\n", None, "line 2, column 1: the [ of line 1 is not closed", "close it with ]"),
    ("a: 1\nb: 2\na: 3\n", None, "line 3, column 1: the key 'a' is there twice", "correct the YAML"),
    ("x: !!python/name:os.system", None, "line 1, column 4", "correct the YAML"),
    ("\x01", None, "not YAML", "correct the YAML"),
    ("[" * 3000, None, "nested too deeply", "write a policy"),
    ("maxMemoryPages: " + "1" * 5000, None, "a value cannot be read", "in quotes"),
]


@pytest.mark.parametrize(("text", "key", "problem", "hint"), BAD)
def test_a_wrong_policy_is_one_error_with_file_key_value_and_hint(
    tmp_path: Path, text: str, key: str | None, problem: str, hint: str
) -> None:
    file = write(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        load_policy_file(file)
    error = caught.value
    assert (error.file, error.key) == (str(file), key)
    assert problem in error.problem
    assert hint in (error.hint or "")
    assert len(str(error)) < 700


def test_every_file_of_a_folder_is_checked(tmp_path: Path) -> None:
    write(tmp_path, "{}", "a.yaml")
    file = write(tmp_path, "maxMemoryPages: 0", "b.yml")
    with pytest.raises(ConfigError) as caught:
        load_policies(tmp_path)
    assert caught.value.file == str(file)


def test_one_name_in_two_files_is_an_error(tmp_path: Path) -> None:
    write(tmp_path, "{}", "a.yaml")
    write(tmp_path, "{}", "a.yml")
    with pytest.raises(ConfigError, match="the policy a is there twice"):
        load_policies(tmp_path)


def test_what_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        load_policy_file(tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_policy_file(tmp_path)
    with pytest.raises(ConfigError, match="policiesDir: cannot be read"):
        load_policies(tmp_path / "none")
    (tmp_path / "latin.yaml").write_bytes(b"# \xe9")
    with pytest.raises(ConfigError, match="byte 2 is not UTF-8"):
        load_policies(tmp_path)


@given(st.text(max_size=80))
def test_any_text_is_a_policy_or_a_config_error(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    file = tmp_path_factory.getbasetemp() / "any.yaml"
    file.write_bytes(text.encode(errors="surrogatepass"))
    with suppress(ConfigError):
        load_policy_file(file)


SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9) | st.dates() | st.binary(max_size=4)
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(SCALARS, inner, max_size=3),
    max_leaves=6,
)
KEYS = st.sampled_from([field.alias or name for name, field in SandboxPolicy.model_fields.items()])


@given(st.dictionaries(KEYS | SCALARS, VALUES, max_size=4))
def test_any_yaml_is_a_policy_or_a_config_error(tmp_path_factory: pytest.TempPathFactory, data: dict[Any, Any]) -> None:
    file = tmp_path_factory.getbasetemp() / "any.yaml"
    file.write_text(yaml.dump(data))
    try:
        load_policy_file(file)
    except ConfigError as error:
        complaint = error
    else:
        return
    assert complaint.file == str(file)
    assert complaint.hint


def grant(host_path: Path, *, guest_path: str = "/data", readonly: bool = True) -> SandboxPolicy:
    mapping = DirMapping(host_path=str(host_path), guest_path=guest_path, readonly=readonly)
    return SandboxPolicy(name="mine", allowed_dirs=[mapping])


def test_a_directory_that_exists_is_granted(tmp_path: Path) -> None:
    (granted,) = resolve_dirs(grant(tmp_path, readonly=False))
    assert granted.guest_path == "/data"
    assert granted.host_path == tmp_path
    assert granted.readonly is False


def test_a_relative_directory_counts_from_the_policy_file(tmp_path: Path) -> None:
    (tmp_path / "policies").mkdir()
    (tmp_path / "data").mkdir()
    (tmp_path / "current").symlink_to("policies")
    text = "allowedDirs: [{hostPath: ../data, guestPath: /data}]"
    file = write(tmp_path / "policies", text)
    for each in (file, tmp_path / "current" / file.name):
        (granted,) = resolve_dirs(load_policy_file(each))
        assert granted.host_path == tmp_path / "data"


def test_a_directory_that_does_not_exist_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="starlette_wasm"):
        assert resolve_dirs(grant(tmp_path / "none")) == []
    assert f"policy mine: allowedDirs[0].hostPath: no such directory: {tmp_path / 'none'}" in caplog.text
    assert "make it, or take it out of allowedDirs" in caplog.text


def test_what_is_no_directory_is_an_error(tmp_path: Path) -> None:
    file = write(tmp_path, f"allowedDirs: [{{hostPath: {tmp_path / 'mine.yaml'}, guestPath: /data}}]")
    with pytest.raises(ConfigError, match="is not a directory; give a directory") as caught:
        resolve_dirs(load_policy_file(file))
    assert (caught.value.file, caught.value.key) == (str(file), "allowedDirs[0].hostPath")
    with pytest.raises(ConfigError, match="cannot be used: Not a directory"):
        resolve_dirs(grant(file / "below"))


def test_a_root_that_is_or_goes_through_a_symlink_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "real" / "below").mkdir(parents=True)
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "out").symlink_to("/etc")
    (tmp_path / "dangling").symlink_to("nowhere")
    (tmp_path / "loop").symlink_to("loop")
    for path in ("link", "link/below", "out", "dangling", "loop"):
        with pytest.raises(ConfigError, match="goes through the symlink") as caught:
            resolve_dirs(grant(tmp_path / path))
        assert str(tmp_path / path) in caught.value.problem
    assert resolve_dirs(grant(tmp_path / "real" / "below"))
    (granted,) = resolve_dirs(grant(tmp_path / "link" / ".." / "real"))
    assert granted.host_path == tmp_path / "real"


@pytest.mark.skipif(not os.path.islink("/var/run"), reason="/var/run is no symlink here")
def test_a_symlink_that_the_system_ships_is_followed() -> None:
    (granted,) = resolve_dirs(grant(Path("/var/run")))
    assert granted.host_path == Path("/var/run").resolve()


def test_wasmedge_args_are_separate_tokens() -> None:
    assert MODERATE.to_wasmedge_args({"REGION": "ap-east-1", "LOG_LEVEL": "a=b c", "SECRET": "x"}) == [
        *("--memory-page-limit", "512"),
        *("--time-limit", "30000"),
        *("--dir", "/config:/app/config:readonly"),
        *("--dir", "/cache:/app/cache"),
        *("--env", "REGION=ap-east-1"),
        *("--env", "LOG_LEVEL=a=b c"),
    ]


def test_wasmedge_args_take_values_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("APP_MODE", raising=False)
    monkeypatch.setenv("REGION", "eu")
    assert STRICT.to_wasmedge_args()[-2:] == ["--env", "REGION=eu"]


def test_wasmtime_args_are_separate_tokens() -> None:
    assert STRICT.to_wasmtime_args() == [
        *("-W", "max-memory-size=16777216"),
        *("-W", "timeout=5000ms"),
        *("--dir", "/app/config::/config"),
        *("--env", "APP_MODE"),
        *("--env", "REGION"),
    ]


def gaps(policy: SandboxPolicy, tool: Any) -> list[str]:
    sentences = policy.not_expressible(tool)
    assert all(tool in sentence and sentence.endswith(".") for sentence in sentences)
    return [sentence.partition(":")[0] for sentence in sentences]


BYTES = ["maxRequestBytes", "maxResponseBytes", "maxLogBytes"]


def test_what_a_tool_cannot_enforce_is_listed() -> None:
    sockets = ["executionTimeoutMs", "allowedHosts"]
    assert gaps(STRICT, "wasmedge") == [*sockets, "maxNetworkRequests", "allowPrivateNetworks", *BYTES]
    assert gaps(STRICT, "wasmtime") == ["allowedHosts", "maxNetworkRequests", "allowedDirs", *BYTES]
    assert gaps(SandboxPolicy(), "wasmedge") == [*sockets, "allowPrivateNetworks", *BYTES]
    assert gaps(SandboxPolicy(), "wasmtime") == BYTES
    more = SandboxPolicy(max_queue=1, kv_namespaces=["a"], queues=["b"], max_spans=1, allow_private_networks=True)
    assert gaps(more, "wasmedge") == [*sockets, *BYTES, "maxQueue", "kvNamespaces", "queues", "maxSpans"]
    with pytest.raises(ValueError, match="unknown tool: 'wasmer'"):
        gaps(more, "wasmer")


def test_a_path_that_a_tool_would_split_is_left_out_and_listed() -> None:
    policy = grant(Path("/srv/a::b"))
    assert "--dir" not in policy.to_wasmedge_args() + policy.to_wasmtime_args()
    assert "allowedDirs" in gaps(policy, "wasmedge")
    assert "allowedDirs" in gaps(policy, "wasmtime")


def test_the_config_may_lie_beside_its_policies(tmp_path: Path) -> None:
    (tmp_path / "wasm.yaml").write_text("policiesDir: .\nrules: []\n")
    (tmp_path / "mine.yaml").write_text("maxMemoryPages: 3\n")
    policies = load_policies(tmp_path, str(tmp_path / "wasm.yaml"))
    assert policies["mine"].max_memory_pages == 3
    assert "wasm" not in policies


def test_a_policy_called_as_another_config_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "wasm.yaml").write_text("rules: []\n")
    (tmp_path / "wasm.yaml").write_text("maxMemoryPages: 3\n")
    assert "wasm" in load_policies(tmp_path, str(tmp_path / "elsewhere" / "wasm.yaml"))

"""Files of an operator: any bytes are a policy, a config or a manifest, or one short ``ConfigError``."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from pathlib import Path

from starlette_wasm.config.loading import MOST_MANIFEST_BYTES, read_yaml
from starlette_wasm.config.policy import SandboxPolicy, load_policy_file, resolve_dirs
from starlette_wasm.config.router import EdgeRouterConfig, load_config
from starlette_wasm.config.validation import validate
from starlette_wasm.exceptions import ConfigError
from starlette_wasm.functions.catalog import FunctionManifest
from starlette_wasm.traffic.router import PathTree

MOST = 2000
"""Characters of a line of a message, the name of the file included."""

_folder = Path(tempfile.mkdtemp(prefix="fuzz-config-"))
atexit.register(shutil.rmtree, _folder, ignore_errors=True)

_KEYS = [field.alias or name for model in (SandboxPolicy, EdgeRouterConfig, FunctionManifest)
         for name, field in model.model_fields.items() if not field.exclude]  # fmt: skip
TOKENS = (
    *(f"{key}: ".encode() for key in _KEYS), b"- {pathPattern: /a, functionName: f}",
    b"{functionName: f, stableVersion: '1', canaryVersion: '2'}", b"version: 1.10", b"steps: [10, 100]",
    b"{hostPath: /tmp, guestPath: /data}", b"api.example.com", b"10.0.0.0/8", b"&a ", b"*a", b"<<: *a",
    b"!!python/object:os.system ", b"!!binary |\n", b"!!set {a}", b"!!omap", b"? ", b"- ", b"[", b"]", b"{", b"}",
    b"|\n ", b">-\n", b"'", b'"\\u0000"', b"\xef\xbb\xbf", b"\xff\xfe", b"--- ", b"...\n", b"%YAML 1.1\n", b".inf",
    b".nan", b"0x1F", b"1_000", b"12:30:45", b"2001-12-14", b"~", b"yes", b"\t", b"#",
)  # fmt: skip


def check(data: bytes) -> None:
    """The first byte picks the kind of the file."""
    kind = data[0] % 3 if data else 0
    file = _folder / "any.yaml"
    file.write_bytes(data[1:])
    try:
        if kind == 0:
            _use_policy(load_policy_file(file))
        elif kind == 1:
            _use_config(load_config(file))
        else:
            validate(FunctionManifest, read_yaml(file, "a manifest", MOST_MANIFEST_BYTES), file)
    except ConfigError as error:
        lines = str(error).split("\n")
        assert len(lines) <= 10, lines
        for line in lines:
            assert len(line) < MOST, len(line)
            assert line.isprintable(), line
        assert error.hint
        assert error.title == "wrong configuration"


def _use_policy(policy: SandboxPolicy) -> None:
    """What the rest of the package does with a policy raises nothing else either."""
    assert 0 < policy.max_memory_bytes <= 1 << 32
    policy.allows_host("https", "a.example", 443)
    for args in (policy.to_wasmtime_args(), policy.to_wasmedge_args({})):
        assert all("\0" not in each for each in args)
    assert all(map(str.strip, policy.not_expressible("wasmtime") + policy.not_expressible("wasmedge")))
    resolve_dirs(policy, warn=False)


def _use_config(config: EdgeRouterConfig) -> None:
    assert config.functions_dir.is_absolute()
    for rule in config.rules:
        PathTree[int]().add(rule.path_pattern, 0)

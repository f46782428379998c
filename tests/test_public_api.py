from __future__ import annotations

import ast
import inspect

import pytest

import starlette_wasm
from starlette_wasm import exceptions

ALIASES = {"Call", "Handler"}
"""Of types, for annotations."""
CONTRACT = [
    "Call",
    "Handler",
    "WasmMiddleware",
    "wasm_route",
    "WasmRoute",
    "wasm_endpoint",
    "WasmRuntime",
    "WasmError",
    "EdgeRequest",
    "EdgeResponse",
    "EdgeContext",
    "SandboxPolicy",
    "DirMapping",
    "RouteRule",
    "EdgeRouterConfig",
    "CanaryConfig",
    "WasmSettings",
    "MemoryLimitExceeded",
    "ExecutionTimeout",
    "FunctionTrapped",
    "FunctionUnavailable",
    "GrantError",
    "FunctionExited",
    "InvalidFunctionResponse",
    "FunctionOverloaded",
    "RequestTooLarge",
    "ModuleLoadError",
    "CompileError",
    "PolicyViolation",
    "ConfigError",
    "FunctionNotFound",
    "RuntimeClosed",
]


@pytest.mark.parametrize("name", CONTRACT)
def test_what_the_contract_names_is_importable_from_the_root(name: str) -> None:
    assert hasattr(starlette_wasm, name)


def test_all_is_complete_and_sorted() -> None:
    tree = ast.parse(inspect.getsource(starlette_wasm))
    public = [
        name.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.level for name in node.names
    ]
    assert starlette_wasm.__all__ == sorted(public)
    assert all(getattr(starlette_wasm, name).__name__ == name for name in public if name not in ALIASES)


def test_every_error_is_in_the_root_and_in_the_tree() -> None:
    errors = {
        name for name, value in vars(exceptions).items() if inspect.isclass(value) and issubclass(value, Exception)
    }
    assert errors <= set(starlette_wasm.__all__)
    for name in errors:
        assert issubclass(getattr(starlette_wasm, name), starlette_wasm.WasmError)
        assert f" {name} " in f"{exceptions.__doc__} ".replace("\n", " ")


def test_every_public_thing_has_a_docstring() -> None:
    for name in set(starlette_wasm.__all__) - ALIASES:
        assert getattr(starlette_wasm, name).__doc__, name


def test_slugs_are_stable() -> None:
    """Callers compare ``type`` of a problem with these."""
    slugs = {name: getattr(starlette_wasm, name).slug for name in starlette_wasm.__all__ if name in vars(exceptions)}
    assert slugs == {
        "WasmError": "wasm-error",
        "ConfigError": "configuration",
        "ModuleLoadError": "module-load",
        "CompileError": "module-compile",
        "UnsignedModule": "signature-refused",
        "ExportNotFound": "export-not-found",
        "ResultError": "result-error",
        "FunctionNotFound": "function-not-found",
        "PolicyViolation": "policy-violation",
        "CanaryConflict": "canary-conflict",
        "RuntimeClosed": "runtime-closed",
        "RequestTooLarge": "request-too-large",
        "RequestTimeout": "request-timeout",
        "FunctionOverloaded": "function-overloaded",
        "TenantLimited": "tenant-limited",
        "PipelineTimeout": "pipeline-timeout",
        "FunctionError": "function-error",
        "MemoryLimitExceeded": "memory-limit",
        "ExecutionTimeout": "execution-timeout",
        "FunctionTrapped": "wasm-trap",
        "FunctionUnavailable": "function-unavailable",
        "GrantError": "grant",
        "FunctionExited": "function-exit",
        "InvalidFunctionResponse": "invalid-function-response",
    }

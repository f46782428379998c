"""WebAssembly functions as routes of a Starlette or FastAPI app, sandboxed one by one."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .asgi.admin.access import AdminIdentity, AdminToken
    from .asgi.admin.mount import wasm_admin
    from .asgi.middleware import WasmMiddleware
    from .asgi.routes import Call, Handler, WasmRoute, wasm_endpoint, wasm_route
    from .asgi.rules import WasmRules
    from .config.policy import DirMapping, SandboxPolicy
    from .config.router import CanaryConfig, EdgeRouterConfig, RouteRule
    from .config.settings import WasmSettings
    from .exceptions import (
        CanaryConflict,
        CompileError,
        ConfigError,
        ExecutionTimeout,
        ExportNotFound,
        FunctionError,
        FunctionExited,
        FunctionNotFound,
        FunctionOverloaded,
        FunctionTrapped,
        FunctionUnavailable,
        GrantError,
        InvalidFunctionResponse,
        MemoryLimitExceeded,
        ModuleLoadError,
        PipelineTimeout,
        PolicyViolation,
        RequestTimeout,
        RequestTooLarge,
        ResultError,
        RuntimeClosed,
        TenantLimited,
        UnsignedModule,
        WasmError,
    )
    from .messages import EdgeContext, EdgeRequest, EdgeResponse
    from .runtime.runtime import WasmRuntime

__all__ = [
    "AdminIdentity",
    "AdminToken",
    "Call",
    "CanaryConfig",
    "CanaryConflict",
    "CompileError",
    "ConfigError",
    "DirMapping",
    "EdgeContext",
    "EdgeRequest",
    "EdgeResponse",
    "EdgeRouterConfig",
    "ExecutionTimeout",
    "ExportNotFound",
    "FunctionError",
    "FunctionExited",
    "FunctionNotFound",
    "FunctionOverloaded",
    "FunctionTrapped",
    "FunctionUnavailable",
    "GrantError",
    "Handler",
    "InvalidFunctionResponse",
    "MemoryLimitExceeded",
    "ModuleLoadError",
    "PipelineTimeout",
    "PolicyViolation",
    "RequestTimeout",
    "RequestTooLarge",
    "ResultError",
    "RouteRule",
    "RuntimeClosed",
    "SandboxPolicy",
    "TenantLimited",
    "UnsignedModule",
    "WasmError",
    "WasmMiddleware",
    "WasmRoute",
    "WasmRules",
    "WasmRuntime",
    "WasmSettings",
    "wasm_admin",
    "wasm_endpoint",
    "wasm_route",
]

_MODULES = {
    "asgi.admin.access": ("AdminIdentity", "AdminToken"),
    "asgi.admin.mount": ("wasm_admin",),
    "asgi.middleware": ("WasmMiddleware",),
    "asgi.routes": ("Call", "Handler", "WasmRoute", "wasm_endpoint", "wasm_route"),
    "asgi.rules": ("WasmRules",),
    "config.policy": ("DirMapping", "SandboxPolicy"),
    "config.router": ("CanaryConfig", "EdgeRouterConfig", "RouteRule"),
    "config.settings": ("WasmSettings",),
    "messages": ("EdgeContext", "EdgeRequest", "EdgeResponse"),
    "runtime.runtime": ("WasmRuntime",),
}
_MODULE_OF = dict.fromkeys(__all__, "exceptions") | {
    name: module for module, names in _MODULES.items() for name in names
}


def __getattr__(name: str) -> object:
    """Import a public name when it is first asked for, so that a submodule can be imported without the engine."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_MODULE_OF[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__

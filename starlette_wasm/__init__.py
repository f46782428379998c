"""WebAssembly functions as routes of a Starlette or FastAPI app, sandboxed one by one."""

from .asgi.middleware import WasmMiddleware
from .asgi.routes import WasmRoute, wasm_endpoint, wasm_route
from .config.policy import DirMapping, SandboxPolicy
from .config.router import CanaryConfig, EdgeRouterConfig, RouteRule
from .config.settings import WasmSettings
from .exceptions import (
    CanaryConflict,
    CompileError,
    ConfigError,
    ExecutionTimeout,
    FunctionError,
    FunctionExited,
    FunctionNotFound,
    FunctionOverloaded,
    FunctionTrapped,
    InvalidFunctionResponse,
    MemoryLimitExceeded,
    ModuleLoadError,
    PipelineTimeout,
    PolicyViolation,
    RequestTimeout,
    RequestTooLarge,
    RuntimeClosed,
    WasmError,
)
from .messages import EdgeContext, EdgeRequest, EdgeResponse
from .runtime.runtime import WasmRuntime

__all__ = [
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
    "FunctionError",
    "FunctionExited",
    "FunctionNotFound",
    "FunctionOverloaded",
    "FunctionTrapped",
    "InvalidFunctionResponse",
    "MemoryLimitExceeded",
    "ModuleLoadError",
    "PipelineTimeout",
    "PolicyViolation",
    "RequestTimeout",
    "RequestTooLarge",
    "RouteRule",
    "RuntimeClosed",
    "SandboxPolicy",
    "WasmError",
    "WasmMiddleware",
    "WasmRoute",
    "WasmRuntime",
    "WasmSettings",
    "wasm_endpoint",
    "wasm_route",
]

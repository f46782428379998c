"""WebAssembly functions as routes of a Starlette or FastAPI app, sandboxed one by one."""

from .config import CanaryConfig, EdgeRouterConfig, RouteRule
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
from .middleware import WasmMiddleware
from .policy import DirMapping, SandboxPolicy
from .routing import WasmRoute, wasm_endpoint, wasm_route
from .runtime import WasmRuntime
from .settings import WasmSettings

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

"""What to do about a module that the engine does not take, by the cause: an import, or a feature that is off.

An import is known by its module and name as a whole, a feature by the engine's own message: names that a guest
chose are left out of the comparison.
"""

from __future__ import annotations

import re

WASI_COMMAND = "build it as a WASI preview 1 command, without proposals beyond WebAssembly 2.0"
"""The remedy if no better one is known."""

_SERVICE = "or call a service with edge.call and a grant in allowedHosts"
_SOCKETS = (
    "these are WasmEdge's sockets: build it without wasmedge_wasi_socket; HTTP goes out by edge.call, "
    "with a grant in allowedHosts"
)
_JAVASCRIPT = "build it for WASI, without calls into JavaScript"
_NO_GC = "build it with a compiler that does not need WebAssembly GC, such as TinyGo, or C or Rust"
_UNLINKED = "it is an object file or a shared library: link it into a program, without --import-memory and -shared"
_EMSCRIPTEN = "build it with a WASI SDK instead of Emscripten, or with emcc -sSTANDALONE_WASM"

# Module and name of the import, each matched as a whole, and the remedy. The first that fits counts.
_IMPORTS: tuple[tuple[str, str, str], ...] = (
    (
        "wasi_snapshot_preview1",
        r"sock_(?!accept|recv|send|shutdown).*|sock_.*_v2",
        _SOCKETS,
    ),
    (
        "wasi_snapshot_preview1",
        r".*",
        "this function is not part of WASI preview 1: build it with an SDK for preview 1 alone",
    ),
    ("wasi_unstable", r".*", "build it with a newer WASI SDK, for wasi_snapshot_preview1"),
    (
        "wasi_snapshot_preview2|wasi:.*",
        r".*",
        "build it for WASI preview 1 (wasm32-wasip1), not preview 2 (wasm32-wasip2)",
    ),
    (
        "wasi",
        r"thread-spawn",
        "build it without threads: no -pthread, and target wasm32-wasip1, not wasm32-wasip1-threads",
    ),
    ("wasi_ephemeral_nn|wasi:nn/.*", r".*", f"this host has no wasi-nn: run the model in the app, {_SERVICE}"),
    ("wasi_ephemeral_crypto.*", r".*", "this host has no wasi-crypto: link a cryptography library into the module"),
    (
        "wasi_experimental_.*|wasi_http|http_handler",
        r".*",
        "this host lacks that proposal: build it without it; HTTP goes out by edge.call, with a grant in allowedHosts",
    ),
    ("wasix_.*", r".*", "build it for WASI (wasm32-wasip1), not for Wasmer's WASIX"),
    (
        "wasi-outbound-http|outbound-(redis|pg|mysql)|spin-config|key-value|sqlite|llm|redis|mysql|postgres|"
        "(fermyon|spin):.*|spin_.*",
        r".*",
        "this is an interface of Spin: build it for Spin's wagi executor (protocol: cgi), "
        "with edge.call in the place of Spin's SDK",
    ),
    (
        "http",
        r"send-http-request(: .*)?",
        "this is an interface of Wasm Workers Server: build the worker without its HTTP bindings (protocol: wws), "
        "with edge.call in their place",
    ),
    (
        "rb-js-abi-host|canonical_abi",
        r".*",
        "this is Ruby for JavaScript hosts: take ruby.wasm's own build without the js gem "
        "(usr/local/bin/ruby of ruby-*-wasm32-unknown-wasip1-full)",
    ),
    ("extism:.*", r".*", "this is a plug-in of Extism: build it as a WASI command that reads stdin and writes stdout"),
    ("wapc", r".*", "this is a waPC module: build it as a WASI command that reads stdin and writes stdout"),
    ("fastly_.*", r".*", "this is made for Fastly Compute: build it as a WASI command, without Fastly's SDK"),
    ("env", r"proxy_.*", "this is a Proxy-Wasm filter, for Envoy and the like: a function is a WASI command"),
    (
        "env",
        r"abort|seed|trace|console\..*|performance\..*|process\..*|Date\..*|Math\..*",
        "this is AssemblyScript for JavaScript hosts: build it with @assemblyscript/wasi-shim "
        "(asc --config ./node_modules/@assemblyscript/wasi-shim/asconfig.json)",
    ),
    (
        "env|GOT\\..*",
        r"memory|__(memory_base|table_base|stack_pointer|linear_memory|indirect_function_table)",
        _UNLINKED,
    ),
    ("GOT\\..*", r".*", _UNLINKED),
    ("env", r"emscripten_.*|_emscripten_.*|__syscall_.*|invoke_.*|__cxa_.*|_embind_.*|__asyncjs__.*", _EMSCRIPTEN),
    ("a", r"[a-zA-Z_$]{1,2}", _EMSCRIPTEN),
    ("env", r".*", "build it with a WASI SDK, not for a browser, and link all it calls (no --allow-undefined)"),
    (r"wbg|__wbindgen_.*|\./.*_bg\.js", r".*", "build it without wasm-bindgen, for the target wasm32-wasip1"),
    ("gojs|go", r".*", "build it with GOOS=wasip1, not GOOS=js; with TinyGo, -target=wasip1"),
    ("javascript_kit", r".*", "build it without JavaScriptKit, for Swift's WASI SDK"),
    (r"js|js_code|dart2wasm|wasm:js-.*|.*\.m?js", r".*", _JAVASCRIPT),
    ("edge", r".*", "only call and take are in the module edge: use the SDK of this version of starlette-wasm"),
)
_KNOWN_IMPORTS = tuple((re.compile(module), re.compile(name, re.DOTALL), remedy) for module, name, remedy in _IMPORTS)

# Words of the engine's message, and the remedy. The first that fits counts.
_FEATURES: tuple[tuple[str, str], ...] = (
    (r"\bthreads\b", "build it without threads: no -pthread, and target wasm32-wasip1, not wasm32-wasip1-threads"),
    (r"\bmemory64\b", "build it for 32-bit memories: wasm32, not wasm64 or -sMEMORY64"),
    (r"\bexceptions?\b", "build it without exceptions (-fno-exceptions; panic=abort in Rust) and setjmp"),
    (r"\bgc\b", _NO_GC),
    (r"\bfunction[- ]references\b", _NO_GC),
    (r"\brelaxed SIMD\b", "build it without relaxed SIMD (-mno-relaxed-simd)"),
    (r"\bstack switching\b", "build it without stack switching"),
)
_KNOWN_FEATURES = tuple((re.compile(pattern), remedy) for pattern, remedy in _FEATURES)
# Messages about features that are off have these words; those about damaged bytes do not.
_LACKING = re.compile(r"support|enabled|disabled|proposal|references required")
_NAME = re.compile("`.*`", re.DOTALL)


def of_import(module: str, name: str) -> str:
    """Advise on an import that the host does not have."""
    for its_module, its_name, remedy in _KNOWN_IMPORTS:
        if its_module.fullmatch(module) and its_name.fullmatch(name):
            return remedy
    return WASI_COMMAND


def of_wrong_type(name: str) -> str:
    """Advise on an import of WASI preview 1 whose type is another than WASI's."""
    if name.startswith("sock_"):
        return _SOCKETS
    return "build it with a newer WASI SDK, for wasi_snapshot_preview1"


def of_feature(complaint: str) -> str | None:
    """Advise on a feature that is off, by the engine's complaint; None if it complains of something else."""
    said = _NAME.sub("", complaint.replace("requires `gc` proposal", "requires gc proposal"))
    if not _LACKING.search(said):
        return None
    return next((remedy for pattern, remedy in _KNOWN_FEATURES if pattern.search(said)), WASI_COMMAND)

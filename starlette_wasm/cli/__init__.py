"""The command ``starlette-wasm``."""

"""How a module is run: the only room that imports wasmtime. It knows nothing of HTTP, YAML or OpenTelemetry."""

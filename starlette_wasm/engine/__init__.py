"""How a module is run: the only room that calls wasmtime. It knows nothing of HTTP, YAML or OpenTelemetry."""

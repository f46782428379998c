"""How a module is run: the only package that calls wasmtime. It knows nothing of HTTP, YAML or OpenTelemetry."""

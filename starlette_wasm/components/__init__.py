"""WebAssembly components, run over core modules."""

"""Benchmarks: every figure a ratio within one run. Run scripts/bench; docs/benchmarks.md says what is measured."""

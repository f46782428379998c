"""What is measured: this package, and what it is measured against. Each runs in a process of its own."""

MARK = "lcong48"
"""A function of libc that nothing else calls: callgrind writes its counters down before each call of it."""

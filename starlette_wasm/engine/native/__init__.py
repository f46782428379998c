"""The C library of the engine."""

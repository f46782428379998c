"""Functions in an OCI registry: push, pull, lock, sync and verify."""

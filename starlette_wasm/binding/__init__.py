"""A function under a policy."""

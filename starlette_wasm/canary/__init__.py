"""Versions that roll themselves out: what is counted, the verdict, and what acts on it."""

"""Versions that roll themselves out: what is counted, what it says, and who acts on it."""

"""Which versions of a function have series of their own in the metrics."""

from __future__ import annotations

from collections import defaultdict

MOST_VERSIONS = 100
"""Of one function. Whoever may deploy it makes as many as they like, and a series is never given up."""
OTHER = "other"


class Versions:
    """The first versions that are seen of each function; what comes after them is counted together."""

    def __init__(self, most: int = MOST_VERSIONS) -> None:
        self._most = most
        self._known: defaultdict[str, set[str]] = defaultdict(set)

    def label(self, function: str, version: str) -> str:
        """Return the version as it stands in metrics."""
        known = self._known[function]
        if version in known:
            return version
        if len(known) >= self._most:
            return OTHER
        known.add(version)
        return version

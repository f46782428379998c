"""Whether one version fails more often than another, by more than chance.

Fisher's exact test, one-sided: given how many requests failed of both versions together, and how many each
version had, the failures of a canary that is no worse than stable are drawn like balls from an urn (the
hypergeometric distribution). What hurts both alike, such as a dependency that is down, does not move it.

Repeated looks at growing samples are paid for by alpha spending: the k-th look may raise a false alarm with
probability alpha / (k (k + 1)), and those sum up to alpha over however many looks (the union bound, which needs no
assumption on how looks depend on each other).
"""

from __future__ import annotations

from math import exp, lgamma

ALPHA = 0.0025
"""The chance, at most, that one comparison ever condemns a canary that is no worse than stable, over all its steps.
There are two comparisons, of failures and of slow answers."""


def p_value(failed: int, total: int, other_failed: int, other_total: int) -> float:
    """Return the chance of at least ``failed`` failures among ``total`` requests, were both versions equally good."""
    failures, requests = failed + other_failed, total + other_total
    if failed <= max(0, failures - other_total):
        return 1.0
    most = min(failures, total)
    # From the rarest outcome that is still likely enough to matter: pmf(x + 1) / pmf(x) is a simple fraction.
    term = exp(
        _log_choose(failures, failed) + _log_choose(requests - failures, total - failed) - _log_choose(requests, total)
    )
    if failed * requests <= total * failures:  # no more than its share: the long way round is the short one
        return 1.0 - _tail(failed - 1, term * _ratio_down(failed, total, failures, requests), total, failures, requests)
    mass, x = term, failed
    while x < most and term > mass * 1e-17:
        term *= (failures - x) * (total - x) / ((x + 1) * (requests - failures - total + x + 1))
        mass += term
        x += 1
    return min(mass, 1.0)


def alpha_of_look(look: int) -> float:
    """Return what the ``look``-th look, from 1, may spend."""
    return ALPHA / (look * (look + 1))


def _tail(x: int, term: float, total: int, failures: int, requests: int) -> float:
    """Return the chance of at most ``x`` failures, whose own chance is ``term``."""
    least = max(0, failures - (requests - total))
    mass = term
    while x > least and term > mass * 1e-17:
        term *= _ratio_down(x, total, failures, requests)
        mass += term
        x -= 1
    return min(mass, 1.0)


def _ratio_down(x: int, total: int, failures: int, requests: int) -> float:
    """Return pmf(x - 1) / pmf(x)."""
    return x * (requests - failures - total + x) / ((failures - x + 1) * (total - x + 1))


def _log_choose(n: int, k: int) -> float:
    return lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1)

"""Pipelines as data for a drawing: steps in order, branches beside each other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ....pipelines.breaker import circuit_name
from ....pipelines.plan import Call, Callee, Parallel, Pipeline


def graph(pipeline: Pipeline, circuits: Mapping[str, str]) -> dict[str, Any]:
    """Return a pipeline's steps, each a list of calls that run side by side, with the states of their circuits."""
    steps: list[list[dict[str, Any]]] = []
    for step in pipeline.steps:
        if isinstance(step, Parallel):
            steps.append([_call(branch, circuits) for branch in step.branches])
            if step.merge is not None:
                steps.append([_call(step.merge, circuits)])
        else:
            steps.append([_call(step, circuits)])
    return {
        "path": pipeline.route,
        "methods": pipeline.methods,
        "timeout_ms": pipeline.timeout * 1000,
        "steps": steps,
    }


def _call(call: Call, circuits: Mapping[str, str]) -> dict[str, Any]:
    fallback = None if call.fallback is None else _callee(call.fallback, circuits)
    return _callee(call.callee, circuits) | {
        "retries": call.attempts - 1,
        "optional": call.optional,
        "fallback": fallback,
        "fixed_answer": call.answer is not None,
    }


def _callee(callee: Callee, circuits: Mapping[str, str]) -> dict[str, Any]:
    target = callee.target
    circuit = circuit_name(target.name, target.version, callee.circuit)
    return {
        "name": target.name,
        "version": target.version,
        "policy": target.policy.name,
        "timeout_ms": callee.timeout * 1000,
        "circuit": circuit,
        "state": circuits.get(circuit),
    }

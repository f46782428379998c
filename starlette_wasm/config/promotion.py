"""Writes what was promoted into a ``wasm.yaml``: its rules name the new version, and the canary is out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import yaml

from ..exceptions import ConfigError
from .loading import parse_yaml
from .router import EdgeRouterConfig, RouteRule
from .validation import validate
from .yaml_edit import YamlEdit, find

_VERSION, _WEIGHT, _REGIONS = ("version",), ("weight",), ("regions",)


@dataclass(frozen=True, slots=True)
class Promotion:
    """A promotion to be written: ``canary`` replaces ``stable``; ``highest`` is what a rule without a version names."""

    function: str
    stable: str
    canary: str
    highest: str


def write_back(edit: YamlEdit, promotion: Promotion) -> list[str]:
    """Make the edits, and return what they are, one line each.

    If rules serve both versions in a place, the canary's keeps the weight of both. A rule of the stable version
    that serves where the canary does not, goes on. Raises ConfigError for what cannot be written without a hand.
    """
    config = validate(EdgeRouterConfig, parse_yaml(edit.text, "a config", edit.file), edit.file)
    changes = [*_rules(edit, config, promotion), *_steps(edit, promotion), *_canary(edit, config, promotion)]
    validate(EdgeRouterConfig, parse_yaml(edit.result(), "a config", edit.file), edit.file)
    return changes


def _rules(edit: YamlEdit, config: EdgeRouterConfig, promotion: Promotion) -> Iterator[str]:
    sequence = find(edit.root, "rules")
    if not isinstance(sequence, yaml.SequenceNode):
        return
    own = [at for at, rule in enumerate(config.rules) if rule.function_name == promotion.function]
    canaries = [at for at in own if config.rules[at].version in (promotion.canary, None)]
    weights = {at: config.rules[at].weight for at in canaries}
    gone: list[int] = []
    for at in own:
        if config.rules[at].version != promotion.stable:
            continue
        rivals = [other for other in canaries if _meet(config.rules[at], config.rules[other])]
        for rival in rivals:
            weights[rival] += config.rules[at].weight
        left = _left(edit, at, config.rules[at], [config.rules[each] for each in rivals]) if rivals else None
        if left == []:
            gone.append(at)
            yield f"rules[{at}], of v{promotion.stable}, is taken out"
        elif left is not None:
            edit.check(sequence.value[at], f"rules[{at}]")
            edit.set(sequence.value[at], _REGIONS, f"[{', '.join(left)}]")
            yield f"rules[{at}], of v{promotion.stable}, serves {', '.join(left)} alone"
    for at in canaries:
        yield from _new_rule(edit, sequence.value[at], config.rules[at], at, weights[at], promotion)
    for at in gone:
        edit.check(sequence.value[at], f"rules[{at}]")
    if gone:
        edit.remove(sequence, [sequence.value[at] for at in gone])


def _new_rule(
    edit: YamlEdit, node: yaml.MappingNode, rule: RouteRule, at: int, weight: int, promotion: Promotion
) -> Iterator[str]:
    if weight != rule.weight:
        edit.check(node, f"rules[{at}]")
        edit.set(node, _WEIGHT, str(min(weight, 100_000)))
        yield f"rules[{at}], of v{promotion.canary}, has the weight {min(weight, 100_000)}"
    if rule.version is None and promotion.highest != promotion.canary:
        edit.check(node, f"rules[{at}]")
        edit.set(node, _VERSION, f'"{promotion.canary}"')
        yield f"rules[{at}] names v{promotion.canary}"


def _meet(one: RouteRule, other: RouteRule) -> bool:
    same_methods = not one.methods or not other.methods or bool(set(one.methods) & set(other.methods))
    same_regions = not one.regions or not other.regions or bool(set(one.regions) & set(other.regions))
    same_audience = one.audience == other.audience
    return one.path_pattern == other.path_pattern and same_methods and same_regions and same_audience


def _left(edit: YamlEdit, at: int, stable: RouteRule, canaries: list[RouteRule]) -> list[str]:
    """Return the regions that are left to a stable rule, none if it is to go. Raises ConfigError."""
    all_methods = all(
        not canary.methods or (stable.methods and set(stable.methods) <= set(canary.methods)) for canary in canaries
    )
    everywhere = any(not canary.regions for canary in canaries)
    if not all_methods or (not stable.regions and not everywhere):
        where = "regions" if all_methods else "methods"
        problem = f"serves more {where} than the canary's rules of {stable.path_pattern}, and names none of them"
        raise ConfigError(problem, file=edit.file, key=f"rules[{at}]", hint=f"list its {where}, or edit it by hand")
    taken = {region for canary in canaries for region in canary.regions}
    return [] if everywhere else [region for region in stable.regions if region not in taken]


def _steps(edit: YamlEdit, promotion: Promotion) -> Iterator[str]:
    """Yield the steps of pipelines without a version, which have the promoted one, that would get a higher one."""
    pipelines = find(edit.root, "pipelines")
    if pipelines is None or promotion.highest == promotion.canary:
        return
    for node in _mappings(pipelines):
        function = find(node, "function")
        if function is not None and function.value == promotion.function and find(node, "version") is None:
            edit.check(node, "pipelines")
            edit.set(node, _VERSION, f'"{promotion.canary}"')
            yield f"a step of line {node.start_mark.line + 1} names v{promotion.canary}"


def _mappings(node: yaml.Node) -> Iterator[yaml.MappingNode]:
    if isinstance(node, yaml.MappingNode):
        yield node
        for _, value in node.value:
            yield from _mappings(value)
    elif isinstance(node, yaml.SequenceNode):
        for each in node.value:
            yield from _mappings(each)


def _canary(edit: YamlEdit, config: EdgeRouterConfig, promotion: Promotion) -> Iterator[str]:
    sequence = find(edit.root, "canaries")
    if isinstance(sequence, yaml.SequenceNode):
        at = [canary.function_name for canary in config.canaries].index(promotion.function)
        edit.check(sequence.value[at], f"canaries[{at}]")
        edit.remove(sequence, [sequence.value[at]])
        yield f"canaries[{at}] is taken out"

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from starlette_wasm.config.names import is_function_name, is_version, path_params, version_key
from starlette_wasm.config.router import CanaryConfig, EdgeRouterConfig, RouteRule, load_config
from starlette_wasm.exceptions import ConfigError

WASM_YAML = """\
functionsDir: functions
policiesDir: policies
rules:
  - {pathPattern: /api/v1/process, functionName: edge-processor, version: "2", weight: 80,
     regions: [ap-east-1, ap-southeast-1], policy: edge-strict}
  - {pathPattern: /api/v1/process, functionName: edge-processor, version: "3", weight: 20,
     regions: [ap-east-1], policy: edge-strict}
  - {pathPattern: "/api/v1/cache/{key}", functionName: edge-cache, version: "1", weight: 100}
defaultFunction: edge-fallback
healthCheckIntervalMs: 10000
canaries:
  - {functionName: edge-processor, stableVersion: "2", canaryVersion: "3", steps: [10, 30, 50, 100],
     stepSeconds: 300, successRateThreshold: 0.99, latencyP99ThresholdMs: 50, autoPromote: true}
pipelines:
  - path: /api/v1/enrich
    steps:
      - {function: parse, timeoutMs: 200}
      - {function: enrich, timeoutMs: 500, retries: 2, fallback: {function: enrich-lite}}
"""

RULE = {"pathPattern": "/a", "functionName": "f"}
CANARY = {"functionName": "f", "stableVersion": "1", "canaryVersion": "2"}
PIPELINE = {"path": "/p", "steps": [{"function": "f"}]}


def test_the_documented_config_loads(tmp_path: Path) -> None:
    file = tmp_path / "wasm.yaml"
    file.write_text(WASM_YAML)
    config = load_config(file)
    assert config == load_config(str(file))
    assert config.functions_dir == tmp_path / "functions"
    assert config.policies_dir == tmp_path / "policies"
    assert config.default_function == "edge-fallback"
    assert config.health_check_interval_ms == 10000
    assert config.expose_endpoints is False
    first, _, cache = config.rules
    assert first == RouteRule(
        path_pattern="/api/v1/process",
        function_name="edge-processor",
        version="2",
        weight=80,
        regions=["ap-east-1", "ap-southeast-1"],
        policy="edge-strict",
    )
    assert (cache.path_pattern, cache.regions, cache.policy) == ("/api/v1/cache/{key}", [], None)
    (canary,) = config.canaries
    assert canary == CanaryConfig(function_name="edge-processor", stable_version="2", canary_version="3")
    parse, enrich = config.pipelines[0].steps
    assert (parse.function, parse.timeout_ms, parse.retries, parse.fallback) == ("parse", 200, 0, None)
    assert (enrich.retries, enrich.fallback and enrich.fallback.function) == (2, "enrich-lite")


def test_an_empty_mapping_is_all_defaults(tmp_path: Path) -> None:
    file = tmp_path / "wasm.yaml"
    file.write_text("{}")
    assert load_config(file) == EdgeRouterConfig(functions_dir=tmp_path / "functions")


@pytest.mark.parametrize("text", ["", "\n \n", "# rules:\n", "---\n", "null\n", "---\n...\n"])
def test_a_file_without_content_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "wasm.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match="has no content") as caught:
        load_config(file)
    assert caught.value.file == str(file)
    assert caught.value.hint == "restore the file, or write {} if it is meant to be a config without keys"


def test_directories_of_a_mapping_or_model_count_from_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = load_config({"functions_dir": "f", "policiesDir": "/p"})
    assert (config.functions_dir, config.policies_dir) == (tmp_path / "f", Path("/p"))
    assert load_config(MappingProxyType({"functionsDir": Path("f"), "policiesDir": "/p"})) == config
    assert load_config(EdgeRouterConfig(functions_dir=Path("f"), policies_dir=Path("/p"))) == config
    assert load_config(config) == config


def test_directories_of_a_relative_file_are_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("etc").mkdir()
    Path("etc/wasm.yaml").write_text("{}")
    assert load_config("etc/wasm.yaml").functions_dir == tmp_path / "etc" / "functions"


def test_camel_and_snake_case_mean_the_same() -> None:
    camel = load_config({"rules": [RULE], "canaries": [CANARY], "exposeEndpoints": True})
    snake = load_config(
        {
            "rules": [{"path_pattern": "/a", "function_name": "f"}],
            "canaries": [{"function_name": "f", "stable_version": "1", "canary_version": "2"}],
            "expose_endpoints": True,
        }
    )
    assert camel == snake
    assert EdgeRouterConfig.model_validate(camel.model_dump(by_alias=True)) == camel


def test_methods_are_upper_case() -> None:
    assert load_config({"rules": [RULE | {"methods": ["get", "POST"]}]}).rules[0].methods == ["GET", "POST"]


def test_a_whole_number_is_a_version() -> None:
    assert load_config({"rules": [RULE | {"version": 2}]}).rules[0].version == "2"


@pytest.mark.parametrize(
    ("given_steps", "percent", "steps"),
    [
        (None, None, [10, 30, 50, 100]),
        (None, 10, [10, 30, 50, 100]),
        (None, 20, [20, 30, 50, 100]),
        (None, 5, [5, 30, 50, 100]),
        (None, 60, [60, 100]),
        (None, 100, [100]),
        ([25, 100], None, [25, 100]),
        ([100], 20, [20, 100]),
        ([100], None, [100]),
    ],
)
def test_canary_weight_percent_sets_the_first_step(
    given_steps: list[int] | None, percent: int | None, steps: list[int]
) -> None:
    more: dict[str, Any] = {} if given_steps is None else {"steps": given_steps}
    canary = CanaryConfig.model_validate(CANARY | more | {"canaryWeightPercent": percent})
    assert canary.steps == steps
    assert CanaryConfig.model_validate(canary.model_dump()) == canary


@pytest.mark.parametrize("pattern", ["/", "/a", "/a/", "/a/{b}", "/{a}/{b}/c", "/a/{rest:path}", "/grüße", "/a b"])
def test_path_patterns_that_are_fine(pattern: str) -> None:
    assert RouteRule(path_pattern=pattern, function_name="f").path_pattern == pattern


def test_path_params_are_named_in_order() -> None:
    assert path_params("/a/{b}/{c_1}/d/{rest:path}") == ["b", "c_1", "rest"]


def test_sticky_by_a_header_or_a_cookie() -> None:
    stickiness = load_config({"stickiness": {"header": "x-user-id"}}).stickiness
    assert stickiness is not None
    assert (stickiness.header, stickiness.cookie) == ("x-user-id", None)


def test_pipelines_may_share_a_path_by_methods() -> None:
    both = [PIPELINE | {"methods": ["GET"]}, PIPELINE | {"methods": ["POST"]}]
    assert len(load_config({"pipelines": both}).pipelines) == 2
    assert load_config({"pipelines": both[:1], "rules": [RULE | {"pathPattern": "/p", "methods": ["POST"]}]}).rules


def test_a_step_may_be_parallel() -> None:
    step = {
        "parallel": [{"function": "f"}, {"function": "f", "name": "g", "optional": True}],
        "merge": {"function": "h"},
    }
    (made,) = load_config({"pipelines": [{"path": "/p", "steps": [step]}]}).pipelines[0].steps
    assert made.parallel is not None
    assert made.merge is not None
    assert [(branch.function, branch.name, branch.optional) for branch in made.parallel] == [
        ("f", None, False),
        ("f", "g", True),
    ]
    assert made.merge.function == "h"
    config = load_config({"pipelines": [{"path": "/p", "steps": [step]}]})
    assert EdgeRouterConfig.model_validate(config.model_dump(by_alias=True, exclude_unset=True)) == config


def steps(*given: dict[str, Any]) -> dict[str, Any]:
    return {"pipelines": [{"path": "/p", "steps": list(given)}]}


def fallback(**keys: Any) -> dict[str, Any]:
    return steps({"function": "f", "fallback": keys})


BRANCHES = [{"function": "f"}, {"function": "g"}]
STEP = "pipelines[0].steps[0]"


def rule(**changes: Any) -> dict[str, Any]:
    return {"rules": [RULE, RULE | changes]}


def canary(**changes: Any) -> dict[str, Any]:
    return {"canaries": [CANARY | changes]}


BAD: list[tuple[Any, str | None, str, str]] = [
    ({"rules": None}, "rules", "null is not a list", "[a, b]"),
    ({"rules": {}}, "rules", "{} is not a list", "[a, b]"),
    ({"rules": ["/a"]}, "rules[0]", "'/a' is not a mapping", "key: value"),
    ({"rule": []}, "rule", "unknown key, with the value []", "did you mean rules?"),
    ({"rules": [{"pathPattern": "/a"}]}, "rules[0].functionName", "is missing", "add it"),
    ({"rules": [{"pathPatern": "/a", "functionName": "f"}]}, "rules[0].pathPatern", "'/a'", "pathPattern?"),
    (rule(path="/a"), "rules[1].path", "unknown key, with the value '/a'", "did you mean pathPattern?"),
    (rule(function="f"), "rules[1].function", "unknown key, with the value 'f'", "did you mean functionName?"),
    (rule(region=["eu"]), "rules[1].region", "unknown key", "did you mean regions?"),
    (rule(wieght=1), "rules[1].wieght", "unknown key, with the value 1", "did you mean weight?"),
    (rule(weight=-1), "rules[1].weight", "-1 is too small", "the least is 0"),
    (rule(weight=100001), "rules[1].weight", "100001 is too large", "the most is 100000"),
    (rule(weight="80"), "rules[1].weight", "'80' is not a whole number", "without quotes"),
    (rule(weight=0.5), "rules[1].weight", "0.5 is not a whole number", "write a whole number"),
    (rule(version=1.10), "rules[1].version", "1.1 is a number to YAML", 'such as "1.10"'),
    (rule(version=True), "rules[1].version", "true is not a string", "in quotes"),
    (rule(version="../1"), "rules[1].version", "'../1' is not a valid version", "letters"),
    (rule(version="1..2"), "rules[1].version", "'1..2' is not a valid version", "letters"),
    (rule(version="v 1"), "rules[1].version", "'v 1' is not a valid version", "letters"),
    (rule(version=-1), "rules[1].version", "is not a valid version", "letters"),
    (rule(regions="eu"), "rules[1].regions", "'eu' is not a list", "[a, b]"),
    (rule(regions=[False]), "rules[1].regions[0]", "false is not a string", "in quotes"),
    (rule(regions=[""]), "rules[1].regions[0]", "'' is too short", "at least 1"),
    (rule(policy=""), "rules[1].policy", "'' is too short", "at least 1"),
    (rule(methods=[]), "rules[1].methods", "[] is too short", "at least 1"),
    (rule(methods=["GET "]), "rules[1].methods[0]", "'GET ' is not a valid HTTP method", "GET"),
    (rule(functionName="../x"), "rules[1].functionName", "'../x' is not a valid function name", "letters"),
    (rule(functionName="a..b"), "rules[1].functionName", "'a..b' is not a valid function name", "letters"),
    (rule(functionName="a" * 64), "rules[1].functionName", "is not a valid function name", "at most 63"),
    (rule(functionName="é"), "rules[1].functionName", "'é' is not a valid function name", "letters"),
    (rule(functionName="a\n"), "rules[1].functionName", "is not a valid function name", "letters"),
    (rule(pathPattern="a"), "rules[1].pathPattern", "'a' does not start with /", "write /a"),
    (rule(pathPattern=""), "rules[1].pathPattern", "'' does not start with /", "write /"),
    (rule(pathPattern="/a//b"), "rules[1].pathPattern", "has an empty", "without it"),
    (rule(pathPattern="/a/../b"), "rules[1].pathPattern", "has an empty, . or ..", "without it"),
    (rule(pathPattern="/a?b"), "rules[1].pathPattern", "has a ?", "the path alone"),
    (rule(pathPattern="/a\0"), "rules[1].pathPattern", "control character", "the path alone"),
    (rule(pathPattern="/{id:int}"), "rules[1].pathPattern", "has the convertor 'int'", "write {id}"),
    (rule(pathPattern="/{id:}"), "rules[1].pathPattern", "has the convertor ''", "write {id}"),
    (rule(pathPattern="/{a:path}/b"), "rules[1].pathPattern", "has {a:path} before the end", "put it last"),
    (rule(pathPattern="/v{id}"), "rules[1].pathPattern", "has the segment 'v{id}'", "whole segment"),
    (rule(pathPattern="/{}"), "rules[1].pathPattern", "has the segment '{}'", "whole segment"),
    (rule(pathPattern="/{a"), "rules[1].pathPattern", "has the segment '{a'", "whole segment"),
    (rule(pathPattern="/{a}/{a}"), "rules[1].pathPattern", "the parameter a twice", "its own name"),
    (canary(canaryVersion="1"), "canaries[0].canaryVersion", "'1' is the stable version", "to be tried"),
    (canary(canaryVersion=1.5), "canaries[0].canaryVersion", "1.5 is a number", "quote"),
    (canary(steps=[]), "canaries[0].steps", "[] is too short", "at least 1"),
    (canary(steps=[10, 50]), "canaries[0].steps", "[10, 50] does not rise", "[10, 30, 50, 100]"),
    (canary(steps=[50, 10, 100]), "canaries[0].steps", "does not rise", "[10, 30, 50, 100]"),
    (canary(steps=[10, 10, 100]), "canaries[0].steps", "does not rise", "[10, 30, 50, 100]"),
    (canary(steps=[0, 100]), "canaries[0].steps[0]", "0 is too small", "the least is 1"),
    (canary(steps=[10, 200]), "canaries[0].steps[1]", "200 is too large", "the most is 100"),
    (canary(canaryWeightPercent=0), "canaries[0].canaryWeightPercent", "0 is too small", "the least is 1"),
    (canary(stepSeconds=0), "canaries[0].stepSeconds", "0 is too small", "more than 0"),
    (canary(stepSeconds=float("nan")), "canaries[0].stepSeconds", "nan is not a finite number", "finite"),
    (canary(stepSeconds="300"), "canaries[0].stepSeconds", "'300' is not a number", "without quotes"),
    (canary(successRateThreshold=99), "canaries[0].successRateThreshold", "99 is too large", "the most is 1"),
    (canary(latencyP99ThresholdMs=0), "canaries[0].latencyP99ThresholdMs", "0 is too small", "more than 0"),
    (
        canary(hooks=[{"url": "ftp://x"}]),
        "canaries[0].hooks[0].url",
        "'ftp://x' is not an http or https URL",
        "http://",
    ),
    (
        canary(hooks=[{"url": "https://me:secret@gate.example/"}]),
        "canaries[0].hooks[0].url",
        "has a user or password, which are not sent",
        "a token may be in the path",
    ),
    (canary(hooks=[{"url": "http://"}]), "canaries[0].hooks[0].url", "is not an http or https URL", "http://"),
    (canary(hooks=[{"url": "http://[x"}]), "canaries[0].hooks[0].url", "is not an http or https URL", "http://"),
    (canary(autoPromote="no"), "canaries[0].autoPromote", "'no' is not a boolean", "true or false"),
    ({"canaries": [CANARY, CANARY]}, "canaries", "has two canaries of f", "keep one"),
    ({"pipelines": [{"path": "/p", "steps": []}]}, "pipelines[0].steps", "[] is too short", "at least 1"),
    (
        {"pipelines": [{"path": "/p", "steps": [{"function": "f", "retries": 11}]}]},
        "pipelines[0].steps[0].retries",
        "11 is too large",
        "the most is 10",
    ),
    (
        {"pipelines": [{"path": "/p", "steps": [{"function": "f", "fallback": {"functoin": "g"}}]}]},
        "pipelines[0].steps[0].fallback.functoin",
        "unknown key, with the value 'g'",
        "did you mean function?",
    ),
    ({"pipelines": [PIPELINE, PIPELINE]}, "pipelines", "has two pipelines for /p", "keep one"),
    (
        {"pipelines": [PIPELINE | {"methods": ["GET"]}, PIPELINE]},
        "pipelines",
        "has two pipelines for /p",
        "methods",
    ),
    (
        {"rules": [RULE | {"pathPattern": "/p"}], "pipelines": [PIPELINE]},
        "pipelines",
        "has /p, which rules serve too",
        "tell them apart by methods",
    ),
    (
        {
            "rules": [RULE | {"pathPattern": "/p", "methods": ["GET"]}],
            "pipelines": [PIPELINE | {"methods": ["HEAD"]}],
        },
        "pipelines",
        "has /p, which rules serve too",
        "methods",
    ),
    ({"pipelines": [{"path": "/p"}]}, "pipelines[0].steps", "is missing", "add it"),
    ({"pipelines": [PIPELINE | {"timeoutMs": 0}]}, "pipelines[0].timeoutMs", "0 is too small", "the least is 1"),
    (steps({}), STEP, "names neither of function and parallel", "give one"),
    (steps({"function": "f", "parallel": BRANCHES}), STEP, "names both of function and parallel", "give one"),
    (steps({"function": "f", "merge": {"function": "g"}}), STEP, "has merge without parallel", "take merge out"),
    (steps({"parallel": []}), f"{STEP}.parallel", "[] is too short", "at least 2"),
    (steps({"parallel": BRANCHES[:1]}), f"{STEP}.parallel", "is too short", "at least 2"),
    (steps({"parallel": BRANCHES, "retries": 1}), STEP, "has retries beside parallel", "belongs to a function"),
    (
        steps({"parallel": [BRANCHES[0], BRANCHES[0]]}),
        f"{STEP}.parallel",
        "has 2 branches called f",
        "give each a name",
    ),
    (
        steps({"parallel": [{"function": "f", "optinal": True}, BRANCHES[1]]}),
        f"{STEP}.parallel[0].optinal",
        "unknown key",
        "did you mean optional?",
    ),
    (steps({"function": "f", "retry": 1}), f"{STEP}.retry", "unknown key", "did you mean retries?"),
    (steps({"function": "f", "retryUnsafe": "yes"}), f"{STEP}.retryUnsafe", "'yes' is not a boolean", "true or false"),
    (steps({"function": "f", "backoffMs": -1}), f"{STEP}.backoffMs", "-1 is too small", "the least is 0"),
    (fallback(), f"{STEP}.fallback", "names neither of function and answer", "give one"),
    (
        fallback(function="g", answer={"status": 200}),
        f"{STEP}.fallback",
        "names both of function and answer",
        "give one",
    ),
    (
        fallback(answer={}, timeoutMs=5),
        f"{STEP}.fallback",
        "has timeoutMs beside answer",
        "belongs to a function",
    ),
    (fallback(answer={"status": 99}), f"{STEP}.fallback.answer.status", "99 is not a status", "from 200 to 599"),
    (
        fallback(answer={"headers": {"a b": "c"}}),
        f"{STEP}.fallback.answer",
        "is not an answer: illegal header name 'a b'",
        "correct it",
    ),
    (
        fallback(answer={"body": "?", "isBase64Encoded": True}),
        f"{STEP}.fallback.answer",
        "is not an answer: body is not valid base64",
        "correct it",
    ),
    (
        {"pipelines": [PIPELINE | {"retryBudget": {"percent": 101}}]},
        "pipelines[0].retryBudget.percent",
        "101 is too large",
        "the most is 100",
    ),
    ({"circuitBreaker": {"probes": 0}}, "circuitBreaker.probes", "0 is too small", "the least is 1"),
    ({"circuitBreaker": {"openSecond": 1}}, "circuitBreaker.openSecond", "unknown key", "did you mean openSeconds?"),
    ({"stickiness": {}}, "stickiness", "{} does not name one", "{header: x-user-id}"),
    ({"stickiness": {"header": "a", "cookie": "b"}}, "stickiness", "does not name one", "header"),
    ({"stickiness": {"cookie": "a b"}}, "stickiness.cookie", "'a b' is not a name", "for example"),
    ({"functionsDir": ""}, "functionsDir", "'' is not a path", "directory"),
    ({"functionsDir": "a\0b"}, "functionsDir", "is not a path", "directory"),
    ({"policiesDir": 3}, "policiesDir", "3 is not a path", "path"),
    ({"defaultFunction": "a b"}, "defaultFunction", "'a b' is not a valid function name", "letters"),
    ({"healthCheckIntervalMs": 0}, "healthCheckIntervalMs", "0 is too small", "the least is 1"),
    ({"exposeEndpoints": "true"}, "exposeEndpoints", "'true' is not a boolean", "true or false"),
]


@pytest.mark.parametrize(("data", "key", "problem", "hint"), BAD)
def test_a_wrong_config_is_one_error_with_key_value_and_hint(
    tmp_path: Path, data: dict[str, Any], key: str, problem: str, hint: str
) -> None:
    file = tmp_path / "wasm.yaml"
    file.write_text(yaml.safe_dump(data, allow_unicode=True))
    for source, name in ((file, str(file)), (data, None)):
        with pytest.raises(ConfigError) as caught:
            load_config(source)
        error = caught.value
        assert (error.file, error.key) == (name, key)
        assert problem in error.problem
        assert hint in (error.hint or "")


@pytest.mark.parametrize(
    ("text", "problem", "hint"),
    [
        ("[a]", "['a'] is not a mapping", "keys such as rules"),
        ("rules: [", "line 1, column 9", "correct the YAML"),
        ("rules: []\nrules: []", "line 2, column 1: the key 'rules' is there twice", "correct the YAML"),
        ("rules: [{weight: 1, weight: 2}]", "line 1, column 21: the key 'weight'", "correct the YAML"),
        ("a: &a {<<: *a}", "nested too deeply", "keys such as rules"),
    ],
)
def test_wrong_yaml_is_an_error_with_its_line(tmp_path: Path, text: str, problem: str, hint: str) -> None:
    file = tmp_path / "wasm.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_config(file)
    assert caught.value.file == str(file)
    assert problem in caught.value.problem
    assert hint in (caught.value.hint or "")


@pytest.mark.parametrize(
    "text",
    [
        f"{'x' * 100_000}: 1",
        f"rules: *{'x' * 100_000}",
        f"rules: !{'x' * 100_000} a",
        f"rules: [{{pathPattern: {'x' * 100_000}, functionName: f}}]",
        f"rules: [{{pathPattern: '/{'{x' * 50_000}', functionName: f}}]",
        "\ufeffx\u202ey\x85z: 1",
        "rules: *\ufeff",
    ],
    ids=["key", "alias", "tag", "value", "hint", "characters", "alias characters"],
)
def test_the_message_for_any_file_is_one_short_line(tmp_path: Path, text: str) -> None:
    file = tmp_path / "wasm.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_config(file)
    assert len(str(caught.value)) < 2000
    assert str(caught.value).isprintable()


def test_merge_keys_that_multiply_are_refused_at_once(tmp_path: Path) -> None:
    """Ten times as many pairs with every line: a billion in the ninth."""
    lines = ["k0: &k0 {x: 1}"]
    lines += [f"k{i}: &k{i} {{<<: [{', '.join([f'*k{i - 1}'] * 10)}]}}" for i in range(1, 10)]
    file = tmp_path / "wasm.yaml"
    file.write_text("\n".join(lines))
    # PyYAML from 6.0.4 brings each key in once, so that nothing multiplies.
    with pytest.raises(ConfigError, match=r"merge keys bring in more than 10000 keys|k0: unknown key"):
        load_config(file)


def test_an_unquoted_version_is_read_as_written(tmp_path: Path) -> None:
    file = tmp_path / "wasm.yaml"
    for text, version in (("2", "2"), ("010", "010"), ("2026-11-22", "2026-11-22"), ("1.2.3", "1.2.3")):
        file.write_text(f"rules: [{{pathPattern: /a, functionName: f, version: {text}}}]")
        assert load_config(file).rules[0].version == version
    file.write_text("rules: [{pathPattern: /a, functionName: f, version: 1.10}]")
    with pytest.raises(ConfigError, match="quote the version"):
        load_config(file)


def test_anchors_and_merge_keys_work(tmp_path: Path) -> None:
    file = tmp_path / "wasm.yaml"
    file.write_text("rules:\n- &first {pathPattern: /a, functionName: f, weight: 1}\n- {<<: *first, weight: 2}\n")
    assert [each.weight for each in load_config(file).rules] == [1, 2]


def test_what_is_no_config_at_all(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml: no such file"):
        load_config(tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        load_config(tmp_path)
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config("a\0b")
    with pytest.raises(ConfigError, match="3 is not a config; give a path"):
        load_config(3)  # type: ignore[arg-type]


def test_constructors_raise_as_pydantic_does() -> None:
    with pytest.raises(ValidationError, match="does not start with /; write /a"):
        RouteRule(path_pattern="a", function_name="f")


def test_versions_sort_number_by_number() -> None:
    ordered = [
        "0.9",
        "1",
        "1.0-alpha",
        "1.0-rc.2",
        "1.0-rc.10",
        "1.0",
        "1.0a",
        "1.2",
        "1.9",
        "1.10",
        "2",
        "10",
        "b",
    ]
    backwards = ordered[::-1]
    assert sorted(backwards, key=version_key) == ordered
    assert len({version_key(version) for version in ("1", "01", "1+a", "1+b")}) == 4


@given(st.lists(st.from_regex(r"[0-9A-Za-z][0-9A-Za-z.+-]{0,8}", fullmatch=True), max_size=5))
def test_any_versions_can_be_sorted(versions: list[str]) -> None:
    backwards = versions[::-1]
    assert sorted(versions, key=version_key) == sorted(backwards, key=version_key)


@given(st.text(max_size=70))
def test_names_are_safe_as_one_path_segment(name: str) -> None:
    if is_function_name(name) or is_version(name):
        assert name.isascii()
        assert not set(name) & set("/\\\0\n ")
        assert ".." not in name


@given(st.text(max_size=80))
def test_any_text_is_a_config_or_a_config_error(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    file = tmp_path_factory.getbasetemp() / "any.yaml"
    file.write_bytes(text.encode(errors="surrogatepass"))
    with suppress(ConfigError):
        load_config(file)


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9)
KEYS = st.sampled_from(
    [
        *(field.alias or name for name, field in EdgeRouterConfig.model_fields.items()),
        *(field.alias or name for name, field in RouteRule.model_fields.items()),
        *(field.alias or name for name, field in CanaryConfig.model_fields.items()),
        "steps",
        "function",
        "fallback",
    ]
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS | SCALARS, inner, max_size=4),
    max_leaves=8,
)


@given(st.dictionaries(KEYS | SCALARS, VALUES, max_size=4))
def test_any_mapping_is_a_config_or_a_config_error(data: dict[Any, Any]) -> None:
    try:
        load_config(data)
    except ConfigError as error:
        complaint = error
    else:
        return
    assert complaint.hint
    assert len(str(complaint)) < 2000

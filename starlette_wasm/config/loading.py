"""YAML in, typed model or one ``ConfigError`` out."""

from __future__ import annotations

import os
import re
import reprlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from os import PathLike
from typing import Any, TypeVar, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.alias_generators import to_camel
from pydantic_core import ErrorDetails, PydanticCustomError

from ..exceptions import ConfigError
from .inside import open_regular
from .yaml_hints import explain

ModelT = TypeVar("ModelT", bound=BaseModel)

_MERGE_TAG = "tag:yaml.org,2002:merge"
_DECIMAL = re.compile(r"[-+]?(?:0|[1-9][0-9]*)\Z", re.ASCII)

MOST_BYTES = 4 << 20
"""The file of a config."""
MOST_POLICY_BYTES = 256 << 10
MOST_MANIFEST_BYTES = 64 << 10
_MOST_DEPTH = 50
_MOST_EXPLAINED = 16 << 10
"""Characters of a wrong file that are read once more, for a better message."""
_MOST_NODES = 1_000_000
_MOST_MERGED = 10_000
_MOST_SHOWN = 500
_MOST_ERRORS = 10
_MOST_MEANT = 3

_LOGIN = re.compile(r"//[^/\s@'\"]*@")
"""Who logs in, in a URL: a password has no place in a log."""
_repr = reprlib.Repr()
_repr.maxstring = _repr.maxother = 80
_repr.maxlevel = 3


class FileModel(BaseModel):
    """The content of a file: keys camelCase there, snake_case in Python, both accepted; unknown ones are wrong."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid", frozen=True)


def wrong(problem: str, hint: str) -> PydanticCustomError:
    """Make an error for a validator to raise: the value is put in front of ``problem``, ``hint`` after it."""
    return PydanticCustomError("starlette_wasm", "{problem}; {hint}", {"problem": problem, "hint": hint})


class _Plain:
    """SafeLoader without YAML 1.1's surprises: no octal, sexagesimal or date literals, and bounded merges."""

    yaml_implicit_resolvers = {  # noqa: RUF012
        first: [(tag, regexp) for tag, regexp in resolvers if not tag.endswith((":int", ":timestamp"))]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    merged = 0

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Merge keys copy the pairs: a few lines of them, each of ten of the line before, would fill the memory."""
        for key, value in node.value:
            if key.tag == _MERGE_TAG:
                for each in value.value if isinstance(value, yaml.SequenceNode) else [value]:
                    if isinstance(each, yaml.MappingNode):
                        self.flatten_mapping(each)
                        self.merged += len(each.value)
                    if self.merged > _MOST_MERGED:
                        raise _marked(f"merge keys bring in more than {_MOST_MERGED} keys", key)
        super().flatten_mapping(node)  # type: ignore[misc]


class PureLoader(_Plain, yaml.SafeLoader):
    """The loader for a PyYAML without libyaml."""


if hasattr(yaml, "CSafeLoader"):

    class Loader(_Plain, yaml.CSafeLoader):
        """The loader: libyaml's, some twenty times as fast."""

else:
    Loader = PureLoader  # type: ignore[misc, assignment]

for _each in (PureLoader, Loader):
    _each.add_implicit_resolver("tag:yaml.org,2002:int", _DECIMAL, list("-+0123456789"))


def load(text: str, loader: Any = Loader) -> Any:
    """Load the one document in ``text``, bounded in nesting and in what aliases expand to. Raises yaml.YAMLError."""
    depth = 0
    for event in yaml.parse(text, loader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > _MOST_DEPTH:
                raise _TooDeep(event.start_mark)
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
    made = loader(text)
    try:
        node = made.get_single_node()
        if node is None:
            return None
        _weigh(node, {})
        return made.construct_document(node)
    finally:
        made.dispose()


def _weigh(node: yaml.Node, known: dict[int, int]) -> int:
    """Count the nodes below one, with those of aliases each time they are named; no key twice."""
    if id(node) in known:
        if not known[id(node)]:
            raise _TooDeep(node.start_mark)  # an alias refers to what it is in
        return known[id(node)]
    known[id(node)] = 0
    weight = 1
    if isinstance(node, yaml.MappingNode):
        _check_keys(node)
        for key, value in node.value:
            below = _weigh(key, known) + _weigh(value, known)
            weight += 1 if key.tag == _MERGE_TAG else below  # merges are counted if they are made
    elif isinstance(node, yaml.SequenceNode):
        weight += sum(_weigh(each, known) for each in node.value)
    if weight > _MOST_NODES:
        raise _marked(f"aliases bring it to more than {_MOST_NODES} entries", node)
    known[id(node)] = weight
    return weight


def _check_keys(node: yaml.MappingNode) -> None:
    seen = set()
    for key, _ in node.value:
        if isinstance(key, yaml.ScalarNode) and key.tag != _MERGE_TAG:
            if key.value in seen:
                raise _marked(f"the key {show(key.value)} is there twice", key)
            seen.add(key.value)


def _marked(problem: str, node: yaml.Node) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)


class _TooDeep(yaml.MarkedYAMLError):
    def __init__(self, mark: Any) -> None:
        super().__init__(problem="nested too deeply", problem_mark=mark)


def show(value: object) -> str:
    """Show ``value`` as the user may recognise it, in at most about a hundred characters."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return _LOGIN.sub("//...@", _repr.repr(value))


def plain(text: str) -> str:
    """Clean a part of a message that comes from a file: one printable line, at most about 500 characters."""
    shown = text[:_MOST_SHOWN]
    if not shown.isprintable():
        shown = "".join(each if each.isprintable() else ascii(each)[1:-1] for each in shown)[:_MOST_SHOWN]
    return shown if len(text) <= _MOST_SHOWN else f"{shown}..."


def nearest(name: str, known: Iterable[str], prefix: str = "") -> str:
    """Return ``did you mean ...?``, or all the known names if none is near. A common ``prefix`` makes none nearer."""
    import difflib  # only for what is wrong anyway

    names = sorted(known)
    bare = {each.removeprefix(prefix).lower(): each for each in names}
    close = [bare[each] for each in difflib.get_close_matches(name.removeprefix(prefix).lower(), bare, n=1)]
    parts = [each for each in names if _has_word(each.removeprefix(prefix), name.removeprefix(prefix))]
    # timeoutMs is near to queueTimeoutMs, and may as well be meant as executionTimeoutMs.
    meant = parts if len(parts) <= _MOST_MEANT and set(close) <= set(parts) else close
    if meant:
        return f"did you mean {' or '.join(meant)}?"
    return f"known are {', '.join(names)}" if names else "take it out"


def _has_word(known: str, name: str) -> bool:
    """Return whether a name such as pathPattern has another, such as path or pattern, as one of its words."""
    wanted = _words(name)
    return bool(wanted) and wanted <= _words(known)


def _words(name: str) -> set[str]:
    """Return the words of a name, without the s of several."""
    return {word.lower().removesuffix("s") for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+", name)}


def read_yaml(
    file: str | PathLike[str], what: str, most: int = MOST_BYTES, opener: Callable[[str, int], int] = open_regular
) -> dict[Any, Any]:
    """Read the mapping that ``file`` holds. ``what`` names its kind in errors.

    A file without content is an error: a full disk or an editor that was interrupted leaves one, and as an empty
    mapping it would take away every rule or grant. ``most`` is how many bytes it may have; ``opener`` is that of
    open().
    """
    try:
        with open(file, "rb", opener=opener) as stream:
            data = stream.read(most + 1)
    except FileNotFoundError:
        problem, hint = f"no such file: {os.fspath(file)!r}", f"give the path of {what}"
        raise ConfigError(problem, file=file, hint=hint, kind="no such file") from None
    except (OSError, ValueError) as error:
        problem = f"cannot be read: {getattr(error, 'strerror', None) or error}"
        hint = f"give a readable file with {what}"
        raise ConfigError(problem, file=file, hint=hint, kind="cannot be read") from None
    if len(data) > most:
        problem = f"is larger than {most >> 10} KiB"
        raise ConfigError(problem, file=file, hint=f"write {what}, and nothing else", kind=problem)
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        problem = f"byte {error.start} is not UTF-8"
        raise ConfigError(problem, file=file, hint="save the file as UTF-8", kind=problem) from None
    return parse_yaml(text, what, file)


def parse_yaml(text: str, what: str, file: str | PathLike[str] | None = None) -> dict[Any, Any]:
    """Read a mapping as ``read_yaml`` does, from text. ``file`` is only named in errors."""
    try:
        data = load(text)
    except yaml.MarkedYAMLError as failure:
        error = _plainly(failure, text)
        mark = error.problem_mark or error.context_mark
        where = _where(mark, text) if mark else ""
        meant = explain(error, text)
        hint = f"write {what}" if isinstance(error, _TooDeep) else "correct the YAML there"
        problem, hint = meant or (error.problem or error.context or "not YAML", hint)
        kind = f"{where}not YAML"
        raise ConfigError(plain(f"{where}{problem}"), file=file, hint=plain(hint), kind=kind) from None
    except yaml.YAMLError as error:
        problem = plain(f"not YAML: {' '.join(str(error).split())}")
        raise ConfigError(problem, file=file, hint="correct the YAML", kind="not YAML") from None
    except (ValueError, OverflowError) as error:
        problem = f"a value cannot be read: {str(error).partition(':')[0]}"
        raise ConfigError(problem, file=file, hint="put it in quotes", kind="a value cannot be read") from None
    if data is None:
        hint = f"restore the file, or write {{}} if it is meant to be {what.split(',')[0]} without keys"
        raise ConfigError("has no content, as if it had been cut off", file=file, hint=hint, kind="has no content")
    if not isinstance(data, dict):
        hint = f"write {what}, as key: value"
        raise ConfigError(f"{show(data)} is not a mapping", file=file, hint=hint, kind="is not a mapping")
    return data


def _plainly(error: yaml.MarkedYAMLError, text: str) -> yaml.MarkedYAMLError:
    """Find the same complaint by PyYAML's own parser, which knows better than libyaml what was meant."""
    if len(text) <= _MOST_EXPLAINED:
        try:
            load(text, PureLoader)
        except yaml.MarkedYAMLError as other:
            return other
        except (yaml.YAMLError, ValueError, OverflowError):
            return error
    return error


def _where(mark: Any, text: str) -> str:
    """Correct libyaml's marks of an end, which are on a line that is not there."""
    lines = text.split("\n")
    line = min(mark.line, len(lines) - 1)
    column = mark.column if mark.line == line else len(lines[line])
    return f"line {line + 1}, column {column + 1}: "


TEXT, PLACE = "<text>", "<place>"
"""The two forms of a value that may be a secret, in the path of an error."""


def validate(model: type[ModelT], data: Mapping[Any, Any], file: str | PathLike[str] | None = None) -> ModelT:
    """Make a ``model`` from ``data``; raises ``ConfigError``, with one line for each thing that is wrong."""
    try:
        return model.model_validate({key: value for key, value in data.items() if not _is_extension(key)})
    except ValidationError as error:
        raise config_error(error, model, file) from None
    except RecursionError:
        raise ConfigError("nested too deeply", file=file, hint="take out the alias that refers to itself") from None


def _is_extension(key: object) -> bool:
    """Return whether a key of a file is for anchors and other tools alone: ``x-`` and a name, as in Compose files."""
    return isinstance(key, str) and key.startswith("x-")


def config_error(
    error: ValidationError, model: type[BaseModel], file: str | PathLike[str] | None = None
) -> ConfigError:
    """Turn a ``ValidationError`` into a ``ConfigError``: key, value, problem and hint.

    The misspelt keys go first, and what is missing if one is misspelt goes without saying.
    """
    errors = error.errors(include_url=False)
    misspelt = [each for each in errors if each["type"] == "extra_forbidden"]
    places = {each["loc"][:-1] for each in misspelt}
    others = [
        each for each in errors
        if each not in misspelt and not (each["type"] == "missing" and each["loc"][:-1] in places)
    ]  # fmt: skip
    found = []
    for each in [*misspelt, *others][:_MOST_ERRORS]:
        each["loc"] = tuple(part for part in each["loc"] if part not in (TEXT, PLACE, "[key]"))
        (problem, hint), key = _explain(each, model, show(each["input"])), plain(dotted(each["loc"])) or None
        found.append(ConfigError(plain(problem), file=file, key=key, hint=plain(hint), kind=_kind(each, model)))
    first, *rest = found
    return ConfigError(first.problem, file=first.file, key=first.key, hint=first.hint, others=rest, kind=first.kind)


def _kind(error: ErrorDetails, model: type[BaseModel]) -> str:
    """Return what is wrong, without the value, and without a validator's text about it."""
    known = error["type"] in _WANTED or error["type"] in _SAYS_NO_MORE
    return _explain(error, model, "the value")[0] if known else "the value is wrong"


def dotted(path: Sequence[str | int]) -> str:
    """Write ``("rules", 1, "weight")`` as ``rules[1].weight``."""
    parts = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return "".join(parts).removeprefix(".")


def _explain(error: ErrorDetails, model: type[BaseModel], value: str) -> tuple[str, str]:
    """Return the problem and the hint; ``value`` is how the value is shown."""
    kind, context = error["type"], error.get("ctx", {})
    match kind:
        case "starlette_wasm":
            return f"{value} {context['problem']}", str(context["hint"])
        case "missing":
            return "is missing", "add it"
        case "extra_forbidden":
            return f"unknown key, with the value {value}", nearest(str(error["loc"][-1]), _keys(model, error["loc"]))
        case "invalid_key":
            return f"the key {show(error['loc'][-1])} is not a string", "put the key in quotes"
        case "greater_than_equal":
            return f"{value} is too small", f"the least is {context['ge']}"
        case "greater_than":
            return f"{value} is too small", f"it must be more than {context['gt']}"
        case "less_than_equal":
            return f"{value} is too large", f"the most is {context['le']}"
        case "too_short" | "string_too_short":
            return f"{value} is too short", f"give at least {context['min_length']}"
        case "literal_error":
            return f"{value} is not known", f"write {context['expected']}"
        case "string_pattern_mismatch":
            return f"{value} does not fit", f"write what matches {context['pattern']}"
        case "too_long" | "string_too_long":
            return f"{value} is too long", f"give at most {context['max_length']}"
    wanted = _WANTED.get(kind)
    if wanted is not None:
        return f"{value} is not {wanted[0]}", wanted[1]
    return f"{value} is wrong: {error['msg']}", "correct it"


_SAYS_NO_MORE = frozenset(
    {
        *("missing", "extra_forbidden", "greater_than_equal", "greater_than", "less_than_equal", "too_short"),
        *("string_too_short", "literal_error", "string_pattern_mismatch", "too_long", "string_too_long"),
    }
)
"""Types of errors of which the problem names nothing but the value."""

_INT = ("a whole number", "write a whole number, without quotes")
_BOOL = ("a boolean", "write true or false")
_MAPPING = ("a mapping", "write it as key: value")
_WANTED = {
    "int_type": _INT,
    "int_parsing": _INT,
    "int_parsing_size": _INT,
    "int_from_float": _INT,
    "float_type": ("a number", "write a number, without quotes"),
    "finite_number": ("a finite number", "write a finite number"),
    "bool_type": _BOOL,
    "bool_parsing": _BOOL,
    "string_type": ("a string", "put it in quotes if it is meant as one"),
    "string_unicode": ("valid text", "take out the lone surrogates"),
    "list_type": ("a list", "write a list, such as [a, b]; [] is the empty one"),
    "model_type": _MAPPING,
    "model_attributes_type": _MAPPING,
    "dict_type": _MAPPING,
    "path_type": ("a path", "write a path"),
}


def _keys(model: type[BaseModel], path: Sequence[str | int]) -> list[str]:
    """Return the keys that are known where ``path`` ends."""
    found: type[BaseModel] | None = model
    names_next = False
    for part in path[:-1]:
        if found is None:
            return []
        if names_next or isinstance(part, int):
            names_next = False
            continue
        field = next(f for name, f in found.model_fields.items() if part in (name, f.alias))
        found, names_next = _model_in(field.annotation), _has_names(field.annotation)
    fields = {} if found is None else found.model_fields
    return [field.alias or name for name, field in fields.items() if not field.exclude]


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """Return the one model in ``list[Model]``, ``Model | None``, ``dict[str, str | Model]`` and the like."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    found = (_model_in(each) for each in getattr(annotation, "__args__", ()))
    return next((each for each in found if each is not None), None)


def _has_names(annotation: Any) -> bool:
    """Return whether a value is a mapping whose keys are not those of a model."""
    return get_origin(annotation) is dict or any(get_origin(each) is dict for each in get_args(annotation))

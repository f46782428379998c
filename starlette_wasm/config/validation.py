"""Typed models of what files hold, and one ``ConfigError`` for all that is wrong: key, value, problem and hint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Any, TypeVar, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.alias_generators import to_camel
from pydantic_core import ErrorDetails, PydanticCustomError

from ..exceptions import ConfigError
from .error_text import nearest, plain, show

ModelT = TypeVar("ModelT", bound=BaseModel)
_MOST_ERRORS = 10
TEXT, PLACE = "<text>", "<place>"
"""The two forms of a value that may be a secret, in the path of an error."""


class FileModel(BaseModel):
    """The content of a file: keys camelCase there, snake_case in Python, both accepted; unknown ones are wrong."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid", frozen=True)


def wrong(problem: str, hint: str) -> PydanticCustomError:
    """Make an error for a validator to raise: the value is put in front of ``problem``, ``hint`` after it."""
    return PydanticCustomError("starlette_wasm", "{problem}; {hint}", {"problem": problem, "hint": hint})


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

"""``openapi:`` in ``function.yaml``: what a function takes and answers, as JSON Schema."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, StrictStr

from ..config.error_text import show
from ..config.validation import FileModel, wrong

_TYPES = ("array", "boolean", "integer", "null", "number", "object", "string")
_ONE = (
    *("additionalProperties", "contains", "else", "if", "items", "not", "propertyNames", "then"),
    *("unevaluatedItems", "unevaluatedProperties"),
)
_LISTS = ("allOf", "anyOf", "oneOf", "prefixItems")
_NAMED = ("$defs", "dependentSchemas", "patternProperties", "properties")
_NUMBERS = ("exclusiveMaximum", "exclusiveMinimum", "maximum", "minimum", "multipleOf")
_COUNTS = (
    *("maxContains", "maxItems", "maxLength", "maxProperties"),
    *("minContains", "minItems", "minLength", "minProperties"),
)
_TEXTS = ("$comment", "contentEncoding", "contentMediaType", "description", "format", "pattern", "title")
_FLAGS = ("deprecated", "readOnly", "uniqueItems", "writeOnly")
_REFERENCES = ("$anchor", "$dynamicAnchor", "$dynamicRef", "$id", "$ref", "$schema", "$vocabulary")
_KINDS: tuple[tuple[tuple[str, ...], type | tuple[type, ...], str], ...] = (
    (_NUMBERS, (int, float), "a number"),
    (_COUNTS, int, "a whole number"),
    (_TEXTS, str, "a string"),
    (_FLAGS, bool, "true or false"),
    (("enum", "examples"), list, "a list"),
)


def _faults(schema: object, at: str) -> Iterator[tuple[str, object, str]]:
    """Yield what is wrong in a schema: its place, the value, and what belongs there."""
    if isinstance(schema, bool):
        return
    if not isinstance(schema, dict):
        yield at, schema, "a JSON Schema: a mapping such as {type: string}, or true or false"
        return
    for key, value in schema.items():
        place = f"{at}.{key}".lstrip(".")
        if not isinstance(key, str):
            yield place, key, "a string as key"
        elif key in _ONE:
            yield from _faults(value, place)
        elif key in _LISTS or key in _NAMED:
            yield from _faults_within(key, value, place)
        else:
            yield from _plain_faults(key, value, place)


def _faults_within(key: str, value: object, place: str) -> Iterator[tuple[str, object, str]]:
    kind = list if key in _LISTS else dict
    if not isinstance(value, kind) or (kind is list and not value):
        yield place, value, "a list of schemas" if kind is list else "a mapping of names to schemas"
        return
    for name, each in enumerate(value) if isinstance(value, list) else value.items():
        yield from _faults(each, f"{place}.{name}")


def _plain_faults(key: str, value: object, place: str) -> Iterator[tuple[str, object, str]]:
    if key in _REFERENCES:
        yield place, value, "the schema itself in place of a reference; a YAML anchor may repeat it"
    elif key == "type":
        types = value if isinstance(value, list) and value else [value]
        if not all(each in _TYPES for each in types) or len({str(each) for each in types}) < len(types):
            yield place, value, f"a type of JSON Schema: {', '.join(_TYPES)}"
    elif key == "required":
        if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
            yield place, value, "a list of names of properties"
    else:
        for keys, kind, wanted in _KINDS:
            if key in keys and (not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool)):
                yield place, value, wanted
            elif key in _COUNTS and isinstance(value, int) and value < 0:
                yield place, value, "a whole number from 0"


def _check_schema(schema: Any) -> Any:
    for place, value, wanted in _faults(schema, ""):
        at = f"at {place} " if place else ""
        raise wrong(f"is not a JSON Schema: {at}there is {show(value)}", f"give {wanted}")
    return schema


def _as_text(responses: object) -> object:
    """Turn statuses into text: they are numbers in YAML, and strings in OpenAPI."""
    if not isinstance(responses, dict):
        return responses
    return {str(status) if type(status) is int else status: schema for status, schema in responses.items()}


def _check_status(status: str) -> str:
    if not (len(status) == 3 and status.isascii() and status.isdigit() and "200" <= status <= "599"):
        raise wrong("is not a status of an answer", "give one from 200 to 599")
    return status


Schema = Annotated[Any, AfterValidator(_check_schema)]


class FunctionSchemas(FileModel):
    """The part of the OpenAPI document about a function."""

    summary: StrictStr = Field(default="", description="The operation in a few words.")
    request: Schema = Field(default=None, validate_default=False, description="JSON Schema of the request's body.")
    response: Schema = Field(default=None, validate_default=False, description="JSON Schema of the answer with 200.")
    responses: Annotated[
        dict[Annotated[StrictStr, AfterValidator(_check_status)], Schema], BeforeValidator(_as_text)
    ] = Field(default={}, description="JSON Schemas of the answers with other statuses.")

    def operation(self, *, takes_body: bool) -> dict[str, Any]:
        """Return the parts of an operation of OpenAPI 3.1; without a request for methods that have no body."""
        found: dict[str, Any] = {"summary": self.summary} if self.summary else {}
        if self.request is not None and takes_body:
            found["requestBody"] = {"required": True, "content": _content(self.request)}
        schemas = ({} if self.response is None else {"200": self.response}) | self.responses
        responses = {
            status: {"description": _described(schema, status), "content": _content(schema)}
            for status, schema in schemas.items()
        }
        return found | ({"responses": responses} if responses else {})


def _content(schema: Any) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}


def _described(schema: Any, status: str) -> str:
    described = schema.get("description") if isinstance(schema, dict) else None
    return described or ("Successful Response" if status < "300" else f"Status {status}")

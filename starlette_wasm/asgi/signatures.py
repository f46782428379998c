"""What an endpoint declares: to FastAPI its path parameters, to rate limiters and error trackers a name."""

from __future__ import annotations

import inspect
import re
from types import MappingProxyType
from typing import Annotated

from pydantic import BeforeValidator
from starlette.requests import Request
from starlette.responses import Response

from .._compat import fastapi_path

_PARAMETER = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)(?::\w+)?\}")
_Text = Annotated[str, BeforeValidator(str)]
"""Guests get strings, whatever convertor the route has."""


def identifier(function: str) -> str:
    """Return the name of a function, as Python can have it."""
    return re.sub(r"\W", "_", function)


class Declared(inspect.Signature):
    """The signature of an endpoint ``async (request) -> Response`` that declares the path parameters of its route.

    FastAPI asks for the signature while it knows the path, and does not hand it to the endpoint: it is read there.
    """

    def __init__(self) -> None:
        request = inspect.Parameter("request", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=Request)
        super().__init__([request], return_annotation=Response)

    @property
    def parameters(self) -> MappingProxyType[str, inspect.Parameter]:
        kind = inspect.Parameter.KEYWORD_ONLY
        named = {name: inspect.Parameter(name, kind, annotation=_Text) for name in _path_parameters()}
        return MappingProxyType({**super().parameters, **named})


def _path_parameters() -> list[str]:
    """Return the parameters of the path for which FastAPI asks; none if something else does."""
    return list(dict.fromkeys(_PARAMETER.findall(fastapi_path() or "")))

"""The kinds of values that a config is made of, checked with messages that name the hint."""

from __future__ import annotations

import os
import re
from os import PathLike
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, StrictInt, StrictStr

from .names import PatternSyntaxError, check_path_pattern, is_function_name, is_version
from .notation import misspelt_method
from .validation import wrong

TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z", re.ASCII)


def _function_name(name: str) -> str:
    if not is_function_name(name):
        raise wrong(
            "is not a valid function name", "write at most 63 letters, digits and . _ -, a letter or digit first"
        )
    return name


def _version_text(value: object) -> object:
    if isinstance(value, float):
        raise wrong("is a number to YAML, which drops zeros at the end", 'quote the version, such as "1.10"')
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return value


def _version(version: str) -> str:
    if version[:1] in ("v", "V") and version[1:2].isdigit():
        bare = version[1:]
        raise wrong("begins with v, as the folder does", f'write "{bare}", for the folder v{bare}')
    if not is_version(version):
        raise wrong("is not a valid version", 'write letters, digits and . + -, such as "2" or "1.4.0"')
    return version


def _path_pattern(pattern: str) -> str:
    try:
        check_path_pattern(pattern)
    except PatternSyntaxError as error:
        raise wrong(error.problem, error.hint) from None
    return pattern


def _method(method: str) -> str:
    if not TOKEN.match(method):
        raise wrong("is not a valid HTTP method", "use for example GET")
    meant = misspelt_method(method.upper())
    if meant is not None:
        raise wrong("is not a valid HTTP method", f"did you mean {meant}?")
    return method.upper()


def _path(path: object) -> object:
    if isinstance(path, str | PathLike):
        text = os.fspath(path)
        if not text or "\0" in str(text):
            raise wrong("is not a path", "give the path of a directory")
    return path


FunctionName = Annotated[StrictStr, AfterValidator(_function_name)]
Version = Annotated[StrictStr, BeforeValidator(_version_text), AfterValidator(_version)]
PathPattern = Annotated[StrictStr, AfterValidator(_path_pattern)]
Methods = Annotated[list[Annotated[StrictStr, AfterValidator(_method)]], Field(min_length=1)]
Name = Annotated[StrictStr, Field(min_length=1)]
Directory = Annotated[Path, BeforeValidator(_path)]
Percent = Annotated[StrictInt, Field(ge=1, le=100)]
TimeoutMs = Annotated[StrictInt, Field(ge=1, le=86_400_000)]

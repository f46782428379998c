"""Where a value is that must not be in a file of the config."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Annotated

from pydantic import AfterValidator, Discriminator, Field, StrictStr, Tag, model_validator

from .inside import open_regular
from .validation import PLACE, TEXT, FileModel, wrong

_MAX_BYTES = 64 << 10


class SecretUnavailable(Exception):
    """The value of a secret cannot be had: ``place``, ``problem`` and ``hint`` give the cause, without a value."""

    def __init__(self, place: str, problem: str, hint: str) -> None:
        super().__init__(f"{place} {problem}")
        self.place = place
        self.problem = problem
        self.hint = hint


def _absolute(path: str) -> str:
    if not path.startswith("/") or "\0" in path:
        raise wrong("is not an absolute path", "use for example /run/secrets/token")
    return path


class Secret(FileModel):
    """A variable of the host, or a file."""

    from_env: StrictStr | None = Field(default=None, min_length=1, description="Variable of the host.")
    from_file: Annotated[StrictStr, AfterValidator(_absolute)] | None = Field(
        default=None, description="File of the host; a line break at its end does not count."
    )

    @model_validator(mode="after")
    def _one(self) -> Secret:
        if (self.from_env is None) == (self.from_file is None):
            raise wrong("names no place, or two", "write fromEnv or fromFile")
        return self

    @property
    def key(self) -> str:
        """The key that is given."""
        return "fromEnv" if self.from_env is not None else "fromFile"

    @property
    def place(self) -> str:
        """The name of the variable, or the path of the file."""
        return self.from_env or self.from_file or ""

    def reveal(self) -> str:
        """Return the value. Raises SecretUnavailable."""
        place = self.place
        if self.from_env is not None:
            value = os.environ.get(place)
            if value is None:
                raise SecretUnavailable(place, "is not set", "set it in the environment of the server")
            return value
        try:
            with open(place, "rb", opener=open_regular) as stream:
                data = stream.read(_MAX_BYTES + 1)
            text = data.decode()
        except OSError as failure:
            problem = f"cannot be read: {failure.strerror}"
            raise SecretUnavailable(place, problem, "let this user read it") from None
        except UnicodeDecodeError:
            raise SecretUnavailable(place, "is not UTF-8", "store text there") from None
        if len(data) > _MAX_BYTES or "\0" in text:
            hint = "store a value for an environment variable there"
            raise SecretUnavailable(place, "is larger than 64 KiB, or has a NUL character", hint)
        return text.removesuffix("\n").removesuffix("\r")


def _form(value: object) -> str:
    return PLACE if isinstance(value, Mapping | Secret) else TEXT


Chosen = Discriminator(_form)
"""For ``Annotated[Annotated[..., TEXT_FORM] | SecretForm, Chosen]``: a mapping is a secret, all else is to be text."""
TEXT_FORM = Tag(TEXT)
SecretForm = Annotated[Secret, Tag(PLACE)]

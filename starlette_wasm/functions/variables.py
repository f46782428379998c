"""``env`` of ``function.yaml``: fixed values, and secrets of one function, which its policy must grant."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, StrictStr, model_validator

from ..config.loading import FileModel, wrong
from ..config.policy import SandboxPolicy
from ..exceptions import ConfigError

MAX_BYTES = 64 << 10
"""Most bytes of one value."""


def _no_nul(text: str) -> str:
    if "\0" in text:
        raise wrong("has a NUL character", "take it out")
    return text


def _absolute(path: str) -> str:
    if not path.startswith("/") or "\0" in path:
        raise wrong("is not an absolute path", "use for example /run/secrets/token")
    return path


Text = Annotated[StrictStr, AfterValidator(_no_nul)]


class Secret(FileModel):
    """Where a value is that must not be in ``function.yaml``: in a variable of the host, or in a file."""

    from_env: StrictStr | None = Field(default=None, min_length=1, description="Variable of the host.")
    from_file: Annotated[StrictStr, AfterValidator(_absolute)] | None = Field(
        default=None, description="File of the host; a line break at its end does not count."
    )

    @model_validator(mode="after")
    def _one(self) -> Secret:
        if (self.from_env is None) == (self.from_file is None):
            raise wrong("names no place, or two", "write fromEnv or fromFile")
        return self


def values_of(env: Mapping[str, str | Secret], policy: SandboxPolicy, file: Path) -> dict[str, str]:
    """The values of ``env`` in ``file``. Raises ConfigError, which never shows a secret."""
    return {
        name: value if isinstance(value, str) else _reveal(name, value, policy, file) for name, value in env.items()
    }


def fixed(env: Mapping[str, str | Secret]) -> dict[str, str]:
    """The variables that are not secrets."""
    return {name: value for name, value in env.items() if isinstance(value, str)}


def _reveal(name: str, secret: Secret, policy: SandboxPolicy, file: Path) -> str:
    key = "fromEnv" if secret.from_env is not None else "fromFile"
    place = secret.from_env or secret.from_file or ""

    def error(problem: str, hint: str) -> ConfigError:
        return ConfigError(f"{place} {problem}", file=file, key=f"env.{name}.{key}", hint=hint)

    if place not in policy.allowed_secrets:
        raise error(f"is not granted by the policy {policy.name}", "add it to allowedSecrets of the policy")
    if secret.from_env is not None:
        value = os.environ.get(place)
        if value is None:
            raise error("is not set", "set it in the environment of the server")
        return value
    try:
        with open(place, "rb") as stream:
            data = stream.read(MAX_BYTES + 1)
        text = data.decode()
    except OSError as failure:
        raise error(f"cannot be read: {failure.strerror}", "let this user read it") from None
    except UnicodeDecodeError:
        raise error("is not UTF-8", "store text there") from None
    if len(data) > MAX_BYTES or "\0" in text:
        raise error("is larger than 64 KiB, or has a NUL character", "store a value for an environment variable there")
    return text.removesuffix("\n").removesuffix("\r")

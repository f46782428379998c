"""``env`` of ``function.yaml``: fixed values, and secrets of one function, which its policy must grant."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, StrictStr

from ..config.policy import SandboxPolicy
from ..config.secrets import Secret, SecretUnavailable
from ..config.validation import wrong
from ..exceptions import ConfigError


def _no_nul(text: str) -> str:
    if "\0" in text:
        raise wrong("has a NUL character", "take it out")
    return text


Text = Annotated[StrictStr, AfterValidator(_no_nul)]


def values_of(env: Mapping[str, str | Secret], policy: SandboxPolicy, file: Path) -> dict[str, str]:
    """Read the values of ``env`` in ``file``. Raises ConfigError, which never shows a secret."""
    return {
        name: value if isinstance(value, str) else _reveal(name, value, policy, file) for name, value in env.items()
    }


def fixed(env: Mapping[str, str | Secret]) -> dict[str, str]:
    """Return the variables that are not secrets."""
    return {name: value for name, value in env.items() if isinstance(value, str)}


def _reveal(name: str, secret: Secret, policy: SandboxPolicy, file: Path) -> str:
    key = f"env.{name}.{secret.key}"
    if secret.place not in policy.allowed_secrets:
        problem = f"{secret.place} is not granted by the policy {policy.name}"
        raise ConfigError(problem, file=file, key=key, hint="add it to allowedSecrets of the policy")
    try:
        return secret.reveal()
    except SecretUnavailable as error:
        raise ConfigError(str(error), file=file, key=key, hint=error.hint) from None

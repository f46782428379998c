"""``events:`` of ``wasm.yaml``: the webhooks."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, StrictInt, StrictStr, field_validator
from pydantic_core import PydanticCustomError

from ..exceptions import ConfigError
from .error_text import nearest
from .secrets import TEXT_FORM, Chosen, Secret, SecretForm, SecretUnavailable
from .types import TOKEN
from .validation import FileModel, wrong

_SET_BY_US = ("content-type", "content-length", "host", "connection", "transfer-encoding")


class Kind(StrEnum):
    """What happened."""

    CANARY_STARTED = "canary.started"
    CANARY_STEPPED = "canary.stepped"
    CANARY_HELD = "canary.held"
    CANARY_PAUSED = "canary.paused"
    CANARY_RESUMED = "canary.resumed"
    CANARY_PROMOTED = "canary.promoted"
    CANARY_ROLLED_BACK = "canary.rolled-back"
    CANARY_ABORTED = "canary.aborted"
    FUNCTION_UNHEALTHY = "function.unhealthy"
    FUNCTION_HEALTHY = "function.healthy"
    RELOAD_REFUSED = "reload.refused"
    SIGNATURE_REFUSED = "signature.refused"


def http_url(url: str) -> str:
    """Check a URL of a config."""
    try:
        parts = urlsplit(url)
        if parts.scheme in ("http", "https") and parts.hostname:
            return url
    except ValueError:  # half an IPv6 address, for instance
        pass
    raise wrong("is not an http or https URL", "use for example http://gate.internal/canary")


def has_user(url: str) -> bool:
    """Return whether a URL that http_url() takes names a user, even an empty one."""
    return "@" in urlsplit(url).netloc


def _without_user(url: str) -> str:
    if has_user(url):
        raise wrong("has a user or password, which cannot be sent", "use headers, such as authorization")
    return url


def _kind(name: str) -> str:
    known = {each.value for each in Kind} | {f"{each.partition('.')[0]}.*" for each in Kind}
    if name not in known:
        raise wrong("is not a type of event", nearest(name, known))
    return name


def _sendable(text: str) -> str:
    if not text.isascii() or not text.isprintable():
        raise wrong("cannot be sent in a header", "write it in printable ASCII")
    return text


class WebhookConfig(FileModel):
    """An HTTP endpoint that gets a POST for each event."""

    url: Annotated[
        Annotated[StrictStr, AfterValidator(http_url), AfterValidator(_without_user), TEXT_FORM] | SecretForm, Chosen
    ]
    format: Literal["cloudevents", "slack"] = Field(
        default="cloudevents", description="CloudEvents in JSON, or {text: ...} as Slack and others take it."
    )
    types: list[Annotated[StrictStr, AfterValidator(_kind)]] = Field(
        default=[], description="Such as canary.rolled-back or canary.*; none means all."
    )
    headers: dict[
        StrictStr, Annotated[Annotated[StrictStr, AfterValidator(_sendable), TEXT_FORM] | SecretForm, Chosen]
    ] = Field(default={}, description="More headers; values may be secrets.")
    timeout_ms: Annotated[StrictInt, Field(ge=1, le=30_000)] = Field(default=5000, description="Of one attempt.")

    @field_validator("headers")
    @classmethod
    def _names(cls, headers: Mapping[str, str | Secret]) -> Mapping[str, str | Secret]:
        for name in headers:
            if not TOKEN.match(name) or name.lower() in _SET_BY_US:
                raise wrong(f"has {name}, which cannot be set", "use for example authorization")
        return headers

    def wants(self, kind: Kind) -> bool:
        """Return whether events of that kind are sent."""
        return not self.types or kind.value in self.types or f"{kind.partition('.')[0]}.*" in self.types

    def revealed(self, key: str) -> tuple[str, dict[str, str]]:
        """Return the URL and the headers with their secrets. Raises ConfigError, which never shows one."""
        url = _url_of(self.url, f"{key}.url")
        return url, {name: _revealed(value, f"{key}.headers.{name}") for name, value in self.headers.items()}


def _url_of(url: str | Secret, key: str) -> str:
    """Return a URL that may be a secret. Raises ConfigError."""
    found = _revealed(url, key).strip()
    if not _is_plain(found):
        raise ConfigError(
            "is not an http or https URL", key=key, hint="store for example https://hooks.example/services/T000"
        )
    return found


def _is_plain(url: str) -> bool:
    try:
        return _without_user(http_url(url)) == url
    except PydanticCustomError:
        return False


def _revealed(value: str | Secret, key: str) -> str:
    try:
        return value if isinstance(value, str) else value.reveal()
    except SecretUnavailable as error:
        raise ConfigError(str(error), key=key, hint=error.hint) from None

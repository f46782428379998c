"""``tenants:`` of ``wasm.yaml``: for whom functions run, and how much each of them may use."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, Field, StrictFloat, StrictInt, StrictStr

from .validation import FileModel, wrong

OTHERS = "*"
"""The name of the entry for tenants that no other entry names."""
MOST_NAME = 128
_HOST = re.compile(r"(?:\*\.)?[a-z0-9_](?:[a-z0-9._-]{0,251}[a-z0-9_])?|\[[0-9a-f:.]+\]")


def _host(host: str) -> str:
    host = host.lower().rstrip(".")
    if ".." in host or not _HOST.fullmatch(host):
        raise wrong("is not a host", 'write a name without a port, such as a.example or "*.b.example"')
    return host


def _tenant(name: str) -> str:
    if not name.isprintable():
        raise wrong("is not the name of a tenant", "write letters, digits and . _ -")
    return name


Host = Annotated[StrictStr, AfterValidator(_host)]
TenantName = Annotated[StrictStr, Field(min_length=1, max_length=MOST_NAME), AfterValidator(_tenant)]


class TenantConfig(FileModel):
    """A tenant, its hosts, and its quotas; None means no bound."""

    name: TenantName = Field(description="As the app's callable names it; * is for each one that is not listed.")
    hosts: list[Host] = Field(
        default=[], description="Hosts whose requests are this tenant's, if the app has no callable."
    )
    max_concurrency: StrictInt | None = Field(
        default=None, ge=1, description="Requests that run at once, in each process."
    )
    requests_per_minute: StrictInt | None = Field(default=None, ge=1, description="Requests a minute.")
    cpu_seconds_per_minute: StrictInt | StrictFloat | None = Field(
        default=None, gt=0, allow_inf_nan=False, description="CPU seconds of guests a minute."
    )
    max_memory_mb: StrictInt | None = Field(
        default=None, ge=1, description="MiB that the policies of what runs at once in a process allow together."
    )

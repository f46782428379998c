"""Which requests a policy lets out."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address

from ...config.host_patterns import HostPattern
from ..errors import CapabilityError, Code
from .addresses import is_public, is_unicast
from .url import Url


@dataclass(frozen=True, slots=True)
class HttpGrant:
    """What one tenant (a function under a policy) may reach. Nothing kept is used under another grant."""

    patterns: tuple[HostPattern, ...]
    max_requests: int
    allow_private: bool
    tenant: str = ""

    def __bool__(self) -> bool:
        return bool(self.patterns) and self.max_requests > 0

    def check(self, url: Url) -> None:
        """Check the host as it is written. Raises CapabilityError."""
        if not any(pattern.matches(url.scheme, url.host, url.port) for pattern in self.patterns):
            raise _refused(url, f"{url.scheme}://{url.authority} is not in allowedHosts")

    def check_addresses(self, url: Url, addresses: list[str]) -> None:
        """Check all that the host resolves to. Raises CapabilityError.

        The guest cannot distinguish it from a host off the list, and so learns nothing about the inner network.
        """
        allowed = is_unicast if self.allow_private else is_public
        for address in addresses:
            if not allowed(ip_address(address)):
                raise _refused(url, f"{url.host} is at {address}, which is not public")


def _refused(url: Url, detail: str) -> CapabilityError:
    return CapabilityError(Code.HOST_NOT_ALLOWED, f"host not allowed: {url.host}", detail=detail)

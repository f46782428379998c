"""Which addresses are of the public internet."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

Address = IPv4Address | IPv6Address

# IANA's special-purpose registries, written out since ipaddress.is_global differs between releases of Python.
_V4 = tuple(
    map(
        IPv4Network,
        [
            "0.0.0.0/8",
            "10.0.0.0/8",
            "100.64.0.0/10",  # carrier-grade NAT, and metadata of Alibaba Cloud
            "127.0.0.0/8",
            "168.63.129.16/32",  # metadata of Azure, in a public range
            "169.254.0.0/16",
            "172.16.0.0/12",
            "192.0.0.0/24",
            "192.0.2.0/24",
            "192.88.99.0/24",
            "192.168.0.0/16",
            "198.18.0.0/15",
            "198.51.100.0/24",
            "203.0.113.0/24",
            "224.0.0.0/4",
            "240.0.0.0/4",
        ],
    )
)
_V6_GLOBAL = IPv6Network("2000::/3")
_V6 = tuple(map(IPv6Network, ["2001::/23", "2001:db8::/32", "3fff::/20"]))
_NAT64 = IPv6Network("64:ff9b::/96")


def is_public(address: Address) -> bool:
    """Return whether an address is global unicast. One that stands for IPv4 addresses is if all of those are."""
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _V4)
    if address.scope_id is not None:
        return False
    if inner := embedded(address):
        return all(map(is_public, inner))
    return address in _V6_GLOBAL and not any(address in network for network in _V6)


def is_unicast(address: Address) -> bool:
    """Return whether one could connect to it at all; if not, ``allowPrivateNetworks`` does not permit it either."""
    if isinstance(address, IPv6Address) and (inner := embedded(address)):
        return all(map(is_unicast, inner))
    if isinstance(address, IPv4Address):
        return 0x01000000 <= int(address) < 0xE0000000
    return not address.is_multicast and not address.is_unspecified


def embedded(address: IPv6Address) -> tuple[IPv4Address, ...]:
    """Return the IPv4 addresses that packets for ``address`` end at: mapped, NAT64, 6to4, or Teredo with its server."""
    if address.ipv4_mapped:
        return (address.ipv4_mapped,)
    if address in _NAT64:
        return (IPv4Address(int(address) & 0xFFFFFFFF),)
    if address.sixtofour:
        return (address.sixtofour,)
    return address.teredo or ()

"""WASI 0.2 and 0.3 for components: what the host offers, interface by interface."""

from . import (
    bodies,
    cli,
    cli3,
    client3,
    config,
    edge,
    fields,
    filesystem,
    filesystem3,
    http,
    http3,
    keyvalue,
    outgoing,
    streams,
)
from .grants import asks_host, opens_files
from .offers import Offer, find_offers

__all__ = [
    "Offer",
    "asks_host",
    "bodies",
    "cli",
    "cli3",
    "client3",
    "config",
    "edge",
    "fields",
    "filesystem",
    "filesystem3",
    "find_offers",
    "http",
    "http3",
    "keyvalue",
    "opens_files",
    "outgoing",
    "streams",
]

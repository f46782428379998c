"""WASI 0.2 for components: what the host offers, interface by interface."""

from . import bodies, cli, config, edge, fields, http, keyvalue, outgoing, streams
from .grants import asks_host, opens_files
from .offers import Offer, find_offers

__all__ = [
    "Offer",
    "asks_host",
    "bodies",
    "cli",
    "config",
    "edge",
    "fields",
    "find_offers",
    "http",
    "keyvalue",
    "opens_files",
    "outgoing",
    "streams",
]

"""WASI 0.2 for components: what the host offers, interface by interface."""

from . import bodies, cli, edge, fields, http, outgoing, streams
from .edge import EDGE_HOST
from .offers import Offer, find_offers

__all__ = ["EDGE_HOST", "Offer", "bodies", "cli", "edge", "fields", "find_offers", "http", "outgoing", "streams"]

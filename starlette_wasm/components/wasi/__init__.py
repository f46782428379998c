"""WASI 0.2 for components: what the host offers, interface by interface."""

from . import cli, edge, http, streams
from .edge import EDGE_HOST
from .offers import Offer, find_offers

__all__ = ["EDGE_HOST", "Offer", "cli", "edge", "find_offers", "http", "streams"]

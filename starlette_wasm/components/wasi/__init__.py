"""WASI 0.2 for components: what the host offers, interface by interface."""

from . import cli, http, streams
from .offers import Offer, find_offers

__all__ = ["Offer", "cli", "find_offers", "http", "streams"]

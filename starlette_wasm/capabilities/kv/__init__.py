"""Key/value stores for guests."""

from .actions import KvActions, KvGrant
from .backends import open_store
from .store import MAX_KEY_BYTES, MAX_LIST, MAX_VALUE_BYTES, Store, etag

__all__ = [
    "MAX_KEY_BYTES",
    "MAX_LIST",
    "MAX_VALUE_BYTES",
    "KvActions",
    "KvGrant",
    "Store",
    "etag",
    "open_store",
]

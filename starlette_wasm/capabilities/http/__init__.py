"""HTTP requests of guests."""

from .addresses import is_public
from .fetch import HttpFetch
from .grant import HttpGrant
from .messages import Attempt, Incoming, Observer, Request, Upload
from .resolve import Resolver, resolve
from .url import Url, UrlError

__all__ = [
    "Attempt",
    "HttpFetch",
    "HttpGrant",
    "Incoming",
    "Observer",
    "Request",
    "Resolver",
    "Upload",
    "Url",
    "UrlError",
    "is_public",
    "resolve",
]

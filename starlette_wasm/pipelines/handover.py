"""From one step's response to the next one's request."""

from __future__ import annotations

from ..messages import EdgeRequest, EdgeResponse, join

# Headers for a client or a cache that mean nothing, or something else, in a request. Hop-by-hop headers
# and content-length have been dropped when the response was decoded.
_NOT_PASSED = frozenset(
    {
        *("accept-ranges", "age", "allow", "alt-svc", "cache-control", "clear-site-data", "date", "etag", "expires"),
        *("last-modified", "location", "refresh", "retry-after", "server", "set-cookie", "strict-transport-security"),
        *("vary", "www-authenticate"),
    }
)
# What a step cannot change for those after it.
_OF_THE_CLIENT = ("host", "idempotency-key", "traceparent", "tracestate", "x-region", "x-request-id")


def hand_over(client: EdgeRequest, request_id: str, response: EdgeResponse) -> EdgeRequest:
    """Make what the next step gets: body and headers of ``response``, all else of the client's request."""
    headers = {"x-request-id": request_id}
    headers |= {name: client.headers[name] for name in _OF_THE_CLIENT if name in client.headers}
    repeated: dict[str, list[str]] = {}
    for name, value in response.headers.items():
        if name in _NOT_PASSED or name in _OF_THE_CLIENT:
            continue
        if isinstance(value, list):
            repeated[name] = value
            value = join(name, value)
        headers[name] = value
    empty = not response.body or response.status_code in (204, 205)
    return EdgeRequest(
        path=client.path,
        method=client.method,
        headers=headers,
        query=client.query,
        body=None if empty else response.body,
        is_base64_encoded=response.is_base64_encoded and not empty,
        params=client.params,
        url=client.url,
        multi_value_headers=repeated,
        multi_value_query=client.multi_value_query,
        raw_path=client.raw_path,
        mount=client.mount,
    )

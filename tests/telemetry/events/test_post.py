"""One POST to an endpoint."""

from __future__ import annotations

import asyncio

import pytest

from starlette_wasm.telemetry.events import post
from starlette_wasm.telemetry.events.post import Poster, PostFailed


def test_posts_without_a_thread_give_their_places_back(monkeypatch: pytest.MonkeyPatch) -> None:
    async def no_thread(work: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(post, "in_own_thread", no_thread)
    poster = Poster("http://127.0.0.1:1/", {}, 1.0)

    async def main() -> None:
        for _ in range(10):
            with pytest.raises(PostFailed, match="cannot be sent: can't start new thread"):
                await poster.post({}, "application/json")

    asyncio.run(main())


def test_a_document_that_is_not_json_takes_no_place() -> None:
    poster = Poster("http://127.0.0.1:1/", {}, 1.0)

    async def main() -> None:
        for _ in range(10):
            with pytest.raises(TypeError):
                await poster.post({"a": object()}, "application/json")

    asyncio.run(main())

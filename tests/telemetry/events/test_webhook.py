"""Webhooks, to a real server: what they send, how often they try, and that nothing waits for them."""

from __future__ import annotations

import asyncio
import logging
import time
from datetime import UTC, datetime
from typing import Any

import pytest
from apps import eventually, run
from webhooks import Receiver

from starlette_wasm.config.events import Kind, WebhookConfig
from starlette_wasm.telemetry.events import webhook as webhook_module
from starlette_wasm.telemetry.events.event import Event
from starlette_wasm.telemetry.events.events import Events
from starlette_wasm.telemetry.events.webhook import Webhook

EVENT = Event(Kind.CANARY_STEPPED, "v2 <b> & more", "f", {"percent": 30}, "an-id", datetime(2030, 1, 2, tzinfo=UTC))


def webhook(receiver: Receiver, **keys: Any) -> Webhook:
    made = Webhook("events[0]", WebhookConfig(url=receiver.url, **keys), "/starlette-wasm/ap/node")
    made.first_pause = 0.01
    return made


async def told(webhook: Webhook, *events: Event) -> None:
    for event in events:
        webhook.put(event)
    await webhook.close(30)


def test_an_event_is_a_cloudevent(receiver: Receiver) -> None:
    run(told(webhook(receiver), EVENT))
    [(headers, document)] = receiver.got
    assert headers["content-type"] == "application/cloudevents+json"
    assert document == {
        "specversion": "1.0",
        "id": "an-id",
        "source": "/starlette-wasm/ap/node",
        "type": "starlette-wasm.canary.stepped",
        "subject": "f",
        "time": "2030-01-02T00:00:00.000+00:00",
        "datacontenttype": "application/json",
        "data": {"function": "f", "text": "v2 <b> & more", "percent": 30},
    }


def test_slack_gets_escaped_text(receiver: Receiver) -> None:
    run(told(webhook(receiver, format="slack"), EVENT))
    [(headers, document)] = receiver.got
    assert headers["content-type"] == "application/json"
    assert document == {"text": "v2 &lt;b&gt; &amp; more (/starlette-wasm/ap/node)"}


def test_secrets_are_sent_and_never_shown(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("HOOK_URL", f"{receiver.url}/s3cret")
    monkeypatch.setenv("HOOK_TOKEN", "Bearer s3cret")
    config = WebhookConfig(url={"fromEnv": "HOOK_URL"}, headers={"authorization": {"fromEnv": "HOOK_TOKEN"}})
    made = Webhook("events[0]", config, "here")
    receiver.answers = [404]
    run(told(made, EVENT))
    assert receiver.got[0][0]["authorization"] == "Bearer s3cret"
    assert made.problem == "answered 404"
    assert "events[0] (127.0.0.1): an event is lost: answered 404" in caplog.text
    assert "s3cret" not in caplog.text + made.name


def test_what_may_work_later_is_tried_again(receiver: Receiver) -> None:
    receiver.answers = [500, 429]
    made = webhook(receiver)
    run(told(made, EVENT))
    assert (len(receiver.got), made.dropped, made.problem) == (3, 0, None)


def test_what_stays_wrong_is_given_up(receiver: Receiver) -> None:
    receiver.answers = [503] * 5 + [400, 204]
    made = webhook(receiver)
    run(told(made, EVENT, EVENT, EVENT))
    assert (len(receiver.got), made.dropped, made.problem) == (7, 2, None)


def test_the_pause_that_an_answer_asks_for_is_kept(receiver: Receiver) -> None:
    receiver.answers, receiver.headers = [503], {"retry-after": "1"}
    begin = time.monotonic()
    run(told(webhook(receiver), EVENT))
    assert len(receiver.got) == 2
    assert time.monotonic() - begin >= 1


def test_a_redirect_is_not_followed(receiver: Receiver) -> None:
    receiver.answers, receiver.headers = [302], {"location": "/elsewhere"}
    made = webhook(receiver)
    run(told(made, EVENT))
    assert (len(receiver.got), made.problem) == (1, "answered 302")


def test_nobody_there_is_an_answer_too(receiver: Receiver) -> None:
    made = Webhook("events[0]", WebhookConfig(url="http://127.0.0.1:1/"), "here")
    made.first_pause = 0.01
    run(told(made, EVENT))
    assert made.problem == "did not answer: ConnectionRefusedError"


def test_each_function_has_a_share_of_what_waits(receiver: Receiver) -> None:
    receiver.hangs = True
    made = webhook(receiver)

    async def main() -> None:
        for number in range(60):
            made.put(Event(Kind.FUNCTION_UNHEALTHY, str(number), "noisy"))
        for _ in range(3):
            made.put(Event(Kind.FUNCTION_UNHEALTHY, "quiet", "quiet"))
        assert made.dropped == 40
        receiver.hangs = False
        receiver.hanging.set()
        await made.close(30)

    run(main())
    subjects = [document["subject"] for document in receiver.documents]
    assert subjects.count("quiet") == 3
    assert subjects.count("noisy") == 20
    assert "quiet" in subjects[:3]


def test_one_of_each_function_may_wait(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many functions others have."""
    monkeypatch.setattr(webhook_module, "_MOST", 10)
    receiver.hangs = True
    made = webhook(receiver)

    async def main() -> None:
        for number in range(5):
            for _ in range(3):
                made.put(Event(Kind.FUNCTION_UNHEALTHY, "noisy", f"noisy{number}"))
        assert made.dropped == 4  # of 15: ten, and one of the last function, which had none
        made.put(Event(Kind.FUNCTION_UNHEALTHY, "quiet", "quiet"))
        assert made.dropped == 4
        receiver.hangs = False
        receiver.hanging.set()
        await made.close(30)

    run(main())
    assert "quiet" in [document["subject"] for document in receiver.documents]


def test_a_hanging_endpoint_holds_up_nobody(receiver: Receiver, caplog: pytest.LogCaptureFixture) -> None:
    receiver.hangs = True
    caplog.set_level(logging.INFO, "starlette_wasm")

    async def main() -> None:
        events = Events()
        events.configure([WebhookConfig(url=receiver.url), WebhookConfig(url=f"{receiver.url}?2")], "ap")
        events.emit(EVENT)
        begin = time.monotonic()
        await asyncio.sleep(0)
        await events.close()
        assert time.monotonic() - begin < 50  # the endpoint hangs for longer

    run(main())
    assert "1 events are not sent: the app ends" in caplog.text
    [record] = [each for each in caplog.records if each.name == "starlette_wasm.events"]
    assert vars(record)["event.name"] == "canary.stepped"
    assert record.getMessage() == "canary.stepped: v2 <b> & more"


def test_another_config_keeps_what_is_the_same(receiver: Receiver) -> None:
    async def main() -> None:
        events = Events()
        same, other = WebhookConfig(url=receiver.url, types=["canary.*"]), WebhookConfig(url="http://127.0.0.1:1/")
        events.configure([other, same], "")
        kept = events._webhooks[1]
        events.configure([same], "")
        assert events._webhooks == [kept]
        events.emit(Event(Kind.FUNCTION_HEALTHY, "not wanted", "f"))
        events.emit(EVENT)
        await eventually(lambda: receiver.got, within=30)
        assert events.notes == []
        kept.problem = "answered 500"
        assert events.notes == ["events[1] (127.0.0.1): answered 500; 0 events were lost"]
        await events.close()

    run(main())
    assert receiver.types == ["canary.stepped"]


@pytest.mark.parametrize(
    "answer", [b"garbage\r\n\r\n", b"HTTP/1.1 9\xff\r\n\r\n", b"", b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 200]
)
def test_what_speaks_no_http_is_tried_and_given_up(answer: bytes) -> None:
    async def main() -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        made = Webhook("events[0]", WebhookConfig(url=f"http://127.0.0.1:{port}/"), "here")
        made.first_pause = 0.01
        await told(made, EVENT, EVENT)
        assert made.dropped == 2
        assert made.problem is not None
        assert made.problem.startswith("did not answer: ")
        server.close()
        await server.wait_closed()

    run(main())


def test_an_error_of_ours_ends_no_webhook(receiver: Receiver, caplog: pytest.LogCaptureFixture) -> None:
    made = webhook(receiver)
    run(told(made, Event(Kind.CANARY_STEPPED, "text", "f", {"percent": object()}), EVENT))
    assert (len(receiver.got), made.dropped) == (1, 1)
    assert "events[0] (127.0.0.1): an event is lost" in caplog.text

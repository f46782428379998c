"""``Events``: sends what happens in one runtime to the log and to the webhooks of its config."""

from __future__ import annotations

import asyncio
import logging
import os
import platform
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ...config.events import WebhookConfig
from ...exceptions import ConfigError
from .event import Event

if TYPE_CHECKING:
    from .webhook import Webhook

logger = logging.getLogger("starlette_wasm.events")

_CLOSING_SECONDS = 1.0


def check(configs: Sequence[WebhookConfig]) -> None:
    """Raise ConfigError for a secret that cannot be had."""
    for number, config in enumerate(configs):
        config.revealed(f"events[{number}]")


class Events:
    """Sends events, on one event loop. Nothing waits for a webhook, and none for another."""

    def __init__(self) -> None:
        self._webhooks: list[Webhook] = []
        self._gone: set[asyncio.Task[None]] = set()

    def configure(self, configs: Sequence[WebhookConfig], region: str) -> None:
        """Send to these from now on; what is the same as before goes on."""
        source = f"/starlette-wasm/{region or '-'}/{platform.node()}"
        before, self._webhooks = self._webhooks, []
        for number, config in enumerate(configs):
            known = next((each for each in before if each.config == config), None)
            if known is not None:
                before.remove(known)
                self._webhooks.append(known)
                continue
            try:
                from .webhook import Webhook  # with it urllib, which most apps do without

                self._webhooks.append(Webhook(f"events[{number}]", config, source))
            except ConfigError as error:  # it was there when the config was checked
                logger.error("no events are sent: %s", error)
        for webhook in before:
            task = asyncio.get_running_loop().create_task(webhook.close(_CLOSING_SECONDS))
            self._gone.add(task)
            task.add_done_callback(self._gone.discard)

    def emit(self, event: Event) -> None:
        """Send an event. Raises nothing, and waits for nothing."""
        attributes = {"event.name": event.kind.value, "event.id": event.id, "function": event.function}
        logger.info("%s: %s", event.kind.value, event.text, extra={**attributes, "pid": os.getpid()})
        for webhook in self._webhooks:
            if webhook.config.wants(event.kind):
                webhook.put(event)

    @property
    def notes(self) -> list[str]:
        """What the operator should know."""
        return [
            f"{webhook.name}: {webhook.problem}; {webhook.dropped} events were lost"
            for webhook in self._webhooks
            if webhook.problem is not None
        ]

    async def close(self) -> None:
        """Send what waits, within a second."""
        webhooks, self._webhooks = self._webhooks, []
        await asyncio.gather(*(webhook.close(_CLOSING_SECONDS) for webhook in webhooks), *self._gone)

    def forget(self) -> None:
        """Forget, in a forked child, what waits: it is the parent's to send."""
        self._webhooks, self._gone = [], set()

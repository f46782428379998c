"""The shop of ``docs/tenants.md``: its customers bring functions, and attackers bring tokens."""

from __future__ import annotations

import asyncio
import base64
import re
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from apps import add_constant, client, run
from starlette.applications import Starlette

from starlette_wasm.functions.catalog import Catalog

PAGE = Path(__file__).parents[3] / "docs" / "tenants.md"
TOKENS = {name: name.lower().ljust(32, "-") for name in ("ACME_TOKEN", "GLOBEX_TOKEN", "AUDITOR_TOKEN")}
KEYS = {"ACME_KEY": "a-key", "GLOBEX_KEY": "g-key"}
ACME, GLOBEX = {"x-shop-key": "a-key"}, {"x-shop-key": "g-key"}


def block(name: str, language: str) -> str:
    """The file of that name in the page."""
    [text] = re.findall(rf"```{language}\n# {re.escape(name)}\n(.*?)```", PAGE.read_text(), re.DOTALL)
    return str(text)


def module(folder: Path, answer: str) -> bytes:
    add_constant(folder / answer, "made", b'{"status_code": 200, "body": "%s"}' % answer.encode())
    return (folder / answer / "functions/made/v1/made.wasm").read_bytes()


class Shop:
    def __init__(self, app: Starlette, http: httpx.AsyncClient, folder: Path) -> None:
        self.app = app
        self.http = http
        self.folder = folder

    async def admin(self, method: str, path: str, token: str = "", **given: Any) -> httpx.Response:
        bearer = TOKENS.get(f"{token}_TOKEN", token)
        headers = {"authorization": f"Bearer {bearer}", **given.pop("headers", {})}
        return await self.http.request(method, f"/admin{path}", headers=headers, **given)

    async def upload(self, name: str, version: str, content: bytes, token: str) -> httpx.Response:
        headers = {"content-type": "application/wasm"}
        path = f"/functions/{name}/versions/{version}"
        return await self.admin("PUT", path, token, content=content, headers=headers)

    async def state(self) -> tuple[Any, ...]:
        """All that an attacker may want to change."""
        shown = [(await self.admin("GET", path, "AUDITOR")).json() for path in ("/routes", "/canaries", "/circuits")]
        versions = {key: function for name in ("acme", "globex") for key, function in self._files(name).items()}
        return versions, *shown

    def _files(self, tenant: str) -> dict[str, bytes]:
        catalog = Catalog(self.folder / "functions")
        name = f"{tenant}-prices"
        return {f"{name} {each}": catalog.get(name, each).file.read_bytes() for each in catalog.versions(name)}


@asynccontextmanager
async def opened(folder: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Shop]:
    for tenant in ("acme", "globex"):
        add_constant(folder, f"{tenant}-prices", b'{"status_code": 200, "body": "%s v0"}' % tenant.encode(), "0")
    (folder / "wasm.yaml").write_text(block("wasm.yaml", "yaml"))
    monkeypatch.chdir(folder)
    for name, value in {**TOKENS, **KEYS, "STARLETTE_WASM_CANARY_URL": "sqlite://"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("STARLETTE_WASM_CACHE_DIR", str(folder / "aot"))
    page: dict[str, Any] = {}
    exec(compile(block("shop.py", "python"), "shop.py", "exec"), page)
    app: Starlette = page["app"]
    async with app.router.lifespan_context(app), client(app) as http:
        yield Shop(app, http, folder)
        runtime = await _runtime(app)
        await runtime.close()


async def _runtime(app: Starlette) -> Any:
    found: Any = app.middleware_stack
    while not hasattr(found, "runtime"):
        found = found.app
    return found.runtime


def test_a_customer_uploads_and_is_served_under_the_quota(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with opened(tmp_path, monkeypatch) as shop:
            assert (await shop.http.get("/prices", headers=ACME)).text == "acme v0"
            assert (await shop.http.get("/prices")).status_code == 404
            taken = await shop.upload("acme-prices", "1", module(tmp_path, "acme v1"), "ACME")
            assert taken.status_code == 201, taken.text
            seen: Counter[str] = Counter()
            while not seen["429"]:
                answer = await shop.http.get("/prices", headers=ACME)
                seen[answer.text if answer.status_code == 200 else str(answer.status_code)] += 1
                await asyncio.sleep(0)
            assert seen["acme v1"] >= 9
            assert answer.json()["type"] == "tenant-limited"
            assert int(answer.headers["retry-after"]) <= 6
            assert (await shop.http.get("/prices", headers=GLOBEX)).text == "globex v0"
            tenants = (await shop.admin("GET", "/tenants", "AUDITOR")).json()["tenants"]
            assert [(each["name"], each["limited"]) for each in tenants] == [
                ("acme", {"requestsPerMinute": 1}),
                ("globex", {}),
            ]
            [fault] = (await shop.admin("GET", "/faults", "ACME")).json()["faults"]
            assert (fault["function"], fault["error"]) == ("acme-prices", "tenant-limited")
            assert not (await shop.admin("GET", "/faults", "GLOBEX")).json()["faults"]

    run(main())


def test_another_tenants_function_is_denied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with opened(tmp_path, monkeypatch) as shop:
            assert (await shop.http.get("/prices", headers=GLOBEX)).text == "globex v0"
            before = await shop.state()
            evil = module(tmp_path, "evil")
            for name in ("globex-prices", "globex-new", "acme", "other"):
                assert (await shop.upload(name, "9", evil, "ACME")).status_code == 403, name
            for path in ("/functions/globex-prices", "/functions/globex-prices/log", "/tenants", "/audit", "/stores"):
                assert (await shop.admin("GET", path, "ACME")).status_code == 403, path
            listed = (await shop.admin("GET", "/functions", "ACME")).json()["functions"]
            assert [each["name"] for each in listed] == ["acme-prices"]
            assert (await shop.upload("acme-prices", "0", evil, "ACME")).status_code == 409
            assert await shop.state() == before
            assert (await shop.http.get("/prices", headers=GLOBEX)).text == "globex v0"

    run(main())


def test_another_tenants_function_is_not_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would run under its own policy, for whoever imports it."""

    async def main() -> None:
        async with opened(tmp_path, monkeypatch) as shop:
            await shop.http.get("/prices", headers=ACME)
            content = base64.b64encode(module(tmp_path, "acme v1")).decode()
            for name, status in (("globex-prices", 403), ("acme-other", 422)):
                manifest = f"imports: {{'a:b/c': {{function: {name}}}}}"
                body = {"module": content, "manifest": manifest}
                answer = await shop.admin("PUT", "/functions/acme-prices/versions/1", "ACME", json=body)
                assert answer.status_code == status, answer.text
            assert "globex" not in answer.text

    run(main())


def test_a_token_that_may_read_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with opened(tmp_path, monkeypatch) as shop:
            await shop.http.get("/prices", headers=ACME)
            before = await shop.state()
            paths = (await shop.admin("GET", "/openapi.json")).json()["paths"]
            tried = 0
            for path, operations in paths.items():
                for method in operations.keys() & {"post", "put", "delete", "patch"}:
                    for action in ("start", "promote", "abort"):
                        place = path.replace("{name}", "acme-prices").replace("{action}", action)
                        place = place.replace("{version}", "7")
                        answer = await shop.admin(method.upper(), place, "AUDITOR", content=b"{}")
                        assert answer.status_code == 403, (method, place)
                        tried += 1
            assert tried >= 15
            for method in ("POST", "PUT", "DELETE", "PATCH"):  # what reads is not made to act by another method
                assert (await shop.admin(method, "/functions", "AUDITOR")).status_code == 405
            assert await shop.state() == before

    run(main())


def test_a_thousand_wrong_tokens_take_nothing_from_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is counted: answers. Each of the others gets one, and what wrong tokens cost besides theirs is bounded."""

    async def main() -> None:
        async with opened(tmp_path, monkeypatch) as shop:
            await shop.http.get("/prices", headers=ACME)
            wrong = [asyncio.create_task(shop.admin("GET", "/functions", f"wrong-{number}")) for number in range(1000)]
            right = [asyncio.create_task(shop.admin("GET", "/functions", "AUDITOR")) for _ in range(50)]
            served = [asyncio.create_task(shop.http.get("/prices", headers=GLOBEX)) for _ in range(8)]
            others = [each.status_code for each in await asyncio.gather(*right, *served)]
            assert others == [200] * 58
            answers = Counter(each.status_code for each in await asyncio.gather(*wrong))
            assert answers.keys() == {401, 429}
            entries = (await shop.admin("GET", "/audit", "AUDITOR")).json()["entries"]
            refused = [each for each in entries if each["status"] == 401]
            assert len(refused) == min(answers[401], len(entries))  # those that were slowed down fill no log
            assert {each["status"] for each in entries} == {401}

    run(main())

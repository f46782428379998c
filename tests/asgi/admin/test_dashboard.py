"""The dashboard's pages as a client of HTTP sees them: who gets in, what they load, what they show to whom."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from apps import GUESTS, add_constant, add_function, config, run, settings
from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.middleware import Middleware
from test_admin import ALL, READ, TENANT, TOKENS, bearer

from starlette_wasm import (
    AdminIdentity,
    AdminToken,
    SandboxPolicy,
    WasmMiddleware,
    WasmRuntime,
    wasm_admin,
)
from starlette_wasm.asgi.admin.dashboard.policy_words import in_plain_words
from starlette_wasm.asgi.admin.dashboard.render import points
from starlette_wasm.asgi.admin.history import SLOT_SECONDS, SLOTS, History
from starlette_wasm.runtime import nodes

PAGES = [
    "",
    "ui/functions/hello",
    "ui/canaries",
    "ui/pipelines",
    "ui/routes",
    "ui/tenants",
    "ui/nodes",
    "ui/faults",
    "ui/audit",
]


class Place:
    """An app with the dashboard, and a browser without scripts: a client that keeps cookies."""

    def __init__(
        self,
        folder: Path,
        rules: Any = None,
        *,
        base: str = "http://test",
        env: Any = None,
        given: Any = None,
        **admin: Any,
    ) -> None:
        add_function(folder, "hello")
        made = config(folder, rules or {"/hello": "hello"}) | (given or {})
        self.runtime = WasmRuntime(made, settings(reload_interval_ms=0, **(env or {})))
        mount = wasm_admin(**{"tokens": TOKENS, **admin})
        app = Starlette(routes=[mount], middleware=[Middleware(WasmMiddleware, runtime=self.runtime)])
        self.http = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=base)

    async def __aenter__(self) -> Place:
        await self.runtime.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.http.aclose()
        await self.runtime.close()

    async def get(self, path: str, **given: Any) -> httpx.Response:
        return await self.http.get(f"/admin/{path}", **given)

    async def log_in(self, token: str, **given: Any) -> httpx.Response:
        return await self.http.post("/admin/ui/login", data={"token": token}, **given)


def test_pages_ask_for_a_token_first(tmp_path: Path) -> None:
    async def main() -> None:
        async with Place(tmp_path) as place:
            for page in PAGES[:6]:  # more would be slowed down
                answer = await place.get(page)
                assert answer.status_code == 401
                assert 'type="password"' in answer.text
                assert "hello" not in answer.text
            wrong = await place.log_in("w" * 32)
            assert wrong.status_code == 401
            assert "not known" in wrong.text
            assert "set-cookie" not in wrong.headers
            right = await place.log_in(ALL)
            assert right.status_code == 303
            assert right.headers["location"] == "/admin/"
            for page in PAGES:
                assert (await place.get(page)).status_code == 200, page
            assert (await place.http.post("/admin/ui/logout")).status_code == 303
            assert (await place.get("")).status_code == 401

    run(main())


@pytest.mark.parametrize(("base", "secure"), [("http://test", False), ("https://test", True)])
def test_the_cookie_is_out_of_reach_of_scripts_and_sites(tmp_path: Path, base: str, secure: bool) -> None:
    async def main() -> None:
        async with Place(tmp_path, base=base) as place:
            cookie = (await place.log_in(ALL)).headers["set-cookie"].lower()
            assert "httponly" in cookie
            assert "samesite=strict" in cookie
            assert "path=/admin" in cookie
            assert ("; secure" in cookie) is secure
            assert cookie.startswith("__secure-starlette_wasm_admin=" if secure else "starlette_wasm_admin=")
            assert (await place.get("")).status_code == 200
            out = (await place.http.post("/admin/ui/logout")).headers["set-cookie"].lower()
            assert ("; secure" in out) is secure  # browsers take back such a cookie only so
            assert (await place.get("")).status_code == 401

    run(main())


def test_links_of_other_sites_are_followed_again(tmp_path: Path) -> None:
    """A browser sends the cookie with what the page itself asks for, and not with a link from elsewhere."""

    async def main() -> None:
        async with Place(tmp_path) as place:
            navigation = {"sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}
            foreign = await place.http.get("/admin/", headers=navigation | {"sec-fetch-site": "cross-site"})
            assert foreign.status_code == 200
            assert '<meta http-equiv="refresh" content="0">' in foreign.text
            own = await place.http.get("/admin/", headers=navigation | {"sec-fetch-site": "same-origin"})
            assert own.status_code == 401
            assert "refresh" not in own.text
            await place.log_in(ALL)
            assert (await place.http.get("/admin/", headers=navigation)).status_code == 200

    run(main())


def test_every_page_loads_from_its_own_host_alone(tmp_path: Path) -> None:
    async def main() -> None:
        async with Place(tmp_path) as place:
            await place.log_in(ALL)
            for page in [*PAGES, "ui/static/dashboard.js", "ui/functions/unknown"]:
                answer = await place.get(page)
                policy = answer.headers["content-security-policy"]
                assert "default-src 'none'" in policy
                assert "unsafe" not in policy
                assert "frame-ancestors 'none'" in policy
                assert answer.headers["x-content-type-options"] == "nosniff"
                for forbidden in ("<style", " style=", "<script>", " onclick", "//cdn"):
                    assert forbidden not in answer.text, (page, forbidden)
            assert (await place.get("ui/static/..%2froutes.py")).status_code == 404

    run(main())


@pytest.mark.parametrize(
    "headers",
    [{"sec-fetch-site": "cross-site"}, {"origin": "http://evil.example"}, {"sec-fetch-site": "same-site"}],
)
def test_another_site_logs_nobody_in_or_out(tmp_path: Path, headers: dict[str, str]) -> None:
    async def main() -> None:
        async with Place(tmp_path) as place:
            assert (await place.log_in(ALL, headers=headers)).status_code == 403
            await place.log_in(ALL)
            assert (await place.http.post("/admin/ui/logout", headers=headers)).status_code == 403
            assert (await place.get("")).status_code == 200

    run(main())


def test_the_cookie_acts_with_the_header_of_its_own_pages_only(tmp_path: Path) -> None:
    async def main() -> None:
        async with Place(tmp_path) as place:
            await place.log_in(ALL)
            assert (await place.http.post("/admin/reload")).status_code == 403
            own = {"x-wasm-admin": "dashboard", "sec-fetch-site": "same-origin", "origin": "http://test"}
            assert (await place.http.post("/admin/reload", headers=own)).status_code == 200
            foreign = own | {"origin": "http://evil.example"}
            assert (await place.http.post("/admin/reload", headers=foreign)).status_code == 403

    run(main())


def test_guesses_are_slowed_down_and_right_tokens_are_not(tmp_path: Path) -> None:
    async def main() -> None:
        async with Place(tmp_path) as place:
            statuses = [(await place.log_in("w" * 32)).status_code for _ in range(30)]
            assert statuses[0] == 401
            assert statuses[-1] == 429
            assert (await place.log_in(ALL)).status_code == 303

    run(main())


@pytest.mark.parametrize(
    ("body", "status"), [(b"token=" + b"x" * 5000, 413), (b"token=%ff\xff", 422), (b"a=1&" * 20, 422), (b"", 401)]
)
def test_a_form_that_is_not_one_is_refused(tmp_path: Path, body: bytes, status: int) -> None:
    async def main() -> None:
        async with Place(tmp_path) as place:
            assert (await place.http.post("/admin/ui/login", content=body)).status_code == status

    run(main())


def test_a_tenant_sees_pages_of_its_own_functions(tmp_path: Path) -> None:
    add_constant(tmp_path, "shop-a", b'{"status_code": 200, "body": "a"}')

    async def main() -> None:
        async with Place(tmp_path, {"/hello": "hello", "/a": "shop-a"}) as place:
            await place.log_in(TENANT)
            page = await place.get("")
            assert "shop-a" in page.text
            assert "hello" not in page.text
            assert "Reload" not in page.text
            assert (await place.get("ui/functions/shop-a")).status_code == 200
            for other in ("ui/functions/hello", "ui/audit", "ui/tenants", "ui/nodes"):
                refused = await place.get(other)
                assert refused.status_code == 403
                assert "not granted" in refused.text
            assert "hello" not in (await place.get("ui/routes")).text

    run(main())


def test_a_reader_is_offered_no_actions(tmp_path: Path) -> None:
    async def main() -> None:
        async with Place(tmp_path) as place:
            await place.log_in(READ)
            for page in PAGES:
                assert "data-method" not in (await place.get(page)).text
            await place.log_in(ALL)
            assert 'data-path="/reload"' in (await place.get("")).text

    run(main())


def test_the_session_of_an_app_lets_its_users_in(tmp_path: Path) -> None:
    def authorize(request: Any) -> AdminIdentity | None:
        return AdminIdentity("ann", ["read"]) if request.headers.get("x-user") == "ann" else None

    async def main() -> None:
        async with Place(tmp_path, tokens=(), authorize=authorize) as place:
            stranger = await place.get("")
            assert stranger.status_code == 401
            assert "Log in to the application first" in stranger.text
            assert "password" not in stranger.text
            assert (await place.log_in(ALL)).status_code == 401
            page = await place.get("", headers={"x-user": "ann"})
            assert "ann" in page.text
            assert "Log out" not in page.text

    run(main())


def test_what_a_guest_writes_is_text_on_a_page(tmp_path: Path) -> None:
    hostile = '<img src=x onerror="alert(1)">'
    add_constant(tmp_path, "shop-a", hostile.encode())

    async def main() -> None:
        async with Place(tmp_path, {"/hello": "hello", "/a": "shop-a"}) as place:
            await place.log_in(ALL)
            assert (await place.http.get("/a")).status_code == 502
            for page in ("ui/faults", "ui/functions/shop-a", "ui/faults?function=<img>"):
                text = (await place.get(page)).text
                assert "<img" not in text
            assert "shop-a" in (await place.get("ui/faults")).text

    run(main())


def test_figures_of_all_versions_are_added_up(tmp_path: Path) -> None:
    async def main() -> None:
        async with Place(tmp_path) as place:
            await place.log_in(ALL)
            await place.get("")  # counting begins with the first look
            for _ in range(7):
                await place.http.get("/hello")
            answer = await place.get("ui/functions/hello")
            assert "<td>7</td>" in answer.text
            described = (await place.get("functions/hello", headers=bearer(READ))).json()
            assert described["versions"]["1"]["requests"] == 7

    run(main())


def test_tenants_are_shown_with_what_they_use(tmp_path: Path) -> None:
    given = {"tenants": [{"name": "acme", "hosts": ["test"], "requestsPerMinute": 1}]}

    async def main() -> None:
        async with Place(tmp_path, {"/hello": {"functionName": "hello", "hosts": ["test"]}}, given=given) as place:
            await place.log_in(ALL)
            assert [(await place.http.get("/hello")).status_code for _ in range(3)] == [200, 429, 429]
            page = (await place.get("ui/tenants")).text
            for shown in ("acme", "requestsPerMinute: 1", "requestsPerMinute: 2"):  # its quota, and what was refused
                assert shown in page
            assert "<td>test</td>" in (await place.get("ui/routes")).text

    run(main())


def test_nodes_are_compared_once_in_a_while(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[str] = []

    async def look(url: str, token: str | None) -> dict[str, Any] | str:
        looks.append(url)
        assert token == "s3cret"
        digest = "sha256:" + ("b" if url.endswith("3") else "a") * 64
        return {"status": "ready", "region": "ap", "functions": {"hello": {"1": {"digest": digest}}}}

    monkeypatch.setattr(nodes, "_look", look)
    urls = [f"http://10.0.0.{number}" for number in (1, 2, 3)]

    async def main() -> None:
        async with Place(tmp_path, env={"nodes": ", ".join(urls), "endpoints_token": "s3cret"}) as place:
            await place.log_in(ALL)
            rows = (await place.get("nodes", headers=bearer(READ))).json()["nodes"]
            assert [bool(row["differs"]) for row in rows] == [False, False, True]
            page = (await place.get("ui/nodes")).text
            assert "hello v1 is bbbbbbbbbbbb, elsewhere aaaaaaaaaaaa" in page
            assert looks == urls
            assert "s3cret" not in page

    run(main())


def test_an_address_that_is_not_one_is_refused_at_start() -> None:
    with pytest.raises(ValidationError, match=r"'10\.0\.0\.1:80', which is not the address of a node"):
        settings(nodes="http://10.0.0.2, 10.0.0.1:80")


@pytest.mark.parametrize("waves", [["ap", "eu"], []])
def test_a_canary_shows_the_regions_that_it_goes_through(tmp_path: Path, waves: list[str]) -> None:
    for version in "12":
        add_constant(tmp_path, "f", b'{"status_code": 200, "body": "%s"}' % version.encode(), version)
    canary = {"functionName": "f", "stableVersion": "1", "canaryVersion": "2", "waves": waves}

    async def main() -> None:
        async with Place(tmp_path, {"/f": "f"}, given={"canaries": [canary]}, env={"region": "ap"}) as place:
            await place.log_in(ALL)
            for path in ("ui/canaries", "ui/functions/f"):
                page = (await place.get(path)).text
                assert "Version 2 has" in page
                assert ("<li>ap: running at 10 %</li>" in page) is bool(waves)
                assert ("<li>eu: not known yet</li>" in page) is bool(waves)

    run(main())


def test_pages_without_jinja_name_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from starlette_wasm.asgi.admin.dashboard import render

    monkeypatch.setitem(sys.modules, "jinja2", None)
    render._environment.cache_clear()

    async def main() -> None:
        async with Place(tmp_path) as place:
            answer = await place.get("", headers=bearer(READ))
            assert answer.status_code == 501
            assert "starlette-wasm[dashboard]" in answer.text
            assert (await place.get("functions", headers=bearer(READ))).status_code == 200

    run(main())


def test_an_admin_without_pages_has_the_api_alone(tmp_path: Path) -> None:
    async def main() -> None:
        async with Place(tmp_path, dashboard=False) as place:
            assert (await place.get("", headers=bearer(READ))).status_code == 404
            assert (await place.log_in(ALL)).status_code == 404
            assert (await place.get("functions", headers=bearer(READ))).status_code == 200

    run(main())


def test_a_mount_without_a_runtime_shows_why() -> None:
    async def main() -> None:
        token = AdminToken.of(ALL, "admin", ["read"])
        app = Starlette(routes=[wasm_admin(tokens=[token])])
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as http:
            answer = await http.get("/admin/", headers=bearer(ALL))
            assert answer.status_code == 503
            assert "there is no runtime" in answer.text

    run(main())


def test_history_forgets_what_is_old() -> None:
    now = 1000.0
    history = History(lambda: now)
    history.add(False)
    history.add(True)
    assert sum(history.counts()[0]) == 0  # the slot that runs is not whole yet
    now += SLOT_SECONDS
    assert history.counts() == ([0] * (SLOTS - 2) + [2], [0] * (SLOTS - 2) + [1])
    now += SLOT_SECONDS * 3
    history.add(False)
    assert history.counts()[0][-4:] == [2, 0, 0, 0]
    now += SLOT_SECONDS * SLOTS * 5
    assert history.counts() == ([0] * (SLOTS - 1), [0] * (SLOTS - 1))


def test_a_chart_stays_in_its_box() -> None:
    assert points([]) == points([0, 0, 0]) == "0,24 120,24"
    assert points([0, 5, 10]) == "0.0,24.0 60.0,12.5 120.0,1.0"


def test_a_policy_is_described_in_plain_words() -> None:
    nothing = in_plain_words(SandboxPolicy())
    assert nothing[:4] == [
        "Has 16 MiB of memory and 5 s for a request.",
        "Sends no requests to other hosts.",
        "Sees no files.",
        "Sees no environment variables of the host.",
    ]
    granted = " ".join(
        in_plain_words(
            SandboxPolicy(
                allowedHosts=["api.example.com"],
                maxNetworkRequests=1,
                allowPrivateNetworks=True,
                allowedDirs=[
                    {"hostPath": str(GUESTS), "guestPath": "/in"},
                    {"hostPath": str(GUESTS), "guestPath": "/out", "readonly": False},
                ],
                allowedEnvVars=["TZ"],
                kvNamespaces=["carts"],
                queues=["orders"],
                executionTimeoutMs=200,
            )
        )
    )
    for part in (
        "200 ms for a request",
        "up to 1 request to api.example.com",
        "private network",
        "Reads files in /in.",
        "Reads and writes files in /out.",
        "variables TZ",
        "namespaces carts",
        "queues orders",
    ):
        assert part in granted

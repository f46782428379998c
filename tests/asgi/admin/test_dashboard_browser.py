"""The dashboard in a real browser: headless Chromium, driven by Playwright."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import yaml
from apps import add_constant, add_function
from browser import chromium
from playwright.sync_api import Browser, ConsoleMessage, Page, Route, expect
from processes import Server

ADMIN, READER = "a" * 32, "r" * 32
PATIENCE = 60_000
"""Milliseconds within which a page shows what it must: a bound for a hang, not for speed."""
APP = f"""\
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette_wasm import AdminToken, WasmMiddleware, wasm_admin

tokens = [
    AdminToken.of({ADMIN!r}, "admin", ["read", "operate"]),
    AdminToken.of({READER!r}, "reader", ["read"]),
]
app = Starlette(
    routes=[wasm_admin("/admin", tokens=tokens, requests_per_minute=6000)],
    middleware=[Middleware(WasmMiddleware, config="wasm.yaml")],
)
"""
CONFIG = {
    "functionsDir": "functions",
    "exposeEndpoints": True,
    "rules": [
        {"pathPattern": "/greet", "functionName": "greeter"},
        {"pathPattern": "/log", "functionName": "log"},
        {"pathPattern": "/trap", "functionName": "trap"},
        {"pathPattern": "/broken", "functionName": "garbage"},
        *({"pathPattern": f"/fn/{i}", "functionName": f"fn-{i:03}"} for i in range(300)),
    ],
    "canaries": [{"functionName": "greeter", "stableVersion": "1", "canaryVersion": "2"}],
    "pipelines": [{"path": "/chain", "steps": [{"function": "greeter", "version": "1"}, {"function": "garbage"}]}],
    "circuitBreaker": {"minimumCalls": 1, "openSeconds": 3600},
}
FEW_ROWS = "document.querySelectorAll('tbody tr:nth-child(n + 12)').forEach((row) => row.remove())"
"""Of 300 rows that are alike each takes its time."""
PAGES = [
    "",
    "ui/functions/greeter",
    "ui/canaries",
    "ui/pipelines",
    "ui/routes",
    "ui/tenants",
    "ui/nodes",
    "ui/faults",
    "ui/audit",
]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real server with 300 functions, a canary, a pipeline, and one function that traps."""
    folder = tmp_path_factory.mktemp("dashboard")
    for version in ("1", "2"):
        add_constant(folder, "greeter", b'{"status_code": 200, "body": "%s"}' % version.encode(), version)
    for name in ("log", "trap", "garbage"):
        add_function(folder, name)
    for i in range(300):
        add_function(folder, f"fn-{i:03}", "hello")
    (folder / "wasm.yaml").write_text(yaml.safe_dump(CONFIG))
    (folder / "dashboard.py").write_text(APP)
    cache = tmp_path_factory.mktemp("aot")
    cache.chmod(0o700)
    environ = {"STARLETTE_WASM_CACHE_DIR": str(cache), "STARLETTE_WASM_LOG": "json"}  # lets the lines of guests through
    server = Server(folder, folder / "server.log", "dashboard:app", "--log-level", "warning", **environ)
    try:
        server.wait_until_ready(120)
        yield server.url
    finally:
        server.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def page(browser: Browser, url: str) -> Iterator[Page]:
    """A tab that is logged in; at the end it must have had no script error and asked no other host."""
    yield from _tab(browser, url, ADMIN)


@pytest.fixture
def reader(browser: Browser, url: str) -> Iterator[Page]:
    yield from _tab(browser, url, READER)


def _tab(browser: Browser, url: str, token: str) -> Iterator[Page]:
    context = browser.new_context()
    context.set_default_timeout(PATIENCE)
    expect.set_options(timeout=PATIENCE)
    page = context.new_page()
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("request", lambda sent: None if sent.url.startswith(url) else faults.append(sent.url))
    page.goto(f"{url}/admin/")
    page.get_by_label("Token of the admin API").fill(token)
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("heading", name="Overview")).to_be_visible()
    page.on("console", lambda line: faults.append(line.text) if _is_fault(line) else None)
    yield page
    context.close()
    assert faults == []


def _is_fault(line: ConsoleMessage) -> bool:
    """Whether the browser complains of more than the answers that a test makes fail on purpose."""
    return line.type == "error" and ("/static/" in line.text or not line.text.startswith("Failed to load resource"))


def test_pages_are_accessible_in_both_schemes(page: Page, url: str) -> None:
    found = importlib.util.find_spec("axe_playwright_python")
    assert found is not None
    assert found.origin is not None
    axe = (Path(found.origin).parent / "axe.min.js").read_text()
    all_rules, colours = "{resultTypes: ['violations']}", "{runOnly: ['color-contrast'], resultTypes: ['violations']}"
    for scheme, rules in (("light", all_rules), ("dark", colours)):
        page.emulate_media(color_scheme=scheme)
        for path in PAGES:
            page.goto(f"{url}/admin/{path}")
            page.evaluate(FEW_ROWS)
            page.evaluate(axe)  # a script of the test, not of the page: the page's policy does not hold for it
            result = page.evaluate(f"axe.run(document, {rules})")
            violations = [(each["id"], each["nodes"][0]["html"]) for each in result["violations"]]
            assert violations == [], (scheme, path)


def test_300_functions_can_be_filtered_and_sorted(page: Page, url: str) -> None:
    rows = page.locator("#rows tr:visible")
    expect(rows).to_have_count(304)
    page.get_by_label("Filter").fill("fn-12")
    expect(rows).to_have_count(10)
    with page.expect_response(lambda answer: answer.url.endswith("/admin/")):
        pass  # an update: the filter holds through it
    expect(rows).to_have_count(10)
    page.get_by_label("Filter").fill("nothing like it")
    expect(page.get_by_text("No function has this in its name.")).to_be_visible()
    page.get_by_role("link", name="traffic").click()
    expect(page.locator('.tools a[aria-current="true"]')).to_have_text("traffic")


def test_traffic_shows_without_a_reload(page: Page, url: str) -> None:
    page.goto(f"{url}/admin/ui/functions/fn-007")
    page.evaluate("window.kept = true")
    for _ in range(5):
        assert httpx.get(f"{url}/fn/7", timeout=PATIENCE / 1000).status_code == 200
    expect(page.locator("#versions tbody tr td").nth(2)).to_have_text("5")
    assert page.evaluate("window.kept") is True
    pause = page.get_by_role("button", name="Pause updates")
    pause.click()
    expect(pause).to_have_attribute("aria-pressed", "true")


def test_links_from_another_site_stay_logged_in(page: Page, url: str) -> None:
    tab = page.context.new_page()
    tab.goto(f"{url.replace('127.0.0.1', 'localhost')}/greet")
    tab.evaluate(f"location.href = '{url}/admin/'")
    expect(tab.get_by_role("heading", name="Overview")).to_be_visible()


def test_the_focus_stays_through_an_update(page: Page, url: str) -> None:
    link = page.locator("#link-fn-008")
    link.focus()
    assert httpx.get(f"{url}/fn/8", timeout=PATIENCE / 1000).status_code == 200
    expect(page.locator("#row-fn-008 td").nth(5)).not_to_have_text("–")  # p99 has come, so the row is another
    expect(link).to_be_focused()


def test_log_lines_and_faults_appear_as_they_come(page: Page, url: str) -> None:
    page.goto(f"{url}/admin/ui/functions/log")
    expect(page.locator("#log-state")).to_have_text("Lines appear as they come.")
    seen = page.locator("#log div")
    until = time.monotonic() + PATIENCE / 1000
    while seen.count() == 0:  # the browser's connection may not have come through yet
        assert time.monotonic() < until
        httpx.post(f"{url}/log", content=b"a line of the guest\n", timeout=PATIENCE / 1000)
        page.wait_for_timeout(200)
    page.goto(f"{url}/admin/ui/functions/trap")
    assert httpx.get(f"{url}/trap?mode=unreachable", timeout=PATIENCE / 1000).status_code == 500
    expect(page.locator("#faults pre").first).to_contain_text("trap_unreachable")


def test_a_canary_is_moved_with_the_keyboard_alone(page: Page, url: str) -> None:
    page.goto(f"{url}/admin/ui/canaries")
    pause = page.get_by_role("button", name="Pause", exact=True)
    pause.focus()
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("Hold the canary of greeter")
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    expect(page.locator("#canary-greeter h2 .badge")).to_have_text("running")
    pause.focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    expect(page.locator("#answer")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#status")).to_have_text("Pause: done.")
    expect(page.locator("#canary-greeter h2 .badge")).to_have_text("paused")
    page.get_by_role("button", name="Resume").click()
    page.locator("#answer").click()
    expect(page.locator("#canary-greeter h2 .badge")).to_have_text("running")
    page.goto(f"{url}/admin/ui/audit")
    expect(page.get_by_role("cell", name="move_canary pause")).to_have_count(1)


def test_an_open_circuit_is_seen_and_closed(page: Page, url: str) -> None:
    assert httpx.get(f"{url}/chain", timeout=PATIENCE / 1000).status_code == 502
    page.goto(f"{url}/admin/ui/pipelines")
    expect(page.locator(".node.bad")).to_have_count(1)
    page.get_by_role("button", name="Close garbage").click()
    page.locator("#answer").click()
    expect(page.locator(".node.bad")).to_have_count(0)


def test_a_reader_changes_nothing(reader: Page, url: str) -> None:
    for path in PAGES:
        reader.goto(f"{url}/admin/{path}")
        expect(reader.locator("button[data-method]")).to_have_count(0)
    sent = """fetch("/admin/canaries/greeter/abort", {method: "POST", headers: {"x-wasm-admin": "1"}})
        .then((answer) => answer.status)"""
    assert reader.evaluate(sent) == 403


def test_a_refused_action_shows_why(page: Page, url: str) -> None:
    page.goto(f"{url}/admin/ui/canaries")

    def moved(route: Route) -> None:
        detail = "the canary has moved: it is running at 30 %"
        route.fulfill(status=422, content_type="application/problem+json", body=f'{{"detail": "{detail}"}}')

    page.route("**/canaries/greeter/abort", moved)
    page.get_by_role("button", name="Abort").click()
    page.locator("#answer").click()
    expect(page.locator("#status")).to_contain_text("the canary has moved")


def test_a_phone_needs_no_scrolling_sideways(page: Page, url: str) -> None:
    page.set_viewport_size({"width": 360, "height": 740})
    for path in PAGES:
        page.goto(f"{url}/admin/{path}")
        assert page.evaluate("document.documentElement.scrollWidth") <= 360, path


def test_a_server_that_is_away_is_reported_once(page: Page, url: str) -> None:
    page.route("**/admin/", lambda route: route.abort())
    expect(page.locator("#status")).to_contain_text("No news from the server")
    page.unroute("**/admin/")
    expect(page.locator("#status")).to_have_text("The server answers again.")

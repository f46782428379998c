"""Takes the pictures of docs/dashboard.md: the sample app under traffic, in headless Chromium.

usage: PYTHONPATH=tests python tools/dashboard_pictures.py [FOLDER]

FOLDER is docs/images by default. Needs the development dependencies, and chromium on PATH.
"""

from __future__ import annotations

import secrets
import sys
import tempfile
import time
from pathlib import Path

import httpx
from browser import chromium
from processes import ROOT, Server

SECONDS_OF_TRAFFIC = 40
PICTURES = [
    ("dashboard", "", "light", (1280, 760)),
    ("dashboard-function", "ui/functions/greeter", "light", (1280, 900)),
    ("dashboard-canary", "ui/canaries", "dark", (1280, 600)),
    ("dashboard-pipelines", "ui/pipelines", "light", (1280, 560)),
    ("dashboard-phone", "", "dark", (390, 780)),
]


def main() -> None:
    """Start the sample app, send traffic, and take each picture."""
    if {"-h", "--help"} & set(sys.argv[1:]):
        print(__doc__)
        return
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "images"
    folder.mkdir(exist_ok=True)
    token = secrets.token_urlsafe(32)
    with tempfile.TemporaryDirectory() as home:
        environ = {"WASM_ADMIN_TOKEN": token, "XDG_CACHE_HOME": home, "STARLETTE_WASM_REGION": "ap-east-1"}
        server = Server(ROOT, Path(home) / "server.log", "sample_app.app:app", **environ)
        try:
            server.wait_until_ready(120)
            _send_traffic(server.url, token)
            _take(server.url, token, folder)
        finally:
            server.close()


def _send_traffic(url: str, token: str) -> None:
    with httpx.Client(base_url=url, headers={"authorization": f"Bearer {token}"}) as client:
        client.get("/admin/functions")  # counting begins with the first look
        until = time.monotonic() + SECONDS_OF_TRAFFIC
        number = 0
        while time.monotonic() < until:
            number += 1
            client.get(f"/api/v1/greet/user-{number}")
            client.get("/api/v1/process", params={"n": number})
            if number % 3 == 0:
                client.get(f"/api/v1/cache/{number % 20}")
            if number % 40 == 0:
                client.post("/api/v1/enrich", json={"number": number})
            time.sleep(0.005 if number // 400 % 2 else 0.02)


def _take(url: str, token: str, folder: Path) -> None:
    with chromium() as browser:
        page = browser.new_page()
        page.goto(f"{url}/admin/")
        page.get_by_label("Token of the admin API").fill(token)
        page.get_by_role("button", name="Log in").click()
        for name, path, scheme, (width, height) in PICTURES:
            page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
            page.set_viewport_size({"width": width, "height": height})
            page.goto(f"{url}/admin/{path}")
            page.wait_for_timeout(500)
            page.screenshot(path=folder / f"{name}.png")


if __name__ == "__main__":
    main()

"""A fleet on one machine, as ``scripts/demo-fleet`` and ``tests/e2e/test_demo_fleet.py`` play it.

Every region is a server with its own functions, its own Redis, and a client that asks it all the time.
"""

from __future__ import annotations

import argparse
import http.client
import io
import json
import os
import re
import shutil
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, chdir, closing, contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import yaml
from apps import add_constant, add_flaky
from oci import Registry
from processes import Server
from servers import server

from starlette_wasm.cli.admin_api import TOKEN
from starlette_wasm.cli.main import main as starlette_wasm
from starlette_wasm.config.router import load_config
from starlette_wasm.config.settings import WasmSettings
from starlette_wasm.runtime.fingerprint import fingerprints

REGIONS = ("ap", "eu", "us")
_TOKEN = "demo-fleet-token-of-32-characters"
_SECONDS = 240
"""What any one thing is waited for, to catch one that never comes."""
APP = f"""
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette_wasm import AdminToken, WasmMiddleware, wasm_admin

tokens = [AdminToken.of("{_TOKEN}", "demo", ["read", "operate"])]
app = Starlette(
    routes=[wasm_admin("/admin", tokens=tokens)],
    middleware=[Middleware(WasmMiddleware, config="wasm.yaml")],
)
"""
CONFIG = """\
exposeEndpoints: true
rules:
  - {pathPattern: /greet, functionName: greeter, version: "2"}
"""


class Region:
    """A node, and a client that counts its answers."""

    def __init__(self, folder: Path, environ: dict[str, str]) -> None:
        self.name = folder.name
        self.folder = folder
        self.answers: Counter[str] = Counter()
        self._environ = environ
        self._over = threading.Event()
        self._asking = threading.Thread(target=self._ask)

    def start(self) -> None:
        (self.folder / "app.py").write_text(APP)
        log = self.folder / "log"
        self.server = Server(self.folder, log, "app:app", "--log-level", "warning", **self._environ)

    def wait_until_ready(self) -> None:
        self.server.wait_until_ready(_SECONDS)
        self._asking.start()

    def stop(self) -> None:
        self._over.set()
        if self._asking.is_alive():
            self._asking.join(_SECONDS)
        self.server.process.terminate()
        self.server.process.wait(60)

    def _connection(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=_SECONDS)

    def _ask(self) -> None:
        while not self._over.is_set():
            try:
                with closing(self._connection()) as connection:
                    while not self._over.is_set():
                        connection.request("GET", "/greet")
                        answer = connection.getresponse()
                        body = answer.read().decode()
                        self.answers[body if answer.status == 200 else f"{answer.status}"] += 1
                        time.sleep(0.005)
            except (OSError, http.client.HTTPException) as error:
                self.answers[type(error).__name__] += 1
                time.sleep(0.1)

    def digest(self, version: str) -> str | None:
        """Return the digest of a version of the function, if it is served."""
        return self.serves()[0].get(version)

    def serves(self) -> tuple[dict[str, str], str]:
        """Return the digests of the versions, and that of the config, that ``/ready`` shows."""
        with closing(self._connection()) as connection:
            connection.request("GET", "/ready")
            body = json.loads(connection.getresponse().read())
        versions = body["functions"].get("greeter", {})
        return {version: str(about["digest"]) for version, about in versions.items()}, str(body["config"])

    def has_reloaded(self) -> bool:
        """Return whether it serves what its ``wasm.yaml`` says now."""
        config = load_config(self.folder / "wasm.yaml")
        return bool(self.serves()[1] == fingerprints(config, {}, WasmSettings())["config"])


class Fleet:
    """Runs the commands of an operator, in a folder as a repository has it, and prints what they print."""

    def __init__(self, folder: Path, registry: str, regions: list[Region], show: Callable[[str], None]) -> None:
        self.folder = folder
        self.registry = registry
        self.regions = regions
        self._show = show
        self._names = {f"http://127.0.0.1:{each.server.port}": f"${each.name.upper()}" for each in regions}
        self._names[registry] = "registry.example.com"

    @property
    def urls(self) -> list[str]:
        return [each.server.url for each in self.regions]

    def step(self, text: str) -> None:
        self._show(f"\n== {text}")

    def note(self, text: str) -> None:
        self._show(f"   {text}")

    def run(self, *arguments: str, folder: Path | None = None, code: int = 0) -> str:
        """Run ``starlette-wasm``, whose exit code must be ``code``."""
        place = folder or self.folder
        at = "" if folder is None else f"{folder.name}/"
        self._show(self._named(f"{at}$ starlette-wasm {' '.join(arguments)}"))
        printed = io.StringIO()
        with chdir(place), redirect_stdout(printed), redirect_stderr(printed):
            ended = starlette_wasm(list(arguments))
        text = printed.getvalue().rstrip()
        if text:
            self._show(self._named(text))
        if ended:
            self._show(f"(exit code {ended})")
        assert ended == code, (arguments, ended, text)
        return text

    def compare(self) -> None:
        """Run ``nodes`` once all of them have taken what was delivered, within their interval for reloads."""
        until(lambda: all(region.has_reloaded() for region in self.regions))
        until(lambda: all(region.serves() == self.regions[0].serves() for region in self.regions))
        self.run("nodes", *self.urls)

    def _named(self, text: str) -> str:
        for value, name in self._names.items():
            text = text.replace(value, name)
        text = re.sub(r"sha256([:-])([0-9a-f]{12})[0-9a-f]{52}", r"sha256\1\2", text)
        return re.sub(r" {3,}|(?<=\S)  (?=\S)", "  ", text)

    def deliver(self, *names: str) -> None:
        """Bring functions.lock, the functions and wasm.yaml to regions, as a pipeline does."""
        for region in self.regions:
            if not names or region.name in names:
                for name in ("functions.lock", "wasm.yaml"):
                    shutil.copy(self.folder / name, region.folder / f".{name}")
                os.replace(region.folder / ".functions.lock", region.folder / "functions.lock")
                self.run("sync", folder=region.folder)
                os.replace(region.folder / ".wasm.yaml", region.folder / "wasm.yaml")

    def try_out(self, stable: str, canary: str) -> None:
        """Add the rule and the canary of a version to the config."""
        config = yaml.safe_load((self.folder / "wasm.yaml").read_text())
        config["rules"].append({"pathPattern": "/greet", "functionName": "greeter", "version": canary, "weight": 0})
        config["canaries"] = [
            {
                "functionName": "greeter",
                "stableVersion": stable,
                "canaryVersion": canary,
                "waves": list(REGIONS),
                "steps": [50, 100],
                "stepSeconds": 0.5,
                "lowTraffic": True,
                "latencyP99ThresholdMs": None,
            }
        ]
        text = yaml.safe_dump(config, sort_keys=False)
        (self.folder / "wasm.yaml").write_text(text)
        self._show("wasm.yaml:\n" + yaml.safe_dump({"canaries": config["canaries"]}, default_flow_style=None).rstrip())

    def wait(self, canary: str, region: Region, code: int = 0) -> None:
        """Wait for the end of a canary in a region."""
        at = ["--url", f"{region.server.url}/admin", "--timeout", str(_SECONDS)]
        self.run("canary", "wait", "greeter", "--canary-version", canary, *at, code=code)


def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + _SECONDS
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


@contextmanager
def fleet(folder: Path, show: Callable[[str], None]) -> Iterator[tuple[Fleet, Registry]]:
    """Start a registry, and a Redis and a server for each region."""
    with ExitStack() as stack:
        storage = folder / "registry"
        storage.mkdir()
        registry = Registry(storage)
        repository = folder / "repository"
        repository.mkdir()
        urls = {}
        for name in REGIONS:
            (folder / name / "redis").mkdir(parents=True)
            options = ["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", str(folder / name / "redis")]
            port = stack.enter_context(server("redis-server", *options, folder=folder / name / "redis"))
            urls[name] = f"redis://127.0.0.1:{port}/0"
        regions = [
            Region(
                folder / name,
                {
                    "STARLETTE_WASM_REGION": name,
                    "STARLETTE_WASM_CANARY_URL": urls[name],
                    "STARLETTE_WASM_CANARY_WAVES_URL": urls["ap"],
                    "STARLETTE_WASM_RELOAD_INTERVAL_MS": "100",
                    "STARLETTE_WASM_CACHE_DIR": str(folder / "aot"),
                },
            )
            for name in REGIONS
        ]
        address = stack.enter_context(registry)
        (repository / "wasm.yaml").write_text(CONFIG)
        for region in regions:
            (region.folder / "wasm.yaml").write_text(CONFIG)
            shutil.copytree(made(folder, "2"), region.folder / "functions")
            region.start()
            stack.callback(region.stop)
        for region in regions:
            region.wait_until_ready()
        shutil.copytree(made(folder, "2"), repository / "functions", dirs_exist_ok=True)
        yield Fleet(repository, address, regions, show), registry


def made(folder: Path, version: str, failing: int = 0) -> Path:
    """Return a functionsDir with one version of the function; ``failing`` of 256 requests trap."""
    place = folder / f"build-{version}-{failing}"
    answer = f'{{"status_code": 200, "body": "v{version}"}}'.encode()
    if not place.exists():
        if failing:
            add_flaky(place, "greeter", answer, failing, version)
        else:
            add_constant(place, "greeter", answer, version)
    return place / "functions"


def play(folder: Path, show: Callable[[str], None] = print) -> dict[str, Any]:
    """Play it. Returns the answers that the clients of each region got, by act."""
    os.environ[TOKEN], before = _TOKEN, os.environ.get(TOKEN)
    try:
        with fleet(folder, show) as (shop, registry):
            place = f"oci://{shop.registry}/shop/greeter"
            shop.step("three regions serve v2")
            shop.run("push", "greeter@2", place)
            shop.deliver()
            shop.compare()
            good = _roll_out(shop, folder, place)
            bad = _roll_back(shop, folder, place)
            other = _odd_node(shop, folder)
            lost = _registry_dies(shop, folder, place, registry)
            return {"good": good, "bad": bad, "other": other, "lost": lost}
    finally:
        if before is None:
            os.environ.pop(TOKEN)
        else:
            os.environ[TOKEN] = before


def _counted(shop: Fleet) -> dict[str, dict[str, int]]:
    """Return what the clients got since the last time."""
    found = {}
    for region in shop.regions:
        answers, region.answers = region.answers, Counter()
        found[region.name] = dict(answers)
    return found


def _roll_out(shop: Fleet, folder: Path, place: str) -> dict[str, dict[str, int]]:
    shop.step("v3 is pushed, and tried in one region after the other")
    shutil.copytree(made(folder, "3"), shop.folder / "functions", dirs_exist_ok=True)
    shop.run("push", "greeter@3", place)
    shop.try_out("2", "3")
    _counted(shop)
    shop.deliver()
    for region in shop.regions:
        shop.wait("3", region)
    shop.step("the promotion is written back: wasm.yaml and functions.lock")
    shop.run("canary", "promoted", "greeter", "--write", "--url", f"{shop.urls[-1]}/admin")
    shop.run("lock")
    shop.deliver()
    shop.compare()
    return _counted(shop)


def _roll_back(shop: Fleet, folder: Path, place: str) -> dict[str, dict[str, int]]:
    shop.step("v4 is bad: the first region rolls it back, and the others never begin")
    shutil.copytree(made(folder, "4", 200), shop.folder / "functions", dirs_exist_ok=True)
    config = (shop.folder / "wasm.yaml").read_text()
    shop.run("push", "greeter@4", place)
    shop.try_out("3", "4")
    _counted(shop)
    shop.deliver()
    for region in shop.regions:
        shop.wait("4", region, code=1)
    counted = _counted(shop)
    for name, answers in counted.items():
        shop.note(
            f"{name} has answered: {', '.join(f'{answer} {count}x' for answer, count in sorted(answers.items()))}"
        )
    shop.step("v4 is taken out again")
    (shop.folder / "wasm.yaml").write_text(config)
    shutil.rmtree(shop.folder / "functions/greeter/v4")
    shop.run("lock")
    shop.deliver()
    for region in shop.regions:
        shop.run("sync", "--prune", folder=region.folder)
        until(lambda region=region: region.digest("4") is None)
    return counted


def _odd_node(shop: Fleet, folder: Path) -> str:
    shop.step("somebody puts other bytes into us")
    us = shop.regions[-1]
    right = us.digest("3")
    add_constant(folder / "other", "greeter", b'{"status_code": 200, "body": "v3!"}', "3")
    os.replace(folder / "other/functions/greeter/v3/greeter.wasm", us.folder / "functions/greeter/v3/greeter.wasm")
    until(lambda: us.digest("3") != right)
    found = shop.run("nodes", *shop.urls, code=1)
    shop.run("verify", folder=us.folder, code=1)
    shop.run("sync", folder=us.folder)
    until(lambda: us.digest("3") == right)
    shop.compare()
    return found


def _registry_dies(shop: Fleet, folder: Path, place: str, registry: Registry) -> dict[str, dict[str, int]]:
    shop.step("the registry is killed while v5 is on its way")
    shutil.copytree(made(folder, "5"), shop.folder / "functions", dirs_exist_ok=True)
    shop.run("push", "greeter@5", place)
    _counted(shop)
    shop.deliver("ap")
    registry.kill()
    eu = shop.regions[1]
    shutil.copy(shop.folder / "functions.lock", eu.folder / "functions.lock")
    shop.run("sync", folder=eu.folder, code=1)
    shop.note("ap has v5, eu and us have not; all three serve")
    with registry:
        shop.step("it comes back: the same commands bring the rest")
        shop.deliver("eu", "us")
        for region in shop.regions:
            until(lambda region=region: region.digest("5"))
        shop.compare()
        counted = _counted(shop)
    for name, answers in counted.items():
        shop.note(f"{name} has answered: {', '.join(sorted(answers))}, {sum(answers.values())} times")
    return counted


def record(file: Path, lines: list[str]) -> None:
    """Put the lines in the place of the record that a page has."""
    before, fence, rest = file.read_text().partition("```text\n")
    text = "\n".join(lines).strip()
    file.write_text(f"{before}{fence}{text}\n```{rest.partition('```')[2]}")


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/demo-fleet", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--record", type=Path, metavar="FILE", help="page whose record is to be replaced")
    given = parser.parse_args()
    lines: list[str] = []

    def show(text: str) -> None:
        print(text, flush=True)
        lines.append(text)

    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="fleet-") as folder:
        play(Path(folder), show)
    if given.record is not None:
        record(given.record, lines)
    print(f"\nplayed in {time.monotonic() - begun:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())

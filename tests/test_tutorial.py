"""docs/tutorial.md, as it stands there: its files and commands, and what it promises a customer."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import httpx
import pytest
from apps import GUESTS
from starlette.testclient import TestClient

from starlette_wasm.cli.main import main

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/tutorial.md").read_text()
FILES = dict(re.findall(r"<!-- file: (\S+) -->\n```\w+\n(.*?)```", PAGE, re.DOTALL))
COMMANDS = [line for text in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL) for line in text.splitlines()]


def tokens(customer: str) -> str:
    return f"token-of-{customer}-0123456789"


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    folder = tmp_path_factory.mktemp("tutorial")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STARLETTE_WASM_CACHE_DIR", str(folder / "aot"))
        for customer in ("ada", "bob"):
            patch.setenv(f"{customer.upper()}_TOKEN", tokens(customer))
        patch.chdir(folder)
        begin, *others = [shlex.split(line)[1:] for line in COMMANDS if line.startswith("starlette-wasm ")]
        assert main(begin) == 0
        patch.chdir(folder / "shop")
        for name, text in FILES.items():
            Path(name).write_text(
                text.replace("executionTimeoutMs: 200", "executionTimeoutMs: 4000")
            )  # for slow machines
        for command in others:
            assert main(command) == 0, command
        with TestClient(load(folder / "shop/app.py").app) as client:
            yield client


def load(file: Path) -> Any:
    spec = spec_from_file_location("tutorial_app", file)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def upload(client: TestClient, version: int, module: bytes, function: str = "ada") -> httpx.Response:
    headers = {"authorization": f"Bearer {tokens('ada')}", "content-type": "application/wasm"}
    return client.put(f"/admin/functions/{function}/versions/{version}", content=module, headers=headers)


def test_a_customer_uploads_a_function_and_hurts_nobody(shop: TestClient) -> None:
    assert shop.get("/f/ada/x?name=Eve").text == "Hello, Eve!\n"
    [build] = [line for line in COMMANDS if line.startswith("python -m ziglang")]
    command = build.replace("/path/to/the/clone", str(ROOT)).split()[1:]
    subprocess.run([sys.executable, *command], check=True, timeout=600)
    module = Path("discount.wasm").read_bytes()

    answer = upload(shop, 2, module)
    assert (answer.status_code, sorted(answer.json())) == (201, ["digest", "function", "version"])
    assert shop.get("/f/ada/today?price=100").json() == {"price": 90}
    assert shop.get("/f/ada/today").json()["detail"] == "ask with ?price=100"

    assert upload(shop, 2, module, "bob").status_code == 403
    assert upload(shop, 2, (GUESTS / "hello.wasm").read_bytes()).status_code == 409
    refused = upload(shop, 3, b"hello")
    assert refused.status_code == 422
    assert "module" in refused.text
    assert shop.get("/f/ada/today?price=100").json() == {"price": 90}

    listed = shop.get("/admin/functions", headers={"authorization": f"Bearer {tokens('ada')}"}).text
    assert '"ada"' in listed
    assert '"bob"' not in listed

    assert upload(shop, 3, (GUESTS / "spin.wasm").read_bytes()).status_code == 201
    assert shop.get("/f/ada/today").status_code == 504
    assert shop.get("/f/bob/x?name=Eve").text == "Hello, Eve!\n"
    assert shop.get("/").text == "the shop is open\n"

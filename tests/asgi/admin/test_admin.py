"""The admin API: who may do what, and what that does."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import hashlib
import json
import logging
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from apps import GUESTS, add_constant, add_function, app, client, config, eventually, run, settings
from openapi_spec_validator import validate
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Mount

from starlette_wasm import AdminIdentity, AdminToken, ConfigError, EdgeRequest, WasmMiddleware, WasmRuntime, wasm_admin
from starlette_wasm.asgi.admin import upload
from starlette_wasm.asgi.admin.access import Refused
from starlette_wasm.asgi.admin.figures import Figures, Recorder
from starlette_wasm.asgi.admin.reads import functions_seen
from starlette_wasm.functions.registry.directory_lock import directory_lock
from starlette_wasm.functions.registry.place import module_file
from starlette_wasm.telemetry.observation import Observation

READ, OPERATE, DEPLOY, ALL, TENANT = ("r" * 32, "o" * 32, "d" * 32, "a" * 32, "t" * 32)
TOKENS = [
    AdminToken.of(READ, "reader", ["read"]),
    AdminToken.of(OPERATE, "operator", ["operate"]),
    AdminToken.of(DEPLOY, "deployer", ["deploy"]),
    AdminToken.of(ALL, "admin", ["read", "operate", "deploy"]),
    AdminToken.of(TENANT, "tenant", ["read", "operate", "deploy"], ["shop-*"]),
]
HELLO = (GUESTS / "hello.wasm").read_bytes()
HALF = b'{"module": "' + base64.b64encode(HELLO) + b'", "%s": "\\ud800"}'
"""An upload with half a surrogate pair, which UTF-8 cannot have."""


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


def constant(folder: Path, name: str, version: str) -> None:
    add_constant(folder, name, b'{"status_code": 200, "body": "%s"}' % version.encode(), version)


class Place:
    """An app with the admin API, open."""

    def __init__(self, folder: Path, rules: Any = None, *, given: Any = None, env: Any = None, **admin: Any) -> None:
        made = config(folder, rules or {"/hello": "hello"}) | (given or {})
        for name in made.pop("functions", ()):
            add_function(folder, name)
        self.folder = folder
        self.runtime = WasmRuntime(made, settings(reload_interval_ms=0, **(env or {})))
        mount = wasm_admin(**{"tokens": TOKENS, **admin})
        wasm = Middleware(WasmMiddleware, runtime=self.runtime)
        self.app = Starlette(routes=[mount], middleware=[wasm])
        self.http = client(self.app)

    async def __aenter__(self) -> Place:
        await self.runtime.start()
        await self.http.get("/hello")
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.http.aclose()
        await self.runtime.close()

    async def ask(self, method: str, path: str, token: str = ALL, **given: Any) -> httpx.Response:
        return await self.http.request(
            method, f"/admin{path}", headers={**bearer(token), **given.pop("headers", {})}, **given
        )

    async def put(self, name: str, version: str, token: str = ALL, module: bytes = HELLO) -> httpx.Response:
        kind = {"content-type": "application/wasm"}
        return await self.ask("PUT", f"/functions/{name}/versions/{version}", token, content=module, headers=kind)


READS = ["functions", "functions/hello", "routes", "canaries", "pipelines", "circuits", "stores", "faults", "audit"]
ACTIONS = [
    ("POST", "/canaries/hello/abort"),
    ("POST", "/functions/hello/shift"),
    ("DELETE", "/functions/hello/shift"),
    ("POST", "/circuits/reset"),
    ("POST", "/reload"),
    ("POST", "/drain"),
]


def test_there_is_no_admin_until_it_is_mounted(tmp_path: Path) -> None:
    async def main() -> None:
        async with client(app(config(tmp_path, {"/hello": "hello"}))) as http:
            assert (await http.get("/admin/functions", headers=bearer(ALL))).status_code == 404

    run(main())


def test_each_scope_opens_its_own_doors_alone(tmp_path: Path) -> None:
    async def main() -> None:
        async with Place(tmp_path) as place:
            for path in READS:
                assert (await place.ask("GET", f"/{path}", READ)).status_code == 200, path
                for token in (OPERATE, DEPLOY):
                    assert (await place.ask("GET", f"/{path}", token)).status_code == 403, path
            before = place.runtime.deployment
            for method, path in ACTIONS:
                for token in (READ, DEPLOY):
                    assert (await place.ask(method, path, token)).status_code == 403, path
            for token in (READ, OPERATE):
                assert (await place.put("new", "1", token)).status_code == 403
            assert place.runtime.deployment is before
            assert place.runtime.state == "open"
            assert not (tmp_path / "functions/new").exists()

    run(main())


@pytest.mark.parametrize("header", [None, "Bearer", "Bearer wrong", f"Basic {ALL}", f"Bearer {ALL}x", "Bearer é"])
def test_who_is_not_known_is_told_nothing(tmp_path: Path, header: str | None) -> None:
    async def main() -> None:
        async with Place(tmp_path) as place:
            headers = {} if header is None else {"authorization": header.encode()}
            for method, path in [("GET", "/functions"), *ACTIONS]:
                answer = await place.http.request(method, f"/admin{path}", headers=headers)
                assert answer.status_code == 401
                assert answer.headers["www-authenticate"] == "Bearer"
                assert answer.headers["content-type"] == "application/problem+json"
                assert "hello" not in answer.json()["detail"]

    run(main())


def test_wrong_tokens_are_slowed_down_and_right_ones_are_not(tmp_path: Path) -> None:
    async def main() -> None:
        async with Place(tmp_path) as place:
            statuses = [(await place.ask("GET", "/functions", "x" * 32)).status_code for _ in range(100)]
            assert set(statuses) == {401, 429}
            assert statuses[-1] == 429
            assert len(place.app.routes[0].admin._audit.entries) == statuses.count(401)
            assert (await place.ask("GET", "/functions")).status_code == 200

    run(main())


def test_a_caller_has_so_many_requests_a_minute(tmp_path: Path) -> None:
    async def main() -> None:
        async with Place(tmp_path, requests_per_minute=1) as place:
            answers = [await place.ask("GET", "/functions") for _ in range(3)]
            assert [each.status_code for each in answers] == [200, 429, 429]
            assert int(answers[-1].headers["retry-after"]) >= 1
            assert (await place.ask("GET", "/functions", READ)).status_code == 200

    run(main())


def test_a_token_is_kept_as_its_hash() -> None:
    token, kept = AdminToken.new("ci", ["deploy"])
    assert kept.sha256 == hashlib.sha256(token.encode()).hexdigest()
    assert token not in repr(kept)
    for wrong in (("x", ["read"]), ("a" * 64, ["write"])):
        with pytest.raises(ConfigError, match="tokens"):
            AdminToken("ci", *wrong)
    with pytest.raises(ConfigError, match="too short"):
        AdminToken.of("secret", "ci", ["read"])
    with pytest.raises(ConfigError, match="neither tokens nor authorize"):
        wasm_admin()


def test_a_text_grants_no_functions_and_no_scopes() -> None:
    for wrong in ((["read"], "shop-*"), ("read", ["shop-*"])):
        with pytest.raises(ConfigError, match="a text, not a list"):
            AdminToken("ci", "a" * 64, *wrong)
        with pytest.raises(ConfigError, match="a text, not a list"):
            AdminIdentity("ci", *wrong)


def test_a_path_around_the_mount_grants_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        async with Place(tmp_path) as place:
            around = Mount("/{name}", routes=[wasm_admin(tokens=TOKENS, runtime=place.runtime)])
            async with client(Starlette(routes=[around])) as http:
                for path in ("drain", "reload"):
                    answer = await http.post(f"/shop-a/admin/{path}", headers=bearer(TENANT))
                    assert answer.status_code == 403, path
                assert (await http.post("/hello/admin/reload", headers=bearer(ALL))).status_code == 200
            assert place.runtime.state == "open"

    run(main())


def test_strangers_do_not_push_out_what_was_done(tmp_path: Path) -> None:
    async def main() -> None:
        async with Place(tmp_path) as place:
            assert (await place.ask("POST", "/reload")).status_code == 200
            log = place.app.routes[0].admin._audit
            (done,) = log.entries
            for _ in range(500):
                log.write(dataclasses.replace(done, who="", status=401))
            assert len(log.entries) == 200
            assert next(iter(log.entries)) == done

    run(main())


def test_versions_without_end_push_out_no_figures_of_others() -> None:
    figures = Figures()
    figures(Observation("quiet", "1", "http"))
    for number in range(3000):
        figures(Observation("loud", str(number), "http"))
    assert figures.describe("quiet", "1")["requests"] == 1
    assert figures.describe("loud", "2999")["requests"] == 1
    assert len(figures._versions) == 1024


def test_the_audit_log_keeps_no_long_names(tmp_path: Path) -> None:
    async def main() -> None:
        async with Place(tmp_path) as place:
            await place.http.post(f"/admin/canaries/{'n' * 5000}/{'a' * 5000}")
            (entry,) = place.app.routes[0].admin._audit.entries
            assert (entry.status, len(entry.function)) == (401, 100)
            assert len(entry.what) < 200

    run(main())


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"x-wasm-admin": "1"}, 200),
        ({"x-wasm-admin": "1", "origin": "http://test", "sec-fetch-site": "same-origin"}, 200),
        ({}, 403),
        ({"x-wasm-admin": "1", "origin": "http://evil.example"}, 403),
        ({"x-wasm-admin": "1", "origin": "null"}, 403),
        ({"x-wasm-admin": "1", "sec-fetch-site": "cross-site"}, 403),
        ({"x-wasm-admin": "1", "sec-fetch-site": "same-site"}, 403),
    ],
)
def test_another_site_cannot_act_with_a_session(tmp_path: Path, headers: dict[str, str], status: int) -> None:
    async def of_the_app(request):
        return AdminIdentity("ada", ["read", "operate"]) if request.cookies.get("session") == "ada" else None

    async def main() -> None:
        async with Place(tmp_path, tokens=(), authorize=of_the_app) as place:
            place.http.cookies.set("session", "ada")
            assert (await place.http.post("/admin/reload", headers=headers)).status_code == status
            assert (await place.http.get("/admin/functions")).status_code == 200
            place.http.cookies.set("session", "eve")
            assert (await place.http.get("/admin/functions")).status_code == 401

    run(main())


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"sec-fetch-site": "same-origin", "sec-fetch-mode": "cors", "sec-fetch-dest": "empty"}, 200),
        ({"sec-fetch-site": "none", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}, 200),
        ({"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}, 200),
        ({"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "iframe"}, 403),
        ({"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors", "sec-fetch-dest": "script"}, 403),
        ({"sec-fetch-site": "same-site", "sec-fetch-mode": "cors", "sec-fetch-dest": "empty"}, 403),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "http://["}, 403),
    ],
)
def test_another_site_cannot_read_with_a_session(tmp_path: Path, headers: dict[str, str], status: int) -> None:
    async def main() -> None:
        async with Place(tmp_path, tokens=(), authorize=lambda _: AdminIdentity("ada", ["read"])) as place:
            assert (await place.http.get("/admin/functions", headers=headers)).status_code == status
        async with Place(tmp_path / "tokens") as place:  # a page of another site has no token
            assert (await place.ask("GET", "/functions", headers=headers)).status_code == 200

    run(main())


def test_functions_are_described_with_their_figures(tmp_path: Path) -> None:
    async def main() -> None:
        async with Place(tmp_path, {"/hello": "hello", "/exit3": "exit3"}) as place:
            for _ in range(3):
                await place.http.get("/hello")
            await place.http.get("/exit3")
            found = {
                each["name"]: each["versions"]["1"]
                for each in (await place.ask("GET", "/functions")).json()["functions"]
            }
            assert found["hello"]["digest"] == f"sha256:{hashlib.sha256(HELLO).hexdigest()}"
            assert found["hello"]["policies"] == ["edge-none"]
            assert found["hello"]["requests"] >= 3
            assert 0 < found["hello"]["p50_ms"] <= found["hello"]["p99_ms"]
            assert sum(found["exit3"]["errors"].values()) == 1
            [fault] = (await place.ask("GET", "/faults?function=exit3")).json()["faults"]
            assert (fault["function"], fault["version"]) == ("exit3", "1")
            assert fault["message"]
            assert fault["request_id"]
            assert (await place.ask("GET", "/functions/absent")).status_code == 404

    run(main())


def test_a_tenant_sees_and_changes_its_own_functions(tmp_path: Path) -> None:
    async def main() -> None:
        add_function(tmp_path, "shop-cart", "hello")
        async with Place(tmp_path) as place:
            seen = (await place.ask("GET", "/functions", TENANT)).json()["functions"]
            assert [each["name"] for each in seen] == ["shop-cart"]
            assert (await place.ask("GET", "/functions/hello", TENANT)).status_code == 403
            assert (await place.ask("GET", "/functions/hello/log", TENANT)).status_code == 403
            assert [each["functionName"] for each in (await place.ask("GET", "/routes", TENANT)).json()["rules"]] == []
            for method, path in [*ACTIONS[:3], *ACTIONS[4:], ("GET", "/audit"), ("GET", "/stores")]:
                assert (await place.ask(method, path, TENANT)).status_code == 403, path
            assert (await place.put("hello", "2", TENANT)).status_code == 403
            whole = await place.ask("GET", "/stores", TENANT)
            assert whole.json()["detail"] == "the scope read is not granted for the runtime as a whole"
            assert (await place.put("shop-cart", "2", TENANT)).status_code == 201

    run(main())


def test_an_uploaded_version_serves(tmp_path: Path) -> None:
    async def main() -> None:
        async with Place(tmp_path) as place:
            answer = await place.put("new", "1.0")
            assert answer.status_code == 201
            assert answer.json() == {
                "function": "new",
                "version": "1.0",
                "digest": f"sha256:{hashlib.sha256(HELLO).hexdigest()}",
            }
            assert (await place.runtime.invoke("new", EdgeRequest(path="/", method="GET"))).status_code == 200
            assert (await place.put("new", "1.0")).status_code == 200, "the same again changes nothing"
            other = await place.put("new", "1.0", module=(GUESTS / "echo.wasm").read_bytes())
            assert other.status_code == 409
            assert "give it another version" in other.json()["detail"]

    run(main())


def test_an_upload_waits_for_another_process(tmp_path: Path) -> None:
    """As two workers that share functionsDir: each version goes to the one that came first."""

    async def main() -> None:
        async with Place(tmp_path) as place:
            directory = place.runtime.deployment.config.functions_dir
            async with directory_lock(directory):
                upload = asyncio.create_task(place.put("new", "1"))
                await asyncio.sleep(0.3)
                assert not upload.done()
                module = module_file(directory, "new", "1")
                module.parent.mkdir(parents=True)
                module.write_bytes((GUESTS / "echo.wasm").read_bytes())
            assert (await upload).status_code == 409

    run(main())


def test_an_upload_may_bring_its_manifest(tmp_path: Path) -> None:
    async def main() -> None:
        async with Place(tmp_path) as place:
            body = {"module": base64.b64encode(HELLO).decode(), "manifest": "description: of a tenant\n"}
            assert (await place.ask("PUT", "/functions/new/versions/1", json=body)).status_code == 201
            shown = (await place.ask("GET", "/functions/new")).json()["versions"]["1"]
            assert shown["description"] == "of a tenant"

    run(main())


@pytest.mark.parametrize(
    ("path", "given", "status"),
    [
        ("new/versions/1", {"content": b"\0asm\x01\0\0\0\x63", "headers": {"content-type": "application/wasm"}}, 422),
        ("new/versions/1", {"content": b"x" * 70_000, "headers": {"content-type": "application/wasm"}}, 413),
        ("new/versions/1", {"content": b"", "headers": {"content-type": "text/plain"}}, 415),
        ("new/versions/v1 2", {"content": HELLO, "headers": {"content-type": "application/wasm"}}, 422),
        ("..%2fx/versions/1", {"content": HELLO, "headers": {"content-type": "application/wasm"}}, 404),
        (".parts/versions/1", {"content": HELLO, "headers": {"content-type": "application/wasm"}}, 422),
        ("new/versions/1", {"json": {"module": "%%%"}}, 422),
        ("new/versions/1", {"json": {"module": base64.b64encode(HELLO).decode(), "manifest": "proto: edge\n"}}, 422),
        ("new/versions/1", {"json": [1]}, 422),
        ("hello/versions/1", {"content": HALF % b"manifest", "headers": {"content-type": "application/json"}}, 422),
        ("new/versions/1", {"content": HALF % b"signatures", "headers": {"content-type": "application/json"}}, 422),
    ],
)
def test_an_upload_that_is_wrong_leaves_nothing(tmp_path: Path, path: str, given: Any, status: int) -> None:
    async def main() -> None:
        async with Place(tmp_path, max_upload_bytes=65_536) as place:
            before = place.runtime.deployment
            answer = await place.ask("PUT", f"/functions/{path}", **given)
            assert answer.status_code == status, answer.text
            assert place.runtime.deployment is before
            left = (each.name for each in (tmp_path / "functions").iterdir())
            assert [name for name in left if not name.startswith(".")] == ["hello"]
            assert not any((tmp_path / "functions").glob(".parts/*"))

    run(main())


@pytest.mark.parametrize("token", [TENANT, DEPLOY])
def test_a_tenant_learns_no_folders_of_the_host(tmp_path: Path, token: str) -> None:
    async def main() -> None:
        async with Place(tmp_path) as place:
            answer = await place.put("shop-a", "1", token, module=b"\0asm\x01\0\0\0\x63")
            assert answer.status_code == 422
            detail = answer.json()["detail"]
            assert "shop-a.wasm" in detail
            assert (str(tmp_path) in detail) is (token == DEPLOY)

    run(main())


def test_uploads_that_do_not_end_keep_no_memory(tmp_path: Path) -> None:
    """Each body may be large, and nobody says how many come at once."""

    async def main() -> None:
        async with Place(tmp_path) as place:
            end = asyncio.Event()

            async def slow() -> Any:
                yield HELLO
                await end.wait()

            headers = {"content-type": "application/wasm"}
            waiting = [
                asyncio.ensure_future(
                    place.ask("PUT", f"/functions/f{number}/versions/1", DEPLOY, content=slow(), headers=headers)
                )
                for number in range(8)
            ]
            uploads = place.app.routes[0].admin.operations[-1].handler.__self__
            await eventually(lambda: uploads._under_way.total() == 8, 30)
            refused = await place.put("late", "1", DEPLOY)
            assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
            assert (await place.put("other", "1", ALL)).status_code == 201  # one of each caller always may
            end.set()
            assert {(await each).status_code for each in waiting} == {201}
            assert (await place.put("late", "1")).status_code == 201

    run(main())


def test_uploads_of_one_caller_do_not_delay_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compiling takes as long as the module says."""
    gate, begun = threading.Event(), threading.Semaphore(0)
    check = upload.Uploads._check

    def checked(self: Any, call: Any, version: Any, *given: Any) -> None:
        if version.name.startswith("slow"):
            begun.release()
            assert gate.wait(120)
        check(self, call, version, *given)

    monkeypatch.setattr(upload.Uploads, "_check", checked)

    async def main() -> None:
        async with Place(tmp_path) as place:
            slow = [asyncio.ensure_future(place.put(f"slow{number}", "1", DEPLOY)) for number in range(4)]
            await eventually(lambda: begun.acquire(blocking=False), 60)
            assert (await place.put("quick", "1", ALL)).status_code == 201
            assert not begun.acquire(blocking=False)  # of one caller, one at a time
            gate.set()
            assert {(await each).status_code for each in slow} == {201}

    run(main())


def test_an_upload_does_not_wait_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as for a poller that reads from a slow registry, in this process or in another."""

    async def main() -> None:
        async with Place(tmp_path) as place:
            async with directory_lock(place.runtime.deployment.config.functions_dir):
                with monkeypatch.context() as short:
                    short.setattr(upload, "_LOCK_SECONDS", 0.1)
                    refused = await place.put("new", "1")
            assert (refused.status_code, refused.headers["retry-after"]) == (503, "30")
            assert (await place.put("new", "1")).status_code == 201

    run(main())


MODULE = bytes(range(256)) * 2400
ENCODED = base64.b64encode(MODULE).decode()


@pytest.mark.parametrize(
    "text",
    [
        f'{{"module": "{ENCODED}"}}',
        f'{{"manifest": "a: \\"module\\": 1", "signatures": null,\n "module"\t:\r\n"{ENCODED}" }}',
        f'{{"module":"{ENCODED}","manifest":"module"}}',
    ],
    ids=["alone", "last", "first"],
)
def test_a_module_is_cut_out_of_json(text: str) -> None:
    document, module = upload._parts_of(text.encode())
    assert module == MODULE
    assert document == {**json.loads(text), "module": ""}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        '{"module": 3}',
        '{"module": "AA',
        '{"module": "AA=A"}',
        '{"module": "AAA\\u0041"}',
        '{"module": "AAAA", "module": "BBBB"}',
        '{"module": "AAAA", "x": {"module": 1}, "module": null}',
        '{"x": {"module": "AAAA"}}',
        '["module", "AAAA"]',
        f'{{"module": "{"A" * ((256 << 10) - 2)}==AAAA"}}',
        f'{{"module": "AAAA", "x": [{"1," * 30_000}1]}}',
        f'{{"module": "AAAA", "manifest": "{"x" * (3 << 20)}"}}',
        f'{{"module": "AAAA", "x": {"[" * 3000}',
    ],
    ids=range(14),
)
def test_json_that_holds_no_module_is_refused(text: str) -> None:
    with pytest.raises(Refused) as refused:
        upload._parts_of(text.encode())
    assert refused.value.status == 422


def test_an_upload_that_a_reload_refuses_is_taken_back(tmp_path: Path) -> None:
    """A rule without a version would serve it, under a policy that lacks a variable that it needs."""

    async def main() -> None:
        async with Place(tmp_path) as place:
            body = {"module": base64.b64encode(HELLO).decode(), "manifest": "envVars: [SECRET]\n"}
            answer = await place.ask("PUT", "/functions/hello/versions/2", json=body)
            assert answer.status_code == 422
            assert "env var not allowed: SECRET" in answer.json()["detail"]
            assert not (tmp_path / "functions/hello/v2").exists()
            assert (await place.http.get("/hello")).status_code == 200

    run(main())


def test_an_upload_that_is_cancelled_in_its_reload_is_taken_back(tmp_path: Path) -> None:
    async def main() -> None:
        async with Place(tmp_path) as place:
            reloads = asyncio.Event()

            async def reload() -> None:
                reloads.set()
                await asyncio.sleep(3600)

            place.runtime.reload = reload  # type: ignore[method-assign, assignment]
            upload = asyncio.create_task(place.put("hello", "2"))
            await asyncio.wait_for(reloads.wait(), 60)
            assert module_file(tmp_path / "functions", "hello", "2").exists()
            upload.cancel()
            with pytest.raises(asyncio.CancelledError):
                await upload
            assert not (tmp_path / "functions/hello/v2").exists()

    run(main())


def test_uploads_must_be_signed_if_keys_are_given(tmp_path: Path) -> None:
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    from starlette_wasm.functions.registry import pack

    key = ec.generate_private_key(ec.SECP256R1())
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (tmp_path / "key.pub").write_bytes(public)
    add_function(tmp_path / "builder", "new", "hello")
    pack.sign(tmp_path / "builder/functions", "new", "1", key)
    signatures = (tmp_path / "builder/functions/new/v1/signatures.json").read_text()

    async def main() -> None:
        async with Place(tmp_path / "app", upload_keys=[tmp_path / "key.pub"]) as place:
            body = {"module": base64.b64encode(HELLO).decode(), "signatures": signatures}
            assert (await place.ask("PUT", "/functions/new/versions/1", json=body)).status_code == 201
            unsigned = await place.put("new", "2")
            assert unsigned.status_code == 422
            assert "is not signed" in unsigned.json()["detail"]
            replayed = await place.ask("PUT", "/functions/new/versions/3", json=body)
            assert "it was signed as new v1" in replayed.json()["detail"]
            beside = tmp_path / "app/functions/new/v1/signatures.json"
            damaged = await place.ask("PUT", "/functions/new/versions/1", json=body | {"signatures": "{}"})
            assert damaged.status_code in (422, 507)
            assert beside.read_text() == signatures
            pack.sign(tmp_path / "builder/functions", "new", "1", key)  # ECDSA signs anew each time
            again = (tmp_path / "builder/functions/new/v1/signatures.json").read_text()
            assert again != signatures
            answer = await place.ask("PUT", "/functions/new/versions/1", json=body | {"signatures": again})
            assert (answer.status_code, beside.read_text()) == (200, again)

    run(main())


def canaries(**more: Any) -> dict[str, Any]:
    canary = {"functionName": "hello", "stableVersion": "1", "canaryVersion": "2", "steps": [10, 50, 100], **more}
    return {"canaries": [{"stepSeconds": 600, **canary}]}


def test_a_canary_is_moved_by_hand(tmp_path: Path) -> None:
    constant(tmp_path, "hello", "1")
    constant(tmp_path, "hello", "2")

    async def main() -> None:
        async with Place(tmp_path, given=canaries()) as place:

            async def move(action: str, **body: Any) -> tuple[int, Any]:
                answer = await place.ask("POST", f"/canaries/hello/{action}", OPERATE, json=body)
                return answer.status_code, answer.json()

            assert (await place.ask("GET", "/canaries/hello")).json()["weight"] == 10
            assert (await move("pause"))[1]["status"] == "paused"
            assert (await move("pause", expected={"status": "promoted"}))[0] == 409
            assert (await move("pause", expected="paused"))[0] == 422, "a guard is never left out"
            assert (await move("resume"))[1]["status"] == "running"
            assert (await move("promote"))[1]["weight"] == 50
            assert (await move("promote", full=True))[1]["status"] == "promoted"
            assert (await move("abort"))[1]["status"] == "aborted"
            assert (await move("pause"))[0] == 409
            assert (await move("start"))[1]["weight"] == 10
            assert (await move("explode"))[0] == 404
            assert (await place.ask("POST", "/canaries/absent/abort", OPERATE)).status_code == 404
            assert (await place.ask("GET", "/canaries/hello/abort")).status_code in (404, 405)

    run(main())


def test_weights_are_shifted_for_a_while(tmp_path: Path) -> None:
    constant(tmp_path, "hello", "1")
    constant(tmp_path, "hello", "2")
    rules = [
        {"pathPattern": "/hello", "functionName": "hello", "version": "1", "weight": 100},
        {"pathPattern": "/hello", "functionName": "hello", "version": "2", "weight": 0},
    ]

    async def main() -> None:
        async with Place(tmp_path, given={"rules": rules}) as place:

            async def served() -> set[str]:
                return {(await place.http.get("/hello")).text for _ in range(10)}

            assert await served() == {"1"}
            body = {"from": "1", "to": "2", "percent": 100, "seconds": 600}
            assert (await place.ask("POST", "/functions/hello/shift", json=body)).status_code == 200
            assert await served() == {"2"}
            await place.runtime.reload()
            assert await served() == {"2"}, "a reload keeps it"
            assert (await place.ask("GET", "/routes")).json()["shifts"]["hello"]["percent"] == 100
            assert (await place.ask("DELETE", "/functions/hello/shift")).status_code == 204
            assert await served() == {"1"}
            await place.ask("POST", "/functions/hello/shift", json={**body, "seconds": 0.2})
            begin = time.monotonic()
            while await served() != {"1"}:
                assert time.monotonic() - begin < 30
                await asyncio.sleep(0.01)  # requests in a row that never wait keep the loop from its timers
            for wrong in (
                {"percent": 101},
                {"percent": True},
                {"seconds": 0},
                {"seconds": 1e9},
                {"seconds": 10**400},
                {"to": "1"},
                {"to": 2},
            ):
                assert (await place.ask("POST", "/functions/hello/shift", json={**body, **wrong})).status_code == 422
            absent = await place.ask("POST", "/functions/hello/shift", json={**body, "to": "9"})
            assert absent.status_code == 404

    run(main())


def test_a_shift_waits_for_a_canary(tmp_path: Path) -> None:
    constant(tmp_path, "hello", "1")
    constant(tmp_path, "hello", "2")

    async def main() -> None:
        async with Place(tmp_path, given=canaries()) as place:
            body = {"from": "1", "to": "2", "percent": 100, "seconds": 600}
            assert (await place.ask("POST", "/functions/hello/shift", json=body)).status_code == 409

    run(main())


def test_a_circuit_is_reset(tmp_path: Path) -> None:
    pipelines = [{"path": "/row", "steps": [{"function": "exit3"}]}]
    given = {"functions": ["exit3"], "pipelines": pipelines, "circuitBreaker": {"minimumCalls": 2, "openSeconds": 600}}

    async def main() -> None:
        async with Place(tmp_path, given=given) as place:
            for _ in range(5):
                await place.http.get("/row")
            states = (await place.ask("GET", "/circuits")).json()["circuits"]
            [(name, state)] = states.items()
            assert state == "open"
            assert (await place.ask("POST", "/circuits/reset", json={"circuit": name})).status_code == 200
            assert (await place.ask("GET", "/circuits")).json()["circuits"] == {name: "closed"}
            assert (await place.ask("POST", "/circuits/reset", json={"circuit": "absent"})).status_code == 404

    run(main())


def test_reload_and_drain_are_done(tmp_path: Path) -> None:
    async def main() -> None:
        async with Place(tmp_path) as place:
            add_function(tmp_path, "late", "hello")
            assert (await place.ask("POST", "/reload")).json() == {"functions": 2}
            assert (await place.ask("POST", "/drain")).json() == {"state": "draining"}
            assert place.runtime.state == "draining"

    run(main())


def test_the_audit_log_has_who_what_when_and_from_where(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "starlette_wasm.audit")

    async def main() -> None:
        async with Place(tmp_path) as place:
            await place.put("new", "1", DEPLOY)
            await place.ask("POST", "/reload", READ)
            lines = [
                json.loads(record.getMessage()) for record in caplog.records if record.name == "starlette_wasm.audit"
            ]
            assert [
                (each["who"], each["what"], each["function"], each["status"], each["outcome"]) for each in lines
            ] == [
                ("deployer", "put 1", "new", 201, "done"),
                ("reader", "reload", "", 403, "refused"),
            ]
            assert all(each["source"] == "127.0.0.1" and each["time"] and each["request_id"] for each in lines)
            assert DEPLOY not in caplog.text
            shown = (await place.ask("GET", "/audit")).json()["entries"]
            assert [each["what"] for each in shown] == ["reload", "put 1"]

    run(main())


def test_log_lines_are_sent_as_they_come(tmp_path: Path) -> None:
    """By the ASGI interface: httpx's transport collects a response before it gives it."""

    async def main() -> None:
        async with Place(tmp_path, {"/exit3": "exit3"}) as place:
            sent: asyncio.Queue[Any] = asyncio.Queue()
            gone = asyncio.Event()

            async def receive() -> Any:
                await gone.wait()
                return {"type": "http.disconnect"}

            headers = [(b"authorization", f"Bearer {ALL}".encode()), (b"host", b"test")]
            scope = {"type": "http", "method": "GET", "path": "/admin/functions/exit3/log", "headers": headers,
                     "query_string": b"", "root_path": "", "scheme": "http", "http_version": "1.1",
                     "server": ("test", 80), "client": ("127.0.0.1", 1), "app": place.app}  # fmt: skip
            following = asyncio.ensure_future(place.app(scope, receive, sent.put))
            start = await sent.get()
            assert dict(start["headers"])[b"content-type"].startswith(b"text/event-stream")
            assert (await sent.get())["body"].startswith(b": ")
            await place.http.get("/exit3")
            event = (await asyncio.wait_for(sent.get(), 30))["body"].decode()
            line = json.loads(event.partition("data: ")[2])
            assert (line["function"], line["version"]) == ("exit3", "1")
            place.runtime.drain()
            await asyncio.wait_for(following, 30)
            await eventually(lambda: not place.app.routes[0].admin._recorder._listeners, 30)

    run(main())


def test_one_caller_leaves_others_places_at_logs() -> None:
    async def main() -> None:
        recorder = Recorder()
        queues = [recorder.follow("exit3", "tenant") for _ in range(8)]
        assert recorder.is_full_for("tenant")
        assert not recorder.is_full_for("admin")
        recorder.leave(queues[0])
        assert not recorder.is_full_for("tenant")
        for number in range(25):
            recorder.follow("exit3", f"other{number}")
        assert recorder.is_full_for("admin")

    run(main())


def test_faults_are_those_of_ones_own_runtime(tmp_path: Path) -> None:
    async def main() -> None:
        rules = {"/exit3": "exit3", "/hello": "hello"}
        async with Place(tmp_path / "a", rules) as one, Place(tmp_path / "b", rules) as other:
            assert (await one.http.get("/exit3")).status_code == 500
            assert len((await one.ask("GET", "/faults")).json()["faults"]) == 1
            assert not (await other.ask("GET", "/faults")).json()["faults"]

    run(main())


def test_the_openapi_document_is_valid(tmp_path: Path) -> None:
    async def main() -> None:
        async with Place(tmp_path) as place:
            document = (await place.http.get("/admin/openapi.json")).json()
            validate(document)
            assert document["servers"] == [{"url": "/admin"}]
            assert "/functions/{name}/versions/{version}" in document["paths"]
            operations = [each for path in document["paths"].values() for each in path.values()]
            assert len({each["operationId"] for each in operations}) == len(operations)
            assert all(each["summary"].endswith(".") for each in operations)

    run(main())


def test_a_mount_without_a_runtime_says_so() -> None:
    async def main() -> None:
        async with client(Starlette(routes=[wasm_admin(tokens=TOKENS)])) as http:
            answer = await http.get("/admin/functions", headers=bearer(ALL))
            assert answer.status_code == 503
            assert "wasm_admin(runtime=...)" in answer.json()["detail"]

    run(main())


def test_describing_many_functions_looks_at_targets_once() -> None:
    class Bound(list[Any]):
        times = 0

        def __iter__(self) -> Iterator[Any]:
            self.times += 1
            return super().__iter__()

    manifest = SimpleNamespace(protocol="edge", description="")
    functions = {
        (f"f{number}", "1"): SimpleNamespace(digest="", size=0, cached=False, source=SimpleNamespace(manifest=manifest))
        for number in range(5)
    }
    bound = Bound(SimpleNamespace(function=each, policy=SimpleNamespace(name="p")) for each in functions.values())
    deployment = SimpleNamespace(functions=functions, bound=bound)
    runtime = SimpleNamespace(deployment=deployment, health=SimpleNamespace(verdicts=dict))
    figures = SimpleNamespace(describe=lambda *_: {})
    call: Any = SimpleNamespace(runtime=runtime, figures=figures, identity=AdminIdentity("ada", ["read"]))
    seen = asyncio.run(functions_seen(call))
    assert [each["versions"]["1"]["policies"] for each in seen] == [["p"]] * 5
    assert bound.times == 1

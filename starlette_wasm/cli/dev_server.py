"""``DevServer``: uvicorn, the watcher of sources and the keys, on one event loop."""

from __future__ import annotations

import asyncio
import os
import sys
import time
import webbrowser
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import uvicorn
from starlette.types import Receive, Scope, Send
from watchfiles import awatch

from ..asgi.middleware import WasmMiddleware
from ..config.router import load_config
from ..config.settings import load_settings
from ..exceptions import WasmError
from ..functions.catalog import Catalog
from ..testing.runtime import RecordingRuntime, Surroundings
from ..testing.substitute import substituted
from . import dev_output as told
from .build_commands import Stopped
from .build_runner import Buildable, Built, build, buildables, is_quick, is_stale, is_watched
from .dev_app import DevApp, RequestCalls
from .dev_hosts import DevHosts
from .full_builds import FullBuilds
from .load_facts import load_facts
from .routes import load_app
from .warm_compiler import WarmCommands

COMPILER = "STARLETTE_WASM_COMPILER"
_DEBOUNCE_MS = 60
_STEP_MS = 20


class DevServer:
    """The server of ``dev``. ``run()`` returns whether the process is to start again, as a Python file has changed."""

    def __init__(self, app: str | None, config: Path, host: str, port: int, allowed: Sequence[str] = ()) -> None:
        """Take ``allowed``: more names that requests may be for."""
        self.port = port
        self.failed = False
        self._app = app
        self._config = config
        self._host = host
        self._again = False
        self._runtimes: list[RecordingRuntime] = []
        self._server: uvicorn.Server | None = None
        self._quit = asyncio.Event()
        self._serving = asyncio.Event()
        self._commands = WarmCommands()
        self._full = FullBuilds(self._serving, self._full_built, told.build_failed)
        self._building = asyncio.Lock()
        self._root = config.resolve().parent
        self._hosts = DevHosts(config, [host, *allowed])

    async def run(self) -> bool:
        """Serve until q, a signal, or a change that needs a new process."""
        try:
            await self._build_all(only_stale=True)
            await self._run()
        finally:
            await self._full.stop_all()
            self._commands.stop()
            if not self._again:
                self._name_quick()
        return self._again

    async def _run(self) -> None:
        watching = asyncio.create_task(self._watch())
        try:
            with _keys(self._key):
                await self._serve()
                if self.failed and not self._again and (found := await asyncio.to_thread(self._beyond_winch)):
                    self._take_cranelift(found)
                if self.failed and not self._again:
                    told.say("waiting for a change; q quits", "dim")
                    await self._wait_for_change(watching)
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)

    async def _wait_for_change(self, watching: asyncio.Task[None]) -> None:
        quitting = asyncio.create_task(self._quit.wait())
        await asyncio.wait([quitting, watching], return_when=asyncio.FIRST_COMPLETED)
        quitting.cancel()

    async def _serve(self) -> None:
        """Serve until the server ends. ``failed`` is set if it could not start."""
        around = Surroundings(calls=RequestCalls())
        try:
            with ExitStack() as stack:
                server = self._server = uvicorn.Server(self._uvicorn(stack, around))
                announcing = asyncio.create_task(self._announce(server))
                try:
                    await server.serve()
                finally:
                    announcing.cancel()
                self.failed = not server.started
        except WasmError as error:
            told.fail(error)
            self.failed = True
        except SystemExit:  # uvicorn's: the app did not start, as its log shows, or the port is taken
            self.failed = True
            if self._server is None or not self._server.lifespan.should_exit:
                told.say(f"port {self.port} of {self._host} cannot be had; give another with --port", "red")
                self._quit.set()

    def _uvicorn(self, stack: ExitStack, around: Surroundings) -> uvicorn.Config:
        app: Any
        if self._app is None:
            runtime = RecordingRuntime(self._config, around.settings(), around)
            self._runtimes = [runtime]
            app = WasmMiddleware(_not_found, runtime=runtime)
        else:
            app = load_app(self._app)
            self._runtimes = stack.enter_context(substituted(app, around))
        return uvicorn.Config(
            DevApp(app, told.request, told.fail, self._hosts),
            host=self._host,
            port=self.port,
            lifespan="on",
            log_level="error",
            access_log=False,
        )

    async def _announce(self, server: uvicorn.Server) -> None:
        while not server.started:
            await asyncio.sleep(0.02)
        self.port = server.servers[0].sockets[0].getsockname()[1]
        told.say(f"serving http://{self._host}:{self.port}   r rebuild, o open, q quit", "bold green")
        self._serving.set()

    async def _watch(self) -> None:
        """Build what changes, and reload; end the server for a change of Python."""
        async for changes in awatch(
            self._root, debounce=_DEBOUNCE_MS, step=_STEP_MS, watch_filter=lambda _, path: is_watched(path)
        ):
            files = {Path(path) for _, path in changes}
            if any(file.suffix == ".py" and "tests" not in file.parts for file in files) or self._is_stopped(files):
                self._restart("the app has changed: starting it again")
                return
            await self._rebuild([each for each in self._buildables() if _touches(each, files)])
            if any(file.suffix in (".yaml", ".yml") for file in files):
                await self._reload("the config has changed")

    def _is_stopped(self, files: set[Path]) -> bool:
        """Return whether the app did not start, and something has changed that may let it."""
        return self.failed and any(file.suffix in (".yaml", ".yml", ".wasm") for file in files)

    def _take_cranelift(self, what: str) -> None:
        """Start again with the compiler that can do everything."""
        os.environ[COMPILER] = "cranelift"
        self._restart(f"{what} is beyond the quick compiler: starting again with the other one")

    def _beyond_winch(self) -> str | None:
        """Return the function that kept the app from its start, if it is one that winch cannot compile."""
        if load_settings().compiler != "winch":
            return None
        try:
            config = load_config(self._config)
            sources = list(Catalog(config.functions_dir, leave_out=config.bad_functions == "leave-out"))
        except WasmError:  # that is why, and it was shown
            return None
        return next((str(each) for each in sources if load_facts(each.file, each.manifest).beyond_winch), None)

    def _restart(self, why: str) -> None:
        told.say(why, "yellow")
        self._again = True
        if self._server is not None:
            self._server.should_exit = True

    def _buildables(self) -> list[Buildable]:
        try:
            return buildables(load_config(self._config).functions_dir)
        except WasmError as error:
            told.fail(error)
            return []

    async def _build_all(self, *, only_stale: bool) -> None:
        await self._rebuild([each for each in self._buildables() if not only_stale or is_stale(each)])

    async def _rebuild(self, wanted: list[Buildable]) -> None:
        """Build one after the other, also if a key and a save ask for it at once: a build has its folder for itself."""
        async with self._building:
            await self._build_each(wanted)

    async def _build_each(self, wanted: list[Buildable]) -> None:
        for each in wanted:
            await self._full.stop(each)
            begin = time.perf_counter()
            quick = each.spec.quick is not None
            if not self._serving.is_set():
                told.say(f"{each}: building with {each.programs}; a first build takes longest", "dim")
            try:
                built = await asyncio.to_thread(build, each, quick=quick, commands=self._commands)
            except Stopped:
                return
            except WasmError as error:
                told.build_failed(error, served=any(runtime.is_open for runtime in self._runtimes))
                continue
            if built.loaded.beyond_winch:
                self._take_cranelift(str(each))
                return
            if built.changed:
                how = "built quickly" if quick else "built"
                await self._reload(f"{each}: {how}, {built.facts.size:,} bytes", begin)
            else:
                told.say(f"{each}: built, the same bytes as before", "dim")
            if quick:
                self._full.begin(each)

    async def _full_built(self, built: Built) -> None:
        """Swap in the module that stays."""
        if built.changed:
            size = f"{built.facts.size:,} bytes, {built.seconds * 1000:.0f} ms"
            await self._reload(f"{built.buildable}: built by build.command, {size}; swapped in")

    def _name_quick(self) -> None:
        """Name what was not built by its command before the end."""
        for each in self._buildables():
            if is_quick(each.module):
                told.say(f"{each}: only built quickly; run starlette-wasm build {each.name}", "yellow")

    async def _reload(self, what: str, begin: float | None = None) -> None:
        """Swap in what was built, without dropping a request."""
        begin = time.perf_counter() if begin is None else begin
        for runtime in self._runtimes:
            if runtime.is_open:
                try:
                    with told.without_refusals():
                        await runtime.reload()
                except WasmError as error:
                    told.reload_refused(error)
                    return
        told.say(f"{what}, {(time.perf_counter() - begin) * 1000:.0f} ms", "green")

    def _key(self, key: str) -> None:
        if key == "q":
            self._quit.set()
            if self._server is not None:
                self._server.should_exit = True
        elif key == "o":
            webbrowser.open(f"http://{self._host}:{self.port}/")
        elif key == "r":
            self._rebuilding = asyncio.get_running_loop().create_task(self._build_all(only_stale=False))


async def _not_found(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    await send({"type": "http.response.start", "status": 404, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": b"no rule serves this path\n"})


def _touches(buildable: Buildable, files: set[Path]) -> bool:
    watched = [each.resolve() for each in (*buildable.watched, buildable.folder / "function.yaml")]
    return any(file == each or each in file.parents for file in files for each in watched)


@contextmanager
def _keys(pressed: Any) -> Iterator[None]:
    """Call ``pressed`` with each key, if stdin is a terminal."""
    if not sys.stdin.isatty():
        yield
        return
    import termios
    import tty

    loop, number = asyncio.get_running_loop(), sys.stdin.fileno()
    before = termios.tcgetattr(number)
    tty.setcbreak(number)
    loop.add_reader(number, lambda: pressed(sys.stdin.read(1)))
    try:
        yield
    finally:
        loop.remove_reader(number)
        termios.tcsetattr(number, termios.TCSADRAIN, before)

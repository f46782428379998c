"""How the commands of builds are run, and ended."""

from __future__ import annotations

import os
import subprocess
import threading
from pathlib import Path

import pytest
from apps import wait_until
from toolchains import node_tools

from starlette_wasm.cli.build_commands import Commands, Ended, Stopped
from starlette_wasm.cli.warm_compiler import WarmCommands, asc_arguments


def ended(pid: int) -> bool:
    """Whether a process is gone, or is left over for a parent that has not asked for it."""
    state = Path(f"/proc/{pid}/stat")
    return not state.exists() or state.read_text().rpartition(")")[2].split()[0] == "Z"


def test_what_a_command_prints_and_its_code_are_known(tmp_path: Path) -> None:
    done = Commands().run(["sh", "-c", "echo out; echo err >&2; exit 3"], tmp_path, os.environ)
    assert (done.code, done.output) == (3, "err\nout\n")


def test_stopping_ends_all_that_a_command_started(tmp_path: Path) -> None:
    commands, errors = Commands(nice=1), []
    script = "sleep 1000 & echo $! > inner.new; mv inner.new inner; wait"

    def build() -> None:
        try:
            commands.run(["sh", "-c", script], tmp_path, os.environ)
        except Stopped as error:
            errors.append(error)

    thread = threading.Thread(target=build)
    thread.start()
    wait_until((tmp_path / "inner").exists)
    commands.stop()
    thread.join()
    assert len(errors) == 1
    inner = int((tmp_path / "inner").read_text())
    wait_until(lambda: ended(inner))
    with pytest.raises(Stopped):
        commands.run(["true"], tmp_path, os.environ)


class TestAssemblyScript:
    """The compiler that stays."""

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        (tmp_path / "src").mkdir()
        (tmp_path / "src/node_modules").symlink_to(node_tools() / "node_modules")
        (tmp_path / "src/f.ts").write_text("export function one(): i32 { return 1; }\n")
        return tmp_path

    @property
    def words(self) -> list[str]:
        npx = subprocess.run(["which", "npx"], capture_output=True, text=True, check=True).stdout.strip()
        return [npx, "--no-install", "--prefix", "src", "asc", "src/f.ts", "-o", "f.wasm"]

    def test_one_process_makes_several_builds(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("starlette_wasm.cli.warm_compiler._MOST_BUILDS", 2)
        commands, processes = WarmCommands(), []
        for text in ("return 2", "return", "return 3"):
            (folder / "src/f.ts").write_text(f"export function one(): i32 {{ {text}; }}\n")
            done = commands.run(self.words, folder, os.environ)
            assert commands._compiler is not None
            processes.append(commands._compiler._process)
            assert (done.code == 0) is (text != "return"), done.output
            assert ("src/f.ts" in done.output) is (text == "return")
        assert processes[0] is processes[1] is not processes[2]
        assert processes[0].poll() is not None
        assert (folder / "f.wasm").read_bytes().startswith(b"\0asm")
        commands.stop()
        assert processes[2].poll() is not None
        with pytest.raises(Stopped):
            commands.run(self.words, folder, os.environ)

    def test_without_it_the_command_itself_builds(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        commands, run = WarmCommands(), []
        monkeypatch.setattr("starlette_wasm.cli.warm_compiler._SCRIPT", folder / "none.mjs")
        monkeypatch.setattr(Commands, "run", lambda _, words, *rest: run.append(words) or Ended(0, ""))
        assert commands.run(self.words, folder, os.environ).code == 0
        assert run == [self.words]
        commands.stop()

    def test_only_its_own_command_is_taken(self, folder: Path) -> None:
        words = self.words
        assert asc_arguments(words, folder) == ((folder / "src").resolve(), words[5:])
        for other in (["npx", "tsc"], ["zig", "asc"], ["npx", "--yes", *words[2:]], ["npx", "asc", "f.ts"], []):
            assert asc_arguments(other, folder) is None

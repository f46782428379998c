"""``starlette-wasm new`` and ``build``."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import yaml
from apps import GUESTS, wait_until
from toolchains import BUILT, node_tools

from starlette_wasm.cli import build_consent as consent
from starlette_wasm.cli import toolchains
from starlette_wasm.cli.build_commands import Commands, Stopped
from starlette_wasm.cli.build_runner import BuildError, build, buildables, is_quick, is_stale
from starlette_wasm.cli.languages import LANGUAGES, Lang
from starlette_wasm.cli.main import main
from starlette_wasm.functions.registry import place


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GOCACHE", str(BUILT / "go"))
    monkeypatch.setenv("STARLETTE_WASM_CACHE_DIR", str(tmp_path / "aot"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_an_app_is_made_tested_and_answers(
    project: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["new", "shop", "--app", "--lang", "c"]) == 0
    assert "next: cd shop, then starlette-wasm dev, then python -m pytest" in capfd.readouterr().out
    monkeypatch.chdir(project / "shop")
    assert main(["build", "--check", "--json"]) == 0
    [built] = json.loads(capfd.readouterr().out)
    assert (built["function"], built["fast path"], built["imports"]) == ("hello", "yes", "wasi_snapshot_preview1")
    assert main(["check"]) == 0
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert "2 passed" in done.stdout, done.stdout + done.stderr
    code = "from app import app; from starlette.testclient import TestClient as C\n" \
           "with C(app) as c: print(c.get('/hello?name=Bo').text, c.get('/').text)"  # fmt: skip
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100, check=True)
    assert done.stdout.splitlines()[0] == "Hello, Bo!"


@pytest.mark.parametrize("lang", [lang for lang in Lang if lang not in (Lang.C, Lang.PYTHON)])
def test_a_function_of_each_language_answers(lang: Lang, capfd: pytest.CaptureFixture[str]) -> None:
    """C is in the app above, and Python in tests/e2e/test_python_component.py."""
    assert main(["new", "greet-er", "--lang", lang.value, "--path", "/hi"]) == 0
    if LANGUAGES[lang].then is not None:  # npm install, once for all tests
        Path("functions/greet-er/v1/src/node_modules").symlink_to(node_tools() / "node_modules")
    capfd.readouterr()
    assert main(["build", "greet-er", "--json"]) == 0
    [built] = json.loads(capfd.readouterr().out)
    assert built["memory"] != "0 KiB"
    assert main(["call", "greet-er", "--path", "/hi?name=Zoe"]) == 0
    assert capfd.readouterr().out == "Hello, Zoe!\n"
    [rule] = yaml.safe_load(Path("wasm.yaml").read_text())["rules"]
    assert rule == {"pathPattern": "/hi", "functionName": "greet-er", "policy": "edge-none"}


@pytest.mark.parametrize("lang", list(Lang))
def test_each_language_has_its_files(lang: Lang, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["new", "f", "--lang", lang.value, "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert all(Path(file).exists() for file in made["files"])
    sources = Path("functions/f/v1/src")
    assert not [file for file in sources.rglob("*") if file.is_file() and re.search("__[A-Z]+__", file.read_text())]
    assert yaml.safe_load(Path("functions/f/v1/function.yaml").read_text())["build"]["watch"] == ["src"]
    assert LANGUAGES[lang].sdk.keys() <= {str(file.relative_to("functions/f/v1")) for file in sources.iterdir()}


def test_what_comes_next_fits_into_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["new", "shop", "--app", "--lang", "javascript"]) == 0
    *_, first, second, third, fourth = capsys.readouterr().out.splitlines()
    assert (first, second) == ("  cd shop", "  npm install --prefix functions/hello/v1/src")
    assert (third, fourth) == ("  starlette-wasm dev", "  python -m pytest")


def test_a_pattern_becomes_a_path_to_try(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["new", "f", "--path", "/f/{user}/{rest:path}"]) == 0
    assert "starlette-wasm call f --path '/f/user/rest?name=Ada'" in capsys.readouterr().out
    assert 'wasm.request("/f/user/rest?name=Ada")' in Path("tests/test_f.py").read_text()


def test_what_a_policy_lacks_is_noted(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["new", "f", "--lang", "python"]) == 0
    assert "the policy edge-none allows 256 pages: let it have one with maxMemoryPages: 1024" in capsys.readouterr().out
    assert main(["new", "g", "--policy", "mine"]) == 0
    told = capsys.readouterr().out
    assert "there is no policy mine yet: write policies/mine.yaml, and policiesDir: policies into wasm.yaml" in told
    assert main(["new", "shop", "--app", "--lang", "python"]) == 0
    assert "polic" not in capsys.readouterr().out.replace("policies/own.yaml", "")


def test_a_module_is_taken_in(capsys: pytest.CaptureFixture[str]) -> None:
    Path("wasm.yaml").write_text(
        "# mine\nfunctionsDir: functions\nrules:\n  - {pathPattern: /a, functionName: a} # one\n"
    )
    shutil.copytree(GUESTS, "guests", ignore=lambda folder, names: [n for n in names if not n.endswith("cgi_env.wasm")])
    assert main(["new", "a", "--from", "guests/cgi_env.wasm"]) == 0
    told = capsys.readouterr().out
    assert "protocol: cgi" in told
    assert "policy: maxMemoryPages: at least " in told
    assert Path("functions/a/v1/function.yaml").read_text() == "protocol: cgi\n"
    text = Path("wasm.yaml").read_text()
    assert "# mine" in text
    assert "# one" in text
    assert main(["check"]) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["new", "-x"], "No such option"),
        (["new", "9x"], "'9x' is not a name for a function"),
        (["new", "f", "--from", "nope.wasm"], "nope.wasm: cannot be read"),
        (["new", "f", "--from", "text.wasm"], "would not load: failed to load module text.wasm"),
        (["new", "f", "--lang", "cobol"], "cobol"),
        (
            ["new", "f", "--from", "f.rs"],
            "f.rs: is a source, and --from takes a module; begin with starlette-wasm new f",
        ),
        (["build"], "no such file: 'wasm.yaml'"),
    ],
)
def test_mistakes_have_a_remedy(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("text.wasm").write_text("hello")
    Path("f.rs").write_text("fn main() {}")
    assert main(arguments) != 0
    assert message in " ".join(capsys.readouterr().err.split())


def test_what_is_there_is_not_overwritten(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["new", "f"]) == 0
    source = Path("functions/f/v1/src/f.c")
    source.write_text("mine")
    assert main(["new", "f"]) == 1
    assert "functions/f/v1: is there already; choose another name" in capsys.readouterr().err
    assert source.read_text() == "mine"


class TestBuild:
    """Builds whose commands are Python's, so that they take no compiler."""

    @pytest.fixture(autouse=True)
    def function(self, project: Path) -> Path:
        folder = project / "functions/f/v1"
        (folder / "src").mkdir(parents=True)
        (project / "wasm.yaml").write_text("rules: [{pathPattern: /f, functionName: f}]\n")
        shutil.copy(GUESTS / "hello.wasm", folder / "src/given.wasm")
        return folder

    def write(self, folder: Path, command: object, **more: object) -> None:
        (folder / "function.yaml").write_text(yaml.safe_dump({"build": {"command": command, **more}}))

    def test_the_module_takes_its_place(self, function: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.write(function, "cp src/given.wasm {output}")
        assert main(["build", "f@1"]) == 0
        assert "wasi_snapshot_preview1" in capsys.readouterr().out
        assert (function / "f.wasm").read_bytes() == (GUESTS / "hello.wasm").read_bytes()
        assert not (function / ".build").exists()

    def test_an_output_of_its_own_is_taken(self, function: Path) -> None:
        self.write(function, ["cp src/given.wasm src/made.wasm", "true"], output="src/made.wasm")
        assert main(["build"]) == 0
        assert (function / "f.wasm").exists()

    def test_a_module_that_would_not_load_is_kept_out(self, function: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (function / "f.wasm").write_bytes(b"before")
        (function / "src/given.wasm").write_bytes(b"\0asm\1\0\0\0\x01\x7f")
        self.write(function, "cp src/given.wasm {output}")
        assert main(["build"]) == 1
        assert f"failed to load module {function / 'f.wasm'}" in capsys.readouterr().err
        assert (function / "f.wasm").read_bytes() == b"before"

    def test_a_compiler_is_quoted(self, function: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.write(function, "sh -c 'echo src/f.c:3:1: error: no >&2; exit 4'")
        assert main(["build"]) == 1
        told = capsys.readouterr().err
        begin, rest = told.split("\n", 1)
        assert begin == "building f v1 with sh; a first build takes longest"
        assert rest == "starlette-wasm build: f v1: sh ended with exit code 4\nsrc/f.c:3:1: error: no\n"

    def test_other_bytes_each_time_are_told(self, function: Path, capsys: pytest.CaptureFixture[str]) -> None:
        script = function / "src/make.py"
        script.write_text(
            "import os, sys\n"
            "given = open('src/given.wasm', 'rb').read()\n"
            "open(sys.argv[1], 'wb').write(given + bytes([0, 9, 1, 120]) + os.urandom(7))\n"
        )
        self.write(function, f"{sys.executable} src/make.py {{output}}")
        assert main(["build"]) == 0
        assert main(["build", "--check"]) == 1
        assert "two builds of the same sources gave different bytes" in capsys.readouterr().err

    @pytest.mark.parametrize(
        ("command", "message"),
        [
            ("nonesuch {output}", "there is no program nonesuch; install it"),
            ("true", "the command wrote no module; let it write {output}"),
            ("A=b", "build.command names no program"),
            ("cp 'x", "cannot be split into words"),
            (
                "cp src/given.wasm > {output}",
                "build.command has >, and runs without a shell; write the commands as a list",
            ),
            ("cd src", "build.command has cd, and runs without a shell"),
            ("cp src/given.wasm {out}", "build.command has {out}; did you mean output?"),
        ],
    )
    def test_a_wrong_command_has_a_remedy(
        self, function: Path, capsys: pytest.CaptureFixture[str], command: str, message: str
    ) -> None:
        self.write(function, command)
        assert main(["build"]) == 1
        assert message in capsys.readouterr().err

    def test_what_npx_runs_is_named(self, function: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.write(function, "npx --no-install --prefix src nonesuch -o {output}")
        assert main(["build"]) == 1
        told = capsys.readouterr().err
        assert "nonesuch ended with exit code " in told
        assert f"; run npm install --prefix {function / 'src'}" in told
        (function / "src/node_modules").mkdir()
        assert main(["build"]) == 1
        assert "npm install" not in capsys.readouterr().err

    def test_a_missing_toolchain_names_its_line(
        self, function: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(toolchains, "find", lambda each: toolchains.Found(each, problem="is not here"))
        self.write(function, "zig cc -o {output}")
        assert main(["build"]) == 1
        told = "starlette-wasm build: f v1: zig is not here; to install it, run:\n  python -m pip install ziglang\n"
        assert capsys.readouterr().err.endswith(told)

    def test_what_has_no_build_is_told(self, function: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (function / "function.yaml").write_text("protocol: edge\n")
        assert main(["build"]) == 1
        assert "no function has a build in its function.yaml" in capsys.readouterr().err
        assert main(["build", "f"]) == 1
        assert "function.yaml: has no build; write build:" in capsys.readouterr().err
        assert main(["build", "g"]) == 1
        assert "function not found: g; known functions: f" in capsys.readouterr().err
        assert main(["build", "f@7"]) == 1
        assert "function not found: f v7; known versions: 1" in capsys.readouterr().err
        self.write(function, "cp src/given.wasm {output}")
        assert main(["build", "f@v1"]) == 0

    def test_a_cache_stays_between_builds(
        self, function: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        old = tmp_path / "cache/starlette-wasm-builds/old"
        old.mkdir(parents=True)
        os.utime(old, (1, 1))
        gone = old.with_name("other.lock")  # is listed, and cannot be looked at, as one that is removed meanwhile
        gone.symlink_to("nothing")
        self.write(function, "sh -c 'cp src/given.wasm $0; echo x >> $1/builds' {output} {cache}")
        assert main(["build"]) == main(["build"]) == 0
        [kept] = (each for each in (tmp_path / "cache/starlette-wasm-builds").iterdir() if each.suffix != ".lock")
        assert (kept / "builds").read_text() == "x\nx\n"

    def test_what_a_killed_build_left_is_taken_away(self, function: Path) -> None:
        (function / ".build/made").mkdir(parents=True)
        (function / ".build/made/f.wasm").write_text("half of it")
        self.write(function, "cp src/given.wasm {output}")
        assert main(["build"]) == 0
        assert not (function / ".build").exists()

    def test_a_quick_build_is_only_a_beginning(self, function: Path) -> None:
        shutil.copy(GUESTS / "echo.wasm", function / "src/quick.wasm")
        self.write(function, "cp src/given.wasm {output}", quick="cp src/quick.wasm {output}")
        [buildable] = buildables(function.parents[1])
        built = build(buildable, quick=True)
        assert built.changed
        assert (function / "f.wasm").read_bytes() == (GUESTS / "echo.wasm").read_bytes()
        assert is_quick(buildable.module)
        assert is_stale(buildable)
        assert main(["build"]) == 0
        assert (function / "f.wasm").read_bytes() == (GUESTS / "hello.wasm").read_bytes()
        assert not is_quick(buildable.module)
        assert not is_stale(buildable)

    def test_pulled_commands_run_after_a_yes(
        self, function: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
        manifest = yaml.safe_dump({"build": {"command": "sh -c 'touch ran; cp src/given.wasm $0' {output}"}})
        part = shutil.copy(GUESTS / "hello.wasm", tmp_path / "part")
        place.place(function.parents[1], "f", "1", part, manifest)
        assert main(["build"]) == 1
        told = capsys.readouterr().err
        assert f"{function / 'function.yaml'} was pulled. Its build runs on this machine" in told
        assert "\n  sh -c 'touch ran; cp src/given.wasm $0' {output}\n" in told
        assert "build: its build is not allowed yet; read it, and add --allow" in told
        assert not (function / "ran").exists()
        assert main(["build", "--allow"]) == main(["build"]) == 0  # the second time it is known
        assert (function / "ran").exists()

    def test_dev_runs_no_pulled_commands(self, function: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
        self.write(function, "touch ran", quick="touch quick")
        (function / place.PULLED).touch()
        [buildable] = buildables(function.parents[1])
        with pytest.raises(BuildError, match=r"touch ran\n  touch quick\nto allow it, run starlette-wasm build f@1"):
            build(buildable, quick=True)
        consent.allow(function, buildable.spec)
        self.write(function, "touch ran", quick="touch other")
        [changed] = buildables(function.parents[1])
        assert consent.lines_to_allow(function, buildable.spec) == []
        assert consent.lines_to_allow(function, changed.spec) == ["touch ran", "touch other"]

    def test_builds_of_one_version_take_turns(
        self, function: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        self.write(
            function, "sh -c 'touch begun; while [ ! -e go ]; do sleep 0.05; done; cp src/given.wasm $0' {output}"
        )
        [buildable] = buildables(function.parents[1])
        first = threading.Thread(target=build, args=(buildable,))
        first.start()
        wait_until((function / "begun").exists)
        stopped = Commands()
        stopped.stop()
        with pytest.raises(Stopped):  # while it waits for its turn
            build(buildable, commands=stopped)
        second = threading.Thread(target=build, args=(buildable,))
        second.start()
        said = ""

        def waits() -> bool:
            nonlocal said
            said += capsys.readouterr().err
            return said.count("f v1: waits for another build of it to end") == 2

        wait_until(waits)
        assert (function / ".build/made").is_dir()
        (function / "go").touch()
        first.join()
        second.join()
        assert (function / "f.wasm").read_bytes() == (GUESTS / "hello.wasm").read_bytes()

    def test_what_was_built_quickly_is_not_shipped_unsaid(
        self, function: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        self.write(function, "cp src/given.wasm {output}", quick="cp src/given.wasm {output}")
        [buildable] = buildables(function.parents[1])
        build(buildable, quick=True)
        warning = "warning: f v1 is what dev has built quickly, by build.quick; run starlette-wasm build f@1 first"
        assert main(["lock"]) == 0
        assert warning in capsys.readouterr().err
        assert main(["push", "f", "oci://127.0.0.1:1/f"]) == 1
        assert warning in capsys.readouterr().err
        assert main(["build"]) == main(["lock"]) == 0
        assert "warning" not in capsys.readouterr().err

    def test_variables_stand_in_front(self, function: Path) -> None:
        self.write(function, "TARGET=src/given.wasm sh -c 'cp $TARGET $0' {output}")
        assert main(["build"]) == 0
        assert os.environ.get("TARGET") is None


def test_an_unknown_language_is_said_plainly(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["new", "x", "--lang", "rusty"]) == 2
    assert "Invalid value for '--lang': 'rusty' is not one of 'c', 'zig', 'rust'" in capsys.readouterr().err

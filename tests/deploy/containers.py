"""Containers under runc, restricted as a Deployment asks for it, with volumes as the kubelet makes them."""

from __future__ import annotations

import json
import os
import platform
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PROFILE = Path("/usr/share/containers/seccomp.json")
"""Of Debian's golang-github-containers-common, which buildah needs."""
UNITS = {"Mi": 1 << 20, "Gi": 1 << 30}
_NAMESPACES = ("mount", "pid", "ipc", "uts")
"""Without a network of its own a container listens on this machine, so that tests can ask it."""
_SYSTEM: list[dict[str, Any]] = [
    {"destination": "/proc", "type": "proc", "source": "proc"},
    {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755", "size=65536k"]},
]


@dataclass(slots=True)
class Container:
    """A container of a pod: what its entry in a Deployment says, ready for runc."""

    name: str
    root: Path
    command: Sequence[str]
    environ: dict[str, str] = field(default_factory=dict)
    mounts: list[tuple[Path, str, bool]] = field(default_factory=list)
    """(folder here, path inside, read-only)."""
    memory: int = 256 << 20
    user: int = 10001
    group: int = 10001

    def config(self) -> dict[str, Any]:
        """Return the document that runc takes: no capabilities, no new privileges, a read-only root."""
        return {
            "ociVersion": "1.0.2",
            "process": {
                "user": {"uid": self.user, "gid": self.group, "additionalGids": [self.group]},
                "args": list(self.command),
                "env": [f"{name}={value}" for name, value in self.environ.items()],
                "cwd": "/app",
                "capabilities": {},
                "noNewPrivileges": True,
            },
            "root": {"path": str(self.root), "readonly": True},
            "hostname": self.name,
            "mounts": _SYSTEM + [_bind(*each) for each in self.mounts],
            "linux": {
                "namespaces": [{"type": each} for each in _NAMESPACES],
                "seccomp": seccomp_profile(),
                "resources": {"memory": {"limit": self.memory}, "devices": [{"allow": False, "access": "rwm"}]},
            },
        }


def seccomp_profile() -> dict[str, Any]:
    """Return the default profile of container runtimes, for a container without capabilities, as runc takes it."""
    given = json.loads(PROFILE.read_text())
    machine = {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]
    rules = [
        {key: each[key] for key in ("names", "action", "args", "errnoRet") if each.get(key)}
        for each in given["syscalls"]
        if not each.get("includes", {}).get("caps") and machine in each.get("includes", {}).get("arches", [machine])
    ]
    return {"defaultAction": given["defaultAction"], "defaultErrnoRet": given["defaultErrnoRet"], "syscalls": rules}


def _bind(source: Path, destination: str, read_only: bool) -> dict[str, Any]:
    options = ["rbind", "ro" if read_only else "rw"]
    return {"destination": destination, "type": "bind", "source": str(source), "options": options}


class Runc:
    """Runs containers, and removes what is left of them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._state = folder / "runc"
        self._started: list[tuple[str, subprocess.Popen[bytes]]] = []

    def start(self, container: Container) -> Started:
        """Start a container; its output goes to a file."""
        number = len(self._started)
        name = f"starlette-wasm-{os.getpid()}-{number}-{container.name}"
        bundle = self._folder / f"bundle-{number}"
        bundle.mkdir()
        (bundle / "config.json").write_text(json.dumps(container.config()))
        log = bundle / "log"
        command = [runc(), "--root", str(self._state), "run", "--bundle", str(bundle), name]
        with log.open("wb") as output:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        self._started.append((name, process))
        return Started(name, process, log, self._state)

    def run(self, container: Container, within: float = 240) -> tuple[int, str]:
        """Run a container to its end; gives its exit code and output."""
        started = self.start(container)
        return started.process.wait(within), started.output

    def close(self) -> None:
        """End and remove all containers."""
        for name, process in self._started:
            subprocess.run(
                [runc(), "--root", str(self._state), "delete", "--force", name], capture_output=True, check=False
            )
            process.wait(60)


@dataclass(frozen=True, slots=True)
class Started:
    """A container that was started."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path
    state: Path

    @property
    def output(self) -> str:
        return self.log.read_text(errors="replace")

    def terminate(self) -> None:
        """Send SIGTERM, as the kubelet does; runc passes it on."""
        self.process.send_signal(signal.SIGTERM)

    def memory(self) -> tuple[int, int]:
        """Return limit and use of its memory in bytes, as its cgroup has them."""
        shown = subprocess.run(
            [runc(), "--root", str(self.state), "events", "--stats", self.name],
            capture_output=True, text=True, timeout=60, check=True,
        )  # fmt: skip
        usage = json.loads(shown.stdout)["data"]["memory"]["usage"]
        return usage["limit"], usage["usage"]

    def status(self) -> dict[str, str]:
        """Return what the kernel has of its first process: capabilities, user, seccomp."""
        state = subprocess.run(
            [runc(), "--root", str(self.state), "state", self.name],
            capture_output=True, text=True, timeout=60, check=True,
        )  # fmt: skip
        lines = Path(f"/proc/{json.loads(state.stdout)['pid']}/status").read_text().splitlines()
        return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}


def runc() -> str:
    """Return the path of runc; it must be there."""
    found = shutil.which("runc", path=f"{os.environ['PATH']}:/usr/sbin")
    assert found is not None
    return found


def empty_volume(folder: Path, group: int | None) -> Path:
    """Make a folder as the kubelet makes an emptyDir: root's, open to all, or to the group of the pod (fsGroup)."""
    folder.mkdir()
    if group is None:
        folder.chmod(0o777)
    else:
        os.chown(folder, 0, group)
        folder.chmod(0o2777)
    return folder


def config_volume(folder: Path, files: dict[str, str]) -> Path:
    """Make a folder as the kubelet makes that of a ConfigMap: links through ``..data``."""
    data = folder / "..2026_01_01"
    data.mkdir(parents=True)
    (folder / "..data").symlink_to(data.name)
    for name, text in files.items():
        (data / name).write_text(text)
        (folder / name).symlink_to(f"..data/{name}")
    return folder


def bytes_of(quantity: str) -> int:
    """Return the bytes of a quantity, such as 256Mi."""
    return int(quantity[:-2]) * UNITS[quantity[-2:]]


def wait_for(condition: Any, started: Started, within: float = 120) -> None:
    """Wait until a condition holds, while the container runs."""
    until = time.monotonic() + within
    while not condition():
        assert started.process.poll() is None, started.output
        assert time.monotonic() < until, started.output
        time.sleep(0.05)

"""Builds the image of a project by its Dockerfile without Docker, as ``scripts/image`` and ``tests/deploy`` do.

buildah runs the instructions, the base is made of Debian's packages, and pip takes wheels from a folder of the context:
during the build nothing is asked of a network.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import tomllib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from wheels import PackError, from_index, pack_installed

ROOT = Path(__file__).resolve().parents[1]
PROGRAMS = ("mmdebstrap", "buildah")
"""What is needed beside Python; each is a package of Debian with the same name."""
SUITE, PYTHON = "bookworm", "3.11"
"""The release of Debian whose packages are the base, and the version of its Python."""
SBOM = "cyclonedx-bom"
_EARLY = "async-timeout"
"""What redis wants below Python 3.11.3: that of Debian is 3.11.2."""
_PACKAGES = (
    "base-files", "ca-certificates", "coreutils", "dash", "findutils", "python-is-python3", "python3-venv", "sed",
)  # fmt: skip
_HOOKS = (
    "printf '%s\\n' root:x:0:0:root:/root:/bin/sh >\"$1\"/etc/passwd",
    "printf '%s\\n' root:x:0: >\"$1\"/etc/group",
    'cat "$1"/usr/share/ca-certificates/mozilla/*.crt >"$1"/etc/ssl/certs/ca-certificates.crt',
    'rm -rf "$1"/usr/share/doc "$1"/usr/share/man "$1"/usr/share/locale "$1"/usr/share/lintian "$1"/usr/share/info',
)
"""What the scripts of packages would make, as they do not run, and what an image does without."""
_SAMPLE = (
    "Dockerfile", ".dockerignore", "pyproject.toml", "README.md", "LICENSE", "requirements-dev.lock",
    "scripts/build_native.py", "starlette_wasm", "policies", "sdk", "sample_app",
)  # fmt: skip
"""What the Dockerfile of the sample app copies from the repository."""
_SHOWN = 6


class ImageError(Exception):
    """The image cannot be made; the text is the reason."""


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer of an image."""

    digest: str
    size: int
    """Bytes, as they are pulled."""
    folders: tuple[tuple[str, int], ...]
    """The largest folders, with the bytes of their files, unpacked."""


def missing(*programs: str) -> list[str]:
    """Return which programs are not there."""
    return [each for each in programs if shutil.which(each, path=_path()) is None]


def _path() -> str:
    return f"{os.environ.get('PATH', '')}:/usr/sbin"


def run(*command: str | Path, **environ: str) -> str:
    """Run a command to its end, and return what it printed. Raises ImageError."""
    given = [str(each) for each in command]
    try:
        done = subprocess.run(
            given, env={**os.environ, "PATH": _path(), **environ}, capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        raise ImageError(f"{given[0]} is not there; on Debian: apt-get install {given[0]}") from None
    if done.returncode != 0:
        lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        raise ImageError("\n".join([f"{' '.join(given[:4])} ... ended with {done.returncode}:", *lines[-15:]]))
    return done.stdout


class Builder:
    """Makes images in a folder of its own: base, wheels and buildah's storage serve all of them."""

    def __init__(self, folder: Path, *, installed: bool = False) -> None:
        """Take ``installed``: wheels are packed from this environment if its Python is that of the base."""
        self.folder = folder
        self._installed = installed
        self._base: str | None = None
        self._wheels: Path | None = None

    def buildah(self, *arguments: str | Path) -> str:
        """Run buildah on the storage of this builder."""
        storage = ("--root", self.folder / "storage", "--runroot", self.folder / "run", "--storage-driver", "vfs")
        return run("buildah", *storage, *arguments)

    def base(self) -> str:
        """Return the name of the base; it is made of Debian's packages, once. Raises ImageError."""
        if self._base is None:
            context = self.folder / "base"
            context.mkdir()
            apt = context / "apt.conf"
            apt.write_text(run("apt-config", "dump", "Acquire"))
            sources = Path("/etc/apt/sources.list.d/debian.sources")
            known = [sources] if sources.exists() and f"Suites: {SUITE}" in sources.read_text() else []
            hooks = [f"--customize-hook={each}" for each in _HOOKS]
            run(
                "mmdebstrap", "--mode=root", "--variant=extract", f"--include={','.join(_PACKAGES)}",
                f"--aptopt={apt}", *hooks, SUITE, context / "base.tar", *known, SOURCE_DATE_EPOCH="0",
            )  # fmt: skip
            (context / "Dockerfile").write_text("FROM scratch\nADD base.tar /\n")
            self._build(context, "base")
            (context / "base.tar").unlink()
            self._base = "localhost/base"
        return self._base

    def try_out(self) -> None:
        """Make the base, and run a command in it. Raises ImageError if this machine does not let that be done."""
        container = self.buildah("from", "--pull-never", self.base()).strip()
        self.buildah("run", "--isolation", "chroot", container, "--", "true")
        self.buildah("rm", container)

    def wheels(self) -> Path:
        """Return the folder with the wheels of the package, of all that the images have, and of the SBOM's tool."""
        if self._wheels is None:
            folder = self.folder / "wheels"
            folder.mkdir()
            command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, ROOT]
            run(*command, SOURCE_DATE_EPOCH="0")
            wanted = [*requirements(), SBOM, _EARLY]
            lock = ROOT / "requirements-dev.lock"
            try:
                if self._installed and f"{sys.version_info[0]}.{sys.version_info[1]}" == PYTHON:
                    pack_installed(wanted, folder)
                else:
                    from_index(wanted, folder, PYTHON, lock)
            except PackError as error:
                raise ImageError(str(error)) from None
            self._wheels = folder
        return self._wheels

    def build(self, project: Path, name: str, base: str | None = None) -> None:
        """Build the image of a project. Raises ImageError."""
        with tempfile.TemporaryDirectory(dir=self.folder, prefix="context-") as scratch:
            context = Path(scratch)
            _copy(project, context)
            shutil.copytree(self.wheels(), context / "wheels", dirs_exist_ok=True)
            self._build(context, name, "--build-arg", f"BASE={base or self.base()}", "--build-arg", "PIP_NO_INDEX=1")

    def unpack(self, name: str) -> Path:
        """Return the root folder of a container of an image that was built."""
        container = self.buildah("from", "--pull-never", f"localhost/{name}").strip()
        return Path(self.buildah("mount", container).strip())

    def export(self, name: str) -> Path:
        """Return the folder of the OCI layout of an image that was built."""
        layout = self.folder / f"{name}.oci"
        self.buildah("push", "--quiet", f"localhost/{name}", f"oci:{layout}:latest")
        return layout

    def digests(self, name: str) -> list[str]:
        """Return the digests of the layers of an image that was built, unpacked, the lowest first."""
        found = json.loads(self.buildah("inspect", "--type", "image", f"localhost/{name}"))
        return list(found["OCIv1"]["rootfs"]["diff_ids"])

    def _build(self, context: Path, name: str, *arguments: str) -> None:
        # All times are 0: with the same base, wheels and project the layers have the same bytes.
        self.buildah(
            "build", "--isolation", "chroot", "--timestamp", "0", "--no-cache", *arguments, "--tag", name, context
        )


def requirements() -> list[str]:
    """Return what the package needs, with the extras that the images have."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    text = (ROOT / "Dockerfile").read_text().partition('"starlette-wasm[')[2].partition("]")[0]
    extras = [each for extra in text.split(",") for each in project["optional-dependencies"][extra]]
    return sorted({*project["dependencies"], *extras})


def _copy(project: Path, context: Path) -> None:
    """Copy what the build needs: the repository has more."""
    if project != ROOT:
        shutil.copytree(project, context, dirs_exist_ok=True, ignore=shutil.ignore_patterns(".git", ".venv"))
        return
    for name in _SAMPLE:
        target = context / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if (project / name).is_dir():
            shutil.copytree(project / name, target, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
        else:
            shutil.copy(project / name, target)


def layers(layout: Path) -> list[Layer]:
    """Return the layers of an image, the lowest first."""
    [described] = json.loads((layout / "index.json").read_bytes())["manifests"]
    manifest = json.loads(_blob(layout, described["digest"]).read_bytes())
    return [Layer(each["digest"], each["size"], _folders(_blob(layout, each["digest"]))) for each in manifest["layers"]]


def _blob(layout: Path, digest: str) -> Path:
    return layout / "blobs" / digest.replace(":", "/")


def _folders(archive: Path) -> tuple[tuple[str, int], ...]:
    sizes: Counter[str] = Counter()
    with tarfile.open(archive) as entries:
        for entry in entries:
            sizes["/".join(entry.name.split("/")[:2])] += entry.size
    return tuple(sizes.most_common(_SHOWN))


def show(found: list[Layer]) -> None:
    """Print the layers with their digests, sizes and largest folders."""
    for number, layer in enumerate(found):
        print(f"layer {number}: {layer.size / 1e6:.1f} MB  {layer.digest}")
        for folder, size in layer.folders:
            print(f"    {size / 1e6:6.1f} MB  /{folder}")
    print(f"in all: {sum(layer.size for layer in found) / 1e6:.1f} MB to be pulled")


def main() -> int:
    """Build, print what is in the image, and build again if that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("project", type=Path, nargs="?", default=ROOT)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--base")
    parser.add_argument("--twice", action="store_true")
    options = parser.parse_args()
    project = options.project.resolve()
    if not (project / "Dockerfile").is_file():
        parser.error(f"{project} has no Dockerfile")
    if lacking := missing(*PROGRAMS):
        parser.error(f"needs {' '.join(lacking)}; on Debian: apt-get install {' '.join(lacking)}")
    if options.out is not None and options.out.exists():
        parser.error(f"{options.out} is there already")
    with tempfile.TemporaryDirectory(prefix="starlette-wasm-image-") as scratch:
        begin = time.monotonic()
        builder = Builder(Path(scratch), installed=True)
        try:
            builder.build(project, "image", options.base)
            print(f"made in {time.monotonic() - begin:.0f} s")
            layout = builder.export("image")
            show(layers(layout))
            if options.twice:
                builder.build(project, "again", options.base)
                if builder.digests("again") != builder.digests("image"):
                    raise ImageError("a second build gives other layers")
                print("a second build gives the same layers")
        except ImageError as error:
            print(f"scripts/image: {error}", file=sys.stderr)
            return 1
        if options.out is not None:
            shutil.move(layout, options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""The CNCF Wasm OCI artifact layout, written; and what Spin, wash, wkg and ORAS write, read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ...protocols.small_json import load_small
from .errors import RegistryError
from .reference import digest_of, is_digest

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.wasm.config.v0+json"
LAYER = "application/wasm"
_LAYERS = (
    LAYER,
    "application/vnd.wasm.content.layer.v1+wasm",
    "application/vnd.module.wasm.content.layer.v1+wasm",
    "application/vnd.bytecodealliance.wasm.component.layer.v0+wasm",
)
NAMESPACE = "dev.starlette-wasm."
MAX_MODULE = 64 << 20
_MAGIC = b"\0asm"
_KINDS = {b"\x01\0\0\0": "module", b"\x0d\0\x01\0": "component"}
_TITLE = "org.opencontainers.image.title"


@dataclass(frozen=True, slots=True)
class Layer:
    """The Wasm layer of an artifact."""

    digest: str
    size: int
    title: str = ""


@dataclass(frozen=True, slots=True)
class Artifact:
    """A manifest, read: the layer to pull and the annotations beside it."""

    layer: Layer
    annotations: Mapping[str, str] = field(default_factory=dict)

    def ours(self, key: str) -> str | None:
        """Return an annotation of this project, such as ``name``, ``version`` or ``function.yaml``."""
        return self.annotations.get(NAMESPACE + key)


def kind_of(module: bytes) -> str:
    """Return ``module`` or ``component``, by the first bytes. Raises RegistryError."""
    if module[:4] != _MAGIC:
        raise RegistryError("the layer is not a WebAssembly binary")
    kind = _KINDS.get(module[4:8])
    if kind is None:
        raise RegistryError(f"the layer has an unknown version of the binary format: {module[4:8].hex()}")
    return kind


def build(module: bytes, annotations: Mapping[str, str], created: str) -> tuple[bytes, bytes]:
    """Return config and manifest for a module; the same input gives the same bytes.

    ``created`` is a time (RFC 3339). It belongs to the module rather than to the push, so that pushing the same
    module twice gives one digest.
    """
    layer = digest_of(module)
    system = "wasip2" if kind_of(module) == "component" else "wasip1"
    config: dict[str, Any] = {"created": created, "architecture": "wasm", "os": system, "layerDigests": [layer]}
    if system == "wasip2":
        config["component"] = {"exports": [], "imports": [], "target": None}
    encoded = _encode(config)
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": {"mediaType": CONFIG, "digest": digest_of(encoded), "size": len(encoded)},
        "layers": [{"mediaType": LAYER, "digest": layer, "size": len(module)}],
        "annotations": dict(sorted(annotations.items())),
    }
    return encoded, _encode(manifest)


def read(manifest: bytes, source: str, component: str | None = None) -> Artifact:
    """Find the Wasm layer of an artifact. ``component`` picks one of a Spin app. Raises RegistryError."""
    document = read_json(manifest, source)
    config = document.get("config")
    kind = str(config.get("mediaType")) if isinstance(config, dict) else ""
    if "helm" in kind:
        raise RegistryError("is a Helm chart, not a function", source=source)
    if "manifests" in document:
        raise RegistryError("is an index of several artifacts", source=source, hint="pull one of them by its digest")
    layers = document.get("layers")
    if not isinstance(layers, list):
        raise RegistryError("has no layers", source=source)
    found = [layer for each in layers if (layer := _layer(each)) is not None]
    if component is not None:
        found = [layer for layer in found if component in (layer.title, layer.title.removesuffix(".wasm"))]
    if not found:
        what = f"layer called {component!r}" if component else "WebAssembly layer"
        raise RegistryError(f"has no {what} (its config is {kind or 'unknown'!r})", source=source)
    if len(found) > 1:
        names = ", ".join(layer.title or layer.digest for layer in found)
        raise RegistryError(f"has several modules: {names}", source=source, hint="pick one with --component")
    (layer,) = found
    if layer.size > MAX_MODULE:
        raise RegistryError(f"its module has {layer.size} bytes, more than {MAX_MODULE}", source=source)
    annotations = document.get("annotations")
    pairs = annotations.items() if isinstance(annotations, dict) else ()
    return Artifact(layer, {key: value for key, value in pairs if isinstance(value, str)})


def _layer(each: Any) -> Layer | None:
    if not isinstance(each, dict):
        return None
    digest, size, kind = each.get("digest"), each.get("size"), each.get("mediaType")
    if not isinstance(digest, str) or not is_digest(digest):
        return None
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        return None
    annotations = each.get("annotations")
    title = annotations.get(_TITLE, "") if isinstance(annotations, dict) else ""
    title = title if isinstance(title, str) else ""
    return Layer(digest, size, title) if kind in _LAYERS or title.endswith(".wasm") else None


def read_json(data: bytes, source: str) -> dict[str, Any]:
    """Read a JSON object of a registry. Raises RegistryError."""
    try:
        document = load_small(data)
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise RegistryError("is not a JSON object of a reasonable size", source=source)
    return document


def _encode(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, separators=(",", ":"), sort_keys=True).encode()

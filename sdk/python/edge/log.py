"""Lines of the log, with a level that the host takes over."""

from __future__ import annotations

from wit_world.imports import host


def debug(message: object) -> None:
    _write("DEBUG", message)


def info(message: object) -> None:
    _write("INFO", message)


def warn(message: object) -> None:
    _write("WARN", message)


def error(message: object) -> None:
    _write("ERROR", message)


def _write(level: str, message: object) -> None:
    host.log(f"{level} {message}".replace("\n", " "))

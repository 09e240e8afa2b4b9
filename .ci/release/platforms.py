"""The platforms and Pythons that a bundle is made for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

PYTHONS = ("3.11", "3.12", "3.13", "3.14")


@dataclass(frozen=True)
class Platform:
    """A system that bundles are made for.

    Attributes:
        uv: what `uv pip compile --python-platform` calls it.
        tags: what `pip download --platform` calls it; pip adds no older manylinux by itself.
        markers: its values of the environment markers of PEP 508.
        needs: what stands on the page and in the bundle about it.
    """

    name: str
    uv: str
    tags: tuple[str, ...]
    markers: dict[str, str]
    needs: str
    is_windows: bool = False

    @property
    def archive(self) -> str:
        """The ending of its archives."""
        return "zip" if self.is_windows else "tar.gz"


def _manylinux(machine: str) -> tuple[str, ...]:
    """Tags of a system with glibc 2.28, from the newest on."""
    modern = [f"manylinux_2_{minor}_{machine}" for minor in range(28, 16, -1)]
    old = [f"manylinux2014_{machine}"]
    if machine == "x86_64":
        old += ["manylinux_2_12_x86_64", "manylinux2010_x86_64", "manylinux_2_5_x86_64",
                "manylinux1_x86_64"]  # fmt: skip
    return (*modern, *old, f"linux_{machine}")


def _linux(machine: str) -> Platform:
    return Platform(
        f"linux-{machine}",
        f"{machine}-manylinux_2_28",
        _manylinux(machine),
        {"sys_platform": "linux", "platform_system": "Linux", "os_name": "posix",
         "platform_machine": machine},
        "Linux with glibc 2.28 or newer (RHEL 8, Debian 10, Ubuntu 18.10)",
    )  # fmt: skip


PLATFORMS = (
    Platform(
        "windows-x64",
        "x86_64-pc-windows-msvc",
        ("win_amd64",),
        {"sys_platform": "win32", "platform_system": "Windows", "os_name": "nt",
         "platform_machine": "AMD64"},
        "Windows 10, Windows Server 2016 or newer, 64 bits",
        is_windows=True,
    ),
    _linux("x86_64"),
    _linux("aarch64"),
    Platform(
        "macos-arm64",
        "aarch64-apple-darwin",
        ("macosx_14_0_arm64",),
        {"sys_platform": "darwin", "platform_system": "Darwin", "os_name": "posix",
         "platform_machine": "arm64"},
        "macOS 14 or newer on Apple silicon",
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Target:
    """A platform with a Python."""

    platform: Platform
    python: str

    @property
    def name(self) -> str:
        """As archives are called, such as ``linux-x86_64-py312``."""
        return f"{self.platform.name}-py{self.python.replace('.', '')}"

    def markers(self) -> dict[str, Any]:
        """Values of all environment markers there."""
        return {
            **self.platform.markers,
            "python_version": self.python,
            "python_full_version": f"{self.python}.0",
            "implementation_name": "cpython",
            "implementation_version": f"{self.python}.0",
            "platform_python_implementation": "CPython",
            "platform_release": "",
            "platform_version": "",
        }


def targets(only: tuple[str, ...] = ()) -> Iterator[Target]:
    """All targets, or those whose name begins with one of ``only``.

    Raises:
        ValueError: one of ``only`` fits none.
    """
    known = [Target(platform, python) for platform in PLATFORMS for python in PYTHONS]
    for word in only:
        if not any(target.name.startswith(word) for target in known):
            names = ", ".join(target.name for target in known)
            raise ValueError(f"There is no target {word}. Known: {names}.")
    yield from (t for t in known if not only or t.name.startswith(only))

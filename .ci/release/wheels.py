"""The wheels of a bundle: resolved for its platform, downloaded, each pinned by its hash."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

from packaging.utils import parse_wheel_filename

from release.platforms import Target

EXTRAS = ("lab", "keyring", "oracle")  # what an authority may want and cannot fetch later


def resolve(source: Path, target: Target) -> str:
    """The requirements of a target with hashes, as uv finds them; binary wheels only.

    pip would evaluate environment markers for the machine that it runs on, without a word: Windows
    would lack colorama, and Linux packages would come in. So uv resolves for the target, and what
    it prints holds no marker any more.

    Raises:
        RuntimeError: a package has no wheel there, and would need a compiler.
    """
    extras = [word for extra in EXTRAS for word in ("--extra", extra)]
    command = [
        sys.executable, "-m", "uv", "pip", "compile", "pyproject.toml", *extras,
        "-c", "constraints.txt", "--only-binary", ":all:", "--generate-hashes",
        "--python-platform", target.platform.uv, "--python-version", target.python,
        "--no-emit-index-url", "--no-header", "--no-annotate", "--quiet",
    ]  # fmt: skip
    environment = {**os.environ, "MACOSX_DEPLOYMENT_TARGET": "14.0"}
    done = subprocess.run(command, cwd=source, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{target.name}: not every package has a wheel there.\n{done.stderr}")
    return done.stdout


def download(requirements: str, target: Target, folder: Path) -> None:
    """Download the wheels of a resolved target; pip compares each with its hash.

    Raises:
        subprocess.CalledProcessError: pip failed, and has said why.
    """
    listed = folder.parent / "resolved.txt"
    listed.write_text(requirements, encoding="utf-8")
    tags = [word for tag in target.platform.tags for word in ("--platform", tag)]
    command = [
        sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check",
        "--no-deps", "--only-binary", ":all:", "--require-hashes", "-r", str(listed),
        *tags, "--python-version", target.python, "--implementation", "cp", "-d", str(folder),
    ]  # fmt: skip
    subprocess.run(command, check=True)
    listed.unlink()


def pinned(folder: Path) -> str:
    """A requirements file that names each wheel of the folder by version and by hash alone."""
    lines = []
    for wheel in sorted(folder.glob("*.whl")):
        name, version, *_ = parse_wheel_filename(wheel.name)
        digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
        lines.append(f"{name}=={version} --hash=sha256:{digest}")
    return "\n".join(sorted(lines)) + "\n"

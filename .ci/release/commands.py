"""The commands of the release."""

from __future__ import annotations

import io
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import click

from release import archives, inventory, wheels
from release.notes import notes
from release.platforms import PLATFORMS, Target, targets
from release.rehearsal import rehearse

ROOT = Path(__file__).resolve().parents[2]
TEMPLATES = Path(__file__).resolve().parent / "templates"


@click.group()
def main() -> None:
    """Make a release, and prove it."""


@main.command()
@click.option("--to", "folder", type=click.Path(path_type=Path), required=True)
@click.option("--only", multiple=True, help="Targets by the beginning of their name.")
@click.option("--no-bundles", is_flag=True, help="Wheel and sdist only; needs no registry.")
@click.option("--draft", is_flag=True, help="CHANGELOG.md need not name the version yet.")
def build(folder: Path, only: tuple[str, ...], no_bundles: bool, draft: bool) -> None:
    """Build wheel, sdist, bundles, SBOMs, release notes and SHA256SUMS from the last commit."""
    folder = folder.absolute()
    if folder.exists() and any(folder.iterdir()):
        raise click.ClickException(f"{folder} is not empty.")
    if changed := _git("status", "--porcelain").strip():
        raise click.ClickException(f"Commit first; what differs would not be in it:\n{changed}")
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        source = _committed(Path(scratch) / "source")
        text = (source / "CHANGELOG.md").read_text(encoding="utf-8")
        said = notes(text, version_of(source), is_draft=draft)
        build_packages(source, folder)
        for target in () if no_bundles else targets(only):
            path = bundle(source, folder, target, Path(scratch) / target.name)
            click.echo(f"{path.name}: {path.stat().st_size / 1e6:.0f} MB")
    (folder / "release_notes.md").write_text(said, encoding="utf-8")
    made = [path for path in folder.iterdir() if path.name != "SHA256SUMS"]
    (folder / "SHA256SUMS").write_text(archives.sums(made), encoding="utf-8")
    click.echo(archives.sums(made))


@main.command()
@click.option("--only", multiple=True, help="Targets by the beginning of their name.")
def resolve(only: tuple[str, ...]) -> None:
    """Prove that every target has a binary wheel of every package; nothing is downloaded."""
    for target in targets(only):
        found = wheels.resolve(ROOT, target)
        click.echo(f"{target.name}: {len(re.findall(r'^[^ ].*==', found, re.M))} wheels")


main.command()(rehearse)


def version_of(source: Path) -> str:
    """The version of a source tree."""
    text = (source / "pyproject.toml").read_text(encoding="utf-8")
    match = re.search(r'^version = "([^"]+)"$', text, re.M)
    if match is None:
        raise ValueError("pyproject.toml names no version.")
    return match[1]


def build_packages(source: Path, folder: Path) -> None:
    """Wheel and sdist, by the pinned build requirements of pyproject.toml."""
    command = [sys.executable, "-m", "build", "--outdir", str(folder), str(source)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def bundle(source: Path, folder: Path, target: Target, scratch: Path) -> Path:
    """One archive with everything that an offline installation on a target needs."""
    version = version_of(source)
    held = scratch / "wheels"
    held.mkdir(parents=True)
    wheels.download(wheels.resolve(source, target), target, held)
    (own,) = folder.glob("d2i_workbook-*.whl")
    shutil.copy(own, held)
    files = contents(held, target, version)
    name = f"d2i-workbook-{version}-{target.name}"
    path = folder / f"{name}.{target.platform.archive}"
    archives.pack({f"{name}/{inside}": content for inside, content in files.items()}, path)
    (folder / f"{name}.cdx.json").write_bytes(files["sbom.cdx.json"])
    return path


def contents(held: Path, target: Target, version: str) -> dict[str, bytes]:
    """The files of a bundle: name to content."""
    inside = inventory.read_wheels(held)
    script = "install.ps1" if target.platform.is_windows else "install.sh"
    files = {
        script: _filled(script, target, version),
        "README.txt": _filled("README.txt", target, version),
        "requirements.txt": wheels.pinned(held).encode(),
        "sbom.cdx.json": inventory.sbom(inside, target).encode(),
        "licences.csv": inventory.licence_table(inside).encode(),
    }
    for wheel in inside:
        files[f"wheels/{wheel.path.name}"] = wheel.path.read_bytes()
        for name, text in wheel.licence_texts().items():
            files[f"licences/{wheel.name}/{name.removeprefix('licenses/')}"] = text
    return files


def _filled(template: str, target: Target, version: str) -> bytes:
    text = (TEMPLATES / template).read_text(encoding="utf-8")
    words = {
        "VERSION": version,
        "TARGET": target.name,
        "PYTHON": target.python,
        "NEEDS": target.platform.needs,
        "SYSTEM": target.platform.markers["platform_system"],
        "MACHINE": target.platform.markers["platform_machine"],
        "SCRIPT": "install.ps1" if target.platform.is_windows else "install.sh",
    }
    for word, value in words.items():
        text = text.replace(f"@{word}@", value)
    if target.platform.is_windows:  # Notepad and PowerShell 5 like these
        text = text.replace("\n", "\r\n")
    return text.encode()


def _committed(folder: Path) -> Path:
    """The last commit's files, and no others."""
    archive = subprocess.run(
        ["git", "-C", str(ROOT), "archive", "--format=tar", "HEAD"], capture_output=True, check=True
    ).stdout
    with tarfile.open(fileobj=io.BytesIO(archive)) as held:
        archives.unpack(held, folder)
    return folder


def _git(*words: str) -> str:
    return subprocess.run(
        ["git", "-C", str(ROOT), *words], capture_output=True, text=True, check=True
    ).stdout


__all__ = ["PLATFORMS", "main"]

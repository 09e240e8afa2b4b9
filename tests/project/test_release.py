"""The release command: what can be held without a registry, and what asks one (`registry`)."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.project.test_versions import CONSTRAINTS, PROJECT

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / ".ci"))  # the command stands beside the product

from release import archives, commands, inventory, notes, wheels  # noqa: E402
from release.platforms import PLATFORMS, targets  # noqa: E402

LINUX, WINDOWS = (next(targets((name,))) for name in ("linux-x86_64", "windows-x64"))
OWN = """Metadata-Version: 2.4
Name: d2i-workbook
Version: 0.1.0
License-Expression: MIT
Requires-Dist: colours>=1; sys_platform == "win32"
Requires-Dist: helper
Requires-Dist: server; extra == "lab"
"""


@pytest.fixture
def held(tmp_path: Path) -> Path:
    """A folder of small wheels."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    for name, text in {
        "d2i_workbook-0.1.0": OWN,
        "colours-1.0": "Name: colours\nVersion: 1.0\nLicense: BSD\n and a long text\n",
        "helper-2.0": "Name: Helper\nVersion: 2.0\nAuthor: N. N.\n"
        "Classifier: License :: OSI Approved :: MIT License\n",
    }.items():
        with zipfile.ZipFile(folder / f"{name}-py3-none-any.whl", "w") as wheel:
            wheel.writestr(f"{name}.dist-info/METADATA", text)
            wheel.writestr(f"{name}.dist-info/licenses/LICENSE", "the words")
            wheel.writestr(f"{name}.dist-info/licenses/more/", "")
    return folder


def test_the_list_of_components_is_valid_and_says_who_needs_whom(held: Path) -> None:
    inside = inventory.read_wheels(held)
    text = inventory.sbom(inside, WINDOWS)
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    bom = json.loads(text)
    needs = {d["ref"]: d.get("dependsOn", []) for d in bom["dependencies"]}
    assert needs["pkg:pypi/d2i-workbook@0.1.0"] == [
        "pkg:pypi/colours@1.0", "pkg:pypi/helper@2.0",
    ]  # fmt: skip
    digests = {c["hashes"][0]["content"] for c in bom["components"]}
    assert digests < set(re.findall("sha256:(.{64})", wheels.pinned(held)))
    other = json.loads(inventory.sbom(inside, LINUX))
    needs = {d["ref"]: d.get("dependsOn", []) for d in other["dependencies"]}
    assert needs["pkg:pypi/d2i-workbook@0.1.0"] == ["pkg:pypi/helper@2.0"]


def test_a_bundle_depends_on_its_content_alone(
    held: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved = tmp_path / "elsewhere" / "wheels"
    shutil.copytree(held, moved, copy_function=shutil.copyfile)
    for target in (LINUX, WINDOWS):
        both = []
        for place, now in ((held, 1_000_000_000.0), (moved, 1_900_000_000.0)):
            monkeypatch.setattr("time.time", lambda now=now: now)
            files = commands.contents(place, target, "0.1.0")
            path = tmp_path / f"{place.parent.name}.{target.platform.archive}"
            archives.pack(files, path)
            both.append(path.read_bytes())
            assert str(tmp_path).encode() not in b"".join(files.values())
            assert not any(name.endswith("/") for name in files)
        assert both[0] == both[1]


@pytest.mark.parametrize("target", [LINUX, WINDOWS], ids=lambda target: target.name)
def test_a_bundle_holds_all_that_its_script_needs(held: Path, target: object) -> None:
    files = commands.contents(held, target, "0.1.0")  # type: ignore[arg-type]
    names = {name for name in files if not name.startswith(("wheels/", "licences/"))}
    script = "install.ps1" if target is WINDOWS else "install.sh"
    assert names == {script, "README.txt", "requirements.txt", "sbom.cdx.json", "licences.csv"}
    for name in (script, "README.txt"):
        text = files[name].decode("ascii")  # PowerShell 5 takes other letters for another encoding
        assert not re.search(r"@[A-Z]+@", text)
        assert (b"\r\n" in files[name]) == (target is WINDOWS)
        assert "://" not in text
    for word in ("--no-index", "--require-hashes", "--only-binary", "--isolated"):
        assert word in files[script].decode()
    listed = files["requirements.txt"].decode().splitlines()
    assert len(listed) == len([name for name in files if name.startswith("wheels/")]) == 3
    assert all(re.fullmatch(r"[a-z0-9-]+==\S+ --hash=sha256:[0-9a-f]{64}", line) for line in listed)
    table = files["licences.csv"].decode().splitlines()
    assert table[1:] == [
        "colours,1.0,BSD,licences/colours", "d2i-workbook,0.1.0,MIT,licences/d2i-workbook",
        "helper,2.0,MIT License,licences/helper",
    ]  # fmt: skip
    assert files["licences/helper/LICENSE"] == b"the words"


@pytest.mark.skipif(sys.platform != "linux", reason="the script is that of Linux")
@pytest.mark.parametrize(
    ("words", "python", "code", "said"),
    [
        ([], "", 2, "name the folder"),
        (["--help"], "", 2, "name the folder"),
        (["full"], sys.executable, 2, "is not empty"),
        (["env"], "/bin/false", 3, "does not start"),
        (["env"], "wrong", 3, "this bundle is for cpython"),
    ],
)
def test_the_script_refuses_what_does_not_fit(
    held: Path, tmp_path: Path, words: list[str], python: str, code: int, said: str
) -> None:
    import platform

    name = f"linux-{platform.machine()}-py{sys.version_info[0]}{sys.version_info[1]}"
    if not list(targets()) or name not in {target.name for target in targets()}:
        pytest.skip(f"there is no bundle for {name}")
    script = commands.contents(held, next(targets((name,))), "0.1.0")["install.sh"]
    (tmp_path / "install.sh").write_bytes(script)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("mine")
    other = tmp_path / "wrong"
    other.write_text("#!/bin/sh\necho pypy 3.12\n")
    other.chmod(0o700)
    given = str(other) if python == "wrong" else python
    done = subprocess.run(
        ["sh", "install.sh", *words], cwd=tmp_path, capture_output=True, text=True,
        env={"PATH": "/usr/bin:/bin", "PYTHON": given},
    )  # fmt: skip
    assert (done.returncode, said in done.stderr) == (code, True), done.stderr
    assert not (tmp_path / "env").exists()


def test_release_notes_are_those_of_the_version() -> None:
    log = "# Changelog\n\n## Unreleased\n\n## 0.2.0 (2026-12-01)\n\n- New.\n\n## 0.1.0\n\n- Old.\n"
    assert notes.notes(log, "0.2.0", is_draft=False) == "# D2I workbook 0.2.0\n\n- New.\n"
    for wrong in (log.replace("## Unreleased\n", "## Unreleased\n\n- Soon.\n"), "## 0.1.0\n"):
        with pytest.raises(ValueError, match=r"belongs under `## 0\.2\.0"):
            notes.notes(wrong, "0.2.0", is_draft=False)


def test_every_target_has_a_pin_for_all_that_it_asks_for() -> None:
    """Markers are those of the target: evaluated here, Windows would lack some of its packages."""
    extras = PROJECT["optional-dependencies"]
    asked = [*PROJECT["dependencies"], *(r for name in wheels.EXTRAS for r in extras[name])]
    names = {canonicalize_name(Requirement(text).name) for text in asked}
    pins = {}
    for target in targets():
        there = target.markers()
        held = {c.name for c in CONSTRAINTS if c.marker is None or c.marker.evaluate(there)}
        assert names <= held, target.name
        pins[target.name] = held
    assert "colorama" in pins["windows-x64-py312"] - pins["linux-x86_64-py312"]
    assert "appnope" in pins["macos-arm64-py312"] - pins["windows-x64-py312"]
    assert len(pins) == 16


def test_the_page_names_every_platform() -> None:
    page = (ROOT / "docs" / "install.md").read_text(encoding="utf-8")
    assert all(f"`{platform.name}`" in page for platform in PLATFORMS)


@pytest.mark.registry
def test_no_target_needs_a_compiler() -> None:
    found = {
        target.name: wheels.resolve(ROOT, target) for target in targets()
    }  # raises if one does
    assert all(len(re.findall(r"^\S+==\S+", text, re.M)) > 80 for text in found.values())
    assert not any("://" in text for text in found.values())

"""What is inside a bundle: its components (CycloneDX) and their licences, read from the wheels."""

from __future__ import annotations

import csv
import email.message
import email.parser
import hashlib
import io
import json
import re
import uuid
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from cyclonedx.model import HashAlgorithm, HashType
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.contact import OrganizationalEntity
from cyclonedx.model.license import DisjunctiveLicense, LicenseExpression
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from release.platforms import Target

_IS_A_LICENCE = re.compile(
    r"(?:^|/)(?:licen[cs]es?/.+|(?:licen[cs]e|copying|notice|authors)[^/]*)$", re.I
)
_OTHER = "not stated"


@dataclass(frozen=True)
class Wheel:
    """A wheel and what it says of itself."""

    path: Path
    metadata: email.message.Message

    @property
    def name(self) -> str:
        """Its name as the registry writes it."""
        return canonicalize_name(str(self.metadata["Name"]))

    @property
    def version(self) -> str:
        """Its version."""
        return str(self.metadata["Version"])

    @property
    def licence(self) -> str:
        """Its licence: an SPDX expression where it gives one, else its own words in short."""
        if expression := self.metadata["License-Expression"]:
            return str(expression)
        said = [c for c in self.metadata.get_all("Classifier", []) if c.startswith("License :: ")]
        named = [c.rpartition(" :: ")[2] for c in said if not c.endswith("OSI Approved")]
        if named:
            return " AND ".join(sorted(named))
        return str(self.metadata["License"] or _OTHER).strip().splitlines()[0][:80]

    def needs(self, target: Target) -> set[str]:
        """Names of the packages that it asks for on a target, without extras."""
        asked = (Requirement(text) for text in self.metadata.get_all("Requires-Dist", []))
        there = {**target.markers(), "extra": ""}
        return {
            canonicalize_name(r.name) for r in asked if r.marker is None or r.marker.evaluate(there)
        }

    def licence_texts(self) -> dict[str, bytes]:
        """Its licence files: name to content."""
        with zipfile.ZipFile(self.path) as archive:
            inside = {name.partition(".dist-info/")[2]: name for name in archive.namelist()}
            return {
                short: archive.read(name)
                for short, name in inside.items()
                if _IS_A_LICENCE.search(short) and not short.endswith("/")
            }


def read_wheels(folder: Path) -> list[Wheel]:
    """All wheels of a folder, by name."""
    found = []
    for path in folder.glob("*.whl"):
        with zipfile.ZipFile(path) as archive:
            (name,) = [
                n for n in archive.namelist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", n)
            ]
            text = archive.read(name).decode("utf-8", "replace")
        found.append(Wheel(path, email.parser.Parser().parsestr(text, headersonly=True)))
    return sorted(found, key=lambda wheel: wheel.name)


def sbom(wheels: Iterable[Wheel], target: Target) -> str:
    """The bundle's components as CycloneDX 1.6 (JSON), without paths and times: the same bytes."""
    by_name = {wheel.name: wheel for wheel in wheels}
    components = {name: _component(wheel) for name, wheel in by_name.items()}
    bom = Bom(components=[c for name, c in components.items() if name != "d2i-workbook"])
    bom.metadata.component = components["d2i-workbook"]
    for name, wheel in by_name.items():
        needed = sorted(wheel.needs(target) & components.keys())
        bom.register_dependency(components[name], [components[n] for n in needed])
    digests = "".join(sorted(_digest(wheel) for wheel in by_name.values()))
    bom.serial_number = uuid.uuid5(uuid.NAMESPACE_OID, f"{target.name} {digests}")
    made = json.loads(JsonV1Dot6(bom).output_as_string())
    del made["metadata"]["timestamp"]
    return json.dumps(made, indent=1, ensure_ascii=False) + "\n"


def _component(wheel: Wheel) -> Component:
    purl = PackageURL("pypi", None, wheel.name, wheel.version)
    licence = wheel.licence
    if wheel.metadata["License-Expression"]:
        licences = [LicenseExpression(licence)]
    else:
        licences = [] if licence == _OTHER else [DisjunctiveLicense(name=licence)]
    author = wheel.metadata["Author"] or wheel.metadata["Maintainer"]
    return Component(
        type=ComponentType.LIBRARY,
        name=wheel.name,
        version=wheel.version,
        purl=purl,
        bom_ref=str(purl),
        licenses=licences,
        description=wheel.metadata["Summary"],
        supplier=OrganizationalEntity(name=str(author)) if author else None,
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=_digest(wheel))],
    )


def _digest(wheel: Wheel) -> str:
    return hashlib.sha256(wheel.path.read_bytes()).hexdigest()


def licence_table(wheels: Iterable[Wheel]) -> str:
    """Name, version and licence of each component, as CSV."""
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(("package", "version", "licence", "its text is in"))
    for wheel in wheels:
        folder = f"licences/{wheel.name}" if wheel.licence_texts() else "the wheel holds none"
        writer.writerow((wheel.name, wheel.version, wheel.licence, folder))
    return table.getvalue()

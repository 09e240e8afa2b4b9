"""Release notes, from CHANGELOG.md."""

from __future__ import annotations

import re


def notes(changelog: str, version: str, *, is_draft: bool) -> str:
    """What changed in a version.

    Args:
        changelog: the text of CHANGELOG.md.
        is_draft: take what stands under *Unreleased*.

    Raises:
        ValueError: the version has no heading, or something is still unreleased.
    """
    parts = dict(re.findall(r"^## (\S+)[^\n]*\n((?:(?!^## ).*\n?)*)", changelog, re.M))
    unreleased = parts.get("Unreleased", "").strip()
    if is_draft:
        return f"# D2I workbook {version} (draft)\n\n{unreleased}\n"
    if unreleased or version not in parts:
        raise ValueError(
            f"CHANGELOG.md: what stands under `Unreleased` belongs under `## {version} (date)`."
        )
    return f"# D2I workbook {version}\n\n{parts[version].strip()}\n"

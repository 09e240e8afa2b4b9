"""Every form in which a secret can be written: plain, in URLs, JSON, HTML, Python, ODBC, base64.

A text may mix forms (a URL in which some characters are encoded, inside JSON, inside HTML), so that
whole texts are not compared. Each character of the secret is looked for in each of its own forms.
"""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Iterable
from urllib.parse import quote

_AMPERSAND = "&(?:amp;)*"  # HTML within HTML
INSIDE_WORDS = 6  # characters of a secret that is looked for inside of words too


def secret_patterns(secrets: Iterable[str]) -> list[re.Pattern[str]]:
    """Patterns that find the secrets however they are written, the longest secret first."""
    known = sorted({secret for secret in secrets if secret}, key=lambda s: (-len(s), s))
    return [re.compile(_pattern(secret)) for secret in known]


def _pattern(secret: str) -> str:
    plain = "".join(_character(character) for character in secret)
    if len(secret) < INSIDE_WORDS:
        return rf"(?<!\w){plain}(?!\w)"
    return "|".join([plain, *_base64_forms(secret)])


def _character(character: str) -> str:
    """One character in each form that it takes; letters and digits are seldom encoded."""
    if character.isascii() and character.isalnum():
        return character
    forms = {
        re.escape(character),
        _percent(character),
        re.escape(html.escape(character)).replace("\\&", "&").replace("&", _AMPERSAND)
        if character != "&"
        else f"{_AMPERSAND}amp;",
        rf"{_AMPERSAND}\#0*{ord(character)};",
        rf"{_AMPERSAND}\#[xX]0*{_any_case(f'{ord(character):x}')};",
        *_escapes(character),
    }
    if character == " ":
        forms |= {r"\+"}
    if character == "}":
        forms |= {r"\}\}", _percent(character) * 2}  # within the braces of ODBC
    if character == "'":
        forms |= {"''", "&apos;"}
    quoted = r"\\*" if character in "\"'\\/" else ""  # one or more levels of quoting
    return f"{quoted}(?:{'|'.join(sorted(forms, key=lambda form: (-len(form), form)))})"


def _percent(character: str) -> str:
    """Percent-encoded, once or twice, in either case."""
    encoded = quote(character, safe="")
    if encoded == character:  # it is never encoded by Python, but may be by others
        encoded = "".join(f"%{byte:02X}" for byte in character.encode("utf-8", "surrogatepass"))
    return "".join(f"%(?:25)?{_any_case(pair)}" for pair in encoded.split("%")[1:])


def _escapes(character: str) -> list[str]:
    """As JSON and Python write it in quotes, at any level of quoting."""
    in_json = json.dumps(character)[1:-1]
    forms = [in_json, repr(character)[1:-1], ascii(character)[1:-1]]
    forms += [f"\\u{ord(character):04x}"] if ord(character) < 0x10000 else []
    forms += [f"\\x{ord(character):02x}"] if ord(character) < 0x100 else []
    escaped = {text for text in forms if text != character and text.startswith("\\")}
    return [
        "".join(
            r"\\+" if part == "\\" else _any_case(part) if len(part) > 1 else re.escape(part)
            for part in re.findall(r"\\|[^\\]+", text)
        )
        for text in escaped
    ]


def _any_case(text: str) -> str:
    return "".join(
        f"[{c.lower()}{c.upper()}]" if c in "abcdefABCDEF" else re.escape(c) for c in text
    )


def _base64_forms(secret: str) -> list[str]:
    """The part of a base64 text that stands for the secret, wherever the secret begins in it.

    A login is encoded as ``user:password``; where the password begins decides its letters.
    """
    held = secret.encode("utf-8", "surrogatepass")
    forms = []
    for before in range(3):
        encoded = base64.b64encode(b"\0" * before + held).decode().rstrip("=")
        first = (0, 2, 3)[before]  # letters that also hold bits of what stands before
        certain = encoded[first : len(encoded) - (1 if (before + len(held)) % 3 else 0)]
        forms.append(re.escape(certain).replace(r"\+", "[+-]").replace("/", "[/_]"))
    return forms

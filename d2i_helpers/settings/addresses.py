"""Which parts of an address may be saved, and which are secrets.

A secret is never recognised by its looks: there are too many ways to write one. An address is
taken apart by the library that will use it (SQLAlchemy for a database, `urlsplit` for others, the
rules of ODBC for a connection string), and only parts that are known to be harmless are kept.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote, unquote_plus, urlsplit

from sqlalchemy import URL
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

HIDDEN = "…"
ODBC_KEY = "odbc_connect"
_SHORTEST = 8  # characters; a shorter part whose meaning is unknown is not searched for

# Names in the query of a database's address whose values are no secrets, without case, blanks,
# hyphens and underscores: of SQLAlchemy, ODBC, libpq, SQLite and oracledb, in this order.
_HARMLESS_KEYS = """
    driver odbcautotranslate unicoderesults ansi autocommit fastexecutemany charset
    server address addr network port host database dsn app applicationname wsid encrypt
    trustservercertificate hostnameincertificate trustedconnection integratedsecurity
    authentication applicationintent multisubnetfailover transparentnetworkipresolution
    marsconnection multipleactiveresultsets connectretrycount connectretryinterval
    connectiontimeout connecttimeout logintimeout timeout querytimeout ansinpw autotranslate
    language quotedid regional packetsize useftmonly usefmtonly keepalive keepaliveinterval
    longasmax ipaddresspreference serverspn failoverpartner columnencryption tdsversion
    sslmode sslnegotiation sslrootcert sslcert sslkey passfile
    service sslcrl sslcrldir sslminprotocolversion
    sslmaxprotocolversion sslsni gssencmode krbsrvname channelbinding targetsessionattrs
    hostaddr keepalives keepalivesidle keepalivesinterval keepalivescount tcpusertimeout
    fallbackapplicationname clientencoding options loadbalancehosts requireauth
    mode cache uri nolock immutable checksamethread cachedstatements detecttypes isolationlevel
    servicename sid purity encoding nencoding events threaded configdir walletlocation
    ssldnmatch sslserverdnmatch sslservercertdn protocol retrycount retrydelay expiretime
    sdu thickmode libdir tcpconnecttimeout
"""
_LOGIN_KEYS = frozenset({"user", "username", "uid", "userid"})
_SECRET_KEYS = re.compile(r"(?:password|passwd|pwd|passphrase|passcode|secret|token|key|sig|sas)$")

_FILES = frozenset({"sqlite", "sqlcipher"})  # databases whose "database" is a path
_HOST = re.compile(r"(?:\(localdb\)|[\w.\\-])+(?:,\d{1,5})?|[0-9A-Fa-f:.]+")
_DATABASE = re.compile(r"[\w.$# -]*")
_VALUE = re.compile(r"[\w .,:/\\{}()*~-]*")
_LOGIN = re.compile(r"[\w .@\\$-]*")
_PG_OPTIONS = re.compile(
    r"(?:\s*-c ?(?:search_path|statement_timeout|lock_timeout|timezone|client_encoding)=[\w.,]*)+"
)
_LEFT_UNREAD = re.compile(r"[\x00-\x1f]|//(?:[^@]*@)?\[[^/?\]]*\][^:/?]")
_ENDS = re.compile(r"[\s:/?#@&=;{}\[\]]")
_DIALECT = re.compile(r"[a-z][a-z0-9_]*(?:\+[a-z0-9_]+)?")
_PATH = re.compile(r"[\w./~-]*", re.ASCII)
_PLAIN_WORD = re.compile(r"[a-z]+(?:[-_][a-z]+)*")
_LOOKS_LIKE_A_LOGIN = re.compile(r"(?<=://)[^/?#@\s]*:([^/?#\s]*)(?=@)")


@dataclass
class AddressParts:
    """An address taken apart.

    Attributes:
        saved: the parts that are known to be harmless, as they may stand in a record.
        secrets: passwords and keys, decoded and as they are written.
        doubtful: texts whose meaning is unknown; they may be secrets too.
        holds_password: one part can only be a password or a key.
        holds_unknown: one part is not known to be harmless.
    """

    saved: str
    secrets: list[str] = field(default_factory=list)
    doubtful: list[str] = field(default_factory=list)
    holds_password: bool = False
    holds_unknown: bool = False


def _unreadable(saved: str, doubtful: list[str]) -> AddressParts:
    return AddressParts(saved, doubtful=doubtful, holds_password=True, holds_unknown=True)


# ------------------------------------------------------------------------------------- databases
def database_address(url: str) -> AddressParts:
    """A database's URL, taken apart as SQLAlchemy does it. Never raises."""
    scheme, _, rest = url.partition("://")
    dialect = f"{scheme}://" if _DIALECT.fullmatch(scheme) else ""
    try:
        parsed = make_url(url)
        if _LEFT_UNREAD.search(url):
            raise ValueError("SQLAlchemy reads a part of it only")
    except (ArgumentError, ValueError):  # the text of a ValueError quotes what is no port
        return _unreadable(f"{dialect}{HIDDEN}", _pieces(rest))
    has_login = parsed.username is not None
    behind_login = rest.partition("@")[2] if has_login else rest
    place, _, query = behind_login.partition("?")
    is_file = parsed.get_backend_name() in _FILES
    if "@" in (behind_login if has_login else "" if is_file else place):
        # an @ within the password: what SQLAlchemy takes for host or path may be the rest of it
        unclear = _unreadable(f"{dialect}{HIDDEN}", _pieces(rest))
        if len(parsed.password or "") >= _SHORTEST:
            _found(unclear, "", parsed.password or "", user=parsed.username)
        return unclear
    parts = AddressParts("")
    host, database = _place(parsed, parts, is_file=is_file)
    if not _LOGIN.fullmatch(parsed.username or ""):
        parts.holds_unknown = True
    if parsed.password is not None:
        written = rest.rpartition("@")[0].partition(":")[2]
        _found(parts, written, parsed.password, user=parsed.username)
    parts.saved = f"{dialect}{host}{database}{_query(query, parts)}"
    return parts


def _place(url: URL, parts: AddressParts, *, is_file: bool) -> tuple[str, str]:
    """Host with port, and database; a part that could be something else is left out."""
    host, database = url.host or "", url.database
    if host and not _HOST.fullmatch(host):
        host, parts.holds_unknown = HIDDEN, True
        parts.doubtful += _long_enough(url.host)
    elif ":" in host:
        host = f"[{host}]"
    if url.port is not None:
        host += f":{url.port}"
    if database and not is_file and not _DATABASE.fullmatch(database):
        parts.doubtful += _long_enough(database)
        database, parts.holds_unknown = HIDDEN, True
    return host, "" if database is None else f"/{database}"


def _query(query: str, parts: AddressParts) -> str:
    """The harmless part of the query; secrets are added to ``parts``."""
    kept, hidden = [], False
    for piece in query.split("&") if query else ():
        pairs = parse_qsl(piece, keep_blank_values=True)
        key, value = pairs[0] if pairs else ("", "")
        written = piece.partition("=")[2]
        if _plain(key) == _plain(ODBC_KEY):
            connection = odbc_address(value)
            parts.secrets += [*connection.secrets, *_written_odbc_secrets(written)]
            parts.doubtful += connection.doubtful
            parts.holds_password |= connection.holds_password
            parts.holds_unknown |= connection.holds_unknown
            kept.append(f"{ODBC_KEY}={connection.saved}")
        elif _is_harmless(key, value):
            kept.append(f"{key}={value}")
        else:
            hidden = True
            _judge(parts, key, value, written)
    text = "&".join([*kept, *([HIDDEN] if hidden else [])])
    return f"?{text}" if text else ""


def _judge(parts: AddressParts, key: str, value: str, written: str) -> None:
    """Note a part of a query or of a connection string that is not known to be harmless."""
    if _plain(key) in _LOGIN_KEYS and _LOGIN.fullmatch(value):
        return  # allowed in a parameter, but in no record
    if _SECRET_KEYS.search(_plain(key)):
        _found(parts, written, value)
        return
    parts.holds_unknown = True
    parts.doubtful += [*_long_enough(value), *_long_enough(written)]
    if not value:  # what stands alone has no name that would explain it
        parts.doubtful += _long_enough(key)


def _found(parts: AddressParts, written: str, meant: str, user: str | None = None) -> None:
    """Note a password or key."""
    parts.holds_password = True
    parts.secrets += [text for text in (meant, written) if text]
    if meant and user:
        parts.secrets.append(f"{user}:{meant}")  # what the header of a login holds in base64


def _is_harmless(key: str, value: str) -> bool:
    if _plain(key) == "options":
        return _PG_OPTIONS.fullmatch(value) is not None
    return _plain(key) in _harmless_keys() and _VALUE.fullmatch(value) is not None


@functools.cache
def _harmless_keys() -> frozenset[str]:
    return frozenset(_HARMLESS_KEYS.split())


def _plain(key: str) -> str:
    return re.sub(r"[\s_-]", "", key).lower()


def _long_enough(text: str | None) -> list[str]:
    return [text] if text and len(text) >= _SHORTEST else []


def _pieces(text: str) -> list[str]:
    """Every part of an unreadable address that may be its password."""
    login = text.rpartition("@")[0] or text
    parts = [login, login.partition(":")[2], login.rpartition("/")[2], *_ENDS.split(text)]
    return list(dict.fromkeys(p for part in parts for p in (part, unquote(part)) if len(p) >= 4))


# ------------------------------------------------------------------------------------------ ODBC
def odbc_pairs(text: str) -> list[tuple[str, str]]:
    """Names and values of a connection string; a value in braces holds ``}}`` for each ``}``.

    Raises:
        ValueError: a brace is not closed, or a part has no ``=``.
    """
    pairs: list[tuple[str, str]] = []
    place = 0
    while place < len(text):
        match = _ODBC_PAIR.match(text, place)
        if match is None:
            raise ValueError("not an ODBC connection string")
        place = match.end()
        if match["key"] is not None:
            braced = match["braced"]
            value = match["bare"].strip() if braced is None else braced.replace("}}", "}")
            pairs.append((match["key"].strip(), value))
    return pairs


_ODBC_PAIR = re.compile(
    r"(?:\s*(?P<key>[^=;{}]+)=\s*(?:\{(?P<braced>(?:[^}]|\}\})*)\}|(?P<bare>[^;{][^;]*|))|)\s*(?:;|$)"
)


def odbc_value(text: str) -> str:
    """A value as it stands in a connection string: in braces, with each ``}`` doubled."""
    return "{" + text.replace("}", "}}") + "}"


def odbc_address(text: str) -> AddressParts:
    """An ODBC connection string, taken apart as the driver manager does it. Never raises."""
    try:
        pairs = odbc_pairs(text)
    except ValueError:
        return _unreadable(HIDDEN, _odbc_pieces(text))
    parts = AddressParts("")
    kept, hidden = [], False
    for key, value in pairs:
        if _is_harmless(key, value):
            kept.append(f"{key}={value}")
        else:
            hidden = True
            _judge(parts, key, value, odbc_value(value)[1:-1])
    parts.saved = ";".join([*kept, *([HIDDEN] if hidden else [])])
    return parts


def _odbc_pieces(text: str) -> list[str]:
    """Every part of an unreadable connection string that may be its password."""
    parts = [text, *(part.partition("=")[2].strip(" {}") for part in text.split(";"))]
    return [part for part in parts if len(part) >= 4]


def _written_odbc_secrets(written: str) -> list[str]:
    """Passwords of a connection string as they stand in an address that encodes them."""
    separated = re.split(r"(?i);|%3b", written)
    pairs = (re.split(r"(?i)=|%3d", part, maxsplit=1) for part in separated)
    return [
        pair[1].strip()
        for pair in pairs
        if len(pair) == 2 and _SECRET_KEYS.search(_plain(unquote_plus(pair[0])))
    ]


# --------------------------------------------------------------------------------- other addresses
def web_address(url: str, *, path_is_harmless: bool = False) -> AddressParts:
    """A web address, taken apart by `urlsplit`. Never raises.

    Args:
        path_is_harmless: the path may be kept; else it counts as a key, as that of a webhook.
    """
    try:
        split = urlsplit(url if "://" in url else f"//{url}")
        host, port = split.hostname or "", split.port
    except ValueError:
        return _unreadable(HIDDEN, _pieces(url.partition("://")[2] or url))
    if "@" in f"{split.path}{split.query}{split.fragment}":
        # a / ? or # within the password: what counts as path or query is the rest of it
        return _unreadable(HIDDEN, _pieces(url.partition("://")[2] or url))
    parts = AddressParts("")
    if host and not _HOST.fullmatch(host):
        parts.holds_unknown, host = True, HIDDEN
    login, has_login, _ = split.netloc.rpartition("@")
    if has_login:
        _web_login(login, parts)
    path = _kept_path(split.path, parts, harmless=path_is_harmless)
    _web_query(split.query, split.fragment, parts)
    scheme = f"{split.scheme}://" if "://" in url else ""
    shown = f"[{host}]" if ":" in host else host
    parts.saved = f"{scheme}{shown}{f':{port}' if port is not None else ''}{path}"
    return parts


def _web_login(login: str, parts: AddressParts) -> None:
    """Note a user with a password, or a token that stands alone."""
    user, has_password, password = login.partition(":")
    if has_password:
        _found(parts, password, unquote(password), user=unquote(user))
    elif user:
        _found(parts, user, unquote(user))


def _kept_path(path: str, parts: AddressParts, *, harmless: bool) -> str:
    if not path.strip("/"):
        return path if harmless else ""
    if harmless and _PATH.fullmatch(path):
        return path
    parts.holds_unknown = True
    pieces = [piece for piece in path.split("/") if not _PLAIN_WORD.fullmatch(piece)]
    parts.doubtful += [text for piece in pieces for text in _long_enough(piece)]
    return f"/{HIDDEN}"


def _web_query(query: str, fragment: str, parts: AddressParts) -> None:
    """No query is known to be harmless: each value counts as a key."""
    if fragment:
        parts.holds_password = True
        parts.doubtful += _long_enough(fragment)
    for piece in query.split("&") if query else ():
        key, _, written = piece.partition("=")
        parts.holds_password = True
        meant = unquote_plus(written)
        if _SECRET_KEYS.search(_plain(unquote_plus(key))):
            _found(parts, written, meant)
        else:
            texts = (meant, written) if written else (unquote_plus(key), key)
            parts.doubtful += [text for part in texts for text in _long_enough(part)]


# ------------------------------------------------------------------------------------- parameters
# Parameters that are addresses.
ADDRESSES = ("database_url", "proxy", "api_base_url", "token_url", "webhook_url")


def address_parts(name: str, url: str) -> AddressParts:
    """The address that the parameter of this name holds, taken apart."""
    if name == "database_url":
        return database_address(url)
    return web_address(url, path_is_harmless=name in ("api_base_url", "token_url"))


def secrets_in_text(text: str) -> list[str]:
    """Secrets in a variable of other software that may hold an address; only what is certain."""
    if "://" not in text:
        return odbc_address(text).secrets if re.search(r"(?i)\bpwd\s*=", text) else []
    is_web = re.match(r"(?i)https?:", text) is not None
    parts = web_address(text) if is_web else database_address(text)
    return parts.secrets or _LOOKS_LIKE_A_LOGIN.findall(text)

"""The address of records on object storage: which kinds there are, and that it holds no secret."""

from __future__ import annotations

from urllib.parse import urlsplit

# by protocol, the extra that brings its package; a folder and memory need fsspec alone
EXTRAS = {
    "s3": "s3",
    "abfs": "azure",
    "abfss": "azure",
    "az": "azure",
    "gs": "gcs",
    "gcs": "gcs",
    "file": "s3",
    "memory": "s3",
}


def protocol_of(url: str) -> str:
    """The part before `://`."""
    return url.partition("://")[0]


def checked(url: str) -> str:
    """The address of a folder on object storage, without a slash at its end.

    Raises:
        ValueError: it is of no kind that is known, names no bucket, or holds credentials.
    """
    try:
        parts = urlsplit(url)
    except ValueError:  # its message quotes the address, which may hold a password
        raise ValueError("it is no address: take out brackets and unusual letters") from None
    if parts.scheme not in EXTRAS or "://" not in url:
        raise ValueError(f"write {', '.join(f'{name}://' for name in EXTRAS)} and a place in it")
    # Azure's own form names the container where others have a user: abfs://container@account…
    is_azure = EXTRAS[parts.scheme] == "azure"
    if parts.query or parts.fragment or parts.password or (parts.username and not is_azure):
        raise ValueError(
            "a key, a token or a password has no place in it: docs/object_storage.md says where "
            "credentials come from"
        )
    if parts.scheme != "file" and not (parts.netloc or parts.path.strip("/")):
        raise ValueError("it names no bucket or container")
    return url.rstrip("/")

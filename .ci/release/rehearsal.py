"""A rehearsal on Linux: install a bundle and run the demo where there is no network at all."""

from __future__ import annotations

import os
import subprocess
import tarfile
import tempfile
from pathlib import Path

import click

from release import archives

# `unshare` gives the shell a network of its own, with nothing in it but a loopback that is down
_SCRIPT = """
set -eu
if command -v ip >/dev/null; then ip link set lo up; else
  python3 -c 'import fcntl, socket, struct
s = socket.socket(); r = struct.pack("16sh", b"lo", 0x41); fcntl.ioctl(s, 0x8914, r)'; fi
if python3 -c 'import socket; socket.create_connection(("192.0.2.1", 443), 3)' 2>/dev/null; then
  echo "There is a network here: nothing would be proved."; exit 1; fi
./install.sh "$1/env"
mkdir "$1/work"; cd "$1/work"
"$1/env/bin/d2i" new w
cd w
"$1/env/bin/d2i" run --summary json
"""


@click.argument("bundle", type=click.Path(exists=True, path_type=Path))
@click.option("--python", default="python3", help="The Python to install into.")
def rehearse(bundle: Path, python: str) -> None:
    """Install BUNDLE and run a demo day in a network namespace without any network (Linux)."""
    with tempfile.TemporaryDirectory() as scratch:
        with tarfile.open(bundle) as archive:
            archives.unpack(archive, scratch)
        (inside,) = Path(scratch).iterdir()
        kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
        done = subprocess.run(
            ["unshare", "--map-root-user", "--net", "sh", "-c", _SCRIPT, "rehearsal", scratch],
            cwd=inside,
            env={**kept, "HOME": scratch, "PYTHON": python},
        )
    if done.returncode:
        raise click.ClickException(f"The rehearsal failed with {done.returncode}.")
    click.echo("Installed, laid out and run without a network.")

"""Make the pictures of the README anew, from a real run: `python docs/take_pictures.py`.

Two days of the demo run in a folder that is thrown away: fictional children, a receiver on this
machine. A Chromium takes the pictures; without a display, and without a network.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "docs" / "pictures"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome", "msedge")
COLOURS = 128  # of a picture: enough for text and bars, and a quarter of the size
# file of the picture: page of the last run (or of all runs), width and height in pixels
PICTURES = {
    "delta.png": ("03_delta.html", 1000, 1000),
    "runs.png": ("../index.html", 1300, 700),
}


def days(folder: Path) -> Path:
    """Run two days of the demo in a folder; gives that of the second run's record."""
    for part in ("notebooks", "params"):
        shutil.copytree(ROOT / part, folder / part)
    clean = {name: value for name, value in os.environ.items() if not name.startswith("D2I_")}
    clean["LOGNAME"] = "analyst"  # the record says who ran it
    for words in (["run"], ["simulate", "day"], ["run"], ["runs", "report"]):
        command = [sys.executable, "-m", "d2i_helpers", *words]
        subprocess.run(command, cwd=folder, env=clean, check=True, stdout=subprocess.DEVNULL)
    return sorted(path for path in (folder / "outputs").iterdir() if (path / "run.json").is_file())[
        -1
    ]


def take(browser: str, page: Path, to: Path, width: int, height: int) -> None:
    """Save what a browser shows of the top of a page, in few colours."""
    command = [
        browser, "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
        "--host-resolver-rules=MAP * ~NOTFOUND", "--virtual-time-budget=4000",
        f"--window-size={width},{height}", f"--screenshot={to}", page.resolve().as_uri(),
    ]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    with Image.open(to) as picture:
        picture.convert("RGB").quantize(COLOURS).save(to, optimize=True)


def main() -> None:
    """Take all pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    parser.add_argument("--browser", default=found, help="a Chromium, Chrome or Edge")
    browser = parser.parse_args().browser
    if not browser:
        sys.exit("No Chromium was found. Name one: --browser PATH")
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        record = days(Path(folder))
        for name, (page, width, height) in PICTURES.items():
            take(browser, record / page, FOLDER / name, width, height)
            print(FOLDER.relative_to(ROOT) / name)


if __name__ == "__main__":
    main()

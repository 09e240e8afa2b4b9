"""A real JupyterLab with a headless Chromium, driven over Chromium's DevTools protocol."""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import os
import re
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests

NAMES = (
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
    "chrome",
    "msedge",
)
ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
CHECKOUT = (
    "d2i_helpers", "docs", "notebooks", "outputs/README.md", "params", "README.md",
)  # fmt: skip
LONGEST_SECONDS = 120.0


def chromium() -> str:
    """The browser's program; the test is skipped where there is none.

    `D2I_TEST_BROWSER` names another one.
    """
    pytest.importorskip("jupyterlab", reason="no JupyterLab: install the extra `lab`")
    pytest.importorskip("websocket", reason="no websocket-client: install the extra `lab`")
    found = os.environ.get("D2I_TEST_BROWSER") or next(filter(None, map(shutil.which, NAMES)), None)
    if not found:
        pytest.skip("no Chromium: install one, or name it in D2I_TEST_BROWSER")
    return found


def fresh_checkout(folder: Path) -> Path:
    """The files of the project that notebooks need, in a folder without any data."""
    for name in CHECKOUT:
        there = ROOT / name
        if there.is_dir():
            shutil.copytree(there, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            (folder / name).parent.mkdir(exist_ok=True)
            shutil.copy(there, folder / name)
    # where an installation puts it, for all of an environment
    settings = folder / "home" / "config" / "jupyter_server_config.d"
    settings.mkdir(parents=True)
    shutil.copy(folder / "d2i_helpers" / "notebook" / "jupyter_server_config.json", settings)
    return folder


def environment(folder: Path) -> dict[str, str]:
    """The environment without settings of this project; packages come from the checkout.

    Nor those of the pytest that runs this test: with `-n` a notebook's cells go to two processes.
    """
    not_ours = ("D2I_", "JUPYTER", "JPY", "PYTEST_")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(not_ours)}
    return {**kept, "PYTHONPATH": str(folder), "HOME": str(folder / "home"),
            "JUPYTER_CONFIG_DIR": str(folder / "home" / "config"),
            "JUPYTER_RUNTIME_DIR": str(folder / "home" / "runtime")}  # fmt: skip


@dataclass(frozen=True)
class Lab:
    """A JupyterLab that was started as the README says."""

    url: str
    token: str

    def page(self, path: str) -> str:
        """The address of a file in JupyterLab, in a workspace of its own."""
        return f"{self.url}/lab/workspaces/test/tree/{path}?reset&token={self.token}"


@contextlib.contextmanager
def jupyter_lab(folder: Path, *words: str) -> Iterator[Lab]:
    """Start JupyterLab in a folder; ``words`` follow `jupyter lab`."""
    token = secrets.token_hex(8)
    (folder / "home").mkdir(exist_ok=True)
    command = [
        sys.executable, "-m", "jupyterlab", *words, "--no-browser", "--port=0", "--allow-root",
        f"--IdentityProvider.token={token}", "--LabApp.expose_app_in_browser=True",
        "--LabApp.news_url=None", "--LabApp.check_for_updates_class="
        "jupyterlab.handlers.announcements.NeverCheckForUpdate",
    ]  # fmt: skip
    log = folder / "home" / "jupyter.log"
    with log.open("wb") as said:
        server = subprocess.Popen(
            command, cwd=folder, env=environment(folder), stdout=said, stderr=said
        )
    try:
        found = until(lambda: re.search(r"(http://127\.0\.0\.1:\d+)/lab", log.read_text("utf-8")))
        yield Lab(found[1], token)
    finally:
        server.terminate()
        server.wait(30)


def until(question: Callable[[], Any], seconds: float = LONGEST_SECONDS) -> Any:
    """Ask again until the answer is true, and give it."""
    end = time.monotonic() + seconds
    while not (answer := question()):
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.1)
    return answer


class Browser:
    """One tab of a headless Chromium."""

    def __init__(self, address: str) -> None:
        import websocket

        self._socket = websocket.create_connection(address, timeout=LONGEST_SECONDS)
        self._numbers = itertools.count(1)

    def ask(self, method: str, **parameters: Any) -> Any:
        """One command of the DevTools protocol."""
        number = next(self._numbers)
        self._socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            answer = json.loads(self._socket.recv())
            if answer.get("id") == number:
                assert "error" not in answer, answer
                return answer["result"]

    def run(self, script: str) -> Any:
        """The value of a JavaScript expression; a promise is waited for."""
        answer = self.ask(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def look_at(self, *, width: int = 1280, height: int = 1400, dark: bool = False) -> None:
        """The size of the window, and whether the page is asked to be dark."""
        self.ask("Emulation.setDeviceMetricsOverride", width=width, height=height,
                 deviceScaleFactor=1, mobile=False)  # fmt: skip
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.ask("Emulation.setEmulatedMedia", features=[scheme])

    def picture(self, path: Path) -> None:
        """Save what the window shows."""
        shot = self.ask("Page.captureScreenshot", format="png")
        path.write_bytes(base64.b64decode(shot["data"]))


@contextlib.contextmanager
def open_browser(program: str, folder: Path) -> Iterator[Browser]:
    """A headless Chromium with a profile of its own."""
    profile = folder / "profile"
    command = [
        program, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
        "--remote-debugging-port=0", "--remote-allow-origins=*", "--no-first-run",
        f"--user-data-dir={profile}", "about:blank",
    ]  # fmt: skip
    running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        port_file = profile / "DevToolsActivePort"
        until(lambda: port_file.is_file() and port_file.read_text().strip())
        port = port_file.read_text().split()[0]
        tabs = requests.get(f"http://127.0.0.1:{port}/json", timeout=30).json()
        address = next(tab for tab in tabs if tab["type"] == "page")["webSocketDebuggerUrl"]
        browser = Browser(address)
        yield browser
        browser._socket.close()
    finally:
        running.terminate()
        running.wait(30)


# ------------------------------------------------------------------------------------ notebooks
# the only tab of the main area; `currentWidget` is none where the window has no focus
_NOTEBOOK = "[...(window.jupyterapp?.shell?.widgets?.('main') ?? [])].find(w => w.context)"


def open_notebook(browser: Browser, lab: Lab, path: str) -> None:
    """Open a notebook and wait for its kernel."""
    browser.ask("Page.navigate", url=lab.page(path))
    ready = (
        f"!!({_NOTEBOOK}?.context.path === {json.dumps(path)} && {_NOTEBOOK}.context.isReady && "
        f"{_NOTEBOOK}.sessionContext?.session?.kernel?.status === 'idle')"
    )
    until(lambda: browser.run(ready))


def is_dirty(browser: Browser) -> bool:
    """Whether JupyterLab marks the open notebook as changed."""
    return bool(browser.run(f"{_NOTEBOOK}.context.model.dirty"))


def run_all(browser: Browser) -> list[str]:
    """Run every cell; gives the errors that cells ended with."""
    browser.run(f"window.jupyterapp.shell.activateById({_NOTEBOOK}.id)")
    browser.run("void window.jupyterapp.commands.execute('notebook:run-all-cells')")
    done = (
        f"[...{_NOTEBOOK}.content.widgets].every(w => w.model.type !== 'code' || "
        "w.model.executionCount) && "
        f"{_NOTEBOOK}.sessionContext.session.kernel.status === 'idle'"
    )
    failed = (
        f"[...{_NOTEBOOK}.content.widgets].flatMap(w => w.model.outputs ? "
        "w.model.outputs.toJSON() : []).filter(o => o.output_type === 'error')"
        ".map(o => o.ename + ': ' + o.evalue)"
    )
    until(lambda: browser.run(done) or browser.run(failed))
    return list(browser.run(failed))


def shown_text(browser: Browser) -> str:
    """The text of the outputs that are on the screen."""
    shown = "[...document.querySelectorAll('.jp-OutputArea-output')]"
    return str(browser.run(f"{shown}.map(o => o.innerText).join(' ')")).strip()


def widget_text(browser: Browser) -> str:
    """The text of all widgets, also of those that are not on the screen."""
    texts = "map(w => w.outputArea?.node.innerText ?? '').join(' ')"
    return str(browser.run(f"[...{_NOTEBOOK}.content.widgets].{texts}"))


def save(browser: Browser) -> None:
    """Save the open notebook."""
    browser.run(f"{_NOTEBOOK}.context.save()")


def contents(lab: Lab, path: str) -> Any:
    """What JupyterLab's file browser shows of a folder."""
    address = f"{lab.url}/api/contents/{path}"
    return requests.get(address, params={"token": lab.token}, timeout=30).json()

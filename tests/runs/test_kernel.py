"""One notebook in one kernel: what the executed copy says is what happened.

All of it holds for a kernel that is started afresh and for one that is forked from the nursery.
"""

from __future__ import annotations

import asyncio
import functools
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from jupyter_client.manager import AsyncKernelManager
from papermill.exceptions import PapermillExecutionError

from d2i_helpers.errors import (
    KernelDied,
    LockError,
    NotebookError,
    NotebookTimeout,
    SettingsError,
)
from d2i_helpers.processes import birth
from d2i_helpers.runs import kernel, kernel_forks, kernel_pool
from d2i_helpers.runs.engine import execute
from d2i_helpers.runs.kernel_pool import KernelPool, imported_modules, start_kernel

forks = pytest.mark.skipif(not kernel_forks.CAN_FORK, reason="kernels are forked on Linux only")
no_kernel_of_ours = pytest.mark.parametrize("way", ["fresh"], indirect=True)
PARAMETERS = 'profile = "demo"\noverrides = {}\nx = 1'


def notebook(folder: Path, *cells: str) -> Path:
    """A notebook of a heading, a parameters cell and these cells."""
    parameters = nbformat.v4.new_code_cell(PARAMETERS)
    parameters.metadata.tags = ["parameters"]
    code = [nbformat.v4.new_code_cell(cell) for cell in cells]
    path = folder / "tiny.ipynb"
    heading = nbformat.v4.new_markdown_cell("# Tiny")
    nbformat.write(nbformat.v4.new_notebook(cells=[heading, parameters, *code]), path)
    return path


def statuses(path: Path) -> list[str]:
    """Status of each of the notebook's own code cells, as the executed copy has it."""
    cells = nbformat.read(path, as_version=4).cells
    return [c.metadata.papermill.status for c in cells if c.cell_type == "code"][2:]


def outputs(path: Path) -> list[Any]:
    cells = nbformat.read(path, as_version=4).cells
    return [output for c in cells if c.cell_type == "code" for output in c.outputs]


def ready_kernel(folder: Path) -> kernel_pool.Kernel:
    """A kernel that has its sockets, so that a time limit is not spent on its start."""
    started = start_kernel(folder)
    give_up = time.monotonic() + 60
    while not list(started.folder.glob("socket-*")):
        assert time.monotonic() < give_up
        time.sleep(0.05)
    return started


@pytest.fixture(scope="module")
def nursery() -> Iterator[kernel_forks.Nursery]:
    modules = ["pandas"]  # would start threads, if anything of ours does
    started = kernel_forks.Nursery(Path.cwd(), os.environ, modules)
    yield started
    started.close()
    assert started.process.returncode == 0


@pytest.fixture(autouse=True, params=["fresh", pytest.param("forked", marks=forks)])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """How the kernels of a test start."""
    if request.param == "forked":
        nursery = request.getfixturevalue("nursery")
        start = functools.partial(kernel_pool.start_kernel, nursery=nursery)
        monkeypatch.setattr(kernel, "start_kernel", start)
        monkeypatch.setitem(globals(), "start_kernel", start)
    else:
        monkeypatch.setattr(kernel_forks, "CAN_FORK", False)
    return request.param


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return tmp_path / "copy.ipynb"


def test_a_notebook_runs_on_this_python_in_private(tmp_path: Path, copy: Path, way: str) -> None:
    shown: list[Any] = []
    source = notebook(
        tmp_path,
        "import sys, os, json; from ipykernel.connect import get_connection_info\n"
        "info = json.loads(get_connection_info())\n"
        "print(x, sys.executable, info['transport'], os.environ['GIVEN'], os.getcwd())\n"
        "if os.name != 'nt': print(os.getpid() == os.getpgrp() == os.getsid(0), os.getppid())",
        "from IPython.display import display\n"
        "display({'application/x+json': {'n': 1}, 'text/plain': 'n'}, raw=True)",
    )
    started = start_kernel(tmp_path, {"GIVEN": "so"})
    assert isinstance(started.manager.provisioner.process, kernel_forks.ForkedKernel) == (
        way == "forked"
    )
    execute(
        source,
        copy,
        {"x": 5},
        kernel=started,
        on_display=lambda data: shown.append(data.get("application/x+json")),
    )
    transport = "tcp" if os.name == "nt" else "ipc"
    said = outputs(copy)[0].text.split()
    assert said[:5] == ["5", sys.executable, transport, "so", str(tmp_path)]
    if os.name != "nt":
        assert said[5] == "True"  # an interrupt goes to its whole group, and to nobody else
        assert (said[6] == str(os.getpid())) == (way == "fresh")
    assert shown == [{"n": 1}]
    assert statuses(copy) == ["completed", "completed"]
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


def test_an_error_is_kept_and_later_cells_stay_pending(tmp_path: Path, copy: Path) -> None:
    source = notebook(
        tmp_path,
        "from d2i_helpers.errors import GuardError\n"
        "raise GuardError('Too few.', hint='Look at the source.')",
        "print('never')",
    )
    with pytest.raises(PapermillExecutionError) as caught:
        execute(source, copy, {"x": 5})
    assert (caught.value.ename, caught.value.evalue) == (
        "GuardError",
        "Too few. Look at the source.",
    )
    assert statuses(copy) == ["failed", "pending"]
    # an error of ours is one message, without a traceback
    assert outputs(copy)[0].traceback == ["GuardError: Too few. Look at the source."]


@no_kernel_of_ours
def test_a_parameter_that_nobody_knows_is_refused_before_anything_runs(
    tmp_path: Path, copy: Path
) -> None:
    with pytest.raises(SettingsError, match="no place for the parameter phasee"):
        execute(notebook(tmp_path, "print('never')"), copy, {"x": 5, "phase": 1, "phasee": "full"})
    assert not copy.exists()


@pytest.mark.parametrize("ending", ["import sys; sys.exit(0)", "exit()"])
def test_a_cell_that_ends_the_notebook_is_a_failure(
    tmp_path: Path, copy: Path, ending: str
) -> None:
    with pytest.raises(NotebookError, match="ended itself"):
        execute(notebook(tmp_path, ending, "print('never')"), copy, {"x": 5})
    assert statuses(copy) == ["failed", "pending"]


def test_a_dead_kernel_is_marked(tmp_path: Path, copy: Path) -> None:
    with pytest.raises(KernelDied):
        execute(notebook(tmp_path, "import os; os._exit(1)", "print('never')"), copy, {"x": 5})
    assert statuses(copy) == ["failed", "pending"]
    assert outputs(copy)[-1].ename == "KernelDied"


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such limit")
def test_a_kernel_that_crashes_leaves_no_image_of_its_memory(tmp_path: Path, copy: Path) -> None:
    """The process may be told to by whoever starts it; the memory holds rows of children."""
    import resource

    before = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (before[1], before[1]))
    try:
        crash = notebook(tmp_path, "import resource\nresource.getrlimit(resource.RLIMIT_CORE)[0]",
                         "import os\nos.abort()")  # fmt: skip
        with pytest.raises(KernelDied):
            execute(crash, copy, {}, kernel=start_kernel(tmp_path))
    finally:
        resource.setrlimit(resource.RLIMIT_CORE, before)
    assert outputs(copy)[0]["data"]["text/plain"] == "0"
    assert not list(tmp_path.glob("core*"))


def test_a_kernel_that_died_while_it_waited_is_marked(tmp_path: Path, copy: Path) -> None:
    dead = start_kernel(tmp_path)
    os.kill(dead.manager.provisioner.pid, 9)
    with pytest.raises(KernelDied, match="before its first cell"):
        execute(notebook(tmp_path, "print('never')"), copy, {"x": 5}, kernel=dead)
    assert statuses(copy) == ["pending"]
    assert outputs(copy)[-1].ename == "KernelDied"
    assert not dead.folder.exists()


def test_a_stage_that_takes_too_long_is_interrupted(tmp_path: Path, copy: Path) -> None:
    mark = tmp_path / "rolled-back"
    source = notebook(
        tmp_path,
        f"import time, pathlib\ntry:\n    time.sleep(600)\nfinally:\n"
        f"    pathlib.Path({str(mark)!r}).touch()",
        "print('never')",
    )
    with pytest.raises(NotebookTimeout, match="limit of 6 seconds"):
        execute(source, copy, {"x": 5}, time_limit=6, kernel=ready_kernel(tmp_path))
    assert statuses(copy) == ["failed", "pending"]
    assert mark.exists()  # the cell was interrupted, not just shot


def test_prints_without_an_end_are_cut_off_and_end_in_time(
    tmp_path: Path, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernel, "MOST_PRINTED", 5000)
    source = notebook(tmp_path, "while True: print('x' * 99)")
    with pytest.raises(NotebookTimeout):
        execute(source, copy, {"x": 5}, time_limit=6, kernel=ready_kernel(tmp_path))
    text = outputs(copy)[0].text
    assert 5000 < len(text) < 5100
    assert text.endswith("[cut off: the notebook printed too much]\n")


@pytest.mark.skipif(
    not Path("/proc/self/net/tcp").exists(), reason="Linux shows its ports in /proc"
)
def test_a_kernel_opens_no_port(tmp_path: Path, copy: Path) -> None:
    cell = (
        "import os; from pathlib import Path\n"
        "own = [os.path.realpath(f) for f in Path('/proc/self/fd').iterdir()]\n"
        "tcp = [n for n in ('tcp', 'tcp6') if Path('/proc/net', n).exists()]\n"
        "rows = [r for n in tcp for r in Path('/proc/net', n).read_text().splitlines()[1:]]\n"
        "print([r for r in rows if any(f.endswith(f':[{r.split()[9]}]') for f in own)])"
    )
    execute(notebook(tmp_path, cell), copy, {"x": 5})
    assert outputs(copy)[0].text == "[]\n"


def test_folders_of_killed_runners_are_removed_and_those_in_use_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernel_pool.tempfile, "tempdir", str(tmp_path))
    left = tmp_path / f"{kernel_pool.FOLDER_PREFIX}left"
    left.mkdir()
    (left / kernel_pool.IN_USE_FILE).touch()
    used = start_kernel(tmp_path)
    try:
        kernel_pool.remove_left_folders()
        assert not left.exists()
        assert used.is_alive()
        assert (used.folder / "kernel.json").exists()
    finally:
        used.discard()
    assert not used.folder.exists()


def test_a_run_that_must_stop_does(tmp_path: Path, copy: Path) -> None:
    began: list[bool] = []
    source = notebook(
        tmp_path,
        "from IPython.display import display\n"
        "display({'application/x+json': 1, 'text/plain': 'n'}, raw=True)\n"
        "import time; time.sleep(600)",
    )
    lost = LockError("The lease was lost.")
    with pytest.raises(LockError):
        execute(
            source,
            copy,
            {"x": 5},
            on_display=lambda _: began.append(True),
            stop_reason=lambda: lost if began else None,
        )
    assert statuses(copy) == ["failed"]
    assert outputs(copy)[-1].ename == "LockError"


def test_kernels_started_ahead_are_fresh_and_know_their_modules(tmp_path: Path, way: str) -> None:
    source = notebook(tmp_path, "from d2i_helpers.staging import states\nimport json")
    assert imported_modules(source) == ["d2i_helpers.staging.states"]
    probe = tmp_path / "probe.ipynb"
    cell = nbformat.v4.new_code_cell(
        "import sys, os\nprint('d2i_helpers.staging.states' in sys.modules, 'states' in globals(), "
        "len(In), os.environ.get('D2I_KERNEL_MODULES'))"
    )
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), probe)
    pool = KernelPool([source, source, source, source], tmp_path, {})
    try:
        copy = tmp_path / "copy.ipynb"
        execute(probe, copy, {}, kernel=pool.take())
        assert outputs(copy)[0].text.split() == ["True", "False", "2", "None"]
        assert (pool._nursery is not None) == (way == "forked")
        waiting = [kernel.folder for kernel in pool._waiting]
        assert len(waiting) == 2
    finally:
        pool.close()
    assert not any(folder.exists() for folder in waiting)


@no_kernel_of_ours
@pytest.mark.parametrize("given", ["-p", "overrides"])
def test_papermill_saves_no_id_of_a_child(tmp_path: Path, given: str) -> None:
    path = notebook(tmp_path, SEEN, "raise ValueError('an end')")
    out = tmp_path / "out.ipynb"
    ids, key = "90017090, 90018090", "https://example.org/hooks/secret-key"
    words = ["-p", "person_ids", ids, "-p", "webhook_url", key]
    if given == "overrides":
        words = ["-y", f'overrides: {{person_ids: "{ids}", webhook_url: "{key}"}}']
    words += ["--engine", "d2i", "-k", "python3", "--language", "python"]
    command = [sys.executable, "-m", "papermill", str(path), str(out), *words]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert "an end" in done.stderr or "ValueError" in done.stderr
    saved = out.read_text(encoding="utf-8")
    assert "the notebook had 2 ids" in saved
    for private in ("90017090", "90018090", "secret-key"):
        assert private not in saved
    assert "[not saved]" in saved


@forks
@no_kernel_of_ours
def test_two_forks_share_nothing_but_what_was_imported(
    tmp_path: Path, nursery: kernel_forks.Nursery
) -> None:
    cells = (
        "import os, random, sys, uuid, numpy\n"
        "print(random.random(), numpy.random.random(), uuid.uuid4(), os.urandom(8).hex())",
        "print(os.environ.pop('ONE', None), getattr(sys, 'left', None), sys.argv[1:3])\n"
        "sys.left = random.left = os.environ['LEFT'] = 'left by another notebook'\n"
        "print(getattr(random, 'left'))",
        "held = [os.path.realpath(f'/proc/self/fd/{n}') for n in (0, 1, 2)]\n"
        "print(held, 'LEFT' in os.environ)",
    )
    said = []
    for name, given in (("a", {"ONE": "1"}), ("b", {})):
        started = kernel_pool.start_kernel(tmp_path, given, nursery=nursery)
        execute(notebook(tmp_path, *cells), tmp_path / name, {"x": 5}, kernel=started)
        said.append([output.text for output in outputs(tmp_path / name)])
        assert str(started.folder / kernel_pool.SAID_FILE) in said[-1][2]
    first, second = (text[0].split() for text in said)
    assert not set(first) & set(second)
    assert [text[1].split()[:2] for text in said] == [["1", "None"], ["None", "None"]]


@forks
@no_kernel_of_ours
def test_a_nursery_with_a_second_thread_does_not_fork(tmp_path: Path, copy: Path) -> None:
    (tmp_path / "threaded.py").write_text(
        "import threading, time\n"
        "threading.Thread(target=time.sleep, args=(600,), daemon=True).start()\n"
    )
    nursery = kernel_forks.Nursery(tmp_path, os.environ, ["threaded"])
    try:
        started = kernel_pool.start_kernel(tmp_path, nursery=nursery)
        assert isinstance(started.manager.provisioner.process, subprocess.Popen)
        execute(notebook(tmp_path, "print('afresh')"), copy, {"x": 5}, kernel=started)
        assert outputs(copy)[0].text == "afresh\n"
    finally:
        nursery.close()


def gone(pids: list[int]) -> bool:
    """Whether all these processes are gone within some seconds."""
    give_up = time.monotonic() + 30
    while time.monotonic() < give_up and any(birth(pid) is not None for pid in pids):
        time.sleep(0.05)
    return not any(birth(pid) is not None for pid in pids)


@forks
@no_kernel_of_ours
def test_where_the_nursery_dies_its_kernels_go_and_the_next_start_afresh(
    tmp_path: Path, copy: Path
) -> None:
    nursery = kernel_forks.Nursery(tmp_path, os.environ, [])
    taken = kernel_pool.start_kernel(tmp_path, nursery=nursery)
    cell = f"import os, time\nos.kill({nursery.process.pid}, 9)\ntime.sleep(600)"
    with pytest.raises(KernelDied):
        execute(notebook(tmp_path, cell), copy, {"x": 5}, kernel=taken)
    assert statuses(copy) == ["failed"]
    assert gone([taken.manager.provisioner.pid])
    again = kernel_pool.start_kernel(tmp_path, nursery=nursery)
    execute(notebook(tmp_path, "print('afresh')"), copy, {"x": 5}, kernel=again)
    assert outputs(copy)[0].text == "afresh\n"
    nursery.close()


RUNNER = """
import sys, time
from pathlib import Path
from d2i_helpers.runs.kernel_pool import KernelPool
pool = KernelPool([Path(sys.argv[1])] * 3, Path(sys.argv[2]), {})
kernels = [pool.take(), *pool._waiting]
print(pool._nursery.process.pid, *(k.manager.provisioner.pid for k in kernels), flush=True)
time.sleep(600)
"""


@forks
@no_kernel_of_ours
def test_a_killed_runner_leaves_no_process(tmp_path: Path) -> None:
    source = notebook(tmp_path, "import json")
    command = [sys.executable, "-c", RUNNER, str(source), str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as runner:
        assert runner.stdout is not None
        pids = [int(word) for word in runner.stdout.readline().split()]
        assert len(pids) == 4
        assert all(birth(pid) is not None for pid in pids)
        runner.kill()
    assert gone(pids)


class Stopped(Exception):
    """Stands for a Ctrl-C."""


@forks
@no_kernel_of_ours
def test_a_request_that_was_broken_off_does_not_confuse_the_next(
    tmp_path: Path, nursery: kernel_forks.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = kernel_pool.start_kernel(tmp_path, nursery=nursery)
    with monkeypatch.context() as patch:
        patch.setattr(nursery, "_ours", BrokenOff(nursery._ours))
        with pytest.raises(Stopped):
            kernel_pool.start_kernel(tmp_path, nursery=nursery)
    assert first.manager.provisioner.process.poll() is None
    first.discard()


class BrokenOff:
    """A socket at which a Ctrl-C comes between a request and its answer."""

    def __init__(self, real: Any) -> None:
        self.send = real.send

    def recv(self, _size: int) -> bytes:
        raise Stopped


@forks
@no_kernel_of_ours
def test_the_nursery_tells_how_a_kernel_ended(
    tmp_path: Path, nursery: kernel_forks.Nursery
) -> None:
    started = kernel_pool.start_kernel(tmp_path, nursery=nursery)
    forked = started.manager.provisioner.process
    assert forked.poll() is None
    forked.send_signal(signal.SIGTERM)
    give_up = time.monotonic() + 30
    while forked.poll() is None:
        assert time.monotonic() < give_up
        time.sleep(0.02)
    assert forked.poll() == forked.wait() == -signal.SIGTERM
    forked.kill()  # nothing to do: its number may be another process's
    started.discard()


SEEN = """from d2i_helpers.settings import load_settings
print('the notebook had', len(load_settings(globals()).person_ids), 'ids')"""


def test_a_start_that_is_stopped_ends_its_kernel_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The Ctrl-C comes through, whatever jupyter_client still has under way."""
    usual = AsyncKernelManager.start_kernel
    managers: list[Any] = []

    async def stopped(manager: Any, **options: Any) -> None:
        managers.append(manager)
        managers.append(asyncio.ensure_future(usual(manager, **options)))  # kept: else collected
        while not manager.has_kernel:
            await asyncio.sleep(0)
        raise KeyboardInterrupt

    monkeypatch.setattr(AsyncKernelManager, "start_kernel", stopped)
    with pytest.raises(KeyboardInterrupt):
        start_kernel(tmp_path)
    assert not managers[0].has_kernel

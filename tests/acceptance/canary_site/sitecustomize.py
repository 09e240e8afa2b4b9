"""Trouble for the canary day, in every process of a run: Python imports this file when it starts.

CANARY_FAIL names a place, ``module:name`` of a function or ``module:Class.name`` of a method. From
its third call on it raises an exception that quotes all its arguments, chained to others, after it
told the same to every channel there is: log lines of all levels, warnings, a thread, what asyncio
says of a task that nobody awaited, and, unless CANARY_WITHOUT_BYPASS is set, the console itself
under all that guards it. CANARY_LOGS makes every library as talkative as it can be.
"""

import importlib.abc
import importlib.machinery
import os
import sys

PLACE = os.environ.get("CANARY_FAIL", "")
MODULE, _, NAME = PLACE.partition(":")


def _say_everywhere(quoted):
    import asyncio
    import logging
    import threading
    import warnings

    for name in ("sqlalchemy.engine.Engine", "urllib3", "d2i_helpers", "papermill", "asyncio", ""):
        for level in (10, 20, 30, 40):
            logging.getLogger(name).log(level, "canary says %s", quoted)
            logging.getLogger(name).log(level, f"canary says {quoted}")
    logging.getLogger("d2i_helpers").error("broken %d", quoted)
    warnings.warn(f"canary warns of {quoted}", stacklevel=1)
    if not os.environ.get("CANARY_WITHOUT_BYPASS"):
        os.write(2, f"canary past Python {quoted}\n".encode())
        print("canary past the notebook", quoted, file=sys.__stderr__)

    def in_a_thread():
        raise ValueError(f"in a thread: {quoted}")

    thread = threading.Thread(target=in_a_thread)
    thread.start()
    thread.join()
    loop = asyncio.new_event_loop()
    loop.call_exception_handler(
        {"message": f"never awaited {quoted}", "exception": KeyError(quoted)}
    )
    loop.close()


def _fail(quoted):
    import pandas as pd

    frame = pd.DataFrame({"row": [quoted]})
    _say_everywhere(quoted)
    try:
        try:
            {}[quoted]
        except KeyError as error:
            error.add_note(f"a note on {quoted}")
            raise ValueError(f"cannot use\n{frame.to_string()}\n{frame!r}") from error
    except ValueError as error:
        error.add_note(quoted)
        all_of_it = [RuntimeError(quoted), AssertionError(frame)]
        raise ExceptionGroup(f"all of {quoted}", all_of_it)  # noqa: B904 - by context


def _troubled(function):
    calls = 0

    def called(*args, **kwargs):
        nonlocal calls
        calls += 1
        if calls >= 3 or os.environ.get("CANARY_AT_ONCE"):
            _fail(f"{args!r} {kwargs!r}")
        return function(*args, **kwargs)

    return called


class _Patching(importlib.abc.MetaPathFinder):
    """Lets the module be found as usual and puts the trouble into it."""

    def find_spec(self, name, path, target=None):
        if name != MODULE:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        execute = spec.loader.exec_module

        def exec_module(module):
            execute(module)
            owner, *rest = NAME.split(".")
            place, last = (getattr(module, owner), rest[0]) if rest else (module, owner)
            setattr(place, last, _troubled(getattr(place, last)))

        spec.loader.exec_module = exec_module
        return spec


if MODULE:
    sys.meta_path.insert(0, _Patching())
if os.environ.get("CANARY_LOGS"):
    import logging

    logging.basicConfig(level=logging.DEBUG)
    for _name in ("sqlalchemy.engine", "sqlalchemy.pool", "urllib3", "asyncio"):
        logging.getLogger(_name).setLevel(logging.DEBUG)

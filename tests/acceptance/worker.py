"""One day without notebooks, as a process that can be killed: `python -m tests.acceptance.worker`.

Standard input: one JSON object of parameters. Progress is told on standard output, so that the
killer can aim. A shard's part of the day is `part_of_day`, for processes that are forked.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from d2i_helpers import database
from d2i_helpers.delta import stage as delta_stage
from d2i_helpers.extract import stage as extract
from d2i_helpers.payload_spec import load_spec
from d2i_helpers.settings import load_secrets, load_settings
from d2i_helpers.submit import stage as submit
from d2i_helpers.submit.endpoint import endpoint_for


def main() -> None:
    settings = load_settings({"profile": "demo"}, **json.load(sys.stdin))
    spec = load_spec(settings.cms)
    engine = database.open_database(settings)
    print("ready", flush=True)
    extract.run(engine, settings, spec)
    print("extracted", flush=True)
    delta_stage.run(engine, settings, spec)
    print("prepared", flush=True)
    submit.run(engine, settings, spec, endpoint_for(settings, load_secrets()))
    print("done", flush=True)


def part_of_day(url: str, parameters: dict[str, Any]) -> None:
    """The day of one shard, or of all children.

    Args:
        url: of the database.
        parameters: of the settings.
    """
    os.environ["D2I_DATABASE_URL"] = url
    settings = load_settings({"profile": "demo"}, **parameters)
    spec = load_spec(settings.cms)
    engine = database.open_database(settings)
    extract.run(engine, settings, spec)
    delta_stage.run(engine, settings, spec)
    submit.run(engine, settings, spec, endpoint_for(settings, load_secrets()))


if __name__ == "__main__":
    main()

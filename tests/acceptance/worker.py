"""One day without notebooks, as a process that can be killed: `python -m tests.acceptance.worker`.

Standard input: one JSON object of parameters. Progress is told on standard output, so that the
killer can aim.
"""

from __future__ import annotations

import json
import sys

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


if __name__ == "__main__":
    main()

"""The table of docs/speed.md: every stage and the whole day, beside floors of the same run.

    python benchmarks/run.py [--sizes 2000,20000] [--engines sqlite,postgresql]
                             [--json] [--check] [--write]

For each database and size a fictional SSD is made; then come a *first* day, a *quiet* one on which
nothing changed, and a *usual* one on which the rows of six children in a hundred have. Each stage
of each day runs in a process of its own; delta and submit run in one, and post to the server of
`send.py`, which answers at once. On a quiet day each is done three times, and the middle one is
given. All figures are seconds that client and database server computed, which other work on the
machine changes less than the clock; `x` is how many times the floor that is.

Floors, taken right beside the stage that they are compared with:

- extract (the middle one of three): the bare driver reads the columns that extract needs, one
  SELECT a query; on a first and a usual day also the new documents, written out as JSON and
  inserted in one statement.
- delta and submit: the bare driver reads the rows that wait, parses both documents of each, posts
  them a hundred at a time, and writes once. `simple` is how the Python sender works that
  authorities have today (`submit.py`).
- anonymise has none: it is given as children a second.

A *statement* is one call of the driver, whatever number of rows it writes; questions to the
catalogue are left out. `growth` is the exponent of the time between the two largest sizes: 1 is
linear.

`--write` keeps the figures in `benchmarks/figures.json` and makes table and chart of docs/speed.md
of them. `--check` compares the ratios with those that are kept, never the seconds, and ends with 1
where one of them is worse by more than half. 100,000 persons take about five minutes a database.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import extract as of_extract  # the benchmarks beside this one
import submit as of_submit
from anonymise import peak_mb
from engines import CATALOGUE
from pydantic import SecretStr
from sqlalchemy import Engine, event

from d2i_helpers import database
from d2i_helpers.anonymise import stage as anonymise
from d2i_helpers.delta import stage as delta
from d2i_helpers.demo import simulate
from d2i_helpers.extract import stage as extract
from d2i_helpers.extract.documents import Documents
from d2i_helpers.payload_spec import load_spec
from d2i_helpers.settings import Secrets, Settings, load_settings
from d2i_helpers.submit import stage as submit
from d2i_helpers.submit.endpoint import Endpoint, simulated_endpoint

HERE = Path(__file__).parent
FIGURES = HERE / "figures.json"
PAGE, CHART = HERE.parent / "docs" / "speed.md", HERE.parent / "docs" / "speed.svg"
BEGIN, END = "<!-- figures -->", "<!-- end of figures -->"
DAYS = ("first", "quiet", "usual")
CHANGED = {"first": 1.0, "quiet": 0.0, "usual": of_extract.CHANGED}
STAGES = ("extract", "anonymise", "send")  # `send` is delta and submit
FLOORS = {"extract": "floor of extract", "send": "floor of send"}
AIMS = {  # most times the floor
    ("extract", "first"): 5, ("extract", "quiet"): 3, ("extract", "usual"): 3,
    ("send", "first"): 2.5, ("send", "usual"): 2.5,
}  # fmt: skip
LEAST = 0.2  # seconds; a floor that took less is noise, and nothing is compared with it
# Persons of the source with which memory is compared: a smaller one does not fill a page.
MEMORY_FROM = 10_000
WORSE = 1.5  # a ratio that is so many times the one that was kept is worse
KEY = SecretStr("a key of the benchmark, not a secret")

Figures = dict[str, Any]


# ---------------------------------------------------------------------------- in its own process
def settings_for(url: str) -> Settings:
    """Settings that point at a database of the benchmark; no pauses, no guards."""
    os.environ["D2I_DATABASE_URL"] = url
    return load_settings(
        None, run_date=of_extract.RUN_DATE, pause_seconds=0, guard_min_children=10**9
    )


def work(what: str, engine: Engine, settings: Settings, endpoint: Endpoint, share: float) -> int:
    """Do what is measured; gives the number of children that it was about."""
    spec = load_spec()
    if what == "extract":
        return extract.run(engine, settings, spec).read_anew
    if what == "anonymise":
        return anonymise.run(engine, settings, Secrets(pseudonym_key=KEY), spec).counts[
            "anonymised"
        ]
    if what == "send":
        delta.run(engine, settings, spec)
        counts = submit.run(engine, settings, spec, endpoint).counts
        assert counts["acknowledged"] == counts["waiting_before"], counts
        return counts["acknowledged"]
    if what == "floor of extract":
        rows = of_extract.bare_read(engine, Documents(engine, settings, spec))
        return rows
    return {"floor of send": of_submit.floor, "simple": of_submit.simple}[what](engine, endpoint)


def measure(what: str, url: str, address: str, share: float) -> Figures:
    """One figure, in this process."""
    settings = settings_for(url)
    engine = database.open_database(settings)
    with engine.connect():
        pass
    statements = [0]

    def count(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        statements[0] += not CATALOGUE.search(statement)

    event.listen(engine, "before_cursor_execute", count)
    load_spec()
    staged = []
    if what == "floor of extract" and share:
        staged = of_extract.documents_of(engine, share)
    endpoint = simulated_endpoint(address, "000")
    started, computed = time.perf_counter(), time.process_time()
    children = work(what, engine, settings, endpoint, share)
    if staged:
        of_extract.bare_write(engine, staged)
    found = {
        "client": time.process_time() - computed,
        "seconds": time.perf_counter() - started,
        "memory": peak_mb(),
        "statements": statements[0],
        "children": children,
    }
    engine.dispose()
    return found


def in_own_process(what: str, url: str, address: str, share: float = 0) -> Figures:
    """The figure, taken in a process of its own, with what the server computed meanwhile."""
    command = [sys.executable, __file__, "--measure", what, "--url", url, "--address", address]
    before = of_extract.server_cpu(url)
    done = subprocess.run(
        [*command, "--share", str(share)], check=True, stdout=subprocess.PIPE, text=True
    )
    found: Figures = json.loads(done.stdout)
    found["cpu"] = found["client"] + of_extract.server_cpu(url) - before
    return {name: round(value, 3) for name, value in found.items()}


def middle(times: int, what: str, url: str, address: str, share: float = 0) -> Figures:
    """The middle one of several figures, by what was computed."""
    found = [in_own_process(what, url, address, share) for _ in range(times)]
    return sorted(found, key=lambda one: one["cpu"])[times // 2]


# -------------------------------------------------------------------------------------- the days
def world(engine: str, size: int, new: Any, address: str) -> Figures:
    """All figures of one database and size, by day and by what was measured."""
    url, copy = new(f"run_{size}"), new(f"copy_{size}")
    simulate.init(settings_for(url), children=size)
    found: Figures = {}
    for day in DAYS:
        share = CHANGED[day]
        if day == "usual":
            of_extract.change(url)
        of_extract.keep_house(url)
        times = 3 if day == "quiet" else 1  # a day on which something changes comes once
        of_day: Figures = {"extract": middle(times, "extract", url, address)}
        of_day["floor of extract"] = middle(3, "floor of extract", url, address, share)
        of_day["anonymise"] = middle(times, "anonymise", url, address)
        for way in ("floor of send", "simple"):  # each from the rows that wait
            of_submit.copied(copy, url)
            of_day[way] = in_own_process(way, copy, address)
        of_day["send"] = middle(times, "send", url, address)
        found[day] = of_day
        said = "  ".join(f"{name} {one['cpu']:.2f}" for name, one in of_day.items())
        print(f"{engine} {size} {day}: {said}", file=sys.stderr)
    return found


# ------------------------------------------------------------------------------ what is made of it
def ratios(found: Figures) -> dict[str, float]:
    """Every ratio of a run, by a name that says which; none to less than `LEAST` seconds."""
    made: dict[str, float] = {}

    def compare(name: str, ours: float, with_what: float) -> None:
        if with_what >= LEAST:
            made[name] = ours / with_what

    for engine, by_size in found.items():
        sizes = sorted(by_size, key=int)
        for size in sizes:
            for day, of_day in by_size[size].items():
                at = f"{engine} {size} {day}"
                for stage, floor in FLOORS.items():
                    compare(f"{at} {stage} : floor", of_day[stage]["cpu"], of_day[floor]["cpu"])
                floors = math.fsum(of_day[floor]["cpu"] for floor in FLOORS.values())
                compare(f"{at} day : floors", of_day_cpu(of_day), floors)
                compare(f"{at} send : simple", of_day["send"]["cpu"], of_day["simple"]["cpu"])
        for small, large in list(itertools.pairwise(sizes))[-1:]:
            times = math.log(int(large) / int(small))
            for day in DAYS:
                pair = [of_day_cpu(by_size[size][day]) for size in (small, large)]
                made[f"{engine} {day} growth"] = math.log(pair[1] / pair[0]) / times
                made[f"{engine} {day} memory : memory"] = memory_grows(by_size, day)
    return {name: round(value, 2) for name, value in made.items()}


def of_day_cpu(of_day: Figures) -> float:
    """What all stages of a day computed."""
    return math.fsum(of_day[stage]["cpu"] for stage in STAGES)


def peak(of_day: Figures) -> float:
    """The most memory of any stage of a day, in MB."""
    return max(of_day[stage]["memory"] for stage in STAGES)


def memory_grows(by_size: Figures, day: str) -> float:
    """How many times the memory of a smaller source the largest takes; of the worst stage."""
    sizes = sorted(by_size, key=int)
    smaller = next((size for size in sizes if int(size) >= MEMORY_FROM), sizes[0])
    small, large = by_size[smaller][day], by_size[sizes[-1]][day]
    return max(large[stage]["memory"] / small[stage]["memory"] for stage in STAGES)


def table(found: Figures) -> str:
    """The figures as a table in Markdown, and what grows how."""
    head = ("database", "persons", "day", "extract", "anonymise", "delta + submit", ": simple",
            "whole day", "statements", "peak MB")  # fmt: skip
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    compared = ratios(found)
    for engine, by_size in found.items():
        for size in sorted(by_size, key=int):
            for day, of_day in by_size[size].items():
                at = f"{engine} {size} {day}"
                made = of_day["anonymise"]["children"]
                rate = f" ({made / of_day['anonymise']['cpu']:,.0f}/s)" if made else ""
                sent = f"{at} send : simple"
                times = {
                    stage: f" ({compared[name]:.1f} x)" if name in compared else ""
                    for stage in FLOORS
                    for name in [f"{at} {stage} : floor"]
                }
                cells = (
                    engine, f"{int(size):,}", day,
                    f"{of_day['extract']['cpu']:.2f} s{times['extract']}",
                    f"{of_day['anonymise']['cpu']:.2f} s{rate}",
                    f"{of_day['send']['cpu']:.2f} s{times['send']}",
                    f"{compared[sent]:.1f}" if sent in compared else "",
                    f"{of_day_cpu(of_day):.2f} s",
                    f"{sum(of_day[stage]['statements'] for stage in STAGES):,}",
                    f"{peak(of_day):.0f}",
                )  # fmt: skip
                lines.append(f"| {' | '.join(cells)} |")
    growth = [
        f"| {name.removesuffix(' growth')} | {value} | "
        f"{compared[name.replace('growth', 'memory : memory')]} |"
        for name, value in compared.items() if name.endswith("growth")
    ]  # fmt: skip
    if growth:
        lines += ["", "How the time grows between the two largest sizes, and the memory of the "
                  f"stage that grows most from {MEMORY_FROM:,} persons to the largest:", "",
                  "| day | exponent of the time | memory, times |", "|---|---|---|",
                  *growth]  # fmt: skip
    return "\n".join(lines) + "\n"


def chart(found: Figures, to: Path) -> None:
    """Draw how many times the floor each stage takes at the largest size, beside the aims."""
    import matplotlib

    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    matplotlib.rcParams["svg.hashsalt"] = "speed"  # the same figures draw the same file
    compared = ratios(found)
    pairs = [(stage, day) for stage in FLOORS for day in DAYS if (stage, day) in AIMS]
    figure, axes = plt.subplots(figsize=(8, 4))
    width = 0.8 / len(found)
    for number, (engine, by_size) in enumerate(found.items()):
        size = max(by_size, key=int)
        heights = [
            compared.get(f"{engine} {size} {day} {stage} : floor", 0) for stage, day in pairs
        ]
        places = [at + (number - (len(found) - 1) / 2) * width for at in range(len(pairs))]
        bars = axes.bar(places, heights, width, label=f"{engine}, {int(size):,} persons")
        axes.bar_label(bars, [f"{one:.1f}" if one else "" for one in heights])
    for at, pair in enumerate(pairs):
        axes.hlines(AIMS[pair], at - 0.45, at + 0.45, color="black", linestyle="--",
                    label="aim" if at == 0 else None)  # fmt: skip
    names = {"extract": "extract", "send": "delta + submit"}
    axes.set_xticks(range(len(pairs)), [f"{names[stage]}\n{day} day" for stage, day in pairs])
    axes.set_ylabel("times the floor (computing time)")
    axes.legend(loc="upper center")
    figure.tight_layout()
    figure.savefig(to, metadata={"Date": None})
    plt.close(figure)


def worse(now: dict[str, float], kept: dict[str, float]) -> list[str]:
    """The ratios that are worse than those that were kept, with both."""
    return [
        f"{name}: {value} (kept: {kept[name]})"
        for name, value in now.items()
        if name in kept and value > kept[name] * WORSE
    ]


def page_with(page: str, made: str) -> str:
    """The page with another table between its marks."""
    before, _, rest = page.partition(BEGIN)
    return f"{before}{BEGIN}\n\n{made}\n{END}{rest.partition(END)[2]}"


def keep(found: Figures) -> None:
    """Keep the figures, beside those of sizes that were not measured, and what is made of them."""
    all_kept = json.loads(FIGURES.read_text()) if FIGURES.exists() else {}
    kept = all_kept.get("figures", {})
    for engine, by_size in found.items():
        merged = {**kept.get(engine, {}), **by_size}
        kept[engine] = dict(sorted(merged.items(), key=lambda pair: int(pair[0])))
    about = {"python": platform.python_version(), "machine": platform.machine(),
             "cpus": os.cpu_count()}  # fmt: skip
    made = all_kept | {"about": about, "figures": kept}  # others keep theirs beside them
    FIGURES.write_text(json.dumps(made, indent=1) + "\n")
    PAGE.write_text(page_with(PAGE.read_text(encoding="utf-8"), table(kept)), encoding="utf-8")
    chart(kept, CHART)


def main() -> int:
    """Measure, print, and keep or compare where that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", default="2000,20000")
    parser.add_argument("--engines", default="sqlite,postgresql")
    parser.add_argument("--json", action="store_true", help="print JSON in place of the table")
    parser.add_argument("--check", action="store_true", help="compare with the ratios kept")
    parser.add_argument("--write", action="store_true", help="keep the figures and the page")
    for name in ("--measure", "--url", "--address"):
        parser.add_argument(name, help=argparse.SUPPRESS)
    parser.add_argument("--share", type=float, default=0, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        print(json.dumps(measure(given.measure, given.url, given.address, given.share)))
        return 0
    found: Figures = {}
    with of_submit.answering_at_once() as endpoint:
        address = "/".join(endpoint.children_url.split("/")[:3])
        for engine in given.engines.split(","):
            with of_extract.server(engine) as new:
                for size in given.sizes.split(","):
                    found.setdefault(engine, {})[size] = world(engine, int(size), new, address)
    print(json.dumps({"figures": found, "ratios": ratios(found)}, indent=1)
          if given.json else table(found))  # fmt: skip
    fallen = []
    if given.check:
        fallen = worse(ratios(found), ratios(json.loads(FIGURES.read_text())["figures"]))
        print("\n".join(fallen) or "no ratio is worse than the one that is kept")
    if given.write:
        keep(found)
    return 1 if fallen else 0


if __name__ == "__main__":
    sys.exit(main())

"""Can the night carry all 153 authorities? The tables and the chart of docs/capacity.md.

    python benchmarks/country.py [--quick] [--kept] [--check] [--write] [--json]
                                 [--machines 1] [--requests-a-minute 60] [...]

1. Fictional authorities of some sizes run for real, one at a time: a first night, a quiet and a
   usual one, and a 1 April (`real_nights.py`). What a run computes gives the constants: what is
   fixed, and what each person adds.
2. Six authorities run for real two at a time, against a receiver that limits requests a minute.
   The simulation (`nights.py`) says what that should take; both are shown.
3. The whole country is simulated with these constants: kinds of nights, what would be too much for
   a night, what one machine carries, and a week in which things fail.

`--kept` takes the constants that are kept in `benchmarks/country.json` in place of 1 and 2: to
try other machines or limits in a minute. `--quick` measures small authorities on SQLite only.
`--write` keeps the figures and makes page and chart of them. `--check` compares ratios of the
constants with those that are kept, never seconds, and ends with 1 where one of them is worse by
more than half.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import json
import math
import os
import platform
import random
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from nights import (
    HOUR,
    LEAST_PAUSE,
    Faults,
    Job,
    Night,
    Setup,
    night,
)  # the benchmarks beside this one

HERE = Path(__file__).parent
FIGURES = HERE / "country.json"
PAGE, CHART = HERE.parent / "docs" / "capacity.md", HERE.parent / "docs" / "capacity.svg"

# Children in need on 31 March 2025: number of authorities, total, and quantiles in steps of 5 %,
# rounded. Derived from the DfE's "Children in need", Open Government Licence v3.0.
AUTHORITIES, CHILDREN_IN_NEED = 153, 402_400
QUANTILES = (20, 1000, 1240, 1330, 1540, 1590, 1700, 1820, 2000, 2150, 2250, 2410, 2550, 2590,
             2750, 2970, 3390, 3700, 4500, 5790, 11250)  # fmt: skip
USUAL = 0.06  # of the persons have other rows on a usual day, in the real runs as well
DAYS = ("first", "quiet", "usual", "april")
SIZES, QUICK_SIZES = (500, 2500, 10_000), (200, 1000)
TOGETHER = (600, 2000, 400, 3000, 1200, 900)  # persons of the authorities that prove it
WORSE = 1.5  # a ratio that is so many times the one that was kept is worse

Figures = dict[str, Any]


# --------------------------------------------------------------------------------- authorities
def made_sizes() -> list[int]:
    """Children in need of 153 authorities, spread as the published numbers are."""
    at = np.linspace(0, 1, AUTHORITIES)
    spread = np.interp(at, np.linspace(0, 1, len(QUANTILES)), QUANTILES)
    return [max(1, round(one)) for one in spread * CHILDREN_IN_NEED / spread.sum()]


def sizes_of(file: Path, column: str) -> list[int]:
    """Children in need by authority, from a table of explore-education-statistics or of your own.

    Columns: `la_code` (or `old_la_code`) and ``column``. Where there is a `geographic_level`, rows
    of local authorities count; where there is a `time_period`, those of the newest.

    Raises:
        SystemExit: a column is missing, or an authority stands there twice.
    """
    with file.open(encoding="utf-8-sig", newline="") as opened:
        rows = list(csv.DictReader(opened))
    names = rows[0].keys() if rows else set()
    code = next((name for name in ("la_code", "old_la_code") if name in names), None)
    if code is None or column not in names:
        sys.exit(f"{file.name}: needs the columns la_code (or old_la_code) and {column}.")
    rows = [row for row in rows if row.get("geographic_level", "Local authority")
            == "Local authority"]  # fmt: skip
    newest = max(row.get("time_period", "") for row in rows)
    rows = [row for row in rows if row.get("time_period", "") == newest]
    found = {row[code]: int(row[column]) for row in rows if row[column].strip().isdigit()}
    if len({row[code] for row in rows}) < len(rows):
        sys.exit(f"{file.name}: an authority stands there more than once; keep one row of each.")
    return list(found.values())


@dataclass(frozen=True)
class Country:
    """What a night's run of each authority costs.

    ``persons`` stand in the authorities' SSDs, in the order in which their runs begin. ``cost`` is
    what `real_nights.constants` found. ``heavier`` times what each person costs.
    """

    persons: tuple[int, ...]
    cost: Figures
    heavier: float = 1.0
    shard_persons: int = 0  # authorities with more are divided into shards; 0: none

    @classmethod
    def of(cls, in_need: Sequence[int], cost: Figures, per_child: float, **other: Any) -> Country:
        """Of children in need, of whom each stands for so many children who are sent."""
        persons = [max(1, round(one * per_child / cost["in_cohort"])) for one in in_need]
        random.Random(1).shuffle(persons)  # the list of authorities is in no order of size
        return cls(tuple(persons), cost, **other)

    def on_a_line(self, day: str, what: str, persons: float) -> float:
        fixed, each = self.cost["days"][day][what]
        times = 1.0 if what == "statements" else self.heavier
        return float(fixed + each * times * persons)

    def between(self, share: float, of_day: Callable[[str], float]) -> float:
        """What lies between the days that were measured, for a share of the persons."""
        known = [of_day(day) for day in ("quiet", "usual", "first")]
        return float(np.interp(share, [0.0, USUAL, 1.0], known))

    def messages(self, persons: int, share: float) -> int:
        """Messages that come of a share of changed persons."""
        days = self.cost["days"]
        return math.ceil(persons * self.between(share, lambda day: days[day]["messages"]))

    def jobs(self, authority: int, share: float, day: str | None = None,
             waiting: int = 0) -> list[Job]:  # fmt: skip
        """The runs of one authority, one for each shard.

        Args:
            share: of its persons, who changed since its last night.
            day: a day that was measured as such, in place of a share.
            waiting: messages that an earlier night left.
        """
        persons = self.persons[authority]
        shards = math.ceil(persons / self.shard_persons) if self.shard_persons else 1
        each = persons / shards

        def value(what: str, share: float) -> float:
            if day is not None:
                return self.on_a_line(day, what, each)
            return self.between(share, lambda one: self.on_a_line(one, what, each))

        if day is None:
            messages = self.messages(persons, share) + waiting
        else:
            messages = math.ceil(persons * self.cost["days"][day]["messages"])
        messages = min(messages, math.ceil(persons * self.cost["in_cohort"]))
        what = ("client", "server", "statements")
        quiet = tuple(self.on_a_line("quiet", one, each) for one in what)
        return [
            Job(authority, *(value(one, share) for one in what), idle=self.cost["idle"],
                messages=(messages + number) // shards, processes=shards, again=quiet)
            for number in range(shards)
        ]  # fmt: skip

    def night(self, kind: str, setup: Setup, faults: Faults | None = None) -> Night:
        """A night in which every authority does the same."""
        day = "april" if kind == "april" else None
        share = {"quiet": 0.0, "usual": USUAL, "after a lost night": 2 * USUAL}.get(kind, 1.0)
        jobs = [self.jobs(one, share, day) for one in range(len(self.persons))]
        return night([job for some in jobs for job in some], setup, faults)


KINDS = ("quiet", "usual", "after a lost night", "april", "first")
SAID = {
    "quiet": "nothing changed", "usual": "usual: 6 % changed",
    "after a lost night": "after a lost night: 12 % changed",
    "april": "1 April: the window moves", "first": "first load, or a release that sends all anew",
}  # fmt: skip


# ---------------------------------------------------------------------------- what it comes to
def shown(came: Night, setup: Setup) -> Figures:
    """A night in figures."""
    ended = max(came.ended, 1e-9)
    return {
        "hours": round(came.ended / HOUR, 2),
        "complete": len(came.served), "lost": len(came.lost),
        "requests": len(came.posts), "refused": came.refused,
        "left": sum(came.left.values()),
        "cores": round(came.busy / (setup.machines * setup.cores) / ended, 2),
        "database": round(came.database_busy / max(1, setup.database_cores) / ended, 2),
    }  # fmt: skip


def fits(came: Night, hours: float) -> bool:
    """Whether all was sent within so many hours."""
    return came.ended <= hours * HOUR and not came.lost and not any(came.left.values())


def relieved(setup: Setup) -> dict[str, Setup]:
    """One thing doubled at a time, or halved where it is a wait."""
    limit = setup.requests_a_minute
    found = {
        "runs at once": replace(setup, at_once=2 * setup.at_once),
        "the machine's cores": replace(setup, cores=2 * setup.cores),
        "the database's cores": replace(setup, database_cores=2 * setup.database_cores),
    }
    return found | ({"the API's limit": replace(setup, requests_a_minute=2 * limit)}
                    if limit else {})  # fmt: skip


def limits(country: Country, kind: str, setup: Setup) -> list[Any]:
    """What shortens a night most, and by which part; nothing where it is less than 5 %."""
    now = country.night(kind, setup).ended
    saved = {name: 1 - country.night(kind, other).ended / now
             for name, other in relieved(setup).items()}  # fmt: skip
    name = max(saved, key=lambda one: saved[one])
    return [name, round(saved[name], 2)] if saved[name] >= 0.05 else ["nothing alone", 0.0]


def least(works: Callable[[int], bool], most: int) -> int | None:
    """The least number up to ``most`` that works; None: not even the most does."""
    if not works(most):
        return None
    low = 0
    while most - low > 1:
        middle = (low + most) // 2
        low, most = (low, middle) if works(middle) else (middle, most)
    return most


def carried(country: Country, kind: str, setup: Setup, hours: float) -> int:
    """Authorities that the machines carry in so many hours where the API limits nothing."""
    free = replace(setup, requests_a_minute=None)
    number, carries = AUTHORITIES, 0
    for _ in range(4):  # each time nearer, since a night grows with their number
        some = tuple(itertools.islice(itertools.cycle(country.persons), number))
        came = replace(country, persons=some).night(kind, free)
        if fits(came, hours):
            carries = max(carries, number)
        if carries == number and came.ended > 0.98 * hours * HOUR:
            break
        number = max(1, int(number * 0.995 * hours * HOUR / came.ended))
    return carries


def variations(country: Country, setup: Setup) -> dict[str, tuple[Country, Setup]]:
    """One thing other than assumed at a time."""
    largest_first = replace(country, persons=tuple(sorted(country.persons, reverse=True)))
    return {
        "as assumed": (country, setup),
        "the API takes 10 requests a minute": (country, replace(setup, requests_a_minute=10)),
        "20 requests a minute": (country, replace(setup, requests_a_minute=20)),
        "600 requests a minute": (country, replace(setup, requests_a_minute=600)),
        "the API answers after 10 s": (country, replace(setup, answer=10.0)),
        "the database is 20 ms away": (country, replace(setup, round_trip=0.02)),
        "a person costs ten times as much": (
            replace(country, heavier=10 * country.heavier), setup),
        "`pause_seconds` as it is by default, 0.5": (country, replace(setup, pause=0.5)),
        "one run at once": (country, replace(setup, at_once=1)),
        "sixteen runs at once": (country, replace(setup, at_once=16)),
        "two machines": (country, replace(setup, machines=2)),
        "the largest authorities first": (largest_first, setup),
    }  # fmt: skip


LARGE, SHARDS = (50_000, 200_000), (1, 2, 4, 8)


def large(country: Country, setup: Setup) -> list[Figures]:
    """One large authority alone, with its own pauses, in shards that all run at once."""
    found = []
    for persons in LARGE:
        for shards in SHARDS:
            alone = replace(country, persons=(persons,),
                            shard_persons=math.ceil(persons / shards))  # fmt: skip
            its = replace(setup, at_once=shards, cores=shards, pause=LEAST_PAUSE)
            free = replace(its, requests_a_minute=None)
            hours = {kind: round(alone.night(kind, free).ended / HOUR, 2)
                     for kind in ("usual", "first")}  # fmt: skip
            found.append({"persons": persons, "shards": shards, **hours})
    return found


WEEK: tuple[tuple[str, str, Faults | None], ...] = (
    ("Monday", "first load", Faults()),
    ("Tuesday", "after 5 minutes the machine is off for two hours", Faults(machine=(300, 7500))),
    ("Wednesday", "the API answers 503 for the first hour", Faults(api=(0, 3600))),
    ("Thursday", "after 5 minutes the database is away for ten", Faults(database=(300, 900))),
    ("Friday", "two runs are killed", Faults(killed=(200.0, 400.0))),
    ("Saturday", "no night: nothing runs", None),
    ("Sunday", "catches up", Faults()),
)


def week(country: Country, setup: Setup) -> list[Figures]:
    """Seven nights, each with what the one before it left."""
    share = dict.fromkeys(range(len(country.persons)), 1.0)  # changed since the last night
    waiting = dict.fromkeys(share, 0)
    found = []
    for name, what, faults in WEEK:
        if faults is None:
            came = Night(lost=set(share))
        else:
            jobs = [country.jobs(one, share[one], waiting=waiting[one]) for one in share]
            came = night([job for some in jobs for job in some], setup, faults)
        found.append({"night": name, "what": what, **shown(came, setup)})
        for one in share:
            is_done = one not in came.lost
            waiting[one] = came.left.get(one, 0) if is_done else waiting[one]
            share[one] = min(1.0, (0.0 if is_done else share[one]) + USUAL)
    return found


def simulated(country: Country, setup: Setup, begins: float, hours: float) -> Figures:
    """Everything that is said of the whole country.

    Args:
        begins: hour of the day at which the night begins; ``hours``: how long it is.
    """
    nights: Figures = {}
    for kind in KINDS:
        limit = least(
            lambda n, kind=kind: fits(
                country.night(kind, replace(setup, requests_a_minute=n)), hours
            ),
            600,
        )
        nights[kind] = {
            **shown(country.night(kind, setup), setup),
            "limits": limits(country, kind, setup),
            "least requests a minute": limit,
            "one machine carries": carried(country, kind, setup, hours),
        }
    varied = {
        name: {kind: shown(other.night(kind, its), its) for kind in ("usual", "first")}
        for name, (other, its) in variations(country, setup).items()
    }
    limits_tried = (5, 10, 15, 20, 30, 45, 60, 90, 120, 240)
    sweeps = {
        "requests a minute": {
            kind: [[n, country.night(kind, replace(setup, requests_a_minute=n)).ended / HOUR]
                   for n in limits_tried] for kind in KINDS[1:]
        },
        "cores": {
            kind: [[n, country.night(kind, replace(
                setup, cores=n, at_once=2 * n, database_cores=n, requests_a_minute=None
            )).ended / HOUR] for n in (1, 2, 4, 8, 16)] for kind in KINDS[1:]
        },
    }  # fmt: skip
    return {
        "authorities": len(country.persons), "persons": sum(country.persons),
        "largest": max(country.persons), "begins": begins, "hours": hours,
        "setup": {**asdict(setup), "pause_seconds": setup.pause_seconds},
        "nights": nights, "variations": varied, "large": large(country, setup),
        "week": week(country, setup), "sweeps": sweeps,
    }  # fmt: skip


# ------------------------------------------------------------------------------- what is shown
def at(country: Figures, hours: float) -> str:
    """The time of the day so many hours after the night began."""
    minutes = round((country["begins"] + hours) * 60)
    return f"{minutes // 60 % 24:02d}:{minutes % 60:02d}"


def _table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    return "\n".join([*lines, *(f"| {' | '.join(map(str, row))} |" for row in rows)])


def of_constants(kept: Figures) -> str:
    """What was measured, by database and day."""
    rows = []
    for engine, cost in kept["constants"].items():
        for day, one in cost["days"].items():
            seconds = [f"{one[part][0]:.1f} s + {1000 * one[part][1]:.2f} ms"
                       for part in ("client", "server")]  # fmt: skip
            calls = f"{one['statements'][0]:.0f} + {one['statements'][1]:.2f}"
            rows.append([engine, day, seconds[0], seconds[1] if one["server"][1] else "-",
                         calls, f"{one['messages']:.2f}"])  # fmt: skip
    head = ("database", "night", "machine", "database server", "statements", "messages a person")
    memory = max(cost["memory"] for cost in kept["constants"].values())
    return _table(head, rows) + (
        f"\n\nA run holds {memory:,.0f} MB at most, all its processes together. "
        f"{next(iter(kept['constants'].values()))['in_cohort']:.0%} of the persons are in the "
        "cohort."
    )


def of_proof(kept: Figures) -> str:
    """Six authorities together: predicted beside measured."""
    rows = []
    for engine, days in kept["proof"].items():
        for day, both in days.items():
            is_, should = both["measured"], both["predicted"]
            rows.append([
                engine, day, *(f"{should[one]:,.0f} / {is_[one]:,.0f}" for one in
                               ("seconds", "computed", "messages", "requests", "refused")),
                f"{is_['waited']:,.0f}",
            ])  # fmt: skip
    head = ("database", "night", "seconds", "computed, s", "messages", "requests taken", "429",
            "waited for other work, s")  # fmt: skip
    return _table(head, rows)


def of_nights(kept: Figures) -> str:
    """Kinds of nights with everything as assumed."""
    rows = []
    for kind, one in kept["country"]["nights"].items():
        name, saved = one["limits"]
        limit = one["least requests a minute"]
        rows.append([
            SAID[kind], f"{one['hours']:.1f} h", at(kept["country"], one["hours"]),
            f"{one['requests']:,}",
            f"{one['refused']:,}", f"{one['cores']:.0%}", f"{one['database']:.0%}",
            f"{name} (-{saved:.0%})" if saved else name,
            "more than 600" if limit is None else limit, f"{one['one machine carries']:,}",
        ])  # fmt: skip
    head = ("night", "takes", "ends", "requests", "429", "machine busy", "database busy",
            "twice as much of what helps most", "requests a minute, least",
            "authorities on one machine")  # fmt: skip
    return _table(head, rows)


def of_variations(kept: Figures) -> str:
    """One assumption changed at a time; bold: too long for the night, or not all was sent."""
    hours = kept["country"]["hours"]

    def cell(one: Figures) -> str:
        said = f"{one['hours']:.1f} h"
        if one["lost"] or one["left"]:
            waits = [f"{one['lost']} authorities"] * bool(one["lost"])
            waits += [f"{one['left']:,} messages"] * bool(one["left"])
            return f"**{said}**, {' and '.join(waits)} not sent"
        return f"**{said}**" if one["hours"] > hours else said

    rows = [[name, cell(both["usual"]), cell(both["first"])]
            for name, both in kept["country"]["variations"].items()]  # fmt: skip
    return _table(("what is other", "usual night", "first load"), rows)


def of_large(kept: Figures) -> str:
    """One large authority, by shards."""
    rows = [[f"{one['persons']:,}", one["shards"], f"{one['usual'] * 60:.0f} min",
             f"{one['first'] * 60:.0f} min"] for one in kept["country"]["large"]]  # fmt: skip
    return _table(("persons", "shards, each with a core", "usual night", "first load"), rows)


def of_week(kept: Figures) -> str:
    """A week in which things fail."""
    rows = [
        [one["night"], one["what"],
         at(kept["country"], one["hours"]) if one["complete"] else "-", one["complete"],
         one["lost"], f"{one['left']:,}", f"{one['requests']:,}", f"{one['refused']:,}"]
        for one in kept["country"]["week"]
    ]  # fmt: skip
    head = ("night", "what happens", "ends", "authorities complete", "wait for the next night",
            "messages left", "requests taken", "not taken")  # fmt: skip
    return _table(head, rows)


BLOCKS: dict[str, Callable[[Figures], str]] = {
    "nights": of_nights, "variations": of_variations, "large": of_large, "week": of_week,
    "proof": of_proof, "constants": of_constants,
}  # fmt: skip


def page_with(page: str, kept: Figures) -> str:
    """The page with other tables between their marks."""
    for name, made in BLOCKS.items():
        begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
        before, _, rest = page.partition(begin)
        page = f"{before}{begin}\n\n{made(kept)}\n\n{end}{rest.partition(end)[2]}"
    return page


def chart(kept: Figures, to: Path) -> None:
    """Draw how long a night takes, over the API's limit and over the number of cores."""
    import matplotlib

    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    matplotlib.rcParams["svg.hashsalt"] = "capacity"  # the same figures draw the same file
    figure, panels = plt.subplots(1, 2, figsize=(9, 4), sharey=True)
    hours = kept["country"]["hours"]
    looks = dict(zip(KINDS[1:], (("#009e73", "o"), ("#e69f00", "^"), ("#cc79a7", "s"),
                                 ("#d55e00", "X")), strict=True))  # fmt: skip
    for axes, lines in zip(panels, kept["country"]["sweeps"].values(), strict=True):
        for kind, points in lines.items():
            colour, mark = looks[kind]
            axes.plot(*zip(*points, strict=True), color=colour, marker=mark, label=SAID[kind])
        axes.axhline(hours, color="black", linestyle="--", label="the night")
        axes.set_xscale("log")
        places = [point[0] for point in next(iter(lines.values()))]
        axes.set_xticks(places, list(map(str, places)), fontsize=8)
        axes.minorticks_off()
        axes.set_yscale("log")
        marks = {"6 min": 0.1, "15 min": 0.25, "30 min": 0.5, "1 h": 1, "2 h": 2, "4 h": 4,
                 "8 h": 8, "20 h": 20}  # fmt: skip
        axes.set_yticks(list(marks.values()), list(marks))
    panels[0].set_xlabel("requests a minute that the API takes of all")
    panels[1].set_xlabel("cores, of machine and database server each; no limit")
    panels[0].set_ylabel("until the last authority is complete")
    panels[1].legend(fontsize=7, loc="lower left")
    figure.tight_layout()
    figure.savefig(to, metadata={"Date": None})
    plt.close(figure)


# ----------------------------------------------------------------------------- the real nights
def ratios(kept: Figures) -> dict[str, float]:
    """What may be compared between machines: nights of 10,000 persons, and the proof."""
    found = {}
    for engine, cost in kept["constants"].items():
        took = {day: sum(one[part][0] + 10_000 * one[part][1] for part in ("client", "server"))
                for day, one in cost["days"].items()}  # fmt: skip
        for day in ("first", "usual", "april"):
            found[f"{engine} {day} : quiet"] = took[day] / took["quiet"]
    for engine, days in kept["proof"].items():
        for day, both in days.items():
            found[f"{engine} {day} measured : predicted"] = (
                both["measured"]["computed"] / both["predicted"]["computed"]
            )
    return {name: round(value, 2) for name, value in found.items()}


def worse(now: dict[str, float], kept: dict[str, float]) -> list[str]:
    """The ratios that are worse than those that were kept, with both."""
    return [f"{name}: {value} (kept: {kept[name]})" for name, value in now.items()
            if name in kept and value > kept[name] * WORSE]  # fmt: skip


def rounded(value: Any) -> Any:
    """Figures with four digits, so that files can be compared."""
    if isinstance(value, dict):
        return {name: rounded(one) for name, one in value.items()}
    if isinstance(value, list):
        return [rounded(one) for one in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value


def really(engines: Sequence[str], sizes: Sequence[int], proof: Sequence[int]) -> Figures:
    """Constants and proof of each database."""
    import real_nights as real

    found: Figures = {"constants": {}, "proof": {}}
    calls = real.statements([size for size in sizes if size <= 2500][:2])
    cores = os.cpu_count() or 1
    setup = Setup(cores=cores, at_once=2, database_cores=0, requests_a_minute=20, answer=0.3,
                  pause=0.5, round_trip=0.0)  # fmt: skip
    for engine in engines:
        cost = real.constants(real.measured(engine, sizes, DAYS), calls)
        found["constants"][engine] = cost
        country = Country(tuple(proof), cost)

        def job(number: int, _size: int, day: str, country: Country = country) -> Job:
            return country.jobs(number, {"first": 1.0, "usual": USUAL}[day])[0]

        found["proof"][engine] = real.together(engine, proof, setup, job)
    return found


def options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    given = Setup()
    add = parser.add_argument
    add("--quick", action="store_true", help="small authorities on SQLite only")
    add("--kept", action="store_true", help="take the constants that are kept")
    add("--check", action="store_true", help="compare with the ratios kept")
    add("--write", action="store_true", help="keep the figures, the page and the chart")
    add("--json", action="store_true", help="print JSON in place of the tables")
    add("--engines", default="sqlite,postgresql", help="the country is on the last of them")
    add("--machines", type=int, default=given.machines)
    add("--cores", type=int, default=given.cores, help="of each machine")
    add("--at-once", type=int, default=given.at_once, help="runs at once on each machine")
    add("--database-cores", type=int, default=given.database_cores,
        help="of the database server; 0: it computes on the machine's cores")  # fmt: skip
    add("--requests-a-minute", type=int, default=given.requests_a_minute,
        help="that the API takes of all authorities; 0: no limit")  # fmt: skip
    add("--answer", type=float, default=given.answer, help="seconds until the API answers")
    add(
        "--pause",
        type=float,
        help="pause_seconds; without it, so long that all runs together keep to the limit",
    )
    add("--batch", type=int, default=given.batch, help="batch_size, at most 100")
    add("--round-trip", type=float, default=given.round_trip, help="seconds to the database")
    add("--night", default="19:00-07:00")
    add("--sizes", type=Path, help="CSV with la_code (or old_la_code) and --column")
    add("--column", default="number", help="of --sizes: the number of children in need")
    add("--per-child-in-need", type=float, default=3.0, help="children sent for each of them")
    add("--heavier", type=float, default=1.0, help="times what each person costs")
    add("--shard-persons", type=int, default=0, help="larger authorities run in shards")
    return parser.parse_args()


def span_of(night_: str) -> tuple[float, float]:
    """Hour at which a night such as 19:00-07:00 begins, and its length in hours."""
    begin, end = (int(part[:2]) + int(part[3:]) / 60 for part in night_.split("-"))
    return begin, (end - begin) % 24 or 24.0


def main() -> int:
    """Measure, simulate, show, and keep or compare where that is asked for."""
    given = options()
    kept = json.loads(FIGURES.read_text(encoding="utf-8")) if FIGURES.exists() else {}
    names = ("machines", "cores", "at_once", "database_cores", "answer", "pause", "batch",
             "round_trip")  # fmt: skip
    setup = Setup(requests_a_minute=given.requests_a_minute or None,
                  **{name: getattr(given, name) for name in names})  # fmt: skip
    if given.kept:
        found = {name: kept[name] for name in ("about", "constants", "proof")}
    else:
        engines = ["sqlite"] if given.quick else given.engines.split(",")
        found = {
            "about": {"python": platform.python_version(), "machine": platform.machine(),
                      "cpus": os.cpu_count()},
            **rounded(really(engines, QUICK_SIZES if given.quick else SIZES,
                             TOGETHER[:3] if given.quick else TOGETHER)),
        }  # fmt: skip
    cost = list(found["constants"].values())[-1]
    in_need = sizes_of(given.sizes, given.column) if given.sizes else made_sizes()
    country = Country.of(in_need, cost, given.per_child_in_need, heavier=given.heavier,
                         shard_persons=given.shard_persons)  # fmt: skip
    found["country"] = rounded(simulated(country, setup, *span_of(given.night)))
    print(json.dumps(found, indent=1) if given.json
          else "\n\n".join(made(found) for made in BLOCKS.values()))  # fmt: skip
    fallen = []
    if given.check:
        fallen = worse(ratios(found), ratios(kept))
        print("\n".join(fallen) or "no ratio is worse than the one that is kept")
    if given.write:
        FIGURES.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        PAGE.write_text(page_with(PAGE.read_text(encoding="utf-8"), found), encoding="utf-8")
        chart(found, CHART)
    return 1 if fallen else 0


if __name__ == "__main__":
    sys.exit(main())

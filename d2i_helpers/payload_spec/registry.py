"""Rules that are known by name. Each stands in one place and registers itself there.

The specification lies below the packages that know what a rule does. A `Registry` therefore knows
only the modules in which the rules of its kind are written, and imports them when it is first
asked. Checks, pages of the docs and what runs a rule all ask the registry; no second list exists.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from d2i_helpers.payload_spec.model import Source

# What an overlay writes after the name of a row rule; all of it names columns of the source.
SPAN = "two columns, start and end"
COLUMNS = "a list of one or more columns"
WORDS = "a table of column: one or more words"


@dataclass(frozen=True)
class TransformRule:
    """How a stored value is read."""

    name: str
    words: str  # for docs/payload.md
    makes: str  # type of the field: string, date, boolean, integer or codes
    make: Callable[..., Any]  # (field, spec) -> the transform
    reads: str = ""  # for docs/specification.md, if `words` are not enough
    problems: tuple[str, ...] = ()  # what it may report of a value
    needs: tuple[str, ...] = ()  # keys of a field's entry, of which it needs at least one
    # keys that only those transforms read that name them: any other would pass over them
    takes: tuple[str, ...] = ()


@dataclass(frozen=True)
class AnonymisingRule:
    """What stands for a value in the anonymised copy."""

    name: str
    words: str  # for docs/specification.md
    type: str | None  # type of the fields it is for; None: any
    make: Callable[..., Any]  # (rules, block, field) -> the rule


@dataclass(frozen=True)
class RowRule:
    """Which rows of a source count: an entry of its `where`."""

    name: str
    words: str  # when a row counts, for docs/cohort.md and for `why`
    make: Callable[..., Any]  # (compiler, source name, argument if it `takes` one) -> the test
    takes: str = ""  # SPAN, COLUMNS or WORDS; empty: it is called by `rule: name`
    dates: bool = False  # whether the columns that it takes hold dates
    columns: tuple[str, ...] = ()  # columns that it needs beside those that it takes
    # other sources that it looks into, with the columns that it needs there. Their rows are read
    # first. A function in place of a column finds its name in the specification.
    looks_into: Mapping[str, tuple[str | Callable[..., str], ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class InclusionSet:
    """One of the sets of children; whoever is in at least one belongs to the cohort."""

    name: str  # as it stands in d2i_inclusion
    letter: str  # its name in D2I's SQL
    words: str  # who is in it, for docs/cohort.md and for `why`
    make: Callable[..., Any]  # (inclusion) -> a test of a candidate
    sources: tuple[Source, ...]  # the rows that it looks at
    setting: str = ""  # the parameter that switches it on; empty: it is always on
    # (inclusion) -> (candidate) -> what speaks against the child, as (source, row, words); needed
    # where more decides than whether the set's rows count. Without a row: of the child itself
    why_not: Callable[..., Any] | None = None

    def is_on(self, settings: Any) -> bool:
        """Whether these settings ask for the set."""
        return not self.setting or bool(getattr(settings, self.setting))


Rule = TypeVar("Rule", TransformRule, AnonymisingRule, RowRule, InclusionSet)
Maker = TypeVar("Maker", bound=Callable[..., Any])


class Registry(Generic[Rule]):
    """The rules of one kind by name, in the order in which they are written."""

    def __init__(self, *modules: str) -> None:
        """``modules``: where the rules of this kind are written."""
        self._modules = modules
        self._rules: dict[str, Rule] = {}
        self._complete = False

    def add(self, rule: Rule) -> None:
        """Register a rule.

        Raises:
            ValueError: another rule has its name.
        """
        known = self._rules.get(rule.name)
        if known is not None and known.make.__qualname__ != rule.make.__qualname__:
            raise ValueError(f"two rules are called {rule.name}")
        self._rules[rule.name] = rule

    def _all(self) -> dict[str, Rule]:
        if not self._complete:
            for module in self._modules:
                importlib.import_module(module)
            self._complete = True
        return self._rules

    def __getitem__(self, name: str) -> Rule:
        return self._all()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._all())

    def __len__(self) -> int:
        return len(self._all())

    def __contains__(self, name: object) -> bool:
        return name in self._all()

    def get(self, name: object) -> Rule | None:
        """The rule of this name, or None; any value may be asked for."""
        return self._all().get(name) if isinstance(name, str) else None

    def rules(self) -> list[Rule]:
        """All rules."""
        return list(self._all().values())


TRANSFORMS: Registry[TransformRule] = Registry("d2i_helpers.document.transforms")
ANONYMISING_RULES: Registry[AnonymisingRule] = Registry("d2i_helpers.anonymise.rules")
ROW_RULES: Registry[RowRule] = Registry("d2i_helpers.cohort.row_rules")
INCLUSION_SETS: Registry[InclusionSet] = Registry("d2i_helpers.cohort.inclusion")


def transform(name: str, **about: Any) -> Callable[[Maker], Maker]:
    """Register the function below as the maker of a transform; ``about``: see `TransformRule`."""

    def register(make: Maker) -> Maker:
        TRANSFORMS.add(TransformRule(name=name, make=make, **about))
        return make

    return register


def anonymising_rule(name: str, **about: Any) -> Callable[[Maker], Maker]:
    """Register the function below as the maker of a rule; ``about``: see `AnonymisingRule`."""

    def register(make: Maker) -> Maker:
        ANONYMISING_RULES.add(AnonymisingRule(name=name, make=make, **about))
        return make

    return register


def row_rule(name: str, **about: Any) -> Callable[[Maker], Maker]:
    """Register the function below as the maker of a row rule's test; ``about``: see `RowRule`."""

    def register(make: Maker) -> Maker:
        ROW_RULES.add(RowRule(name=name, make=make, **about))
        return make

    return register


def inclusion_set(name: str, **about: Any) -> Callable[[Maker], Maker]:
    """Register the function below as the maker of a set's test; ``about``: see `InclusionSet`."""

    def register(make: Maker) -> Maker:
        INCLUSION_SETS.add(InclusionSet(name=name, make=make, **about))
        return make

    return register

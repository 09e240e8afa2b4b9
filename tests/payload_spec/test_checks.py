"""What is said of a wrong overlay: the place, what is wrong, and the nearest right thing."""

from __future__ import annotations

import copy
import functools
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from d2i_helpers.anonymise.keyed import Keyed
from d2i_helpers.anonymise.rules import Rules
from d2i_helpers.document import transforms
from d2i_helpers.errors import SpecificationError
from d2i_helpers.hand_written import parse_yaml
from d2i_helpers.payload_spec import (
    build_spec,
    faults,
    load_spec,
    loading,
    merge,
    merged_text,
    takes_out_nothing,
)
from d2i_helpers.payload_spec import registry as registry_module
from d2i_helpers.payload_spec.outputs import payload_page, rule_tables
from d2i_helpers.payload_spec.schema import inlined, specification_schema, under
from d2i_helpers.payload_spec.shape import typed

TEXT = merged_text()
CMS = ("generic", "systemc", "mosaic", "eclipse", "azeus")


def told(overlay: str) -> list[str]:
    return faults(laid_on(overlay))


def laid_on(overlay: str) -> dict[str, Any]:
    """The shipped text with an overlay, read as a file is."""
    return typed(merge(TEXT, parse_yaml(overlay)))


def in_details(field: str) -> str:
    return f"blocks: {{child_details: {{fields: {{{field}}}}}}}"


GOOD_FIELD = "column: pers_nationality, transform: text, anonymise: drop"


@pytest.mark.parametrize("cms", CMS)
def test_what_is_shipped_has_no_faults(cms: str) -> None:
    assert faults(merged_text(cms)) == []


@pytest.mark.parametrize(
    ("overlay", "fault"),
    [
        ("blokcs: {}", "the specification: unknown key `blokcs` (did you mean `blocks`?)"),
        ("version: null", "`version` is missing"),
        ("sources: [a]", "`sources` must be a table of names"),
        ("canonical_form: one", "`canonical_form` must be a whole number"),
        ("blocks: {child_detials: {fields: {}}}",
         "block `child_detials` (did you mean `child_details`?): `path` is missing"),
        ("known_gaps: {care_worker_detail: none}",
         "there is no block or field `care_worker_detail` (did you mean `care_worker_details`?)"),
        # fields
        (in_details("ethnicty: {column: pers_gender}"),
         "`child_details.ethnicty` (did you mean `ethnicity`?): `transform` is missing"),
        (in_details(f"purge: {{{GOOD_FIELD}}}"),
         "block `child_details`: the name `purge` is taken, it cannot be a field's"),
        ("blocks: {social_care_episodes: {fields: {adoption: "
         "{column: cine_close_reason, transform: text, anonymise: drop}}}}",
         "block `social_care_episodes`: the name `adoption` is taken, it cannot be a field's"),
        ("blocks: {sdq_assessments: {fields: {score: {minimum: 41}}}}",
         "field `sdq_assessments.score`: `minimum` is greater than `maximum`"),
        (in_details("sex: {colunm: x}"),
         "field `child_details.sex`: unknown key `colunm` (did you mean `column`?)"),
        (in_details("sex: text"), "field `child_details.sex` must be a table of names"),
        (in_details("sex: {codes: sexes}"),
         "field `child_details.sex`: there is no code list `sexes`"),
        (in_details("sex: {codes: null}"), "`child_details.sex`: its transform needs `codes`"),
        (in_details("ethnicity: {codes: ethncity}"),
         "there is no code list `ethncity` (did you mean `ethnicity`?)"),
        (in_details("sex: {transform: codes}"),
         "there is no transform `codes` (did you mean `code`?)"),
        (in_details("sex: {anonymise: coed}"),
         "there is no anonymise rule `coed` (did you mean `code`?)"),
        (in_details("sex: {transform: zzz}"),
         "there is no transform `zzz`, only id, text, postcode"),
        (in_details("sex: {anonymise: date}"), "anonymise rule `date` is not for type string"),
        (in_details("sex: {anonymise: null}"), "`anonymise` is missing"),
        (in_details("sex: {column: null}"), "`column` is missing"),
        (in_details("sex: {type: boolean}"), "transform `code` makes type string, not boolean"),
        (in_details("sex: {type: words}"), "`type` must be one of string, date"),
        (in_details("sex: {source: persons}"),
         "there is no source `persons` (did you mean `person`?)"),
        (in_details("sex: {column: pers_sexx}"),
         "table `ssd_person` has no column `pers_sexx` (did you mean `pers_sex`?); "
         "one of your own goes into `extra_columns`"),
        (in_details("sex: {column: local_sex}"), "table `ssd_person` has no column `local_sex`; "),
        (in_details("sex: {default: X}"), "`X` (default or alone) is not in the list"),
        (in_details("sex: {code_map: {Male: MM}}"),
         "code_map sends `Male` to `MM`, which is not in the list"),
        (in_details("sex: {code_map: {Male: M, ' MALE ': F}}"),
         "sex`, code_map: `Male` and ` MALE ` are read as one, and mean `M` and `F`"),
        (in_details("sex: {code_map: [M]}"), "`code_map` must be a table"),
        (in_details("ethnicity: {max_length: 3}"),
         "field `child_details.ethnicity`: `WBRI` of its list is longer than `max_length`"),
        (in_details("surname: {code_map: {a: b}}"), "`code_map` is for fields with `codes`"),
        (in_details("surname: {max_length: long}"), "`max_length` must be a whole number"),
        (in_details("surname: {max_length: 0}"), "`max_length` must be at least 1"),
        (in_details(f"surname: {{max_length: {'9' * 30}}}"),
         "field `child_details.surname`: `max_length` must be a whole number"),
        *(
            (in_details(f"surname: {{pattern: '{pattern}'}}"),
             "`pattern` is not a regular expression that can be matched in linear time")
            for pattern in ("([", "(?=a)b", "(?<!a)b", r"(a+)\1", "(?P<x>a)(?P=x)", "(?>a+)b",
                            "(.{1,300}){1,300}", "a)|(b")
        ),
        (in_details("surname: {mandatory: maybe}"), "`mandatory` must be true or false"),
        (in_details("surname: {default: [a]}"), "`default` must be a string"),
        (in_details("uasc_flag: {default: 'never'}"), "`default` must be a boolean"),
        *(
            (in_details(f"x: {{column: pers_dob, anonymise: drop, {rest}}}"), f"`default` {said}")
            for rest, said in (
                ("transform: date, default: unknown", "must be a day such as 2024-05-31"),
                ("transform: date, default: 31/05/2024", "must be a day such as 2024-05-31"),
                ("transform: date, default: 2024-02-30", "must be a day such as 2024-05-31"),
                ("transform: text, max_length: 3, default: none", "is longer than `max_length`"),
                ("transform: text, default: ' '", "is blank"),
                ("transform: id, pattern: '[0-9]+', default: X1", "does not match `pattern`"),
                ("transform: integer, minimum: 0, default: -1", "is out of the range"),
                ("transform: integer, maximum: 5, default: 6", "is out of the range"),
                ("transform: code_set, codes: disability, max_items: 1, default: [HAND, NONE]",
                 "has more codes than `max_items`"),
            )
        ),
        (in_details(f"nationality: {{item: 6, {GOOD_FIELD}}}"),
         "item 6 is claimed by `child_details.first_name` and by `child_details.nationality`"),
        (in_details(f"Nationality: {{{GOOD_FIELD}}}"), "field name `Nationality` must be small"),
        (in_details("x: {column: pers_sex, transform: json_flag, anonymise: flag}"),
         "its transform needs `keys` or `sentences`"),
        (in_details("sex: {not_before: pers_dob}"),
         "`child_details.sex`: transform `code` does not read `not_before`, which is for `date`"),
        (in_details("surname: {minimum: 1}"),
         "transform `text` does not read `minimum`, which is for `integer`"),
        (in_details("sex: {pattern: '[MF]'}"),
         "transform `code` does not read `pattern`, which is for `id` or `text` or `postcode`"),
        (in_details("date_of_birth: {max_length: 10}"),
         "transform `date` does not read `max_length`, which is for `id` or `text`"),
        (in_details("sex: {max_items: 1}"),
         "transform `code` does not read `max_items`, which is for `code_set` or `code_json`"),
        # a value that is not in the list would be in the document, and the whole child refused
        (in_details("surname: {codes: sex}"),
         "transform `text` does not read `codes`, which is for `upn_reason` or `code`"),
        (in_details("sex: {alone: [M]}"),
         "transform `code` does not read `alone`, which is for `code_set` or `code_json`"),
        # blocks
        ("blocks: {child: {key: mis_child_id}}",
         "block `child`: its key `mis_child_id` must be `mandatory: true`"),
        ("blocks: {child: {key: child_id}}", "block `child`: its `key` must be one of its fields"),
        ("blocks: {adoption: {in: social_care_episode}}",
         "there is no block `social_care_episode` (did you mean `social_care_episodes`?)"),
        # no message could say that a child is gone
        ("blocks: {child: {purge: false}}", "block `child`: it must be `purge: true`, else"),
        ("blocks: {care_leavers: {path: 'social_care_episodes[].adoption'}}",
         "its `path` must be `social_care_episodes[].care_leavers`, by its name, `in` and `kind`"),
        ("blocks: {adoption: {in: child}}", "its `path` must be `adoption`, by its name, `in`"),
        ("blocks: {sdq_assessments: {path: health_and_wellbeing.sdq_assessments}}",
         "its `path` must be `health_and_wellbeing.sdq_assessments[]`"),
        ("blocks: {child: {path: child}}", "block `child`: its `path` must be `$`"),
        ("blocks: {adoption: {kind: thing}}", "`kind` must be one of root, object, list, values"),
        ("blocks: {adoption: {kind: root}}", "there must be one block of kind root, there are 2"),
        ("blocks: {adoption: {fields: []}}", "`fields` must be a table of names"),
        ("blocks: {sdq_assessments: {order: [datum]}}", "`order` names `datum`"),
        ("blocks: {child: {fields: {la_child_id: {mandatory: false}}}}",
         "its key `la_child_id` must be `mandatory: true`"),
        # two persons may share it: they would be one child at the receiver, and go together
        ("blocks: {child: {fields: {la_child_id: {column: pers_legacy_id}}}}",
         "block `child`: its key `la_child_id` must be read from `pers_person_id`, by which"),
        ("blocks: {child: {fields: {la_child_id: {source: sdq, column: csdq_person_id}}}}",
         "block `child`: its key `la_child_id` must be read from `pers_person_id`, by which"),
        # sources
        ("sources: {sdq: {table: ssd_sdq_score}}",
         "source `sdq`: there is no SSD table `ssd_sdq_score` (did you mean `ssd_sdq_scores`?)"),
        ("sources: {sdq: {keys: x}}", "unknown key `keys` (did you mean `key`?)"),
        ("sources: {sdq: {person: csdq_persons_id}}", "(did you mean `csdq_person_id`?)"),
        ("sources: {sdq: {order: [-csdq_date]}}", "has no column `csdq_date`"),
        ("sources: {sdq: {pick: last}}", "`pick` can only be `first`"),
        ("sources: {sdq: {where: [{insde: [csdq_sdq_completed_date]}]}}",
         "there is no rule kind `insde` (did you mean `inside`?)"),
        ("sources: {sdq: {where: [{inside: [csdq_date]}]}}", "has no column `csdq_date`"),
        ("sources: {sdq: {where: [{overlaps: [csdq_sdq_completed_date]}]}}",
         "`overlaps` needs two columns, start and end"),
        ("sources: {sdq: {where: [{rule: uasc}]}}", "there is no rule `uasc`"),
        ("sources: {sdq: {where: {rule: uasc}}}", "`where` must be a list"),
        ("sources: {address: null}",
         "field `child_details.postcode`: there is no source `address`"),
        ("sources: {icpc: {via: s48}}", "source `icpc`, via: there is no source `s48`"),
        ("sources: {episodes: {person: null, via: assessments, link: cine_referral_id}}",
         "source `episodes`: its `via` leads back to itself"),
        ("sources: {episodes: {person: null}}", "needs `person`, or `via` and `link`"),
        ("sources: {placements: {via_column: clae_cla_idd}}",
         "table `ssd_cla_episodes` has no column `clae_cla_idd`"),
        ("sources: {address: {lasting_key: false}}",
         "source `address`: `addr_table_id` is not to be used, as each load makes it anew"),
        ("sources: {episodes: {lasting_key: false}}",
         "source `assessments`, via: `cine_referral_id` is not to be used"),
        ("sources: {placements: {lasting_key: false}}",
         "placement_id`: `clap_cla_placement_id` is not to be used"),
        ("sources: {sdq: {lasting_key: 1}}", "`lasting_key` must be true or false"),
        # code lists
        ("code_lists: {sex: {aliases: {MALE: Q}}}", "alias `MALE` is for `Q`, which is not in"),
        ("code_lists: {sex: {aliases: {In  care: M, IN CARE: F}}}",
         "code list `sex`: `In  care` and `IN CARE` are read as one, and mean `M` and `F`"),
        ("code_lists: {sex: {aliases: {m: F}}}", "`M` and `m` are read as one"),
        ("code_lists: {sex: {codes: {m: boy}}}", "`M` and `m` are read as one"),
        ("code_lists: {sex: {retired: [M]}}", "`M` is both in the list and retired"),
        ("code_lists: {sex: {codes: []}}", "code list `sex`: `codes` must be a table of names"),
        ("code_lists: {sex: {codes: null}}", "code list `sex`: `codes` is missing"),
        ("code_lists: {sexes: {notes: x}}", "code list `sexes`: `codes` is missing"),
        # lists, and tables of true and false
        ("placeholders: word", "the specification: `placeholders` must be a list of names"),
        ("booleans: {true: [Y, N], false: [n]}",
         "booleans: `N` and `n` are read as one, and mean `true` and `false`"),
        ("booleans: {perhaps: [x]}", "`booleans` must be a table of true and false with a list"),
        (in_details("sex: {sentences: {maybe: [x]}}"), "`sentences` must be a table of true and"),
        ("request: {la_code: {itm: 1}}",
         "request `la_code`: unknown key `itm` (did you mean `item`?)"),
        ("sources: {adress: {optional: true}}",
         "source `adress` (did you mean `address`?): `table` is missing"),
        ("sources: {sdq: {where: [rule]}}", "source `sdq`: `where` must be a list of rules"),
        # an empty condition: no row would count, or each
        ("sources: {sdq: {where: [{}]}}", "source `sdq`: `where` must be a list of rules, each"),
        ("sources: {sdq: {where: [{known: []}]}}",
         "source `sdq`: `known` needs a list of one or more columns"),
        ("sources: {sdq: {where: [{equals: {}}]}}",
         "source `sdq`: `equals` needs a table of column: one or more words"),
        ("sources: {sdq: {where: [{equals: {csdq_sdq_score: []}}]}}",
         "source `sdq`: `equals` needs a table of column: one or more words"),
        ("sources: {sdq: {order: [open]}}", "source `sdq`: `order` must be a list of columns"),
        ("sources: {new: {table: ssd_person, key: pers_person_id, via: person}}",
         "source `new`: `link` is missing"),
        # what is the authority's own
        ("extra_columns: {ssd_person: [pers_x]}", "must be a table of column: type"),
        ("extra_columns: {ssd_person: {pers_x: varchar}}",
         "extra_columns of `ssd_person`: `pers_x` must be one of text"),
        ("renamed_columns: {ssd_person: {pers_name: x}}", "there is no column `pers_name`"),
        ("known_gaps: {child_details.sexx: never}",
         "there is no block or field `child_details.sexx` (did you mean `child_details.sex`?)"),
    ],
)  # fmt: skip
def test_a_fault_is_told_with_its_place_and_the_nearest_name(overlay: str, fault: str) -> None:
    assert any(fault in one for one in told(overlay)), told(overlay)


@pytest.mark.parametrize(
    "overlay",
    [
        in_details(f"nationality: {{{GOOD_FIELD}}}"),
        in_details("sex: {code_map: {Male: M, MALE: M, Unclear: ''}}"),
        in_details("postcode: null"),
        "extra_columns: {ssd_person: {pers_faith: text}}\n"
        + in_details("faith: {column: pers_faith, transform: text, anonymise: drop}"),
        "extra_columns: {la_schools: {person_id: text, school: text}}\n"
        "sources: {school: {table: la_schools, person: person_id, key: person_id, pick: first}}\n"
        + in_details("school: {source: school, column: school, transform: id, anonymise: drop}"),
        "blocks: {care_worker_details: {fields: {worker_id: {column: prof_staff_id}}}}",
        "code_lists: {sex: {aliases: {MALE: M, FEMALE: F}}}",
        in_details(
            "x: {column: pers_gender, transform: date, default: 2024-02-29, anonymise: drop}"
        ),
        in_details(
            "x: {column: pers_gender, transform: text, pattern: '[a-z]+', max_length: 4, "
            "default: none, anonymise: drop}"
        ),
    ],
)
def test_a_good_overlay_has_no_faults(overlay: str) -> None:
    assert told(overlay) == []
    build_spec(laid_on(overlay))


def test_an_alias_is_found_whatever_its_blanks_and_case() -> None:
    spec = build_spec(laid_on("code_lists: {sex: {aliases: {a  boy: M}}}"))
    field = next(field for _, field in spec.fields() if field.name == "sex")
    assert transforms.compile_transform(field, spec)(" A boy ") == ("M", None)


def test_a_block_with_a_fault_is_still_known_by_the_names_of_its_fields() -> None:
    overlay = in_details(f"Nationality: {{{GOOD_FIELD}}}") + "\nknown_gaps: {child_details.sex: x}"
    (fault,) = told(overlay)
    assert "field name `Nationality`" in fault


@pytest.mark.parametrize(
    ("ours", "said"),
    [
        ("blocks: {adoption: null}", None),
        ("blocks: {child_details: {fields: {expected_date_of_birth: null}}}", None),
        ("blocks: {adoption: null}\nknown_gaps: {adoption: none}", "no block or field `adoption`"),
        ("known_gaps: {adoptions: none}", "no block or field `adoptions` (did you mean"),
    ],
)
def test_the_gaps_of_a_system_go_with_what_is_taken_out(
    ours: str, said: str | None, tmp_path: Path
) -> None:
    overlay = tmp_path / "ours.yaml"
    overlay.write_text(ours, encoding="utf-8")
    if said is None:
        assert len(load_spec("systemc", overlay).known_gaps) == 3
        return
    with pytest.raises(SpecificationError) as caught:
        load_spec("systemc", overlay)
    assert said in str(caught.value)


def test_a_tab_is_named_where_it_stands_for_blanks(tmp_path: Path) -> None:
    overlay = tmp_path / "ours.yaml"
    overlay.write_text("blocks:\n  child_details:\n\tfields: {}\n")
    with pytest.raises(SpecificationError) as caught:
        load_spec("generic", overlay)
    assert "ours.yaml, line 3," in str(caught.value)
    assert "begins with a tab" in caught.value.hint


def test_all_faults_are_told_at_once_and_with_where_to_read(tmp_path: Path) -> None:
    overlay = tmp_path / "ours.yaml"
    overlay.write_text(in_details("sex: {codes: sexes}, surname: {max_length: x}"))
    with pytest.raises(SpecificationError) as caught:
        load_spec("generic", overlay)
    assert "sexes" in str(caught.value)
    assert "max_length" in str(caught.value)
    assert "docs/specification.md" in str(caught.value)
    assert caught.value.exit_code == 5


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("a: [", "line 2, is not valid YAML"),
        ("- a", "must be a table of names"),
        ("# Si\xe2n", "line 1, is not UTF-8 text; it looks like ANSI"),
        ("\xff\xfe#", "is damaged UTF-16 text"),
        ("blocks: {}\nblocks: {}", "line 2, holds `blocks` twice in one table"),
    ],
)
def test_a_file_that_is_no_overlay(tmp_path: Path, content: str, said: str) -> None:
    overlay = tmp_path / "ours.yaml"
    overlay.write_bytes(content.encode("latin-1"))
    with pytest.raises(SpecificationError, match=said):
        load_spec("generic", overlay)
    with pytest.raises(SpecificationError, match="no specification file"):
        load_spec("generic", tmp_path / "none.yaml")


def test_an_overlay_that_was_mended_is_read_again(tmp_path: Path) -> None:
    overlay = tmp_path / "ours.yaml"
    overlay.write_text(in_details("postcode: null"))
    without = load_spec("generic", overlay)
    assert "postcode" not in [field.name for field in without.blocks["child_details"].fields]
    assert load_spec().fingerprint != without.fingerprint


def test_a_transform_and_an_anonymising_rule_are_each_added_in_one_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ours = "{transform: shout, max_length: null, pattern: null, anonymise: hush}"
    text = merge(TEXT, parse_yaml(in_details(f"postcode: {ours}")))
    assert any("there is no transform `shout`" in fault for fault in faults(text))
    for registry in (registry_module.TRANSFORMS, registry_module.ANONYMISING_RULES):
        monkeypatch.setattr(registry, "_rules", {n: registry[n] for n in registry})

    @registry_module.transform("shout", makes="string", words="in capitals")
    def _shout(field: Any, spec: Any) -> Any:
        return lambda value, row_lookup=None: (str(value).upper(), None)

    @registry_module.anonymising_rule("hush", type="string", words="silence")
    def _hush(rules: Any, block: Any, field: Any) -> Any:
        return lambda child, value: "hush"

    assert faults(text) == []
    spec = build_spec(text)
    field = next(f for _, f in spec.fields() if f.name == "postcode")
    assert transforms.compile_transform(field, spec)("ab1 2cd") == ("AB1 2CD", None)
    page = rule_tables()
    assert "| `shout` | in capitals |" in page["transforms"]
    assert "| `hush` | string | silence |" in page["anonymising"]
    assert "in capitals" in payload_page(spec)
    rule = Rules(spec, Keyed(b"k" * 32), frozenset()).of(spec.blocks["child_details"], field)
    assert rule(None, "AB1 2CD") == "hush"


def test_two_rules_may_not_share_a_name() -> None:
    with pytest.raises(ValueError, match="two rules are called text"):
        registry_module.transform("text", makes="string", words="another")(lambda field, spec: None)


# Every place of the text, to be damaged in turn.
def places(part: Any, path: tuple = ()) -> list[tuple]:
    inner = part.items() if isinstance(part, dict) else ()
    return [path] * bool(path) + [one for k, v in inner for one in places(v, (*path, k))]


junk = st.sampled_from([None, 1, 1.5, True, "x", "", [], ["x"], [1], [{}], {}, {"x": 1}, {1: []}])


@given(st.lists(st.tuples(st.sampled_from(places(TEXT)), junk), min_size=1, max_size=3))
def test_no_damage_to_the_text_makes_the_checks_fail(damage: list[tuple]) -> None:
    text = copy.deepcopy(TEXT)
    for path, value in damage:
        held: Any = text
        for step in path[:-1]:
            held = held.get(step) if isinstance(held, dict) else None
        if isinstance(held, dict):
            held[path[-1]] = value
    if not faults(text):
        build_spec(text)


def test_an_overlay_of_comments_changes_nothing(tmp_path: Path) -> None:
    overlay = tmp_path / "ours.yaml"
    overlay.write_text("# nothing of ours yet\n", encoding="utf-8")
    assert load_spec("generic", overlay).fingerprint == load_spec().fingerprint


def test_a_code_with_and_without_quotes_is_one_code(tmp_path: Path) -> None:
    """YAML reads a bare 10 as a number; beside the shipped `"10"` that is no fault."""
    overlay = tmp_path / "ours.yaml"
    overlay.write_text("code_lists: {referral_source: {codes: {10: not known}}}", encoding="utf-8")
    codes = load_spec("generic", overlay).code_lists["referral_source"].codes
    assert codes["10"] == "not known"
    assert len(codes) == len(load_spec().code_lists["referral_source"].codes)


# -------------------------------------------------------------------- text stays as it is typed
RETYPED = ["010", "NO", "on", "1:30", "2026-01-05", "1e3", "0x1F", "1_000"]
SCHEMA = inlined(specification_schema())
LEVELS: dict[str, tuple[tuple[str, ...], Any]] = {
    "the specification": ((), lambda entry: entry),
    "a source": (("sources", "s"), lambda entry: {"sources": {"s": entry}}),
    "a block": (("blocks", "b"), lambda entry: {"blocks": {"b": entry}}),
    "a field": (
        ("blocks", "b", "fields", "f"),
        lambda entry: {"blocks": {"b": {"fields": {"f": entry}}}},
    ),
    "a code list": (("code_lists", "c"), lambda entry: {"code_lists": {"c": entry}}),
}
TYPES = {"boolean": bool, "integer": int, "array": list, "object": dict, "string": str}


def declared(level: str) -> dict[str, type]:
    """The keys of a kind of entry, and what each holds."""
    entry = functools.reduce(under, LEVELS[level][0], SCHEMA)
    made = {}
    for key, part in entry["properties"].items():
        types = part.get("type", "string" if "enum" in part else "")
        made[key] = TYPES.get(types, object) if isinstance(types, str) else str
    return made | ({"item": object} if "item" in made else {})  # a number, or text


KEYS = [(level, key) for level in LEVELS for key in declared(level)]
NAMED_BY_TRUTH = {"booleans", "sentences"}


@pytest.mark.parametrize(("level", "key"), KEYS)
def test_an_overlays_key_holds_what_it_is_declared_to_hold(level: str, key: str) -> None:
    keys, (_, place) = declared(level), LEVELS[level]
    listed = ", ".join(RETYPED)
    written = {
        bool: "on",
        int: "010",
        list: f"[{listed}]",
        dict: "{" + ", ".join(f"{name}: {name}" for name in RETYPED) + "}",
    }.get(keys[key], "0123x")
    wanted: Any = {
        bool: True,
        int: 10,
        list: RETYPED,
        dict: {name: name for name in RETYPED},
    }.get(keys[key], "0123x")
    if key in NAMED_BY_TRUTH:
        written, wanted = f"{{no: [{listed}], on: [{listed}]}}", {False: RETYPED, True: RETYPED}
    read = typed(place(parse_yaml(f"{key}: {written}")))
    assert read == place({key: wanted})
    if keys[key] is str:
        for text in RETYPED:
            assert typed(place(parse_yaml(f"{key}: {text}"))) == place({key: text})


def test_codes_of_an_overlay_are_what_was_typed(tmp_path: Path) -> None:
    overlay = tmp_path / "ours.yaml"
    overlay.write_text(
        "code_lists: {referral_source: {codes: {010: ten, NO: none, 1e3: many}}}\n"
        "sources: {sdq: {where: [{equals: {csdq_sdq_reason: [010, NO]}}]}}\n"
        "blocks:\n  social_care_episodes:\n    fields:\n      referral_source:\n"
        "        max_length: 3\n        code_map: {8: 010, No: NO, 12:30: 1A}\n",
        encoding="utf-8",
    )
    spec = load_spec("generic", overlay)
    assert {"010", "NO", "1e3"} <= set(spec.code_lists["referral_source"].codes)
    (rule,) = spec.sources["sdq"].where
    assert rule == {"equals": {"csdq_sdq_reason": ["010", "NO"]}}
    fields = {field.name: field for field in spec.blocks["social_care_episodes"].fields}
    mapped = fields["referral_source"].options["code_map"]
    assert mapped == {"8": "010", "No": "NO", "12:30": "1A"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("code_lists: {sex: {retired: [X, null]}}", "line 1, has an entry of a list that is empty"),
        ("code_lists: {sex: {retired: [!!int 010]}}", "names the type int"),
        ("blocks: &all {adoption: *all}", "is nested too deeply"),
        ("blocks: " + "{a: " * 400 + "b" + "}" * 400, "is nested too deeply"),
        ('blocks: {b: {pattern: "\\d"}}', "not valid YAML"),
    ],
)
def test_an_overlay_that_leaves_a_value_open_is_refused(
    tmp_path: Path, text: str, said: str
) -> None:
    overlay = tmp_path / "ours.yaml"
    overlay.write_text(text, encoding="utf-8")
    with pytest.raises(SpecificationError, match=said):
        load_spec("generic", overlay)


@pytest.mark.parametrize(
    ("overlay", "fault"),
    [
        ("blocks: {section_47_assesments: null}",
         "block `section_47_assesments` is taken out, and there is none "
         "(did you mean `section_47_assessments`?)"),
        (in_details("etnicity: null"),
         "field `child_details.etnicity` is taken out, and there is none "
         "(did you mean `ethnicity`?)"),
        (in_details("mis_child_id: null"),
         "field `child_details.mis_child_id` is taken out, and there is none "
         "(it is a field of `child`)"),
        (in_details("ethnicity: {pattrn: null}"),
         "field `child_details.ethnicity`: unknown key `pattrn` (did you mean `pattern`?)"),
        ("blcks: null", "the specification: unknown key `blcks` (did you mean `blocks`?)"),
        ("code_lists: {ethnicityy: null}", "(did you mean `ethnicity`?)"),
    ],
)  # fmt: skip
def test_a_slip_in_what_is_taken_out_is_a_fault_because_it_would_be_sent(
    tmp_path: Path, overlay: str, fault: str
) -> None:
    ours = tmp_path / "ours.yaml"
    ours.write_text(overlay, encoding="utf-8")
    with pytest.raises(SpecificationError) as caught:
        load_spec("systemc", ours)
    assert fault in caught.value.message


@pytest.mark.parametrize(
    ("overlay", "said"),
    [
        (in_details("shoe_size: null"),
         ["takes out field `child_details.shoe_size`, and there is none"]),
        ("code_lists: {ethnicity: {codes: {WBRJ: null}}}",  # near to a code, and perhaps retired
         ["takes out `WBRJ` of code list `ethnicity`, and there is none"]),
        ("booleans: {true: null}", []),
        (in_details("ethnicity: {pattern: null}, postcode: null"), []),  # a key that may be there
        ("blocks: {care_leavers: null}\nknown_gaps: {}", []),
    ],
)  # fmt: skip
def test_what_is_taken_out_and_not_there_is_told(
    tmp_path: Path, overlay: str, said: list[str]
) -> None:
    ours = tmp_path / "ours.yaml"
    ours.write_text(overlay, encoding="utf-8")
    load_spec("systemc", ours)
    assert [one.said for one in takes_out_nothing("systemc", ours)] == said


def test_what_the_system_lacks_already_may_be_taken_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    merged = loading.merged_text
    monkeypatch.setattr(
        loading, "merged_text",
        lambda *given: merge(merged(*given), {"blocks": {"adoption": None}} if given else {}),
    )  # fmt: skip
    ours = tmp_path / "ours.yaml"
    ours.write_text("blocks: {adoption: null}", encoding="utf-8")
    assert takes_out_nothing("systemc", ours) == []

"""Cases of the cohort worked by hand, one or more a rule: rows of a child, and what is sent of it.

The run date is 10 August 2026, so the window is 1 April 2024 to 11 August 2026 and its census dates
are 31 March 2025 and 2026. `test_cases` runs each through extract; `cases_page` shows them in
docs/cohort.md.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

ABSENT = object()


@dataclass(frozen=True)
class Case:
    """One child as the SSD holds it, with what is to come of it."""

    name: str  # a sentence with `_` for blanks
    about: str  # the part of the rules that it belongs to
    settings: dict[str, Any]  # of the run that it is judged by
    fill: Callable[[Child], None]

    def child(self, person_id: str) -> Child:
        """The child of the case, under this id."""
        child = Child(person_id)
        self.fill(child)
        return child


CASES: list[Case] = []


def cases_about(part: str) -> Callable[..., Callable]:
    """A decorator that registers cases of one part; settings may be given to it."""

    def case(_function: Callable | None = None, **settings: Any) -> Callable:
        def register(function: Callable) -> Callable:
            CASES.append(Case(function.__name__, part, settings, function))
            return function

        return register(_function) if _function else register

    return case


class Child:
    """Rows of one made-up child and what is expected of its document."""

    def __init__(self, person_id: str) -> None:
        self.id = person_id
        self.rows: list[tuple[str, dict[str, Any]]] = []
        self.expected: dict[str, Any] = {}
        self.is_in = True
        self.sets: tuple[str, ...] | None = None  # None: whichever

    def add(self, table: str, **values: Any) -> None:
        self.rows.append((table, values))

    def person(self, dob: str | None = "2012-05-17", **values: Any) -> None:
        self.add("ssd_person", pers_person_id=self.id, pers_dob=dob, **values)

    def referral(self, start: Any = "2025-05-01", end: Any = None, no: str = "1", **v: Any) -> str:
        key = f"{self.id}R{no}"
        dates = {"cine_referral_date": start, "cine_close_date": end}
        self.add("ssd_cin_episodes", cine_referral_id=key, cine_person_id=self.id, **dates, **v)
        return key

    def assessment(self, referral: str, start: Any, end: Any = None, no: str = "1") -> str:
        key = f"{self.id}A{no}"
        self.add("ssd_cin_assessments", cina_assessment_id=key, cina_referral_id=referral,
                 cina_assessment_start_date=start, cina_assessment_auth_date=end)  # fmt: skip
        return key

    def cin_plan(self, referral: Any, start: Any, end: Any = None, no: str = "1") -> str:
        key = f"{self.id}N{no}"
        self.add("ssd_cin_plans", cinp_cin_plan_id=key, cinp_referral_id=referral,
                 cinp_person_id=self.id, cinp_cin_plan_start_date=start,
                 cinp_cin_plan_end_date=end)  # fmt: skip
        return key

    def cp_plan(self, referral: Any, start: Any, end: Any = None, no: str = "1") -> str:
        key = f"{self.id}P{no}"
        self.add("ssd_cp_plans", cppl_cp_plan_id=key, cppl_referral_id=referral,
                 cppl_person_id=self.id, cppl_cp_plan_start_date=start,
                 cppl_cp_plan_end_date=end)  # fmt: skip
        return key

    def s47(self, referral: str, start: Any, end: Any = None, no: str = "1", **v: Any) -> str:
        key = f"{self.id}S{no}"
        self.add("ssd_s47_enquiry", s47e_s47_enquiry_id=key, s47e_referral_id=referral,
                 s47e_s47_start_date=start, s47e_s47_end_date=end, **v)  # fmt: skip
        return key

    def icpc(self, enquiry: str, date: Any, no: str = "1") -> None:
        self.add("ssd_initial_cp_conference", icpc_icpc_id=f"{self.id}I{no}",
                 icpc_s47_enquiry_id=enquiry, icpc_icpc_date=date)  # fmt: skip

    def cla(self, referral: Any, placement: Any = None, period: str = "1", no: str = "1",
            start: Any = "2025-06-01", ceased: Any = None, begun: Any = "S",
            ended: Any = None) -> None:  # fmt: skip
        self.add("ssd_cla_episodes", clae_cla_episode_id=f"{self.id}E{no}",
                 clae_person_id=self.id, clae_referral_id=referral,
                 clae_cla_placement_id=placement, clae_cla_id=f"{self.id}C{period}",
                 clae_cla_episode_start_date=start, clae_cla_episode_start_reason=begun,
                 clae_cla_episode_ceased_date=ceased,
                 clae_cla_episode_ceased_reason=ended)  # fmt: skip

    def placement(self, start: Any, end: Any = None, no: str = "1", period: str = "1",
                  **v: Any) -> str:  # fmt: skip
        key = f"{self.id}L{no}"
        self.add("ssd_cla_placement", clap_cla_placement_id=key, clap_cla_id=f"{self.id}C{period}",
                 clap_cla_placement_start_date=start, clap_cla_placement_end_date=end,
                 **v)  # fmt: skip
        return key

    def worker(self, referral: str, start: Any, end: Any = None, no: str = "1", role: Any = "CW",
               number: Any = "SW", professional: Any = None) -> str:  # fmt: skip
        key = professional or f"{self.id}W{no}"
        registration = f"{number}{self.id[1:]}{no}" if number else number
        if professional is None:
            self.add("ssd_professionals", prof_professional_id=key,
                     prof_social_worker_registration_no=registration)  # fmt: skip
        self.add("ssd_involvements", invo_involvements_id=f"{self.id}V{no}",
                 invo_professional_id=key, invo_professional_role_id=role,
                 invo_involvement_start_date=start, invo_involvement_end_date=end,
                 invo_referral_id=referral)  # fmt: skip
        return key

    def has(self, path: str, value: Any) -> None:
        """A dotted path in the document and the value there; `ABSENT` where there is none."""
        self.expected[path] = value

    def out(self) -> None:
        self.is_in = False

    def in_by(self, *sets: str) -> None:
        """The inclusion sets that the child is in by, all of them."""
        self.sets = sets

    def found_wrong(self, document: dict[str, Any] | None, sets: tuple[str, ...]) -> str | None:
        if (document is not None) != self.is_in:
            return "is in" if document is not None else "is not in"
        if self.sets is not None and sets != self.sets:
            return f"is in by {sets}, not by {self.sets}"
        for path, wanted in self.expected.items():
            found = _at(document, path)
            if found != wanted:
                return f"{path} is {found!r}, not {wanted!r}"
        return None


def _at(document: Any, path: str) -> Any:
    for part in path.split("."):
        if part == "ids":  # the ids of a list's items
            return [next(v for k, v in item.items() if k.endswith("_id")) for item in document]
        if isinstance(document, list):
            if int(part) >= len(document):
                return ABSENT
            document = document[int(part)]
        else:
            if part not in document:
                return ABSENT
            document = document[part]
    return document


EPISODE = "social_care_episodes.0"


# ------------------------------------------------------------------- eligibility
case = cases_about("Eligibility")


@case
def born_so_that_26_falls_on_the_first_day_of_the_window_is_out(c: Child) -> None:
    c.person("1998-04-01")
    c.referral()
    c.out()


@case
def born_a_day_later_is_in(c: Child) -> None:
    c.person("1998-04-02")
    c.referral()
    c.has("child_details.date_of_birth", "1998-04-02")


@case
def born_tomorrow_is_in(c: Child) -> None:
    c.person("2026-08-11")
    c.referral()


@case
def born_the_day_after_tomorrow_is_out(c: Child) -> None:
    c.person("2026-08-12", pers_expected_dob="2026-08-01")
    c.referral()
    c.out()


@case
def unborn_with_a_due_date_in_the_window_is_in(c: Child) -> None:
    c.person(None, pers_expected_dob="2026-08-11")
    c.referral()
    c.has("child_details.expected_date_of_birth", "2026-08-11")
    c.has("child_details.date_of_birth", ABSENT)


@case
def unborn_due_after_the_window_is_out(c: Child) -> None:
    c.person(None, pers_expected_dob="2026-09-20")
    c.referral()
    c.out()


@case(unborn_due_after_window=True)
def unborn_due_after_the_window_is_in_where_the_setting_says_so(c: Child) -> None:
    c.person(None, pers_expected_dob="2026-09-20")
    c.referral()


@case(unborn_due_after_window=True)
def due_date_in_both_columns_is_unborn_where_the_setting_says_so(c: Child) -> None:
    c.person("2026-09-20", pers_expected_dob="2026-09-20")
    c.referral()


@case
def unborn_with_a_due_date_before_the_window_is_out(c: Child) -> None:
    c.person(None, pers_expected_dob="2024-03-31")
    c.referral()
    c.out()


@case
def estimated_birth_date_in_the_due_date_is_out(c: Child) -> None:
    c.person(None, pers_expected_dob="2011-02-03")
    c.referral()
    c.out()


@case(expected_dob_as_dob=True)
def estimated_birth_date_counts_where_the_setting_says_so(c: Child) -> None:
    c.person(None, pers_expected_dob="2011-02-03")
    c.referral()
    c.has("child_details.date_of_birth", ABSENT)


@case(expected_dob_as_dob=True)
def estimated_birth_date_is_judged_by_age_all_the_same(c: Child) -> None:
    c.person(None, pers_expected_dob="1998-04-01")
    c.referral()
    c.out()


@case
def without_any_date_is_out(c: Child) -> None:
    c.person(None)
    c.referral()
    c.out()


@case
def deceased_stays_in(c: Child) -> None:
    c.person(pers_death_date="2025-09-09")
    c.referral()


# ------------------------------------------------------------------- inclusion sets
case = cases_about("Inclusion sets")


@case
def without_any_set_is_out(c: Child) -> None:
    c.person()
    c.out()


@case
def referral_closed_on_the_first_day_of_the_window_is_in(c: Child) -> None:
    c.person()
    c.referral("2020-01-01", "2024-04-01")
    c.has(f"{EPISODE}.closure_date", "2024-04-01")


@case
def referral_closed_the_day_before_the_window_is_out(c: Child) -> None:
    c.person()
    c.referral("2020-01-01", "2024-03-31")
    c.out()


@case
def referral_of_tomorrow_is_in(c: Child) -> None:
    c.person()
    c.referral("2026-08-11 09:00")
    c.has(f"{EPISODE}.referral_date", "2026-08-11")


@case
def referral_of_the_day_after_tomorrow_waits_for_its_assessment_without_an_episode(
    c: Child,
) -> None:
    c.person()
    c.referral("2026-08-12")
    c.has("social_care_episodes", ABSENT)


@case
def open_referral_without_a_date_waits_for_its_assessment_without_an_episode(c: Child) -> None:
    c.person()
    c.referral(None)
    c.has("social_care_episodes", ABSENT)


@case
def open_referral_without_a_date_that_has_an_assessment_is_out(c: Child) -> None:
    c.person()
    c.assessment(c.referral(None), "2025-01-01")
    c.out()


@case
def an_assessment_without_a_start_does_not_end_the_wait(c: Child) -> None:
    c.person()
    c.assessment(c.referral(None), None)


@case
def an_assessment_whose_start_stands_for_none_does_not_end_the_wait(c: Child) -> None:
    c.person()
    c.assessment(c.referral(None), "1900-01-01")


@case
def cin_plan_alone_is_in_without_an_episode(c: Child) -> None:
    c.person()
    c.cin_plan(None, "2023-01-01", "2024-04-01")
    c.has("social_care_episodes", ABSENT)


@case
def cin_plan_that_ended_before_the_window_is_out(c: Child) -> None:
    c.person()
    c.cin_plan(None, "2023-01-01", "2024-03-31")
    c.out()


@case
def cp_plan_alone_is_out(c: Child) -> None:
    c.person()
    c.cp_plan(None, "2025-01-01")
    c.out()


@case(cp_plan_inclusion=True)
def cp_plan_alone_is_in_where_the_setting_says_so(c: Child) -> None:
    c.person()
    c.cp_plan(None, "2025-01-01")


@case
def looked_after_by_the_active_referral_of_somebody_else_is_in(c: Child) -> None:
    sibling = Child(f"{c.id}B")
    c.person()
    key = sibling.referral()
    c.rows += [("ssd_person", {"pers_person_id": sibling.id, "pers_dob": "1960-01-01"})]
    c.rows += sibling.rows
    c.cla(key)
    c.has("social_care_episodes", ABSENT)


@case
def looked_after_by_a_closed_referral_is_out(c: Child) -> None:
    c.person()
    c.cla(c.referral("2020-01-01", "2021-01-01"))
    c.out()


@case
def looked_after_by_a_placement_in_the_window_is_in(c: Child) -> None:
    c.person()
    c.cla(c.referral("2020-01-01", "2021-01-01"))
    c.placement("2020-06-01", "2024-04-01")
    c.has("social_care_episodes", ABSENT)


@case
def looked_after_by_a_placement_before_the_window_is_out(c: Child) -> None:
    c.person()
    c.cla(None)
    c.placement("2020-06-01", "2024-03-31")
    c.out()


@case
def care_leaver_without_an_open_episode_is_out(c: Child) -> None:
    c.person("2005-01-01")
    c.add("ssd_care_leavers", clea_person_id=c.id, clea_care_leaver_latest_contact="2026-01-01")
    c.referral("2020-01-01", "2022-01-01")
    c.out()


@case
def care_leaver_with_a_contact_in_the_window_is_in_by_that_set_too(c: Child) -> None:
    c.person("2005-01-01")
    c.assessment(c.referral("2020-01-01"), "2020-01-02")
    c.add("ssd_care_leavers", clea_person_id=c.id, clea_care_leaver_latest_contact="2024-04-01")
    c.in_by("active_referral", "care_leaver")


@case
def care_leaver_with_a_contact_on_the_last_day_of_the_window_is_not_in_by_that_set(
    c: Child,
) -> None:
    c.person("2005-01-01")
    c.assessment(c.referral("2020-01-01"), "2020-01-02")
    c.add("ssd_care_leavers", clea_person_id=c.id, clea_care_leaver_latest_contact="2026-08-11")
    c.in_by("active_referral")


@case
def disabled_alone_is_out(c: Child) -> None:
    c.person()
    c.add("ssd_disability", disa_person_id=c.id, disa_disability_code="MOB")
    c.out()


@case(disability_inclusion=True)
def disabled_alone_is_in_where_the_setting_says_so(c: Child) -> None:
    c.person()
    c.add("ssd_disability", disa_person_id=c.id, disa_disability_code="MOB")
    c.has("child_details.disabilities", ["MOB"])


# ------------------------------------------------------------------- the child
case = cases_about("The child")


@case
def a_bare_child_has_its_defaults_and_no_empty_blocks(c: Child) -> None:
    c.person()
    c.referral()
    c.has("purge", False)
    c.has("child_details.purge", False)
    c.has("child_details.sex", "U")
    c.has("child_details.uasc_flag", False)
    c.has("child_details.disabilities", ["NONE"])
    c.has("health_and_wellbeing", ABSENT)
    c.has(f"{EPISODE}.purge", False)
    for name in ("child_in_need_plans", "adoption", "care_leavers", "care_worker_details"):
        c.has(f"{EPISODE}.{name}", ABSENT)


@case
def ids_are_texts_without_outer_blanks(c: Child) -> None:
    c.person(pers_legacy_id=" OLD-7 ")
    c.referral()
    c.has("la_child_id", c.id)
    c.has("mis_child_id", "OLD-7")


@case
def a_placeholder_reason_in_the_upn_column_is_a_reason_only(c: Child) -> None:
    c.person(pers_upn="UN10")
    c.referral()
    c.has("child_details.unique_pupil_number", ABSENT)
    c.has("child_details.unique_pupil_number_unknown_reason", "UN10")


@case
def a_reason_beside_a_usable_upn_is_left_out(c: Child) -> None:
    c.person(pers_upn="A123456789012", pers_upn_unknown="UN4")
    c.referral()
    c.has("child_details.unique_pupil_number", "A123456789012")
    c.has("child_details.unique_pupil_number_unknown_reason", ABSENT)


@case
def the_former_upn_is_the_latest_that_can_be_used(c: Child) -> None:
    c.person()
    c.referral()
    for number, (date, value) in enumerate(
        [
            ("2020-01-01", "A111111111111"),
            ("2022-01-01", "B222222222222"),
            ("2024-01-01", "too short"),
            (None, "SSD_PH"),
        ]
    ):
        c.add("ssd_linked_identifiers", link_table_id=f"{c.id}-{number}", link_person_id=c.id,
              link_identifier_type="Former Unique Pupil Number", link_identifier_value=value,
              link_valid_from_date=date)  # fmt: skip
    c.has("child_details.former_unique_pupil_number", "B222222222222")


@case
def another_kind_of_identifier_is_no_former_upn(c: Child) -> None:
    c.person()
    c.referral()
    c.add("ssd_linked_identifiers", link_person_id=c.id, link_identifier_type="NHS number",
          link_identifier_value="A111111111111")  # fmt: skip
    c.has("child_details.former_unique_pupil_number", ABSENT)


@case
def the_latest_address_wins_even_when_it_has_ended(c: Child) -> None:
    c.person()
    c.referral()
    rows = [("2019-01-01", None, "AB1 2CD"), ("2024-06-01", "2025-01-01", "ef34gh"),
            (None, None, "IJ5 6KL")]  # fmt: skip
    for number, (start, end, postcode) in enumerate(rows):
        c.add("ssd_address", addr_table_id=f"{c.id}-{number}", addr_person_id=c.id,
              addr_address_start_date=start, addr_address_end_date=end,
              addr_address_postcode=postcode)  # fmt: skip
    c.has("child_details.postcode", "EF3 4GH")


@case
def two_addresses_of_one_day_are_settled_by_their_id(c: Child) -> None:
    c.person()
    c.referral()
    for key, postcode in (("a", "AB1 2CD"), ("b", "EF3 4GH")):
        c.add("ssd_address", addr_table_id=f"{c.id}{key}", addr_person_id=c.id,
              addr_address_start_date="2024-06-01", addr_address_postcode=postcode)  # fmt: skip
    c.has("child_details.postcode", "EF3 4GH")


@case
def of_two_addresses_of_one_day_the_later_hour_wins(c: Child) -> None:
    c.person()
    c.referral()
    times = (("b", "2024-06-01 09:15", "AB1 2CD"), ("a", "2024-06-01 16:40", "EF3 4GH"))
    for key, since, postcode in times:
        c.add("ssd_address", addr_table_id=f"{c.id}{key}", addr_person_id=c.id,
              addr_address_start_date=since, addr_address_postcode=postcode)  # fmt: skip
    c.has("child_details.postcode", "EF3 4GH")


@case
def disabilities_are_distinct_and_sorted(c: Child) -> None:
    c.person()
    c.referral()
    for number, code in enumerate(["VIS", "mob - mobility", "VIS", "VISION", "NONE"]):
        c.add("ssd_disability", disa_table_id=f"{c.id}{number}", disa_person_id=c.id,
              disa_disability_code=code)  # fmt: skip
    c.has("child_details.disabilities", ["MOB", "VIS"])


def _status(c: Child, word: str, end: str | None, start: str = "2020-01-01", no: int = 1) -> None:
    c.add("ssd_immigration_status", immi_immigration_status_id=f"{c.id}{no}", immi_person_id=c.id,
          immi_immigration_status=word, immi_immigration_status_start_date=start,
          immi_immigration_status_end_date=end)  # fmt: skip


@case
def uasc_that_ended_on_the_first_day_of_the_window_counts(c: Child) -> None:
    c.person()
    c.referral()
    _status(c, "u ", "2024-04-01")
    c.has("child_details.uasc_flag", True)
    c.has("child_details.uasc_end_date", "2024-04-01")


@case
def uasc_that_ended_before_the_window_does_not_count(c: Child) -> None:
    c.person()
    c.referral()
    _status(c, "U", "2024-03-31")
    c.has("child_details.uasc_flag", False)
    c.has("child_details.uasc_end_date", ABSENT)


@case
def another_status_gives_no_uasc_end_date(c: Child) -> None:
    c.person()
    c.referral()
    _status(c, "Indefinite leave to remain", "2025-01-01")
    c.has("child_details.uasc_flag", False)
    c.has("child_details.uasc_end_date", ABSENT)


@case
def uasc_in_words_with_an_open_status_before_an_ended_one(c: Child) -> None:
    c.person()
    c.referral()
    _status(c, "Unaccompanied asylum-seeking child", "2026-01-01", "2025-01-01", no=1)
    _status(c, "UASC", None, "2021-01-01", no=2)
    c.has("child_details.uasc_flag", True)
    c.has("child_details.uasc_end_date", ABSENT)


# ------------------------------------------------------------------- lists
case = cases_about("Lists")


@case
def sdq_in_the_window_with_a_score_newest_first(c: Child) -> None:
    c.person()
    c.referral()
    for number, (date, score) in enumerate(
        [("2024-03-31", 5), ("2024-04-01", 7), ("2026-08-11", 9), ("2025-01-01", None),
         (None, 11)]
    ):  # fmt: skip
        c.add("ssd_sdq_scores", csdq_table_id=f"{c.id}{number}", csdq_person_id=c.id,
              csdq_sdq_completed_date=date, csdq_sdq_score=score)  # fmt: skip
    c.has("health_and_wellbeing.purge", False)
    c.has("health_and_wellbeing.sdq_assessments",
          [{"date": "2026-08-11", "score": 9}, {"date": "2024-04-01", "score": 7}])  # fmt: skip


@case
def an_sdq_score_out_of_range_leaves_the_date(c: Child) -> None:
    c.person()
    c.referral()
    c.add("ssd_sdq_scores", csdq_person_id=c.id, csdq_sdq_completed_date="2025-01-01",
          csdq_sdq_score=41)  # fmt: skip
    c.has("health_and_wellbeing.sdq_assessments", [{"date": "2025-01-01"}])


@case
def episodes_newest_first_and_only_those_in_the_window(c: Child) -> None:
    c.person()
    c.referral("2024-05-01", no="a")
    c.referral("2010-01-01", "2012-01-01", no="old")
    c.referral("2026-05-01", no="b")
    c.referral("2024-05-01", no="c")
    c.has("social_care_episodes.ids", [f"{c.id}Rb", f"{c.id}Ra", f"{c.id}Rc"])


@case
def an_assessment_open_since_before_the_window_is_not_sent(c: Child) -> None:
    c.person()
    key = c.referral()
    c.assessment(key, "2024-03-31", no="1")
    c.assessment(key, "2024-03-31", "2024-04-01", no="2")
    c.assessment(key, "2026-08-11", no="3")
    c.has(f"{EPISODE}.child_and_family_assessments.ids", [f"{c.id}A3", f"{c.id}A2"])
    c.has(f"{EPISODE}.child_and_family_assessments.0.factors", [])


@case
def factors_of_all_rows_of_an_assessment(c: Child) -> None:
    c.person()
    key = c.assessment(c.referral(), "2025-01-01")
    for number, held in enumerate(['["2B", null, "1A"]', '{"3A": "Yes", "4A": "No"}']):
        c.add("ssd_assessment_factors", cinf_table_id=f"{c.id}{number}", cinf_assessment_id=key,
              cinf_assessment_factors_json=held)  # fmt: skip
    c.has(f"{EPISODE}.child_and_family_assessments.0.factors", ["1A", "2B", "3A"])


@case
def malformed_factors_in_one_row_stop_nothing(c: Child) -> None:
    c.person()
    key = c.assessment(c.referral(), "2025-01-01")
    c.add("ssd_assessment_factors", cinf_assessment_id=key,
          cinf_assessment_factors_json='["1A", ')  # fmt: skip
    c.has(f"{EPISODE}.child_and_family_assessments.0.factors", ABSENT)


@case
def plans_overlap_the_window_by_a_day(c: Child) -> None:
    c.person()
    key = c.referral()
    for add in (c.cin_plan, c.cp_plan):
        add(key, "2020-01-01", "2024-03-31", no="1")
        add(key, "2020-01-01", "2024-04-01", no="2")
        add(key, "2026-08-11", no="3")
        add(key, "2026-08-12", no="4")
        add(key, None, "2025-01-01", no="5")
    c.has(f"{EPISODE}.child_in_need_plans.ids", [f"{c.id}N3", f"{c.id}N2"])
    c.has(f"{EPISODE}.child_protection_plans.ids", [f"{c.id}P3", f"{c.id}P2"])


@case
def an_s47_before_the_window_counts_by_its_conference(c: Child) -> None:
    c.person()
    key = c.referral()
    c.icpc(c.s47(key, "2024-01-01", "2024-02-01", no="1"), "2024-04-01")
    c.has(f"{EPISODE}.section_47_assessments.ids", [f"{c.id}S1"])
    c.has(f"{EPISODE}.section_47_assessments.0.icpc_date", "2024-04-01")


@case
def an_s47_without_a_start_and_conference_is_not_sent(c: Child) -> None:
    c.person()
    c.s47(c.referral(), None)
    c.has(f"{EPISODE}.section_47_assessments", ABSENT)


@case
def only_the_latest_conference_counts_and_an_s47_is_sent_once(c: Child) -> None:
    c.person()
    key = c.s47(c.referral(), "2025-01-01")
    c.icpc(key, "2025-02-01", no="1")
    c.icpc(key, "2025-03-01", no="2")
    c.icpc(key, None, no="3")
    c.has(f"{EPISODE}.section_47_assessments.ids", [key])
    c.has(f"{EPISODE}.section_47_assessments.0.icpc_date", "2025-03-01")


@case
def an_s47_whose_latest_conference_lies_after_the_window_is_not_sent(c: Child) -> None:
    c.person()
    key = c.s47(c.referral(), "2024-01-01", "2024-02-01")
    c.icpc(key, "2025-02-01", no="1")
    c.icpc(key, "2027-03-01", no="2")
    c.has(f"{EPISODE}.section_47_assessments", ABSENT)


@case
def the_conference_flag_in_all_its_forms(c: Child) -> None:
    c.person()
    key = c.referral()
    texts = ['{"CP_CONFERENCE_FLAG": "Y"}', '{"OUTCOME_CP_CONFERENCE_FLAG":"N"}',
             "No further action", "rubbish"]  # fmt: skip
    for number, text in enumerate(texts):
        c.s47(key, f"2025-01-0{number + 1}", no=str(number), s47e_s47_outcome_json=text)
    for place, flag in enumerate([ABSENT, False, False, True]):
        c.has(f"{EPISODE}.section_47_assessments.{place}.icpc_required_flag", flag)


@case
def a_placement_is_one_item_whatever_the_number_of_cla_episodes(c: Child) -> None:
    c.person()
    key = c.referral()
    first = c.placement("2025-01-01", "2025-02-01", no="1")
    second = c.placement("2025-02-01", no="2")
    c.cla(key, first, no="1", start="2025-01-01", ceased="2025-02-01", begun="S", ended="X1")
    c.cla(key, second, no="2", start="2025-02-01", begun="P - placement changed")
    c.has(f"{EPISODE}.child_looked_after_placements.ids", [second, first])


@case
def reasons_go_with_their_placement_not_with_the_period(c: Child) -> None:
    c.person()
    key = c.referral()
    ids = [c.placement("2025-01-01", "2025-02-01", no="1"),
           c.placement("2025-02-01", "2025-04-01", no="2"),
           c.placement("2025-04-01", no="3")]  # fmt: skip
    c.cla(key, ids[0], no="1", start="2025-01-01", ceased="2025-02-01", begun="S", ended="X1")
    c.cla(key, ids[1], no="2", start="2025-02-01", ceased="2025-03-01", begun="P", ended="X1")
    c.cla(key, ids[1], no="3", start="2025-03-01", ceased="2025-04-01", begun="L", ended=" E11 x")
    c.cla(key, ids[2], no="4", start="2025-04-01", begun="B", ended=None)
    path = f"{EPISODE}.child_looked_after_placements"
    for place, (begun, ended) in enumerate([("B", ABSENT), ("P", "E11"), ("S", "X1")]):
        c.has(f"{path}.{place}.start_reason", begun)
        c.has(f"{path}.{place}.end_reason", ended)


@case
def a_placement_of_two_referrals_stands_under_both(c: Child) -> None:
    c.person()
    c.cla(c.referral(no="1"), no="1")
    c.cla(c.referral(no="2"), no="2")
    key = c.placement("2025-01-01")
    for place in (0, 1):
        c.has(f"social_care_episodes.{place}.child_looked_after_placements.ids", [key])


@case
def a_placement_that_ends_before_it_starts_loses_its_end(c: Child) -> None:
    c.person()
    c.cla(c.referral())
    c.placement("2025-03-01", "2025-02-01")
    c.has(f"{EPISODE}.child_looked_after_placements.0.start_date", "2025-03-01")
    c.has(f"{EPISODE}.child_looked_after_placements.0.end_date", ABSENT)


@case
def a_placement_before_the_window_is_not_sent(c: Child) -> None:
    c.person()
    c.cla(c.referral())
    c.placement("2023-03-01", "2024-03-31")
    c.has(f"{EPISODE}.child_looked_after_placements", ABSENT)


def _adoption(c: Child, no: str = "1", person: bool = True, **values: Any) -> None:
    dates = {"adm": "perm_adm_decision_date", "matched": "perm_matched_date",
             "placed": "perm_placed_for_adoption_date"}  # fmt: skip
    c.add("ssd_permanence", perm_table_id=f"{c.id}{no}", perm_person_id=c.id if person else None,
          perm_cla_id=None if person else f"{c.id}C1",
          **{dates[k]: v for k, v in values.items()})  # fmt: skip


@case
def the_latest_adoption_by_placed_then_matched_then_decision(c: Child) -> None:
    c.person()
    c.referral()
    _adoption(c, "1", adm="2024-05-01", placed="2025-01-01")
    _adoption(c, "2", matched="2025-06-01")
    _adoption(c, "3", adm="2020-01-01")
    c.has(f"{EPISODE}.adoption", {"matched_date": "2025-06-01", "purge": False})


@case
def adoption_outside_the_window_is_not_sent(c: Child) -> None:
    c.person()
    c.referral()
    _adoption(c, adm="2024-03-31")
    c.has(f"{EPISODE}.adoption", ABSENT)


@case
def adoption_by_the_period_of_care(c: Child) -> None:
    c.person()
    c.cla(c.referral())
    _adoption(c, person=False, adm="2025-05-01", placed="2023-01-01")
    c.has(f"{EPISODE}.adoption.initial_decision_date", "2025-05-01")
    c.has(f"{EPISODE}.adoption.placed_date", "2023-01-01")


@case
def an_adoption_of_another_childs_period_of_care_is_not_sent(c: Child) -> None:
    other = Child(f"{c.id}B")
    other.cla(None)
    c.rows += other.rows
    c.person()
    c.referral()
    c.add("ssd_permanence", perm_table_id=c.id, perm_person_id=c.id, perm_cla_id=f"{other.id}C1",
          perm_adm_decision_date="2025-05-01")  # fmt: skip
    c.has(f"{EPISODE}.adoption", ABSENT)


@case
def an_adoption_of_a_period_of_care_that_nobody_knows_is_sent(c: Child) -> None:
    c.person()
    c.referral()
    c.add("ssd_permanence", perm_table_id=c.id, perm_person_id=c.id, perm_cla_id="gone",
          perm_adm_decision_date="2025-05-01")  # fmt: skip
    c.has(f"{EPISODE}.adoption.initial_decision_date", "2025-05-01")


@case
def adoption_and_care_leaver_stand_on_every_episode(c: Child) -> None:
    c.person("2008-01-01")
    c.referral("2024-05-01", no="1")
    c.referral("2025-05-01", "2025-06-01", no="2")
    _adoption(c, adm="2025-05-01")
    c.add("ssd_care_leavers", clea_person_id=c.id, clea_care_leaver_latest_contact="2025-01-01")
    for place in (0, 1):
        c.has(f"social_care_episodes.{place}.adoption.initial_decision_date", "2025-05-01")
        c.has(f"social_care_episodes.{place}.care_leavers.contact_date", "2025-01-01")


@case(repeat_person_facts="one_episode")
def adoption_stands_on_the_open_episode_where_the_setting_says_so(c: Child) -> None:
    c.person("2008-01-01")
    c.referral("2024-05-01", no="1")
    c.referral("2025-05-01", "2025-06-01", no="2")
    _adoption(c, adm="2025-05-01")
    c.has("social_care_episodes.0.adoption", ABSENT)
    c.has("social_care_episodes.1.adoption.initial_decision_date", "2025-05-01")


@case
def the_latest_contact_of_a_care_leaver_without_a_window(c: Child) -> None:
    c.person("2005-01-01")
    c.referral()
    rows = [("1", "2019-01-01", "F1"), ("2", "2020-02-02", "G5 - other"), ("3", None, "P1")]
    for no, date, activity in rows:
        c.add("ssd_care_leavers", clea_table_id=f"{c.id}{no}", clea_person_id=c.id,
              clea_care_leaver_latest_contact=date, clea_care_leaver_activity=activity,
              clea_care_leaver_accommodation="Z With former foster carer")  # fmt: skip
    c.has(f"{EPISODE}.care_leavers", {"contact_date": "2020-02-02", "activity": "G5",
                                      "accommodation": "Z", "purge": False})  # fmt: skip


@case(care_leaver_window=True)
def a_contact_before_the_window_is_left_out_where_the_setting_says_so(c: Child) -> None:
    c.person("2005-01-01")
    c.referral()
    c.add("ssd_care_leavers", clea_person_id=c.id, clea_care_leaver_latest_contact="2024-03-31")
    c.has(f"{EPISODE}.care_leavers", ABSENT)


@case(care_leaver_window=True)
def a_contact_on_the_last_day_of_the_window_is_left_out_where_the_setting_says_so(
    c: Child,
) -> None:
    c.person("2005-01-01")
    c.referral()
    c.add("ssd_care_leavers", clea_table_id=f"{c.id}1", clea_person_id=c.id,
          clea_care_leaver_latest_contact="2026-08-11")  # fmt: skip
    c.add("ssd_care_leavers", clea_table_id=f"{c.id}2", clea_person_id=c.id,
          clea_care_leaver_latest_contact="2026-08-10")  # fmt: skip
    c.has(f"{EPISODE}.care_leavers.contact_date", "2026-08-10")


# ------------------------------------------------------------------- care workers
case = cases_about("Care workers")


@case
def a_worker_at_the_first_31_march_only_is_sent(c: Child) -> None:
    c.person()
    key = c.referral("2024-05-01")
    c.cin_plan(key, "2025-01-01")
    c.worker(key, "2025-03-31", "2025-03-31")
    c.has(f"{EPISODE}.care_worker_details", [
        {"worker_id": f"SW{c.id[1:]}1", "start_date": "2025-03-31", "end_date": "2025-03-31"}
    ])  # fmt: skip


@case
def a_worker_between_two_31_marches_is_not_sent(c: Child) -> None:
    c.person()
    key = c.referral("2024-05-01")
    c.cin_plan(key, "2025-01-01")
    c.worker(key, "2025-04-01", "2026-03-30")
    c.has(f"{EPISODE}.care_worker_details", ABSENT)


@case
def a_worker_without_a_cin_plan_in_the_window_is_not_sent(c: Child) -> None:
    c.person()
    key = c.referral("2023-05-01")
    c.cin_plan(key, "2023-05-01", "2024-03-31")
    c.worker(key, "2023-05-01")
    c.has(f"{EPISODE}.care_worker_details", ABSENT)


@case
def a_cin_plan_of_another_referral_does_not_open_the_gate(c: Child) -> None:
    c.person()
    c.cin_plan(c.referral("2024-05-01", no="1"), "2025-01-01")
    c.worker(c.referral("2024-06-01", no="2"), "2024-06-01")
    c.has("social_care_episodes.0.care_worker_details", ABSENT)


@case
def a_worker_without_a_registration_number_is_not_sent(c: Child) -> None:
    c.person()
    key = c.referral("2024-05-01")
    c.cin_plan(key, "2025-01-01")
    c.worker(key, "2024-05-01", no="1", number=None)
    c.worker(key, "2024-05-01", no="2", number="")
    c.worker(key, "2024-05-01", no="3", professional="nobody")
    c.has(f"{EPISODE}.care_worker_details", ABSENT)


@case
def another_role_is_not_sent_and_case_does_not_matter(c: Child) -> None:
    c.person()
    key = c.referral("2024-05-01")
    c.cin_plan(key, "2025-01-01")
    c.worker(key, "2024-05-01", no="1", role=" cw ")
    c.worker(key, "2024-05-02", no="2", role="IRO")
    c.worker(key, None, no="3")
    c.has(f"{EPISODE}.care_worker_details.1", ABSENT)
    c.has(f"{EPISODE}.care_worker_details.0.worker_id", f"SW{c.id[1:]}1")


@case(care_worker_roles="IRO,Case worker")
def other_roles_are_sent_where_the_setting_says_so(c: Child) -> None:
    c.person()
    key = c.referral("2024-05-01")
    c.cin_plan(key, "2025-01-01")
    c.worker(key, "2024-05-01", no="1", role="CW")
    c.worker(key, "2024-05-02", no="2", role="CASE  WORKER")
    c.has(f"{EPISODE}.care_worker_details.0.worker_id", f"SW{c.id[1:]}2")
    c.has(f"{EPISODE}.care_worker_details.1", ABSENT)


@case
def two_spells_of_one_worker_are_two_items_newest_first(c: Child) -> None:
    c.person()
    key = c.referral("2024-05-01")
    c.cin_plan(key, "2025-01-01")
    worker = c.worker(key, "2024-05-01", "2025-05-01", no="1")
    c.worker(key, "2026-01-01", no="2", professional=worker)
    for place, start in enumerate(["2026-01-01", "2024-05-01"]):
        c.has(f"{EPISODE}.care_worker_details.{place}.start_date", start)


# ------------------------------------------------------------------- values
case = cases_about("Values")


@case
def flags_are_booleans_and_blank_is_nothing(c: Child) -> None:
    c.person()
    c.referral(no="1", start="2026-01-03", cine_referral_nfa="Y")
    c.referral(no="2", start="2026-01-02", cine_referral_nfa="0")
    c.referral(no="3", start="2026-01-01", cine_referral_nfa=" ")
    for place, flag in enumerate([True, False, ABSENT]):
        c.has(f"social_care_episodes.{place}.referral_no_further_action_flag", flag)


@case
def codes_are_never_cut_to_fit(c: Child) -> None:
    c.person(pers_upn_unknown="UN10", pers_ethnicity="WBRITISH", pers_sex="m")
    c.referral(cine_referral_source_code="10 - Unknown", cine_close_reason="RC10")
    c.has("child_details.unique_pupil_number_unknown_reason", "UN10")
    c.has("child_details.ethnicity", ABSENT)
    c.has("child_details.sex", "M")
    c.has(f"{EPISODE}.referral_source", "10")
    c.has(f"{EPISODE}.closure_reason", ABSENT)


@case
def names_stay_as_they_are(c: Child) -> None:
    c.person(pers_forename='D\'Arcy "Łukasz"', pers_surname="O'Brien")
    c.referral()
    c.has("child_details.first_name", 'D\'Arcy "Łukasz"')
    c.has("child_details.surname", "O'Brien")


@case
def an_item_without_a_usable_key_is_left_out(c: Child) -> None:
    c.person()
    key = c.referral()
    c.add("ssd_cin_plans", cinp_cin_plan_id=f"{c.id} odd/key", cinp_referral_id=key,
          cinp_person_id=c.id, cinp_cin_plan_start_date="2025-01-01")  # fmt: skip
    c.has(f"{EPISODE}.child_in_need_plans", ABSENT)

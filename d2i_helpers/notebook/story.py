"""What the counts of a stage or of a run say, as one sentence and as a funnel. Numbers only."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from d2i_helpers.plain_english import counted, none_or, verb

Number = int | float
Counts = Mapping[str, Number]  # closing counts of one stage, by name

_MOVED = ("new", "updated", "undone", "back", "gone")  # of extract: the document is another one
_STAGED = ("new", "updated", "undone", "back", "unchanged")
_NOT_STORED = ("failed", "unknown", "unsent")


def sentence_of_run(counts: Mapping[str, Counts], *, is_dry: bool = False) -> str:
    """What a run did, in one sentence such as ``1,542 children, 31 changed, none refused.``

    Args:
        counts: closing counts by stage, of the stages that ran; none: an empty sentence.
        is_dry: nothing was sent.
    """
    said = []
    extract, delta, submit = (counts.get(name, {}) for name in ("extract", "delta", "submit"))
    if extract:
        said.append(counted(extract.get("in_cohort", 0), "child"))
        said.append(f"{none_or(sum(extract.get(name, 0) for name in _MOVED))} changed")
    if submit and is_dry:
        said.append(f"{none_or(submit.get('waiting_before', 0))} to send and nothing sent")
    elif submit:
        said.append(f"{none_or(submit.get('acknowledged', 0))} acknowledged")
        said.append(f"{none_or(submit.get('refused', 0))} refused")
        said += [f"{submit[name]:,} {name}" for name in _NOT_STORED if submit.get(name)]
    elif delta:
        said.append(f"{none_or(delta.get('ready_to_send', 0))} to send")
    if said:
        said.append(_attention(max(stage.get("need_attention", 0) for stage in counts.values())))
        return _whole(said)
    ended = next((name for name in reversed(list(counts)) if counts[name]), None)
    return sentence_of_stage(ended, counts[ended]) if ended else ""


def sentence_of_stage(stage: str, counts: Counts, *, is_dry: bool = False) -> str:
    """What a stage did, in one sentence; an empty one of a stage that has none."""
    if stage == "submit" and is_dry:
        return _dry(counts)
    make = _OF_STAGES.get(stage)
    return make(counts) if make else ""


def _preflight(counts: Counts) -> str:
    tried = sum(counts.get(name, 0) for name in ("pass", "warn", "fail"))
    said = [
        counted(tried, "check"),
        f"{none_or(counts.get('warn', 0))} with a warning",
        f"{none_or(counts.get('fail', 0))} failed",
    ]
    return _whole(said)


def _extract(counts: Counts) -> str:
    said = [
        f"{counted(counts.get('in_cohort', 0), 'child')} in the cohort",
        f"{none_or(counts.get('new', 0))} new",
        f"{none_or(counts.get('updated', 0))} updated",
        f"{none_or(counts.get('gone', 0))} gone",
        f"{none_or(counts.get('refused', 0))} refused",
    ]
    return _whole([*said, _attention(counts.get("need_attention", 0))])


def _anonymise(counts: Counts) -> str:
    made = counts.get("anonymised", 0) + counts.get("constructed", 0)
    wrote = sum(counts.get(name, 0) for name in _MOVED)
    if not (made or wrote):
        unchanged = counted(counts.get("unchanged", 0), "child")
        return _whole([f"nothing changed, {unchanged} in the twin as before"])
    said = [
        f"{counted(made, 'document')} made anonymous",
        f"{none_or(wrote)} changed in the twin",
        f"{none_or(counts.get('leaks', 0))} with an identity left in",
    ]
    return _whole([*said, _attention(counts.get("need_attention", 0))])


def _delta(counts: Counts) -> str:
    said = ["nothing to send"]
    if ready := counts.get("ready_to_send", 0):
        said = [
            f"{counted(ready, 'message')} to send",
            f"{none_or(counts.get('whole_documents', 0))} whole",
            f"{none_or(counts.get('changes', 0))} with changes only",
            f"{none_or(counts.get('child_removals', 0))} to remove a child",
        ]
    return _whole([*said, _attention(counts.get("need_attention", 0))])


def _submit(counts: Counts) -> str:
    said = ["nothing to send"]
    if sent := counts.get("sent", 0):
        requests = counted(counts.get("requests", 0), "request")
        said = [
            f"{counted(sent, 'child')} sent in {requests}",
            f"{none_or(counts.get('acknowledged', 0))} acknowledged",
            f"{none_or(counts.get('refused', 0))} refused",
        ]
    elif waiting := counts.get("waiting_before", 0):
        said = [f"none of {counted(waiting, 'message')} sent"]
    said += [f"{counts[name]:,} {name}" for name in _NOT_STORED if counts.get(name)]
    return _whole([*said, _attention(counts.get("need_attention", 0))])


def _dry(counts: Counts) -> str:
    waiting = counts.get("waiting_before", 0)
    would = f"{counted(waiting, 'child')} would be sent"
    return _whole(["dry run", "nothing was sent", would if waiting else "nobody waits"])


_OF_STAGES: dict[str, Callable[[Counts], str]] = {
    "preflight": _preflight,
    "extract": _extract,
    "anonymise": _anonymise,
    "delta": _delta,
    "submit": _submit,
}


def _attention(number: Number) -> str:
    return f"{none_or(number)} {verb(number, 'needs', 'need')} attention"


def _whole(parts: list[str]) -> str:
    text = ", ".join(parts)
    return f"{text[:1].upper()}{text[1:]}."


def funnel(counts: Mapping[str, Counts]) -> list[tuple[str, Number]]:
    """How many are left at each step from persons to acknowledged, as far as the stages say.

    Args:
        counts: closing counts by stage, of the stages that have ended.
    """
    steps: list[tuple[str, Number]] = []
    if extract := counts.get("extract"):
        steps = [
            ("persons", extract.get("persons_read", 0)),
            ("eligible by age", extract.get("eligible", 0)),
            ("in the cohort", extract.get("in_cohort", 0)),
            ("documents staged", sum(extract.get(name, 0) for name in _STAGED)),
        ]
    if delta := counts.get("delta"):
        steps.append(("to send", delta.get("ready_to_send", 0)))
    if submit := counts.get("submit"):
        if not delta:
            steps.append(("to send", submit.get("waiting_before", 0)))
        steps.append(("acknowledged", submit.get("acknowledged", 0)))
    return steps

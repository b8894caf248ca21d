"""The page of ``evenly measure``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from evenly.measure.result import Measurement
from evenly.report.measured_words import UNITS, judged, periods, size, testable
from evenly.report.page.markup import Content, tag
from evenly.report.page.parts import Section, facts
from evenly.report.page.picture_parts import Look, picture_facts, picture_sections
from evenly.report.page.set_parts import Tally, set_facts, set_sections
from evenly.report.page.shell import Tone, document
from evenly.report.page.sound_parts import sound_facts, sound_sections

if TYPE_CHECKING:
    from evenly.measure.result import Comparison, Verdict
    from evenly.measure.sound_result import AudioMeasurement
    from evenly.report import Measured

__all__ = ["measured_page"]

_TONES: dict[Verdict, Tone] = {"strong": "bad", "weak": "fair", "none": "good"}


def measured_page(
    result: Measured, ranked: Sequence[Mapping[str, Any]], tally: Tally, data: str, remark: str | None = None
) -> str:
    """What was measured as one HTML page.

    Args:
        result: Of all files together.
        ranked: The JSON forms of the files that show most.
        tally: Levels of all files.
        data: The JSON text.
        remark: What is not in it.
    """
    only = result.only
    verdict, lead, top, sections = _alone(only) if only is not None else _together(result, ranked, tally)
    return document(
        command="evenly measure",
        subject=result.target if result.against is None else f"{result.target} against {result.against_target}",
        verdict=verdict,
        lead=lead,
        top=top,
        sections=sections,
        data=data,
        file="evenly-measure.json",
        remark=remark,
    )


def _alone(only: Measurement | AudioMeasurement) -> tuple[tuple[Tone, str], Content, Content, list[Section]]:
    """One file."""
    record = only.to_dict()
    causes = [tag("p", f"Likely cause: {cause.text}.") for cause in only.causes]
    lead = [causes, tag("p", f"{'Picture' if isinstance(only, Measurement) else 'Recording'} of {size(record)}.")]
    if isinstance(only, Measurement):
        unit, figures, sections = UNITS["image"], picture_facts(only), picture_sections(Look(only))
    else:
        unit, figures, sections = UNITS["audio"], sound_facts(only), sound_sections(only)
    sentence = judged(only, unit) if testable(record) else "Too small to test any period"
    tone = _TONES[only.verdict] if testable(record) else "fair"
    return (tone, sentence), lead, facts(figures), sections


def _more(found: Comparison, name: str) -> str:
    """The verdict of a comparison, short."""
    if found.verdict == "none":
        return f"No evidence of more up-sampling than in {name}"
    return f"{found.verdict.capitalize()} evidence of more up-sampling than in {name}: {periods(found.found, 'px')}"


def _together(
    result: Measured, ranked: Sequence[Mapping[str, Any]], tally: Tally
) -> tuple[tuple[Tone, str], Content, Content, list[Section]]:
    """Several files, or one set against another."""
    unit = UNITS[result.kind]
    lead: list[Content] = []
    verdict, sentence = result.set.verdict, judged(result.set, unit)
    if not result.set.count:
        tone: Tone = "fair"
        sentence = "Nothing could be measured"
    elif result.comparison is not None:
        tone = _TONES[result.comparison.verdict]
        lead.append(tag("p", f"{sentence} in {result.target}."))
        sentence = _more(result.comparison, result.against_target or "the second set")
    else:
        tone = _TONES[verdict]
    return (tone, sentence), lead, facts(set_facts(result)), set_sections(result, ranked, tally)

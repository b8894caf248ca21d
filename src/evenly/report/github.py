"""GitHub workflow commands: one annotation per finding.

Whatever comes from a model is escaped, so that no name in a file can end a command or begin another one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from evenly.check.rules import RULES
from evenly.report.words import clean, source_file, summary

if TYPE_CHECKING:
    from evenly.check.result import Report
    from evenly.report import View

__all__ = ["render"]

_COMMANDS = {"error": "error", "warning": "warning", "info": "notice"}


def render(report: Report, view: View) -> str:
    """One ``::error title=...::message`` line per finding, then a plain summary line."""
    path = source_file(report)
    file = f"file={_property(path)}," if path is not None else ""
    lines = []
    for finding in report.findings:
        title = _property(f"{finding.code} {RULES[finding.code].name}")
        text = _data(f"{finding.layer}: {finding.message}\nFix: {finding.fix}")
        lines.append(f"::{_COMMANDS[finding.severity]} {file}title={title}::{text}")
    # A line that begins with "::" would be a command: the source never stands first.
    lines.append(f"evenly check {clean(report.model.source)}: {summary(report)}")
    return "\n".join(lines) + "\n"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")

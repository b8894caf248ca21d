"""SARIF 2.1.0, the OASIS format that code-scanning services read.

A layer is a logical location; a model that came from a file is also a physical one. Notes of SARIF are evenly's infos.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from evenly import __version__
from evenly.check.rules import RULES
from evenly.report.words import source_file

if TYPE_CHECKING:
    from evenly.check.result import Finding, Report
    from evenly.check.rules import Rule
    from evenly.report import View

__all__ = ["render"]

_LEVELS = {"error": "error", "warning": "warning", "info": "note"}


def render(report: Report, view: View) -> str:
    """The findings as a SARIF log with one run; the view changes nothing."""
    indices = {code: index for index, code in enumerate(RULES)}
    path = source_file(report)
    driver = {"name": "evenly", "version": __version__, "rules": [_rule(r) for r in RULES.values()]}
    run = {
        "tool": {"driver": driver},
        "invocations": [{"executionSuccessful": True}],
        "results": [_result(f, indices, path, report.model.source) for f in report.findings],
        "properties": {"model": report.model.source, "notes": list(report.notes)},
    }
    log = {"$schema": "https://json.schemastore.org/sarif-2.1.0.json", "version": "2.1.0", "runs": [run]}
    return json.dumps(log, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _rule(rule: Rule) -> dict[str, Any]:
    return {
        "id": rule.code,
        "name": rule.name,
        "shortDescription": {"text": rule.summary},
        "fullDescription": {"text": rule.sections.get("What it finds", rule.summary)},
        "help": {"text": rule.markdown(), "markdown": rule.markdown()},
        "defaultConfiguration": {"level": _LEVELS[rule.severity]},
    }


def _result(finding: Finding, indices: dict[str, int], path: str | None, source: str) -> dict[str, Any]:
    location: dict[str, Any] = {
        "logicalLocations": [
            {"name": finding.layer, "fullyQualifiedName": f"{source}::{finding.layer}", "kind": "module"}
        ]
    }
    if path is not None:
        location["physicalLocation"] = {"artifactLocation": {"uri": quote(path.replace("\\", "/"))}}
    period = list(finding.period) if isinstance(finding.period, tuple) else finding.period
    identity = json.dumps([finding.code, source, finding.layer, period])
    return {
        "ruleId": finding.code,
        "ruleIndex": indices[finding.code],
        "level": _LEVELS[finding.severity],
        "message": {"text": f"{finding.layer}: {finding.message} Fix: {finding.fix}"},
        "locations": [location],
        "partialFingerprints": {"evenlyFinding/v1": hashlib.sha256(identity.encode()).hexdigest()[:32]},
        "properties": {"period": period, "fix": finding.fix},
    }

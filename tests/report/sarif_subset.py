"""A JSON schema for the part of SARIF 2.1.0 that evenly writes.

Written from the OASIS standard "Static Analysis Results Interchange Format (SARIF) Version 2.1.0". It is stricter than
the standard's own schema: every object lists only members that the standard has, with the standard's types, required
members and enumerations, and allows no others. What passes here therefore passes there.
"""

from __future__ import annotations

from typing import Any

TEXT = {"type": "string"}
BAG = {"type": "object"}  # property bags are free
LEVEL = {"enum": ["none", "note", "warning", "error"]}


def _closed(required: list[str], **members: Any) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": False, "required": required, "properties": members}


def _list(items: dict[str, Any], *, unique: bool = False) -> dict[str, Any]:
    return {"type": "array", "items": items, "uniqueItems": unique}


MULTIFORMAT = _closed(["text"], text=TEXT, markdown=TEXT)
MESSAGE = _closed(["text"], text=TEXT, markdown=TEXT)
RULE = _closed(
    ["id"],
    id=TEXT,
    name=TEXT,
    shortDescription=MULTIFORMAT,
    fullDescription=MULTIFORMAT,
    help=MULTIFORMAT,
    defaultConfiguration=_closed([], level=LEVEL),
)
LOCATION = _closed(
    [],
    physicalLocation=_closed(
        ["artifactLocation"], artifactLocation=_closed(["uri"], uri={"type": "string", "pattern": r"^[!-~]+$"})
    ),
    logicalLocations=_list(_closed([], name=TEXT, fullyQualifiedName=TEXT, kind=TEXT), unique=True),
)
RESULT = _closed(
    ["message", "ruleId", "ruleIndex"],
    ruleId=TEXT,
    ruleIndex={"type": "integer", "minimum": -1},
    level=LEVEL,
    message=MESSAGE,
    locations=_list(LOCATION),
    partialFingerprints={"type": "object", "additionalProperties": TEXT},
    properties=BAG,
)
DRIVER = _closed(["name"], name=TEXT, version=TEXT, rules=_list(RULE, unique=True))
RUN = _closed(
    ["tool", "results"],
    tool=_closed(["driver"], driver=DRIVER),
    invocations=_list(_closed(["executionSuccessful"], executionSuccessful={"type": "boolean"})),
    results=_list(RESULT),
    properties=BAG,
)
SCHEMA = {
    "$schema": "http://json-schema.org/draft-07/schema#",
    **_closed(["version", "runs"], **{"$schema": TEXT, "version": {"const": "2.1.0"}, "runs": _list(RUN)}),
}

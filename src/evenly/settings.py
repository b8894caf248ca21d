"""What a project wants to hear: ``[tool.evenly]`` in ``pyproject.toml``, and a baseline of accepted findings.

::

    [tool.evenly]
    select = ["EV1"]                # codes, or the beginning of codes; default: all
    ignore = ["EV203"]
    fail-on = "error"               # "error", "warning" or "never"
    backward = true
    ripple-tolerance = 0.05         # EV104: ratio
    baseline = "evenly-baseline.json"

    [tool.evenly.per-layer-ignores]
    "encoder.*" = ["EV201", "EV203"]

The nearest ``pyproject.toml`` upwards of the working directory that has such a table counts. Options of the command
line win over it. ``evenly.check`` in Python reads no settings unless they are passed to it.
"""

from __future__ import annotations

import json
import math
import tomllib
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, get_args

from evenly.check.rules import RULES
from evenly.errors import SettingsError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from evenly.check.result import Finding, Report

__all__ = [
    "BASELINE_VERSION",
    "FAIL_ON",
    "RIPPLE_TOLERANCE",
    "Baseline",
    "FailOn",
    "Settings",
    "codes",
    "failing",
    "filtered",
    "find_settings",
    "load_baseline",
    "load_settings",
]

FailOn = Literal["error", "warning", "never"]
FAIL_ON: tuple[FailOn, ...] = get_args(FailOn)
RIPPLE_TOLERANCE = 0.05
"""Ripple above which EV104 is an error (ratio)."""

BASELINE_VERSION = 1  # 1: first published form
_MOST_BYTES = 16 * 2**20  # settings and baselines are written by people and by evenly; more than this is a mistake
_FAILS: Mapping[FailOn, frozenset[str]] = MappingProxyType(
    {"error": frozenset({"error"}), "warning": frozenset({"error", "warning"}), "never": frozenset()}
)


@dataclass(frozen=True)
class Settings:
    """What to report and when to fail.

    Attributes:
        select: Codes or beginnings of codes to report; empty means all.
        ignore: Codes or beginnings of codes to leave out; wins over ``select``.
        fail_on: Lowest severity that makes the command exit with 1.
        backward: Whether to analyse gradients.
        ripple_tolerance: Ripple above which EV104 is an error (ratio).
        baseline: File of accepted findings.
        per_layer_ignores: Codes to leave out per pattern of layer names (``*`` matches any characters).
    """

    select: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    fail_on: FailOn = "error"
    backward: bool = True
    ripple_tolerance: float = RIPPLE_TOLERANCE
    baseline: Path | None = None
    per_layer_ignores: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def codes(values: str | Iterable[str] | None, where: str) -> tuple[str, ...]:
    """Codes or beginnings of codes, checked; an item may hold several, separated by commas.

    Args:
        values: For instance ``["EV1", "EV201,EV203"]``; ``None`` means none.
        where: Name of the option or key, for the message.

    Raises:
        UsageError: If no rule's code begins so.
    """
    listed = [values] if isinstance(values, str) else values or ()
    parts = [part.strip() for value in listed for part in value.split(",") if part.strip()]
    for part in parts:
        if not any(code.startswith(part) for code in RULES):
            known = ", ".join(RULES)
            raise UsageError(f"{where} (={part!r}) is no rule; expected codes or beginnings of codes among {known}")
    return tuple(dict.fromkeys(parts))


# ------------------------------------------------------------------------------------------------------------ reading


def find_settings(start: Path) -> Path | None:
    """The nearest ``pyproject.toml`` with a ``[tool.evenly]`` table, from a folder upwards."""
    folder = start.resolve()
    for candidate in (folder, *folder.parents):
        path = candidate / "pyproject.toml"
        if path.is_file() and "evenly" in _tool(path):
            return path
    return None


def load_settings(path: Path | None) -> Settings:
    """The settings of a ``pyproject.toml``; the defaults where there is none.

    Raises:
        SettingsError: If the file cannot be read, a key is unknown, or a value does not fit.
    """
    if path is None:
        return Settings()
    table = _tool(path).get("evenly", {})
    if not isinstance(table, dict):
        raise SettingsError(f"{path}: tool.evenly is {_kind(table)}; expected a table [tool.evenly]")
    values: dict[str, Any] = {}
    for key, value in table.items():
        if key not in _KEYS:
            known = ", ".join(_KEYS)
            raise SettingsError(f"{path}: [tool.evenly] has the unknown key {key!r}; expected one of {known}")
        try:
            values[key.replace("-", "_")] = _KEYS[key](value, key)
        except UsageError as error:
            raise SettingsError(f"{path}: [tool.evenly] {error}") from error
    if "baseline" in values:
        values["baseline"] = path.parent / values["baseline"]
    return Settings(**values)


def _tool(path: Path) -> dict[str, Any]:
    try:
        tool = tomllib.loads(_read(path)).get("tool", {})
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{path}: not valid TOML: {error}; correct the file") from error
    return tool if isinstance(tool, dict) else {}


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(_MOST_BYTES + 1)
        if len(data) > _MOST_BYTES:
            raise SettingsError(f"{path}: larger than {_MOST_BYTES} bytes; expected a file of settings or findings")
        return data.decode("utf-8")
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read: {error.strerror or error}; check the path") from error
    except UnicodeDecodeError as error:
        raise SettingsError(f"{path}: not UTF-8 text; expected a file of settings or findings") from error


def _kind(value: object) -> str:
    return f"{value!r} ({type(value).__name__})"


def _code_list(value: object, key: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(v, str) for v in value):
        raise UsageError(f'{key} is {_kind(value)}; expected a list of codes such as ["EV101"]')
    return codes(value, key)


def _fail_on(value: object, key: str) -> FailOn:
    for known in FAIL_ON:
        if value == known:
            return known
    raise UsageError(f"{key} is {_kind(value)}; expected one of {', '.join(FAIL_ON)}")


def _flag(value: object, key: str) -> bool:
    if not isinstance(value, bool):
        raise UsageError(f"{key} is {_kind(value)}; expected true or false")
    return value


def _ratio(value: object, key: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not (value >= 0 and math.isfinite(value)):
        raise UsageError(f"{key} is {_kind(value)}; expected a number, 0 or more")
    return float(value)


def _path(value: object, key: str) -> str:
    if not isinstance(value, str) or not value:
        raise UsageError(f"{key} is {_kind(value)}; expected the path of a file")
    return value


def _per_layer(value: object, key: str) -> Mapping[str, tuple[str, ...]]:
    if not isinstance(value, dict):
        raise UsageError(f'{key} is {_kind(value)}; expected a table such as "encoder.*" = ["EV201"]')
    return MappingProxyType({glob: _code_list(listed, f"{key}.{glob!r}") for glob, listed in value.items()})


_KEYS: Mapping[str, Callable[[object, str], Any]] = MappingProxyType(
    {
        "select": _code_list,
        "ignore": _code_list,
        "fail-on": _fail_on,
        "backward": _flag,
        "ripple-tolerance": _ratio,
        "baseline": _path,
        "per-layer-ignores": _per_layer,
    }
)


# ----------------------------------------------------------------------------------------------------------- applying


def filtered(report: Report, settings: Settings) -> Report:
    """The report without the findings that the settings leave out."""

    def wanted(finding: Finding) -> bool:
        ignored = [
            *settings.ignore,
            *(c for glob, cs in settings.per_layer_ignores.items() if fnmatchcase(finding.layer, glob) for c in cs),
        ]
        return (not settings.select or finding.code.startswith(settings.select)) and not finding.code.startswith(
            tuple(ignored)
        )

    return replace(report, findings=tuple(f for f in report.findings if wanted(f)))


def failing(report: Report, fail_on: FailOn) -> tuple[Finding, ...]:
    """The findings at or above a severity."""
    return tuple(f for f in report.findings if f.severity in _FAILS[fail_on])


# ----------------------------------------------------------------------------------------------------------- baseline


_Key = tuple[str, str, int | tuple[int, ...] | None]


@dataclass(frozen=True)
class Baseline:
    """Accepted findings: code, layer and period.

    A finding whose period changes is a new finding. Messages and figures may change freely.
    """

    accepted: frozenset[_Key]

    @classmethod
    def of(cls, report: Report) -> Baseline:
        """The baseline that accepts every finding of a report."""
        return cls(frozenset(_key(f) for f in report.findings))

    def split(self, report: Report) -> tuple[Report, int]:
        """The report without the accepted findings, and the number of those."""
        fresh = tuple(f for f in report.findings if _key(f) not in self.accepted)
        return replace(report, findings=fresh), len(report.findings) - len(fresh)

    def to_json(self) -> str:
        """The same text for the same findings, in whatever order they came."""
        rows = [
            {"code": code, "layer": layer, "period": list(period) if isinstance(period, tuple) else period}
            for code, layer, period in sorted(self.accepted, key=lambda k: (k[0], k[1], str(k[2])))
        ]
        data = {"tool": "evenly", "baseline_version": BASELINE_VERSION, "findings": rows}
        return json.dumps(data, indent=2, ensure_ascii=False) + "\n"


def _key(finding: Finding) -> _Key:
    return finding.code, finding.layer, finding.period


def load_baseline(path: Path) -> Baseline:
    """Read a baseline file.

    Raises:
        SettingsError: If it cannot be read or is no baseline of a known version.
    """
    wish = "write a new one with --write-baseline"
    try:
        data = json.loads(_read(path))
    except (ValueError, RecursionError) as error:
        raise SettingsError(f"{path}: not valid JSON ({error}); {wish}") from error
    version = data.get("baseline_version") if isinstance(data, dict) else None
    if version != BASELINE_VERSION:
        raise SettingsError(f"{path}: baseline_version is {version!r}; expected {BASELINE_VERSION}; {wish}")
    rows = data.get("findings")
    if not isinstance(rows, list):
        raise SettingsError(f"{path}: findings is {_kind(rows)[:80]}; expected a list; {wish}")
    return Baseline(frozenset(_row(row, path, wish) for row in rows))


def _row(row: object, path: Path, wish: str) -> _Key:
    match row:
        case {"code": str(code), "layer": str(layer), "period": int() | None as period}:
            return code, layer, period
        case {"code": str(code), "layer": str(layer), "period": [*axes]} if all(isinstance(a, int) for a in axes):
            return code, layer, tuple(axes)
    raise SettingsError(f"{path}: the entry {str(row)[:80]} is no finding; expected code, layer and period; {wish}")

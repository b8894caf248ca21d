"""The exceptions of evenly, one tree.

::

    EvenlyError
    ├── UsageError             the call or the command line is wrong
    │   ├── InputShapeError    a declared input does not fit the model
    │   └── SettingsError      [tool.evenly] or a baseline file is wrong
    ├── ModelError             the model cannot be read
    │   ├── FormatError        not a file of the promised format, damaged, or unsupported version
    │   ├── UntrustedError     reading it could execute code or leave its folder; refused
    │   └── ExportError        torch.export could not trace the module
    ├── WeightsError           weights are missing, do not fit, or are not finite
    ├── SignalError            a picture or recording cannot be read
    │   ├── UnreadableError    missing, damaged, or of no known format
    │   └── TooLargeError      larger than what is read; refused before it takes memory
    ├── ParameterError         an argument of a theory function is out of range
    ├── MissingDependencyError an extra (torch, onnx) is not installed
    ├── VerificationError      a repaired model did not pass its own proof; nothing is written
    └── OutputError            a result cannot be written

Every message gives the value, what was expected, and what to do.
"""

from __future__ import annotations

__all__ = [
    "EvenlyError",
    "ExportError",
    "FormatError",
    "InputShapeError",
    "MissingDependencyError",
    "ModelError",
    "OutputError",
    "ParameterError",
    "SettingsError",
    "SignalError",
    "TooLargeError",
    "UnreadableError",
    "UntrustedError",
    "UsageError",
    "VerificationError",
    "WeightsError",
]


class EvenlyError(Exception):
    """Base of every error that evenly raises on purpose."""


class UsageError(EvenlyError):
    """The call or the command line is wrong."""


class InputShapeError(UsageError):
    """A declared input does not fit the model."""


class SettingsError(UsageError):
    """Settings or a baseline file are wrong."""


class ModelError(EvenlyError):
    """The model cannot be read."""


class FormatError(ModelError):
    """The file is not of the promised format, is damaged, or has an unsupported version."""


class UntrustedError(ModelError):
    """Reading the file could execute code or leave its folder."""


class ExportError(ModelError):
    """torch.export could not trace the module."""


class WeightsError(EvenlyError):
    """Weights are missing, do not fit, or are not finite."""


class SignalError(EvenlyError):
    """A picture or recording cannot be read."""


class UnreadableError(SignalError):
    """The picture or recording is missing, damaged, or of no known format."""


class TooLargeError(SignalError):
    """The picture or recording is larger than what is read."""


class ParameterError(EvenlyError, ValueError):
    """An argument of a theory function is out of range."""


class MissingDependencyError(EvenlyError, ImportError):
    """An optional dependency is not installed."""


class VerificationError(EvenlyError):
    """A repaired model did not pass its own proof; nothing was written."""


class OutputError(EvenlyError):
    """A result cannot be written."""

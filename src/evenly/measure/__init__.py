"""Signals: periodic artifacts of up-sampling in pictures, sets of pictures, sound, activations and gradients."""

from __future__ import annotations

__all__: list[str] = []

"""All experiments, by the name on the command line; adding one is a line here and a module."""

from __future__ import annotations

from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING

from evenly.errors import MissingDependencyError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from evenly.reproduce.experiment import Experiment

__all__ = ["EXPERIMENTS", "chosen", "load", "load_module", "module_of", "needed"]

EXPERIMENTS = {
    "arithmetic": (
        "odena2016_arithmetic",
        ("C1", "C2", "C3", "C4", "C5", "C8", "C9", "C10", "C11", "C12", "C23", "C24"),
        "overlap, filters and matrices, without training",
    ),
    "gan": ("odena2016_gan", ("C6", "C7", "C9", "C10", "C13", "C14"), "generators that differ in their last layers"),
    "style": ("odena2016_style", ("C15",), "style transfer by two decoders"),
    "dream": ("odena2016_dream", ("C16", "C17", "C18"), "gradient ascent on the features of a classifier"),
    "discriminator": (
        "odena2016_discriminator", ("C19",), "a neutral generator against discriminators with other first layers",
    ),
    "gradient": ("odena2016_gradient", ("C20", "C25"), "gradients of classifiers by pixel; strided convolutions"),
    "adversarial": ("odena2016_adversarial", ("C21",), "adversarial examples of the same classifiers"),
    "audio": ("odena2016_audio", ("C22",), "networks that enlarge sound"),
}  # fmt: skip
"""Module, named by its source, the claims it speaks about, and what it is; so the list is shown without torch."""


def load(name: str) -> Experiment:
    """An experiment by its name.

    Raises:
        UsageError: If there is none of this name.
        MissingDependencyError: If what it needs is not installed.
    """
    return load_module(module_of(name))


def module_of(name: str) -> str:
    """Full name of an experiment's module.

    Raises:
        UsageError: If there is none of this name.
    """
    if name not in EXPERIMENTS:
        raise UsageError(f"no experiment is called {name!r}; expected all or some of {', '.join(EXPERIMENTS)}")
    return f"evenly.reproduce.{EXPERIMENTS[name][0]}"


@contextmanager
def needed() -> Iterator[None]:
    """For imports: what is missing says how to install it.

    Raises:
        MissingDependencyError: If a package is not installed.
    """
    try:
        yield
    except ImportError as error:
        if error.name is None or error.name.split(".")[0] == "evenly":
            raise
        raise MissingDependencyError(
            f"{error.name} is not installed; the experiments need it: pip install 'evenly[reproduce]'"
        ) from error


def load_module(path: str) -> Experiment:
    """The experiment of a module; processes are told the module, so they need no list.

    Raises:
        MissingDependencyError: If what it needs is not installed.
    """
    with needed():
        module = import_module(path)
    experiment: Experiment = module.EXPERIMENT
    return experiment


def chosen(names: Sequence[str]) -> tuple[str, ...]:
    """Names of experiments in their order, from those on the command line; all of them for none or ``all``.

    Raises:
        UsageError: If one does not exist.
    """
    for name in names:
        if name != "all":
            module_of(name)
    if not names or "all" in names:
        return tuple(EXPERIMENTS)
    return tuple(name for name in EXPERIMENTS if name in names)

"""What attacks by phase show: their outcomes by network and seed, and the parts of the claim."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from evenly.reproduce import statistics
from evenly.reproduce.experiment import Outcome
from evenly.reproduce.gradient_maps import folded
from evenly.reproduce.result import Effect, Finding, Part

__all__ = [
    "EVEN",
    "NETWORKS",
    "PERIOD",
    "UNEVEN",
    "WHOLE",
    "Attacks",
    "ends",
    "findings",
    "network_share_db",
    "strongest",
]

Array = NDArray[np.float64]

NETWORKS = {
    "strided": "3x3 stride 2",
    "strided-skip": "3x3 and 1x1 skips",
    "resnet": "ResNet-shaped",
    "strided-even": "4x4 stride 2",
    "max-pool": "max-pooled",
    "average-pool": "average-pooled",
    "anti-aliased": "anti-aliased",
}
"""Names for people. Those after the third have an even gradient on average over random weights."""
UNEVEN = ("strided", "strided-skip", "resnet")
EVEN = ("strided-even", "anti-aliased")
"""Compared with the strided network: one differs by a row of taps alone, the other also filters."""
PERIOD = 4
"""Of the phases that are attacked, in pixels: all networks reduce by 4 within two layers, and a phase of a picture of
32 pixels still has 64 pixels."""
WHOLE = 8
"""Period of the whole gradient of all networks but the ResNet-shaped one (16), whose phases have 16 pixels."""

TWICE = 2.0
"""Ratio of gains in loss: one place does twice the harm of another at the same cost."""
HALF_MORE = 1.5
"""Ratio: half as much again."""
HALF_THE_RANKS = 0.7
"""Rank correlation: its square, the share of the ranks' variance that is foretold, is a half."""
TEN_TIMES = 10.0
"""In dB: the network's grid explains ten times the variance that the pictures' grid does."""
TENTH_MORE = 1.1
"""Ratio of epsilons: less is nothing where epsilons are compared in doublings (1, 2, 4, 8 grey levels)."""
_NOTHING = 1e-6
"""Nats: what no gain, or a loss, counts as where logarithms are taken."""


def ends(chosen: NDArray[Any], judged: NDArray[Any]) -> tuple[float, float]:
    """Mean on the strongest and on the weakest mask.

    They are chosen on every second picture and judged on the others, and the other way round: judged where they were
    chosen, masks without any difference would differ by chance.

    Args:
        chosen: ``(N, M)``, by picture and mask: the masks with the largest and the least mean are taken.
        judged: ``(N, M)``: what is averaged.

    Returns:
        Means over both ways round.
    """
    pairs = []
    halves = slice(0, None, 2), slice(1, None, 2)
    for here, there in (halves, halves[::-1]):
        choice, mean = chosen[here].mean(0), judged[there].mean(0, dtype=np.float64)
        pairs.append((mean[choice.argmax()], mean[choice.argmin()]))
    high, low = np.mean(pairs, axis=0)
    return float(high), float(low)


def strongest(gains: NDArray[Any]) -> float:
    """Logarithm of the mean gain on the strongest mask over that on the weakest, see :func:`ends`.

    Args:
        gains: ``(N, M)``, in nats, by picture and mask.
    """
    high, low = ends(gains, gains)
    return math.log(max(high, _NOTHING) / max(low, _NOTHING))


def network_share_db(rolled: NDArray[Any]) -> float:
    """Variance of the log gain between phases of the network over that between phases of the pictures.

    Every phase of the network meets every phase of the pictures once, so that neither adds to the other.

    Args:
        rolled: ``(p**2, p**2)``, gains by offset of the pictures and by phase of the network.

    Returns:
        In dB.
    """
    logs = np.log(np.maximum(np.asarray(rolled, np.float64), _NOTHING))
    side = math.isqrt(len(logs))
    offset, phase = np.divmod(np.arange(side * side), side), np.divmod(np.arange(side * side), side)
    row, column = ((phase[axis][None, :] - offset[axis][:, None]) % side for axis in (0, 1))
    picture = row * side + column
    by_picture = [logs[picture == number].mean() for number in range(side * side)]
    variances = [max(float(np.var(means)), 1e-12) for means in (logs.mean(0), by_picture)]
    return 10 * math.log10(variances[0] / variances[1])


class Attacks:
    """Outcomes by network, one for each seed, in the same order of seeds."""

    def __init__(self, outcomes: Mapping[str, Outcome]) -> None:
        self.by_network: dict[str, list[Outcome]] = {}
        for name, outcome in outcomes.items():
            self.by_network.setdefault(name.rpartition("/")[0], []).append(outcome)

    @property
    def hardened(self) -> list[str]:
        """Networks trained against attacks."""
        return [name for name in self.by_network if name.endswith("-hardened")]

    def shown(self, key: str) -> dict[str, Any]:
        """What only one seed of each network has, by network."""
        return {
            name: outcome.numbers[key]
            for name, group in self.by_network.items()
            for outcome in group
            if key in outcome.numbers
        }

    def numbers(self, network: str, key: str) -> list[Any]:
        """A number by seed."""
        return [outcome.numbers[key] for outcome in self.by_network[network]]

    def arrays(self, network: str, key: str) -> list[NDArray[Any]]:
        """An array by seed."""
        return [outcome.arrays[key] for outcome in self.by_network[network]]

    def expected(self, network: str, period: int) -> Array:
        """The squared gradient that ``evenly check`` expects before training, by phase."""
        return folded(np.array(self.shown("expected")[network.removesuffix("-hardened")]), period)

    def strongest(self, network: str, attack: str) -> Array:
        """As :func:`strongest`, by seed."""
        return np.array([strongest(gains) for gains in self.arrays(network, f"{attack}-gain")])

    def stronger(self, network: str) -> Effect:
        """Gain of projected gradient descent on the strongest phase over the weakest, over the same of random masks."""
        logs = [self.strongest(network, attack) for attack in ("pgd", "pgd-random")]
        return statistics.exponential(statistics.paired(logs[0], logs[1], "ratio"))

    def by_phase(self, network: str, attack: str) -> Array:
        """Mean gain in nats by phase, mean over seeds."""
        mean = np.mean([gains.mean(0, dtype=np.float64) for gains in self.arrays(network, f"{attack}-gain")], axis=0)
        side = math.isqrt(len(mean))
        return np.asarray(mean.reshape(side, side))

    def foretold(self, network: str, attack: str = "pgd") -> list[float]:
        """Spearman's rank correlation of the expected squared gradient and the gain, over phases, by seed."""
        expected = self.expected(network, PERIOD).ravel()
        gains = [gains.mean(0, dtype=np.float64) for gains in self.arrays(network, f"{attack}-gain")]
        found = [stats.spearmanr(expected, gain).statistic if np.ptp(gain) else 0.0 for gain in gains]
        return [float(value) for value in found]

    def enriched(self, network: str, favoured: tuple[int, int]) -> Array:
        """Energy of the attack on few pixels at a phase of 2 x 2, over that phase's share of pixels, by seed."""
        return np.array(
            [4 * energy[favoured[0] :: 2, favoured[1] :: 2].sum() for energy in self.arrays(network, "energy")]
        )

    def favoured(self, network: str) -> tuple[int, int]:
        """The phase of 2 x 2 with the largest expected squared gradient."""
        cell = self.expected(network, 2)
        row, column = np.unravel_index(int(cell.argmax()), cell.shape)
        return int(row), int(column)

    def moves_with_network(self, network: str) -> list[float]:
        """As :func:`network_share_db`, by seed."""
        return [network_share_db(rolled) for rolled in self.arrays(network, "rolled")]

    def last(self, network: str) -> list[Mapping[str, Any]]:
        """What was observed at the end of the training, by seed."""
        return [course["observations"][-1] for course in self.numbers(network, "course")]

    def needed(self, first: str, second: str) -> Effect:
        """The epsilon that fools half of the pictures, the first network's over the second's, at equal accuracy.

        The accuracy is the largest that both networks of a seed reach; the epsilon there lies between those observed
        in the training. Where none was between the epsilons tried, all that is known is that the ratio is within
        theirs.
        """
        logs: list[list[float]] = []
        for pair in zip(*(self.numbers(name, "course") for name in (first, second)), strict=True):
            courses = [_observed(course) for course in pair]
            if not all(courses):
                return self._unknown(first)
            common = min(course[-1][0] for course in courses)
            logs.append([_at(common, course) for course in courses])
        both = np.array(logs)
        return statistics.exponential(statistics.paired(both[:, 0], both[:, 1], "ratio"))

    def _unknown(self, network: str) -> Effect:
        epsilons = self.numbers(network, "epsilons")[0]
        most = max(epsilons) / min(epsilons)
        return Effect(
            1.0, 1 / most, most, "ratio", 0, "half of the pictures are fooled by the first epsilon or not by the last"
        )


def _observed(course: Mapping[str, Any]) -> list[tuple[float, float]]:
    """Accuracy and logarithm of the epsilon that fools half, by rising accuracy."""
    found = [(o["accuracy"], o["half fooled"]) for o in course["observations"]]
    return sorted((accuracy, math.log(half)) for accuracy, half in found if half is not None)


def _at(accuracy: float, course: Sequence[tuple[float, float]]) -> float:
    return float(np.interp(accuracy, [point[0] for point in course], [point[1] for point in course]))


def _mean_over(values: Sequence[Sequence[float]]) -> Array:
    """Mean over networks, by seed."""
    return np.asarray(np.mean(np.array(values), axis=0))


def _where(read: Attacks) -> list[Part]:
    """Whether attacks do more harm where gradients are larger."""
    cell = f"{PERIOD} x {PERIOD}"
    parts = [
        Part(
            f"{NETWORKS[name]}: projected gradient descent on the pixels of the strongest phase of {cell} raises the "
            f"loss at least {TWICE:g} times as much as on as many of the weakest, beyond what the same choice among "
            "random masks gives.",
            read.stronger(name),
            at_least=TWICE,
        )
        for name in UNEVEN
    ]
    parts += [
        Part(
            f"That ratio of the strongest over the weakest phase is at least {HALF_MORE:g} times as large in the "
            f"{NETWORKS['strided']} network as in the {NETWORKS[even]} one, whose expected gradient is even.",
            statistics.exponential(
                statistics.paired(read.strongest("strided", "pgd"), read.strongest(even, "pgd"), "ratio")
            ),
            at_least=HALF_MORE,
        )
        for even in EVEN
    ]
    return parts


def _why(read: Attacks) -> list[Part]:
    """Whether it is the network's grid, as foretold."""
    networks = ", ".join(NETWORKS[name] for name in UNEVEN)
    return [
        Part(
            "Rolled by every offset before the attack, the phases of the network explain at least "
            f"{TEN_TIMES:g} dB more of the variance of the gain in loss than the phases of the pictures (mean of "
            f"{networks}).",
            statistics.mean(_mean_over([read.moves_with_network(name) for name in UNEVEN]), "dB"),
            at_least=TEN_TIMES,
        ),
        Part(
            f"The squared gradient that evenly check expects before training ranks the {PERIOD * PERIOD} phases as "
            f"the attack does: rank correlation at least {HALF_THE_RANKS:g} (mean of {networks}).",
            statistics.mean(_mean_over([read.foretold(name) for name in UNEVEN]), "rank correlation"),
            at_least=HALF_THE_RANKS,
        ),
    ]


def _exaggerated(read: Attacks) -> list[Part]:
    """Whether whole networks are easier to fool."""
    return [
        Part(
            f"At equal accuracy, an attack on all pixels needs an epsilon at least {TENTH_MORE:g} times as large to "
            "fool half of the pictures in the "
            f"{NETWORKS[even]} network as in the {NETWORKS['strided']} one.",
            read.needed(even, "strided"),
            at_least=TENTH_MORE,
            decides="more seeds; full scale",
        )
        for even in EVEN
    ]


def _chosen(read: Attacks) -> list[Part]:
    """Whether a free attack goes where gradients are larger."""
    return [
        Part(
            f"{NETWORKS[name]}: an attack that chooses few pixels freely puts at least {HALF_MORE:g} times an even "
            "share of its energy on the pixel of each 2 x 2 that evenly check expects to get the most gradient.",
            statistics.mean(read.enriched(name, read.favoured(name)), "ratio"),
            at_least=HALF_MORE,
        )
        for name in UNEVEN
    ]


def _hardened(read: Attacks) -> list[Part]:
    return [
        Part(
            f"{NETWORKS[base]}, trained against attacks: projected gradient descent on the strongest phase raises the "
            f"loss at least {TWICE:g} times as much as on the weakest, beyond random masks.",
            read.stronger(name),
            at_least=TWICE,
        )
        for name in read.hardened
        if (base := name.removesuffix("-hardened")) in UNEVEN
    ]


def findings(read: Attacks) -> tuple[Finding, ...]:
    """C21."""
    note = (
        "Two questions are in the claim. Whether an attack finds more to gain, and goes, where the gradient is larger: "
        "the parts on phases and on few pixels. Whether networks with uneven gradients are easier to fool as a whole: "
        "the parts on epsilon; there the 4x4 network is the closer comparison, since anti-aliasing also filters. "
        "The one can be so without the other."
    )
    parts = (*_where(read), *_why(read), *_exaggerated(read), *_chosen(read), *_hardened(read))
    return (Finding("C21", parts, note),)

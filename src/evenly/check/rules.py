"""The rules, one place each: code, name, severity, what, why, example, remedy, safety of the remedy, references.

A rule is a function from :class:`~evenly.check.facts.Facts` to findings; its docstring *is* its documentation, in
Markdown. ``evenly rule EV101`` prints it, and ``python -m evenly.check.rules`` writes ``docs/rules.md`` from it. A new
rule is one decorated function here and nothing anywhere else.

EV1xx speak of the forward pass, EV2xx of the gradient, EV3xx of borders, EV9xx of the analysis itself.
"""

from __future__ import annotations

import inspect
import sys
from dataclasses import dataclass, field
from fractions import Fraction
from math import gcd, inf, prod
from types import MappingProxyType
from typing import TYPE_CHECKING

from evenly.check.result import Finding
from evenly.graph import ir

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from evenly.check.facts import Facts, Layer
    from evenly.check.result import Severity

__all__ = ["RULES", "SECTIONS", "Rule", "rule", "rules_page"]

SECTIONS = ("What it finds", "Why it matters", "Example", "Use instead", "Fix safety", "References")
"""The sections of every rule's documentation, in order."""


@dataclass(frozen=True)
class Rule:
    """One rule.

    Attributes:
        code: ``"EV101"``.
        name: The pattern, not the remedy: ``"uneven-overlap"``.
        severity: The severity of an ordinary finding; a finding may carry a lower or a higher one, as documented.
        summary: One line.
        sections: Markdown text per name in :data:`SECTIONS`.
        check: Yields the findings.
    """

    code: str
    name: str
    severity: Severity
    summary: str
    sections: Mapping[str, str] = field(repr=False)
    check: Callable[[Facts], Iterator[Finding]] = field(repr=False)

    def markdown(self, level: int = 1) -> str:
        """The documentation as Markdown, headed at the given heading level."""
        head = "#" * level
        parts = [f"{head} {self.code} {self.name}", f"Severity: {self.severity}", self.summary]
        for title, text in self.sections.items():
            parts += [f"{head}# {title}", text]
        return "\n\n".join(parts) + "\n"


_REGISTRY: dict[str, Rule] = {}


def rule(code: str, name: str, *, severity: Severity) -> Callable[[Callable[[Facts], Iterator[Finding]]], Rule]:
    """Register the decorated function as a rule; its docstring becomes the rule's documentation.

    Args:
        code: ``"EV101"``; must be new.
        name: The pattern that it finds, in kebab case; must be new.
        severity: The severity of an ordinary finding.

    Returns:
        A decorator that returns the :class:`Rule`.

    Raises:
        ValueError: If the code or the name is taken, or the docstring lacks a section.
    """

    def register(check: Callable[[Facts], Iterator[Finding]]) -> Rule:
        if code in _REGISTRY or any(r.name == name for r in _REGISTRY.values()):
            raise ValueError(f"rule {code} {name!r} is registered already; codes and names must be distinct")
        summary, sections = _documentation(code, inspect.getdoc(check) or "")
        made = Rule(code, name, severity, summary, MappingProxyType(sections), check)
        _REGISTRY[code] = made
        return made

    return register


def _documentation(code: str, text: str) -> tuple[str, dict[str, str]]:
    """Split a docstring into its summary line and its ``## Title`` sections."""
    if sys.flags.optimize > 1:  # python -OO strips docstrings
        return "", {}
    summary, *chunks = text.split("\n## ")
    sections = {title.strip(): body.strip() for title, _, body in (chunk.partition("\n") for chunk in chunks)}
    if tuple(sections) != SECTIONS or not summary.strip() or not all(sections.values()):
        raise ValueError(f"rule {code} documents {list(sections)}; expected a summary and then {list(SECTIONS)}")
    return summary.strip(), sections


# --------------------------------------------------------------------------------------------- EV1xx: the forward pass


@rule("EV101", "uneven-overlap", severity="error")
def uneven_overlap(facts: Facts) -> Iterator[Finding]:
    """Some output positions of a transposed convolution are written more often than their neighbours.

    ## What it finds
    A transposed convolution whose kernel size is not divisible by its stride. It writes output `n = s*i + d*t - p` for
    every input `i` and tap `t`, so in the interior the number of writers depends on the phase `(n + p) mod s` only:
    `k=3, s=2` gives 1, 2, 1, 2, ... per axis. The counts multiply over the axes: in two dimensions 4:2:2:1. Overlapping
    `fold` (col2im) is counted in the same way.

    The finding is *info* where the weights meet the DC condition (all phases sum to the same, ripple at most 1e-5), or
    where the kernel is computed from parameters such that it meets it for every value of these; and it is lowered where
    a later layer provably removes the pattern with the actual weights; the message names that layer.

    ## Why it matters
    A position with four writers gets four times the variance of one with a single writer, so the pattern is there
    before training, in every picture, and training has to fight it. In practice networks with uneven overlap do not
    learn to avoid it. Stacked layers multiply their patterns and make artifacts on several scales.

    ## Example
    ```python
    nn.ConvTranspose2d(128, 64, kernel_size=3, stride=2, padding=1, output_padding=1)  # overlap 4:2:2:1
    ```

    ## Use instead
    Resize with nearest neighbours, then convolve. Every output position then has the same number of writers, and a
    constant stays constant whatever the weights are:

    ```python
    nn.Sequential(
        nn.Upsample(scale_factor=2, mode="nearest"),
        nn.Conv2d(128, 64, kernel_size=3, padding=1, padding_mode="reflect"),
    )
    ```

    The smallest change is a kernel that the stride divides. It evens the counts but leaves the phases free (EV103):

    ```python
    nn.ConvTranspose2d(128, 64, kernel_size=4, stride=2, padding=1)
    ```

    ## Fix safety
    Structural: both changes alter the function and need training. Trained weights do not carry over.

    ## References
    - Odena, Dumoulin and Olah, "Deconvolution and Checkerboard Artifacts", Distill 2016, doi 10.23915/distill.00003
    - Dumoulin and Visin, "A guide to convolution arithmetic for deep learning", arXiv 1603.07285
    - Wojna et al., "The Devil is in the Decoder", arXiv 1707.05847
    - Pons et al., "Upsampling artifacts in neural audio synthesis", arXiv 2010.14356
    """
    for layer in facts.layers:
        if layer.overlap in (None, 1.0) or layer.overlap == inf or layer.born:
            continue
        assert layer.overlap is not None
        yield _finding(
            facts,
            layer,
            "EV101",
            "error",
            f"{_geometry(layer)} writes some positions {layer.overlap:.3g} times as often as others",
            _even_kernel(layer),
        )


@rule("EV102", "overlap-holes", severity="error")
def overlap_holes(facts: Facts) -> Iterator[Finding]:
    """Some output positions of a transposed convolution are never written.

    ## What it finds
    A transposed convolution that leaves holes, for one of two reasons: the dilation shares a factor `g` with the
    stride, so that only every g-th phase is written whatever the kernel size; or the kernel is smaller than the stride
    (`k=2, s=3` writes 1, 1, 0). A `fold` whose blocks do not touch leaves holes in the same way. Max un-pooling leaves
    holes too, at positions that depend on the data: a warning.

    ## Why it matters
    A hole holds the bias and nothing else: no information from the input, at any training time. The output is a regular
    lattice of constant points, the strongest possible artifact. Later layers can only paint over it.

    ## Example
    ```python
    nn.ConvTranspose2d(64, 32, kernel_size=4, stride=2, dilation=2)  # writes one position of four
    nn.ConvTranspose1d(64, 32, kernel_size=2, stride=3)  # writes two positions of three
    ```

    ## Use instead
    Drop the dilation, or choose a kernel at least as large as the stride and divisible by it; better, resize and
    convolve:

    ```python
    nn.Sequential(
        nn.Upsample(scale_factor=2, mode="nearest"),
        nn.Conv2d(64, 32, kernel_size=3, padding=1, padding_mode="reflect"),
    )
    ```

    ## Fix safety
    Structural: the function changes and needs training.

    ## References
    - Odena, Dumoulin and Olah, "Deconvolution and Checkerboard Artifacts", Distill 2016, doi 10.23915/distill.00003
    - Dumoulin and Visin, "A guide to convolution arithmetic for deep learning", arXiv 1603.07285
    """
    for layer in facts.layers:
        op = layer.node.op
        if isinstance(op, ir.Unpool) and layer.upsamples:
            yield _finding(
                facts,
                layer,
                "EV102",
                "warning",
                f"{_geometry(layer)} writes one position of every window of {_numbers(op.kernel)} and leaves zeros at "
                "the others; which one depends on the data",
                "Resize and then convolve (nn.Upsample + nn.Conv)",
            )
        if layer.overlap != inf or layer.born:
            continue
        assert isinstance(op, ir.ConvTranspose | ir.Fold)
        dilated = any(gcd(d, s) > 1 for d, s in zip(op.dilation, op.stride, strict=True))
        cause = "its dilation shares a factor with its stride" if dilated else "its kernel is smaller than its stride"
        cure = "Use a dilation that has no factor in common with the stride (1)" if dilated else _even_kernel(layer)
        yield _finding(facts, layer, "EV102", "error", f"{_geometry(layer)} never writes some positions: {cause}", cure)


@rule("EV103", "free-phases", severity="warning")
def free_phases(facts: Facts) -> Iterator[Finding]:
    """The overlap is even, but nothing keeps the phases of the kernel equal.

    ## What it finds
    An up-sampling layer with even overlap and trainable weights: a transposed convolution whose stride divides its
    kernel. Each of the `s` phases (`s**2` in two dimensions) has a kernel of its own, and a constant stays constant
    only if all of them sum to the same (the DC condition). The finding states the expected share of the power that is
    periodic before training.

    It is *info* where the actual weights meet the DC condition (ripple at most 1e-5); the message then says whether
    anything keeps it so during training. A kernel that is computed from parameters such that it meets the condition for
    every value of these (a parametrization, the fold of a resize-convolution) is no finding, and neither is a fixed
    filter that meets it. Sub-pixel convolutions have a rule of their own (EV105).

    ## Why it matters
    Even overlap evens the variance, not the mean. With random weights the phases differ as much as any two random
    kernels do: a stack of `k=4, s=2` layers has the same expected periodic power as one of `k=3, s=2`. Training can
    make the phases agree, and often does not.

    ## Example
    ```python
    nn.ConvTranspose2d(128, 64, kernel_size=4, stride=2, padding=1)  # the usual DCGAN block
    ```

    ## Use instead
    Resize and convolve, which is a transposed convolution with tied weights:

    ```python
    nn.Sequential(
        nn.Upsample(scale_factor=2, mode="nearest"),
        nn.Conv2d(128, 64, kernel_size=3, padding=1, padding_mode="reflect"),
    )
    ```

    Or keep the layer and hold its phases equal during training with the parametrization shown under EV104, or follow it
    by a fixed smoothing filter of length `s`.

    ## Fix safety
    Structural: a resize-convolution needs training. The parametrization is lossy on trained weights (measure it), and
    free when it is in place from the start.

    ## References
    - Odena, Dumoulin and Olah, "Deconvolution and Checkerboard Artifacts", Distill 2016, doi 10.23915/distill.00003
    - Sugawara, Shiota and Kiya, "Super-Resolution using Convolutional Neural Networks without Any Checkerboard
      Artifacts", arXiv 1806.02658
    - Kinoshita and Kiya, "Fixed Smooth Convolutional Layer for Avoiding Checkerboard Artifacts in CNNs",
      arXiv 2002.02117
    - Pons et al., "Upsampling artifacts in neural audio synthesis", arXiv 2010.14356
    """
    expected = facts.expected_ac_fraction
    energy = "" if expected is None else f"; before training {expected:.1%} of the output's power is such a pattern"
    for layer in facts.layers:
        if layer.overlap != 1.0 or not layer.upsamples or not isinstance(layer.node.op, ir.ConvTranspose):
            continue
        if layer.kept or (layer.fixed and layer.balanced):  # for every value of its parameters, or without any
            continue
        yield _finding(
            facts,
            layer,
            "EV103",
            "warning",
            f"{_geometry(layer)} overlaps evenly, but each of its {prod(layer.stride or ())} phases has weights of its "
            f"own, so it may learn a pattern{energy}",
            "Resize and then convolve (nn.Upsample + nn.Conv), or keep the phases' sums equal in training",
        )


@rule("EV104", "unbalanced-weights", severity="error")
def unbalanced_weights(facts: Facts) -> Iterator[Finding]:
    """The actual weights of an up-sampling layer give its phases different gains for a constant.

    ## What it finds
    Ripple over the tolerance (0.05 unless the settings say otherwise) in a layer whose weights are known. With `G_r`
    the sum of the kernel's taps of phase `r` (a matrix, input by output channels),

        ripple = rms over r of ||G_r - mean G|| / ||mean G||     (Frobenius norms)

    Zero means that every constant colour stays constant through this layer. The message gives the measured figure.

    ## Why it matters
    This is no longer a risk but a fact about this file: flat areas, sky or silence come out with a pattern of period
    `s` (times every later up-sampling), strongest for colours far from the data's average, since there the bias cannot
    help.

    ## Example
    ```python
    layer = nn.ConvTranspose2d(64, 3, kernel_size=4, stride=2, padding=1)  # as trained: ripple 0.31
    ```

    ## Use instead
    Hold the phase sums equal while training or fine-tuning:

    ```python
    import evenly.nn

    layer = evenly.nn.utils.balance(layer)  # a whole network may be given, too
    ```

    Before the next training, use a resize-convolution in its place (EV101).

    ## Fix safety
    Lossy: equalising trained weights changes the output, so measure the quality, and fine-tune. It meets the condition
    exactly.

    ## References
    - Sugawara, Shiota and Kiya, "Super-Resolution using Convolutional Neural Networks without Any Checkerboard
      Artifacts", arXiv 1806.02658
    - Kinoshita and Kiya, "Fixed Smooth Convolutional Layer for Avoiding Checkerboard Artifacts in CNNs",
      arXiv 2002.02117
    - Odena, Dumoulin and Olah, "Deconvolution and Checkerboard Artifacts", Distill 2016, doi 10.23915/distill.00003
    """
    for layer in facts.layers:
        if not isinstance(layer.node.op, ir.ConvTranspose) or layer.ripple is None or not layer.upsamples:
            continue
        if layer.ripple > facts.ripple_tolerance:
            yield _finding(
                facts,
                layer,
                "EV104",
                "error",
                f"the weights' phases differ: ripple {layer.ripple:.3g} (rms difference of the phases' sums over their "
                f"mean; tolerance {facts.ripple_tolerance:g})",
                "Make the sums of the kernel's phases equal (project the weights), or resize and then convolve",
            )


@rule("EV105", "subpixel-phases-differ", severity="warning")
def subpixel_phases_differ(facts: Facts) -> Iterator[Finding]:
    """The channels that a pixel shuffle interleaves come from different kernels.

    ## What it finds
    A sub-pixel convolution (a convolution to `s**2 * C` channels, then a pixel shuffle or depth-to-space) whose `s**2`
    groups of kernels differ: it was not initialised with equal phases (ICNR), or lost them in training. Without weights
    the finding says that nothing keeps the phases equal.

    It is *info* where the actual weights have equal phase sums (ripple at most 1e-5), and no finding where weights and
    biases are computed from parameters such that they have them for every value of these (a parametrization).

    ## Why it matters
    Sub-pixel convolution *is* a transposed convolution with kernel `s * k`: even overlap, phases free. With the usual
    random start the phases differ as much as independent kernels do, and a constant becomes a checkerboard of period
    `s`. Equal phases at the start make the layer a nearest-neighbour resize; training may pull them apart again.

    ## Example
    ```python
    nn.Sequential(nn.Conv2d(64, 3 * 4, kernel_size=3, padding=1), nn.PixelShuffle(2))
    ```

    ## Use instead
    Start from equal phases:

    ```python
    def icnr_(conv: nn.Conv2d, factor: int) -> None:
        \"\"\"Give the factor**2 kernels behind each output channel of a pixel shuffle the same values.\"\"\"
        with torch.no_grad():
            one = torch.empty_like(conv.weight[:: factor**2])
            nn.init.kaiming_normal_(one)
            conv.weight.copy_(one.repeat_interleave(factor**2, dim=0))
            if conv.bias is not None:
                conv.bias.zero_()
    ```

    To keep the phases equal for good, resize and convolve, or follow the shuffle by a fixed average over `s` samples:
    `nn.AvgPool2d(s, stride=1)` after a replicate padding.

    ## Fix safety
    The initialisation is structural (a new training). An average after the shuffle is lossy: it also smooths detail.

    ## References
    - Aitken et al., "Checkerboard artifact free sub-pixel convolution", arXiv 1707.02937
    - Shi et al., "Real-Time Single Image and Video Super-Resolution Using an Efficient Sub-Pixel Convolutional Neural
      Network", arXiv 1609.05158
    - Kinoshita and Kiya, "Fixed Smooth Convolutional Layer for Avoiding Checkerboard Artifacts in CNNs",
      arXiv 2002.02117
    - Pons et al., "Upsampling artifacts in neural audio synthesis", arXiv 2010.14356
    """
    for layer in facts.layers:
        op = layer.node.op
        if not isinstance(op, ir.PixelShuffle) or op.idiom != "pixel_shuffle" or not layer.upsamples or layer.kept:
            continue
        measured = "" if layer.ripple is None else f": ripple {layer.ripple:.3g} (rms difference over the mean)"
        yield _finding(
            facts,
            layer,
            "EV105",
            "warning",
            f"pixel shuffle x{_numbers(op.factor)} takes each phase from channels of its own, and nothing keeps them "
            f"equal{measured}",
            "Start with equal phases (ICNR) and keep them equal in training, or resize and then convolve",
        )


@rule("EV106", "early-upsampling", severity="warning")
def early_upsampling(facts: Facts) -> Iterator[Finding]:
    """A pattern is created early and scaled up to a low frequency by later layers.

    ## What it finds
    A layer that creates a periodic pattern of its own, followed by further up-sampling. The message states the period
    in output pixels: a pattern of period 2 behind which the picture is enlarged four times has period 8.

    ## Why it matters
    A period of 2 pixels is often invisible; periods of 8 to 32 pixels are where the eye is most sensitive, and neither
    JPEG nor a display removes them. Low-frequency patterns also survive the smoothing that later convolutions do.

    ## Example
    ```python
    nn.Sequential(
        nn.ConvTranspose2d(256, 128, kernel_size=4, stride=2, padding=1),  # creates period 2: 8 in output pixels
        nn.ReLU(),
        nn.Upsample(scale_factor=4, mode="nearest"),
        nn.Conv2d(128, 3, kernel_size=3, padding=1),
    )
    ```

    ## Use instead
    Cure the early layer first: a resize-convolution there removes the whole family of long periods. If one layer must
    stay a transposed convolution, let it be the last.

    ```python
    nn.Sequential(
        nn.Upsample(scale_factor=2, mode="nearest"),
        nn.Conv2d(256, 128, kernel_size=3, padding=1, padding_mode="reflect"),
        nn.ReLU(),
        nn.Upsample(scale_factor=4, mode="nearest"),
        nn.Conv2d(128, 3, kernel_size=3, padding=1, padding_mode="reflect"),
    )
    ```

    ## Fix safety
    Structural: the function changes and needs training.

    ## References
    - Odena, Dumoulin and Olah, "Deconvolution and Checkerboard Artifacts", Distill 2016, doi 10.23915/distill.00003
    - Karras et al., "Alias-Free Generative Adversarial Networks", arXiv 2106.12423
    """
    for layer in facts.layers:
        rates = facts.rate(layer)
        if layer.index not in facts.actual.creates or layer.stride is None or rates is None:
            continue
        growth = max(rates, default=Fraction(1))
        if growth <= 1 or layer.born:
            continue
        yield _finding(
            facts,
            layer,
            "EV106",
            "warning",
            f"the pattern made here with period {_numbers(layer.stride)} is scaled up {_number(growth)} times by later "
            "layers, to a low frequency that no later layer can tell from content",
            "Use a resize-convolution in the early layers first: their artifacts are the coarsest",
        )


@rule("EV107", "patch-seams", severity="warning")
def patch_seams(facts: Facts) -> Iterator[Finding]:
    """The output is put together from patches that do not overlap.

    ## What it finds
    Tokens whose channels are unfolded into patches of pixels (the reshape, permute, reshape idiom of vision
    transformers and masked autoencoders), or a `fold` of blocks that touch without overlapping. The period is the patch
    size times every later enlargement. A plain pixel shuffle is reported as EV105, and a transposed convolution with
    `kernel_size == stride` as EV103. Weights that are computed such that all positions of a patch have equal sums for
    every value of their parameters are no finding.

    ## Why it matters
    Every pixel of a patch has weights of its own, and no weight sees both sides of a seam. A constant input gives every
    patch the same inner pattern, and a varying one gives steps at the seams: a grid whose period is the patch size, 8
    to 16 pixels as a rule, which is clearly visible.

    ## Example
    ```python
    tokens = nn.Linear(512, 16 * 16 * 3)(tokens)  # (N, h * w, 16 * 16 * 3)
    patches = tokens.unflatten(1, (h, w)).unflatten(3, (16, 16, 3))  # (N, h, w, 16, 16, 3)
    image = patches.permute(0, 5, 1, 3, 2, 4).reshape(n, 3, 16 * h, 16 * w)
    ```

    ## Use instead
    Grow the lattice in steps with resize-convolutions, or at least let convolutions at full resolution cross the
    seams:

    ```python
    nn.Sequential(
        nn.Upsample(scale_factor=4, mode="nearest"),
        nn.Conv2d(512, 128, kernel_size=3, padding=1, padding_mode="reflect"),
        nn.GELU(),
        nn.Upsample(scale_factor=4, mode="nearest"),
        nn.Conv2d(128, 3, kernel_size=3, padding=1, padding_mode="reflect"),
    )
    ```

    ## Fix safety
    Structural: the function changes and needs training.

    ## References
    - Odena, Dumoulin and Olah, "Deconvolution and Checkerboard Artifacts", Distill 2016, doi 10.23915/distill.00003
    - Wojna et al., "The Devil is in the Decoder", arXiv 1707.05847
    - Karras et al., "Alias-Free Generative Adversarial Networks", arXiv 2106.12423
    """
    for layer in facts.layers:
        op = layer.node.op
        patches = isinstance(op, ir.PixelShuffle) and op.idiom == "patch" and not layer.kept
        tiles = isinstance(op, ir.Fold) and op.kernel == op.stride
        if not (patches or tiles) or not layer.upsamples:
            continue
        yield _finding(
            facts,
            layer,
            "EV107",
            "warning",
            f"patches of {_numbers(layer.stride or ())} samples are written side by side without overlap, each "
            "position in a patch with weights of its own: seams at every patch border",
            "Decode with a convolution across the seams after the patches, or with resize-convolutions",
        )


# ------------------------------------------------------------------------------------------------- EV2xx: the gradient


@rule("EV201", "uneven-gradient", severity="warning")
def uneven_gradient(facts: Facts) -> Iterator[Finding]:
    """Neighbouring input positions of a strided convolution get different amounts of gradient.

    ## What it finds
    A strided convolution whose kernel size is not divisible by its stride. Its gradient is a transposed convolution of
    the same kernel and stride, so the number of outputs that read a position depends on its phase: `3x3, s=2` gives
    4:2:2:1, `7x7, s=2` gives 16:12:12:9. A fixed filter is judged by its real taps, by the sums of their squares. The
    finding is *info* where a fixed filter right before the convolution makes the gradient even again behind it, and
    where the kernel is computed such that all phases have equal sums for every value of its parameters (a filter folded
    into it): then the mean gradient is even.

    ## Why it matters
    Some pixels weigh several times as much as their neighbours, for no reason in the data. A discriminator or a
    perceptual loss hands that pattern to the generator it trains; DeepDream and saliency maps show it directly.

    ## Example
    ```python
    nn.Conv2d(3, 64, kernel_size=3, stride=2, padding=1)  # squared gradient 4:2:2:1
    ```

    ## Use instead
    Convolve at full resolution, then decimate with a fixed smoothing filter. `[1, 3, 3, 1]` evens the mean and the
    squared gradient at stride 2 (`[1, 2, 1]` evens only the mean):

    ```python
    class BlurDown(nn.Module):
        \"\"\"Smooth with [1, 3, 3, 1] and keep every second sample.\"\"\"

        def __init__(self, channels: int) -> None:
            super().__init__()
            taps = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
            self.register_buffer("filter", torch.outer(taps, taps).expand(channels, 1, 4, 4).clone())

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = nn.functional.pad(x, (1, 1, 1, 1), mode="reflect")
            return nn.functional.conv2d(x, self.filter, stride=2, groups=x.shape[1])


    nn.Sequential(nn.Conv2d(3, 64, kernel_size=3, padding=1), BlurDown(64))
    ```

    The smallest change is a kernel that the stride divides: `kernel_size=4, stride=2, padding=1`.

    ## Fix safety
    Structural: the function changes and needs training.

    ## References
    - Odena, Dumoulin and Olah, "Deconvolution and Checkerboard Artifacts", Distill 2016, doi 10.23915/distill.00003
    - Zhang, "Making Convolutional Networks Shift-Invariant Again", arXiv 1904.11486
    """
    for layer in facts.layers:
        op = layer.node.op
        if not isinstance(op, ir.Conv | ir.Unfold) or layer.read in (None, 1.0, inf) or not layer.node.sizes:
            continue
        assert layer.read is not None
        even = facts.filter_before(layer)
        counted = f"{_geometry(layer)} reads some positions {layer.read:.3g} times as often as others"
        message = f"{counted}, so they get that much more squared gradient"
        if even is not None:
            what = f"{message}; the filter {even} before it makes it even again."
            yield Finding("EV201", "info", layer.name, what, 1, "None needed")
            continue
        if layer.kept:
            what = "its kernel is computed such that the mean gradient is even for every value of its parameters"
            yield Finding("EV201", "info", layer.name, f"{counted}; {what}.", 1, "None needed")
            continue
        yield _gradient_finding(
            facts,
            layer,
            "EV201",
            "warning",
            message,
            "Use a kernel that the stride divides, or blur before the decimation (filter 1, 3, 3, 1 at stride 2)",
        )


@rule("EV202", "dead-input-positions", severity="error")
def dead_input_positions(facts: Facts) -> Iterator[Finding]:
    """Some positions are read by no output and get no gradient.

    ## What it finds
    A strided convolution or a slice that skips positions: the kernel is smaller than the stride, or the dilation shares
    a factor with it. `1x1, s=2` reads one pixel of four.

    It is an *error* where positions of the network's own input are dead, and *info* where only a branch skips them and
    another path reads them (the shortcut of a residual block).

    ## Why it matters
    What stands at a dead position cannot influence the result, and a loss behind it cannot correct a generator there:
    the pixels are free to take any value.

    ## Example
    ```python
    nn.Conv2d(64, 128, kernel_size=1, stride=2)  # three positions of four are never read
    ```

    ## Use instead
    ```python
    nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(64, 128, kernel_size=1))
    ```

    ## Fix safety
    Structural, though the weights keep their shapes: the output changes, so fine-tune.

    ## References
    - Odena, Dumoulin and Olah, "Deconvolution and Checkerboard Artifacts", Distill 2016, doi 10.23915/distill.00003
    - Zhang, "Making Convolutional Networks Shift-Invariant Again", arXiv 1904.11486
    - He et al., "Bag of Tricks for Image Classification with Convolutional Neural Networks", arXiv 1812.01187
    """
    for layer in facts.layers:
        op = layer.node.op
        if layer.read != inf or not isinstance(op, ir.Conv | ir.Pool | ir.Slice | ir.Unfold):
            continue
        dead = facts.dead_inputs(layer)
        if isinstance(op, ir.Slice) and not dead:
            continue  # one of several slices that together read everything
        even = facts.filter_before(layer)
        elsewhere = "other branches read them" if even is None else f"the filter {even} before it hands gradient to all"
        where = "of the network's own input" if dead else f"on this branch; {elsewhere}"
        kernel = "its stride skips them" if isinstance(op, ir.Slice) else "its kernel does not cover its stride"
        yield _gradient_finding(
            facts,
            layer,
            "EV202",
            "error" if dead else "info",
            f"{_geometry(layer)} gives no gradient to some positions {where}: {kernel}",
            "Use a kernel at least as large as the stride, or average over the stride before the layer",
        )


@rule("EV203", "pooling-gradient", severity="warning")
def pooling_gradient(facts: Facts) -> Iterator[Finding]:
    """A pooling layer hands back an uneven or a sparse gradient.

    ## What it finds
    Pooling whose windows overlap unevenly (`kernel_size=3, stride=2`): some positions are in more windows than others.
    Also max pooling of any kind: its gradient reaches one position of each window, even on average when windows do not
    overlap, but sparse.

    ## Why it matters
    Overlapping windows repeat the pattern of a strided convolution. The sparse gradient of max pooling is the less
    organised high-frequency pattern that DeepDream pictures of max-pooled networks show.

    ## Example
    ```python
    nn.MaxPool2d(kernel_size=3, stride=2, padding=1)  # positions are in 1, 2, 2 or 4 windows
    nn.MaxPool2d(kernel_size=2)  # even on average, one position of four per sample
    ```

    ## Use instead
    Average over windows that the stride divides, or take the maximum at full resolution and smooth before decimating
    (`BlurDown` is shown under EV201):

    ```python
    nn.AvgPool2d(kernel_size=2)
    nn.Sequential(nn.ZeroPad2d((0, 1, 0, 1)), nn.MaxPool2d(kernel_size=2, stride=1), BlurDown(64))
    ```

    ## Fix safety
    Structural, though no weights change shape: the output changes, so fine-tune.

    ## References
    - Odena, Dumoulin and Olah, "Deconvolution and Checkerboard Artifacts", Distill 2016, doi 10.23915/distill.00003
    - Zhang, "Making Convolutional Networks Shift-Invariant Again", arXiv 1904.11486
    """
    for layer in facts.layers:
        op = layer.node.op
        if not isinstance(op, ir.Pool) or layer.read is None or layer.read == inf or prod(op.stride) == 1:
            continue
        if layer.read > 1:
            what = f"windows overlap unevenly: some positions stand in {layer.read:.3g} times as many as others"
        elif op.kind != "average":
            what = f"only one position in {prod(op.kernel)} gets the gradient of a window: even on average, but sparse"
        else:
            continue
        yield _gradient_finding(
            facts,
            layer,
            "EV203",
            "warning",
            f"{_geometry(layer)}: {what}",
            "Use average pooling with windows as large as the stride, or max pooling at stride 1 and a blur",
        )


# --------------------------------------------------------------------------------------------------- EV3xx: the border


@rule("EV301", "zero-padding-after-resize", severity="warning")
def zero_padding_after_resize(facts: Facts) -> Iterator[Finding]:
    """A convolution behind a resize pads with zeros, which marks the border.

    ## What it finds
    A convolution with zero padding that reads a resized field. Certificates and periods speak of the interior; this
    rule speaks of the border.

    ## Why it matters
    Zeros beside an enlarged picture are a step that no training picture has. A constant input gets a frame some pixels
    wide, every further layer widens it, and up-sampling enlarges it.

    ## Example
    ```python
    nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(64, 32, kernel_size=3, padding=1))
    ```

    ## Use instead
    Pad with values of the picture itself, before the convolution:

    ```python
    nn.Sequential(
        nn.Upsample(scale_factor=2),
        nn.Conv2d(64, 32, kernel_size=3, padding=1, padding_mode="reflect"),
    )
    ```

    `"replicate"` and `"reflect"` both keep a constant constant up to the edge.

    ## Fix safety
    Lossy: the weights stay, and the interior is unchanged; the border changes by what the zeros contributed. Measure
    it, or fine-tune.

    ## References
    - Odena, Dumoulin and Olah, "Deconvolution and Checkerboard Artifacts", Distill 2016, doi 10.23915/distill.00003
    - Karras et al., "Alias-Free Generative Adversarial Networks", arXiv 2106.12423
    """
    for layer in facts.layers:
        op = layer.node.op
        if not isinstance(op, ir.Conv) or op.pad_mode not in ("zeros", "constant"):
            continue
        resize = _resize_before(facts, layer)
        if resize is None or not any(low > 0 or high > 0 for low, high in op.padding):
            continue
        width = max(max(pair) for pair in op.padding)
        yield Finding(
            "EV301",
            "warning",
            layer.name,
            f"zero padding of {width} px after the resize {resize} darkens a border of the finer lattice: "
            "boundary artifacts",
            None,
            'Pad before the convolution with replicated or reflected samples (padding_mode="replicate" or "reflect")',
        )


# ------------------------------------------------------------------------------------------ what the rules share


def _numbers(values: Sequence[int]) -> str:
    distinct = set(values)
    return str(distinct.pop()) if len(distinct) == 1 else "x".join(map(str, values))


def _number(value: Fraction) -> str:
    return f"{float(value):.4g}"


def _geometry(layer: Layer) -> str:
    """``k3 s2`` in the field's shorthand."""
    op = layer.node.op
    words = [
        f"{letter}{_numbers(values)}"
        for letter, values, default in (
            ("k", getattr(op, "kernel", None), None),
            ("s", getattr(op, "stride", None) or getattr(op, "step", None), None),
            ("d", getattr(op, "dilation", None), 1),
        )
        if values and set(values) != {default}
    ]
    return " ".join([layer.label.replace("_", " "), *words])


def _even_kernel(layer: Layer) -> str:
    op = layer.node.op
    assert isinstance(op, ir.ConvTranspose | ir.Fold)
    kernel = tuple(max(s, -(-k // s) * s) for k, s in zip(op.kernel, op.stride, strict=True))
    return (
        f"Resize and then convolve (nn.Upsample + nn.Conv); the smallest change, kernel_size={_numbers(kernel)}, "
        "evens the overlap but leaves the phases free (EV103)"
    )


def _finding(facts: Facts, layer: Layer, code: str, severity: Severity, message: str, fix: str) -> Finding:
    """A finding about a pattern that a layer makes, lowered where the weights or a later layer remove it."""
    period = facts.created_period(layer)
    if layer.kept:
        message += (
            "; its kernel is computed such that all phases have equal gains for every value of its parameters, so "
            "constants pass, and training keeps it so"
        )
        return Finding(code, "info", layer.name, message + ".", period, fix)
    if layer.balanced:
        kept = (
            "its filter is a constant of the network, so training keeps it so"
            if layer.fixed
            else "nothing keeps it so in training"
        )
        message += f"; its weights meet the DC condition (ripple {layer.ripple:.1g}), so constants pass; {kept}"
        return Finding(code, "info", layer.name, message + ".", period, fix)
    if period not in (None, 1):
        assert period is not None
        size = _numbers((period,) if isinstance(period, int) else period)
        message += f"; period {size} {facts.unit} in the output"
    removed = facts.removed_by(layer)
    if removed is not None:
        return Finding(code, "info", layer.name, f"{message}; {removed} provably removes it.", period, fix)
    return Finding(code, severity, layer.name, message + ".", period, fix)


def _gradient_finding(facts: Facts, layer: Layer, code: str, severity: Severity, message: str, fix: str) -> Finding:
    period = facts.gradient_period(layer)
    if period not in (None, 1):
        assert period is not None
        size = _numbers((period,) if isinstance(period, int) else period)
        message += f"; period {size} {facts.unit} in the input"
    return Finding(code, severity, layer.name, message + ".", period, fix)


def _resize_before(facts: Facts, layer: Layer) -> str | None:
    """The up-sampling interpolation that feeds a layer through pointwise operations only."""
    node = layer.node
    while node.inputs:
        node = facts.graph.nodes[node.inputs[0]]
        if isinstance(node.op, ir.Resize):
            return node.name if any(axis.up > axis.down for axis in node.op.axes) else None
        if not isinstance(node.op, ir.Affine | ir.Normalize | ir.Pointwise):
            return None
    return None


# -------------------------------------------------------------------------------------------------- EV9xx: the analysis


@rule("EV901", "not-analysed", severity="warning")
def not_analysed(facts: Facts) -> Iterator[Finding]:
    """An operator has no entry in evenly's tables, so what it does to a pattern is not known.

    ## What it finds
    An operator that evenly does not understand, by its own name, with what it may hide. Nothing is guessed: what
    depends on it becomes unknown as well (`null` in the JSON), and no certificate is given.

    ## Why it matters
    An unknown operator on the spatial path may create, move or remove a pattern. A clean report would be a false
    promise.

    ## Example
    ```python
    spectrum = torch.fft.rfft2(x)  # mixes all positions in a way that the tables do not describe
    ```

    ## Use instead
    Where the operator is known to be harmless on the spatial path, accept it for that layer, with the reason beside it:

    ```toml
    [tool.evenly.per-layer-ignores]
    "encoder.spectrum" = ["EV901"]  # global; the decoder is checked on its own
    ```

    Otherwise check the parts before and after it as networks of their own, and report the operator to the project.

    ## Fix safety
    Safe: nothing in the network changes.

    ## References
    - `docs/theory.md`, "What is not analysed"
    """
    for layer in facts.layers:
        op = layer.node.op
        if isinstance(op, ir.Unknown):
            yield Finding(
                "EV901",
                "warning",
                layer.name,
                f"{op.operator} is not analysed: {op.reason}; {op.hides}",
                None,
                "Check the parts before and after it by themselves, or replace it by operators that evenly knows",
            )


RULES: Mapping[str, Rule] = MappingProxyType(dict(sorted(_REGISTRY.items())))
"""Every rule by code, sorted."""


def rules_page() -> str:
    """``docs/rules.md``: a table of all rules, then each rule's documentation."""
    lines = [
        "# Rules",
        "",
        "Generated by `python -m evenly.check.rules > docs/rules.md`; edit `src/evenly/check/rules.py` instead.",
        "",
        "A fix is *safe* (the same function), *lossy* (the function changes by an amount that can be measured) or",
        "*structural* (it needs training).",
        "",
        "| code | name | severity | finds |",
        "|---|---|---|---|",
        *(f"| [{r.code}](#{_anchor(r)}) | {r.name} | {r.severity} | {r.summary} |" for r in RULES.values()),
        "",
    ]
    return "\n".join(lines) + "\n" + "\n".join(r.markdown(level=2) for r in RULES.values())


def _anchor(rule: Rule) -> str:
    return f"{rule.code.lower()}-{rule.name}"


if __name__ == "__main__":
    sys.stdout.write(rules_page())

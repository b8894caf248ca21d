"""What the article and its readers claim, C1 to C25, in the words of docs/claims.md."""

from __future__ import annotations

from typing import Final

__all__ = ["CLAIMS"]

CLAIMS: Final = {
    "C1": "Overlap is uneven when the kernel size is not divisible by the stride.",
    "C2": "In two dimensions the two patterns multiply: a factor of 2 becomes 4.",
    "C3": "Stacked transposed convolutions compound on several scales; they can cancel, but seldom do.",
    "C4": "A stride-1 transposed convolution at the end removes artifacts whose period divides its size, "
    "and reduces others.",
    "C5": "Early transposed convolutions make the artifacts of lower frequency.",
    "C6": "Artifacts are strongest for colours far from the average.",
    "C7": "Uneven overlap is not unlearnt, and even overlap often learns artifacts too.",
    "C8": "Avoiding artifacts restricts the filters.",
    "C9": "Sub-pixel convolution is a transposed convolution whose stride divides its kernel; it can still learn "
    "artifacts.",
    "C10": "Nearest-neighbour resize, then convolution, works best; bilinear was harder.",
    "C11": "Both are linear and can be drawn as matrices; resize-convolution ties weights.",
    "C12": "Padding before the convolution avoids artifacts at the boundary.",
    "C13": "Generators: transposed convolutions in the last two layers give periods 2 and 4, in the last only 2, "
    "nowhere none.",
    "C14": "The same is visible before any training.",
    "C15": "Style transfer: heavy artifacts with transposed convolution, none with resize-convolution.",
    "C16": "The gradient of a convolution is a transposed convolution, and shows the same patterns.",
    "C17": "DeepDream at one position: severe artifacts; with jitter: reduced.",
    "C18": "A less organised high-frequency pattern comes from max pooling.",
    "C19": "A discriminator with a stride-2 first layer gives a strong period 2 in a neutral generator; a regular "
    "first layer a mild one.",
    "C20": "Some pixels get many times the gradient of their neighbours.",
    "C21": "Open: may this exaggerate adversarial examples?",
    "C22": "Open: does it matter for sound?",
    "C23": "Worked one-dimensional examples of convolution and transposed convolution.",
    "C24": "Convolution keeps the order of magnitudes of its input, transposed convolution need not.",
    "C25": "Strided convolutions may have issues of their own.",
}
"""The claims by number. "Frequency 2" in the article is a pattern of period 2 pixels."""

"""Layers that cannot make checkerboards, and are faster than what they replace. Needs PyTorch.

Up-sampling: `ResizeConv1d`, 2d, 3d; `SubpixelConv1d`, ...; `BalancedConvTranspose1d`, ...; `FIRUpsample1d`, ....
Down-sampling: `AntialiasedConv1d`, ...; `AntialiasedMaxPool1d`, ...; `BlurPool1d`, ....
Between them: `fold`, `unfold`, `from_conv_transpose`; `utils.balance` for a layer that exists. `init` starts layers at
the scale of what they replace.
"""

from evenly.errors import MissingDependencyError

try:
    import torch as _torch  # noqa: F401
except ImportError as error:
    raise MissingDependencyError("evenly.nn needs PyTorch; install it with pip install 'evenly[torch]'") from error

from evenly.nn import functional, init, utils
from evenly.nn.antialias import (
    AntialiasedConv1d,
    AntialiasedConv2d,
    AntialiasedConv3d,
    AntialiasedMaxPool1d,
    AntialiasedMaxPool2d,
    AntialiasedMaxPool3d,
    BlurPool1d,
    BlurPool2d,
    BlurPool3d,
    Conditions,
    FIRUpsample1d,
    FIRUpsample2d,
    FIRUpsample3d,
    even_taps,
)
from evenly.nn.balanced import BalancedConvTranspose1d, BalancedConvTranspose2d, BalancedConvTranspose3d
from evenly.nn.convert import Unfolded, fold, foldable, from_conv_transpose, unfold
from evenly.nn.resize import ResizeConv1d, ResizeConv2d, ResizeConv3d
from evenly.nn.subpixel import SubpixelConv1d, SubpixelConv2d, SubpixelConv3d

__all__ = [
    "AntialiasedConv1d",
    "AntialiasedConv2d",
    "AntialiasedConv3d",
    "AntialiasedMaxPool1d",
    "AntialiasedMaxPool2d",
    "AntialiasedMaxPool3d",
    "BalancedConvTranspose1d",
    "BalancedConvTranspose2d",
    "BalancedConvTranspose3d",
    "BlurPool1d",
    "BlurPool2d",
    "BlurPool3d",
    "Conditions",
    "FIRUpsample1d",
    "FIRUpsample2d",
    "FIRUpsample3d",
    "ResizeConv1d",
    "ResizeConv2d",
    "ResizeConv3d",
    "SubpixelConv1d",
    "SubpixelConv2d",
    "SubpixelConv3d",
    "Unfolded",
    "even_taps",
    "fold",
    "foldable",
    "from_conv_transpose",
    "functional",
    "init",
    "unfold",
    "utils",
]

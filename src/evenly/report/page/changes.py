"""The change in code that a finding asks for, with the layer's own numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from evenly.check.result import LayerResult

__all__ = ["change"]


def change(code: str, layer: LayerResult) -> str | None:
    """What to take out and what to put in, as lines that begin with ``-`` and ``+``; ``None`` where there is no recipe.

    ``c_in`` and ``c_out`` stand for the channels, which a report does not hold.

    Args:
        code: Of the rule.
        layer: The layer that the finding is about.
    """
    recipe = _RECIPES.get((code, layer.op))
    if recipe is None or (layer.kernel is None and layer.op != "pixel_shuffle"):
        return None
    if any(not isinstance(side, int) for side in layer.padding or ()):  # PyTorch's layers pad both sides alike
        return None
    return recipe(layer)


def _resized(layer: LayerResult) -> str:
    """A transposed convolution becomes a resize-convolution: of new weights, or the nearest to the trained ones."""
    dims, kernel, stride = _dims(layer), layer.kernel or (), layer.stride or ()
    dilation = layer.dilation or (1,) * dims
    extra = layer.output_padding or (0,) * dims
    before = _call(
        f"nn.ConvTranspose{dims}d",
        "c_in, c_out",
        kernel_size=kernel,
        stride=stride,
        padding=layer.padding,
        output_padding=extra,
        dilation=dilation,
    )
    lines = [f"- {before}"]
    reach = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
    pads = [p for p in layer.padding or (0,) * dims if isinstance(p, int)]
    if all(r + a - 2 * p == s for r, a, p, s in zip(reach, extra, pads, stride, strict=True)):
        new = tuple(max(3, (r + 1 - s) // 2 * 2 + 1) for r, s in zip(reach, stride, strict=True))
        made = _call(
            f"evenly.nn.ResizeConv{dims}d", "c_in, c_out", kernel_size=new, scale_factor=stride, padding_mode="reflect"
        )
        lines += [f"+ {made}  # weights anew"]
    return "\n".join([*lines, "+ evenly.nn.from_conv_transpose(layer)  # from the trained weights, sizes as before"])


def _balanced(layer: LayerResult) -> str:
    return "+ evenly.nn.utils.balance(layer)  # keeps the kernel; its phases stay equal from now on\n" + _resized(layer)


def _smooth_conv(layer: LayerResult) -> str:
    dims = _dims(layer)
    same = {"kernel_size": layer.kernel, "stride": layer.stride, "padding": layer.padding, "dilation": layer.dilation}
    before, after = (
        _call(name, "c_in, c_out", **same, **more)
        for name, more in ((f"nn.Conv{dims}d", {}), (f"evenly.nn.AntialiasedConv{dims}d", {"taps": "even"}))
    )
    return f"- {before}\n+ {after}"


def _smooth_max(layer: LayerResult) -> str:
    dims = _dims(layer)
    same = {"kernel_size": layer.kernel, "stride": layer.stride, "padding": layer.padding, "dilation": layer.dilation}
    before = _call(f"nn.MaxPool{dims}d", "", **same)
    after = _call(f"evenly.nn.AntialiasedMaxPool{dims}d", "", **same, taps="even")
    return f"- {before}\n+ {after}"


def _smooth_mean(layer: LayerResult) -> str:
    dims = _dims(layer)
    before = _call(f"nn.AvgPool{dims}d", "", kernel_size=layer.kernel, stride=layer.stride, padding=layer.padding)
    return f"- {before}\n+ " + _call(f"evenly.nn.BlurPool{dims}d", "", stride=layer.stride, taps="even")


def _subpixel(layer: LayerResult) -> str | None:
    factor = layer.stride
    if factor is None or len(set(factor)) > 1 or len(factor) != 2:
        return None
    before = f"- nn.Conv2d(c_in, {factor[0] ** 2} * c_out, ...), nn.PixelShuffle({factor[0]})\n"
    after = _call("evenly.nn.SubpixelConv2d", "c_in, c_out", kernel_size=(3, 3), scale_factor=factor, balanced=True)
    return f"{before}+ {after}  # kernel_size: that of the convolution"


def _reflecting(layer: LayerResult) -> str:
    same = {"kernel_size": layer.kernel, "stride": layer.stride, "padding": layer.padding, "dilation": layer.dilation}
    name = f"nn.Conv{_dims(layer)}d"
    before, after = _call(name, "c_in, c_out", **same), _call(name, "c_in, c_out", **same, padding_mode="reflect")
    return f"- {before}\n+ {after}"


_RECIPES: dict[tuple[str, str], Callable[[LayerResult], str | None]] = {
    **{(code, "conv_transpose"): _resized for code in ("EV101", "EV102", "EV103", "EV106")},
    ("EV104", "conv_transpose"): _balanced,
    ("EV105", "pixel_shuffle"): _subpixel,
    ("EV201", "conv"): _smooth_conv,
    ("EV202", "conv"): _smooth_conv,
    ("EV203", "max_pool"): _smooth_max,
    ("EV203", "avg_pool"): _smooth_mean,
    ("EV301", "conv"): _reflecting,
}


def _dims(layer: LayerResult) -> int:
    return len(layer.kernel or ())


def _call(name: str, first: str, **arguments: object) -> str:
    """A call; what has its default value is left out."""
    defaults = {"stride": 1, "padding": 0, "output_padding": 0, "dilation": 1}
    words = [first] if first else []
    for key, value in arguments.items():
        shown = value[0] if isinstance(value, tuple) and value and len(set(value)) == 1 else value
        if shown is not None and shown != defaults.get(key):
            words.append(f'{key}="{shown}"' if isinstance(shown, str) else f"{key}={shown}")
    return f"{name}({', '.join(words)})"

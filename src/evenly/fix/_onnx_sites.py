"""What of an ONNX graph can be replaced, by the names that ``evenly check`` gives."""

from __future__ import annotations

from collections.abc import Mapping

from onnx import NodeProto

from evenly.errors import EvenlyError
from evenly.fix._onnx_down import POOLS, Pool
from evenly.fix._onnx_geometry import known_values
from evenly.fix._onnx_places import Place, Wiring, named
from evenly.fix._onnx_up import INTERPOLATIONS, Interpolation
from evenly.fix.onnx_backend import OnnxBackend
from evenly.graph import ir
from evenly.graph.onnx.constants import pad_widths
from evenly.graph.onnx.nodes import Item, item
from evenly.theory.resize import TooManyTaps, axis_resize

__all__ = ["Sites"]

_YOUNG = 11
"""Opset from which ``Resize`` says where samples lie, and has a region before its factors."""


class Sites:
    """Layers of a model that some method replaces.

    Attributes:
        refused: Convolutions that cannot be replaced, with the reason.
        interpolations: In the order of the file.
    """

    def __init__(self, backend: OnnxBackend) -> None:
        self.backend, self.file = backend, backend.file
        graph = backend.model.graph
        self.wiring = Wiring(graph)
        self.values = known_values(backend.model)
        self.refused = dict(backend.unlisted)
        own = [(it, name) for it, name in named(self.file, POOLS, {}) if it.outputs[0] in self.wiring.makers]
        self.pools = [Pool(name, it.outputs[0]) for it, name in own]
        self._layers: dict[str, Place | Pool] = {pool.name: pool for pool in self.pools}
        self._layers.update((place.name, place) for place in backend.places)
        labels = dict.fromkeys(INTERPOLATIONS, "interpolate")
        self.interpolations = [
            self._interpolation(it, name)
            for it, name in named(self.file, labels, {})
            if it.outputs[0] in self.wiring.makers
        ]

    def names(self) -> list[str]:
        """Of everything that can be replaced."""
        return [*self._layers, *(found.name for found in self.interpolations)]

    def layer(self, name: str) -> Place | Pool | None:
        """The convolution or pool of a name."""
        return self._layers.get(name)

    def interpolation(self, name: str) -> Interpolation | None:
        """The interpolation of a name, or before the convolution of that name."""
        for found in self.interpolations:
            if found.name == name or (found.place is not None and found.place.name == name):
                return found
        return None

    def node(self, site: Place | Pool | Interpolation) -> NodeProto:
        """The node of a site."""
        node: NodeProto = self.wiring.makers[site.output]
        return node

    def same(self, site: Place | Pool | Interpolation) -> Place | Pool | Interpolation:
        """What was found under the same output before the model changed, as it is now."""
        everything = [*self._layers.values(), *self.interpolations]
        return next((found for found in everything if found.output == site.output), site)

    def feeding(self, graph: ir.Graph) -> Mapping[str, str]:
        """By the name of a pixel shuffle the convolution before it."""
        found = {}
        for node in graph.nodes:
            if isinstance(node.op, ir.PixelShuffle):
                source = graph.nodes[node.inputs[0]]
                while isinstance(source.op, ir.ChannelPermute):
                    source = graph.nodes[source.inputs[0]]
                if isinstance(source.op, ir.Conv):
                    found[node.name] = source.name
        return found

    # ---- fold --------------------------------------------------------------------------------------------------------

    def _interpolation(self, it: Item, name: str) -> Interpolation:
        factor, reason = self._factor(it)
        place, padding = self._behind(it.outputs[0])
        if place is not None and reason is None:
            if place.kind == "transposed" or any(s != 1 for s in place.geometry.stride):
                place = None
            elif not place.settled:
                reason = "the convolution behind it pads by the size of its input, which the file leaves open"
            elif len(place.geometry.kernel) != len(factor):
                reason = "it resizes other axes than the convolution behind it has"
        return Interpolation(name, it.outputs[0], it.inputs[0], factor, reason, place, padding)

    def _factor(self, it: Item) -> tuple[tuple[int, ...], str | None]:
        """By how much it repeats samples, or why it does anything else."""
        if it.text("mode", "nearest") != "nearest":
            return (), (
                f"its mode is {it.text('mode')!r}: it repeats the edge samples, where a transposed convolution goes on "
                "with zeros"
            )
        if (
            it.ints("axes") is not None
            or it.integer("antialias")
            or it.text("keep_aspect_ratio_policy", "stretch") != ("stretch")
        ):
            return (), "it resizes by rules (axes, antialias, aspect ratio) that no transposed convolution has"
        scales = self._scales(it)
        if scales is None:
            return (), "its factors are not known from the file; export it with scales instead of sizes"
        if len(scales) < 3 or scales[:2] != [1.0, 1.0] or any(s != int(s) or s < 1 for s in scales):
            return (), f"its factors {scales} are not whole ones of the spatial axes"
        factor = tuple(int(s) for s in scales[2:])
        if not all(self._repeats(it, s) for s in factor):
            return (), "it does not repeat every sample equally often (coordinates, rounding)"
        return factor, None

    def _scales(self, it: Item) -> list[float] | None:
        young = it.op == "Resize" and self.file.opset >= _YOUNG
        listed = it.floats("scales")
        if listed is not None:
            return list(listed)
        stored = self.file.consts.get(it.input(2 if young else 1))
        if stored is not None and stored.size:
            return [float(v) for v in stored.array().reshape(-1)] if stored.small else None
        sizes = self.file.consts.get(it.input(3)) if young else None
        known = self.values(it.inputs[0])
        if sizes is None or not sizes.small or known is None or len(known.dims) != sizes.size:
            return None
        dims = [d if d is not None else 0 for d in known.dims]
        wanted = [int(v) for v in sizes.array().reshape(-1)]
        if any(d < 1 for d in dims[1:]):
            return None
        return [1.0, *(m / d for m, d in zip(wanted[1:], dims[1:], strict=True))]

    def _repeats(self, it: Item, factor: int) -> bool:
        young = it.op == "Resize" and self.file.opset >= _YOUNG
        coordinate = it.text("coordinate_transformation_mode", "half_pixel") if young else "asymmetric"
        nearest = it.text("nearest_mode", "round_prefer_floor") if young else "floor"
        if factor == 1:
            return coordinate != "tf_crop_and_resize"
        if coordinate in ("align_corners", "tf_crop_and_resize"):
            return False  # it repeats by the size of the input
        try:
            found = axis_resize(4, 4 * factor, "nearest", coordinate=coordinate, nearest=nearest)
        except (EvenlyError, TooManyTaps):
            return False
        return found.down == 1 and found.up == factor and all(taps == ((0, 1.0),) for taps in found.taps)

    def _behind(self, output: str) -> tuple[Place | None, tuple[tuple[int, int], ...]]:
        """The convolution that reads an interpolation, and what a node between them adds."""
        for place in self.backend.places:
            rank = len(place.geometry.kernel)
            if place.source == output:
                return place, ((0, 0),) * rank
            node = self.wiring.makers.get(place.source)
            if node is not None and node.op_type == "Pad" and not node.domain and node.input[0] == output:
                widths = self._zeros(item(node, 0), 2 + rank)
                if widths is not None:
                    return place, widths
        return None, ()

    def _zeros(self, it: Item, rank: int) -> tuple[tuple[int, int], ...] | None:
        """Widths of a padding with zeros."""
        consts = [self.file.consts.get(it.input(i)) for i in range(4)]
        if it.text("mode", "constant") != "constant" or it.number("value", 0.0):
            return None
        if any(it.input(i) and consts[i] is None for i in (1, 2, 3)):
            return None
        if consts[2] is not None and consts[2].scalar() != 0:
            return None
        arrays = [None if const is None else const.array() for const in consts]
        widths = pad_widths(it, rank, arrays[1], arrays[3])
        if any(w < 0 for pair in widths for w in pair) or any(map(any, widths[:2])):
            return None
        return tuple(widths[2:])

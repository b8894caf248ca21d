"""Segmentation with un-pooling, atrous pyramids and mask heads."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from corpus import architecture, scaled


def image(size: int, channels: int = 3):
    return lambda: (torch.zeros(1, channels, size, size),)


def block(i: int, o: int, k: int = 3, *, transposed: bool = False) -> nn.Sequential:
    conv = nn.ConvTranspose2d if transposed else nn.Conv2d
    return nn.Sequential(conv(i, o, k, padding=k // 2), nn.BatchNorm2d(o), nn.ReLU())


class Unpooling(nn.Module):
    """VGG-16 down with remembered maxima, mirrored up by max un-pooling."""

    def __init__(self, f: int, counts: tuple[int, ...], *, transposed: bool, dense: int = 0) -> None:
        super().__init__()
        widths = [f * min(2**level, 8) for level in range(len(counts))]
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        i = 3
        for o, count in zip(widths, counts, strict=True):
            self.down.append(nn.Sequential(*(block(i if n == 0 else o, o) for n in range(count))))
            i = o
        self.middle = nn.Identity()
        if dense:
            down = nn.Sequential(nn.Conv2d(i, dense, 7), nn.BatchNorm2d(dense), nn.ReLU(), block(dense, dense, 1))
            up = nn.Sequential(nn.ConvTranspose2d(dense, i, 7), nn.BatchNorm2d(i), nn.ReLU())
            self.middle = nn.Sequential(down, up)
        for level in reversed(range(len(counts))):
            i, o, count = widths[level], widths[max(level - 1, 0)], counts[level]
            convs = (block(i, i if n < count - 1 else o, transposed=transposed) for n in range(count))
            self.up.append(nn.Sequential(*convs))
        self.pool, self.unpool = nn.MaxPool2d(2, 2, return_indices=True), nn.MaxUnpool2d(2, 2)
        self.head = nn.Conv2d(f, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        places = []
        for stage in self.down:
            x, indices = self.pool(stage(x))
            places.append(indices)
        x = self.middle(x)
        for stage in self.up:
            x = stage(self.unpool(x, places.pop()))
        return self.head(x)


@architecture(
    "segnet",
    inputs=image(64),
    source="Badrinarayanan et al. 2017 (arXiv 1511.00561), figure 2: VGG-16 encoder, un-pooling by remembered maxima",
    period=(32,),
    gradient_period=(1,),
    forbidden="EV101 EV105",
    onnx=False,
    notes="a constant has its maxima at the first position of every window; ONNX has no exporter for max un-pooling",
)
def segnet(width: float) -> nn.Module:
    return Unpooling(scaled(64, width), (2, 2, 3, 3, 3), transposed=False)


@architecture(
    "deconvnet",
    inputs=image(224),
    source="Noh et al. 2015 (arXiv 1505.04366), table 2: un-pooling, stride-1 transposed convolutions, 7x7 bottleneck",
    period=(32,),
    gradient_period=(1,),
    onnx=False,
    width=1 / 16,
    start="middle.1.0",
    simulate={"start_size": (7, 7)},
    simulate_backward=None,
    notes="the 7x7 convolution covers the field, so the decoder's lattice is born at its 7x7 transposed one",
)
def deconvnet(width: float) -> nn.Module:
    return Unpooling(scaled(64, width), (2, 2, 3, 3, 3), transposed=True, dense=scaled(4096, width / 4))


@architecture(
    "mask_rcnn_head",
    inputs=image(14, 256),
    source="He et al. 2017 (arXiv 1703.06870), figure 4, right: four 3x3 convolutions, 2x2 s2 transposed, 1x1",
    period=(2,),
    gradient_period=(1,),
    rules="EV103",
    forbidden="EV101 EV102",
    fast=True,
)
def mask_rcnn_head(width: float) -> nn.Module:
    f = scaled(256, width)
    convs = [m for n in range(4) for m in (nn.Conv2d(f if n else 256, f, 3, 1, 1), nn.ReLU())]
    return nn.Sequential(*convs, nn.ConvTranspose2d(f, f, 2, 2), nn.ReLU(), nn.Conv2d(f, 80, 1))


@architecture(
    "keypoint_rcnn_head",
    inputs=image(14, 256),
    source="He et al. 2017 (arXiv 1703.06870), section 5: eight 3x3 convolutions, k4 s2 transposed, bilinear x2",
    period=(4,),
    gradient_period=(1,),
    rules="EV103",
    forbidden="EV101 EV102",
    notes="bilinear x2 of a period of 2 is a period of 4",
)
def keypoint_rcnn_head(width: float) -> nn.Module:
    f = scaled(512, width)
    convs = [m for n in range(8) for m in (nn.Conv2d(f if n else 256, f, 3, 1, 1), nn.ReLU())]
    up = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)
    return nn.Sequential(*convs, nn.ConvTranspose2d(f, 17, 4, 2, 1), up)


class Separable(nn.Sequential):
    """Depthwise 3x3, then 1x1, each normalised."""

    def __init__(self, i: int, o: int, dilation: int = 1, stride: int = 1) -> None:
        super().__init__(
            nn.Conv2d(i, i, 3, stride, dilation, dilation, groups=i, bias=False),
            nn.BatchNorm2d(i),
            nn.ReLU(),
            nn.Conv2d(i, o, 1, bias=False),
            nn.BatchNorm2d(o),
            nn.ReLU(),
        )


@architecture(
    "deeplab_v3_plus",
    inputs=image(64),
    source="Chen et al. 2018 (arXiv 1802.02611), figures 2 and 4: output stride 16, rates 6, 12, 18, bilinear x4 twice",
    period=(1,),
    gradient_period=(16,),
    rules="EV201",
    forbidden="EV101 EV102 EV103",
    notes="encoder: strided depthwise-separable entry as in the modified aligned Xception, without its middle flow",
)
def deeplab_v3_plus(width: float) -> nn.Module:
    class Aspp(nn.Module):
        def __init__(self, i: int, o: int) -> None:
            super().__init__()
            self.branches = nn.ModuleList([block(i, o, 1), *(Separable(i, o, rate) for rate in (6, 12, 18))])
            self.image = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(i, o, 1), nn.ReLU())
            self.project = block(5 * o, o, 1)

        def forward(self, x: Tensor) -> Tensor:
            pooled = F.interpolate(self.image(x), size=x.shape[2:], mode="bilinear", align_corners=False)
            return self.project(torch.cat([*(branch(x) for branch in self.branches), pooled], 1))

    class DeepLab(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            a, b, c, d = (scaled(n, width) for n in (32, 128, 256, 728))
            self.entry = nn.Sequential(nn.Conv2d(3, a, 3, 2, 1), nn.ReLU(), Separable(a, b), Separable(b, b, stride=2))
            self.deep = nn.Sequential(Separable(b, c, stride=2), Separable(c, d, stride=2), Separable(d, d))
            self.aspp = Aspp(d, c)
            self.reduce = block(b, scaled(48, width), 1)
            self.refine = nn.Sequential(Separable(c + scaled(48, width), c), Separable(c, c))
            self.head = nn.Conv2d(c, 5, 1)

        def forward(self, x: Tensor) -> Tensor:
            low = self.entry(x)
            high = self.aspp(self.deep(low))
            high = F.interpolate(high, scale_factor=4, mode="bilinear", align_corners=False)
            y = self.head(self.refine(torch.cat([high, self.reduce(low)], 1)))
            return F.interpolate(y, scale_factor=4, mode="bilinear", align_corners=False)

    return DeepLab()


@architecture(
    "pspnet",
    inputs=image(96),
    source="Zhao et al. 2017 (arXiv 1612.01105), figure 3: average pools to 1, 2, 3, 6 bins; dilated ResNet, stride 8",
    period=(1,),
    gradient_period=(None,),
    forbidden="EV101 EV102 EV103",
    simulate_backward=None,
    notes=(
        "bins and align_corners=True depend on the declared size: constants stay constant, the gradient's period "
        "(a multiple of 8) is not that of any lattice of the network"
    ),
)
def pspnet(width: float) -> nn.Module:
    class Bottleneck(nn.Module):
        def __init__(self, i: int, o: int, stride: int = 1, dilation: int = 1) -> None:
            super().__init__()
            self.reduce, self.expand = block(i, o // 4, 1), nn.Conv2d(o // 4, o, 1)
            self.middle = nn.Sequential(nn.Conv2d(o // 4, o // 4, 3, stride, dilation, dilation), nn.ReLU())
            self.shortcut = nn.Conv2d(i, o, 1, stride)

        def forward(self, x: Tensor) -> Tensor:
            return F.relu(self.expand(self.middle(self.reduce(x))) + self.shortcut(x))

    class PspNet(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            a, b, c, d, e = (scaled(n, width, 4, 8) for n in (64, 256, 512, 1024, 2048))
            self.stem = nn.Sequential(nn.Conv2d(3, a, 3, 2, 1), nn.ReLU(), block(a, 2 * a), nn.MaxPool2d(3, 2, 1))
            stages = (Bottleneck(2 * a, b), Bottleneck(b, c, 2), Bottleneck(c, d, 1, 2), Bottleneck(d, e, 1, 4))
            self.stages = nn.Sequential(*stages)
            bins = (1, 2, 3, 6)
            self.bins = nn.ModuleList(nn.Sequential(nn.AdaptiveAvgPool2d(n), nn.Conv2d(e, c, 1)) for n in bins)
            self.head = nn.Sequential(block(e + 4 * c, c), nn.Conv2d(c, 5, 1))

        def forward(self, x: Tensor) -> Tensor:
            y = self.stages(self.stem(x))
            size = y.shape[2:]
            pooled = [F.interpolate(b(y), size=size, mode="bilinear", align_corners=True) for b in self.bins]
            y = self.head(torch.cat([y, *pooled], 1))
            return F.interpolate(y, size=x.shape[2:], mode="bilinear", align_corners=True)

    return PspNet()

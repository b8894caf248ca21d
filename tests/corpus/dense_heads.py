"""Heads that turn the tokens of a vision transformer into pictures, channels times ``width``."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from corpus import architecture, scaled
from corpus.classifiers_depthwise import LayerNorm2d
from corpus.transformers_ import Attention

# ------------------------------------------------------------------------------------------------ DPT


class _ResidualUnit(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = (nn.Conv2d(width, width, 3, padding=1) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(F.relu(self.conv1(F.relu(x))))


class _Fusion(nn.Module):
    def __init__(self, width: int, align: bool) -> None:
        super().__init__()
        self.align = align
        self.unit1, self.unit2 = _ResidualUnit(width), _ResidualUnit(width)
        self.out_conv = nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor, skip: Tensor | None = None) -> Tensor:
        if skip is not None:
            x = x + self.unit1(skip)
        x = F.interpolate(self.unit2(x), scale_factor=2, mode="bilinear", align_corners=self.align)
        return self.out_conv(x)


class DPTHead(nn.Module):
    def __init__(self, tokens: int, widths: Sequence[int], features: int, align: bool) -> None:
        super().__init__()
        resample = (
            nn.ConvTranspose2d(widths[0], widths[0], 4, 4),
            nn.ConvTranspose2d(widths[1], widths[1], 2, 2),
            nn.Identity(),
            nn.Conv2d(widths[3], widths[3], 3, 2, 1),
        )
        self.reassemble = nn.ModuleList(
            nn.Sequential(nn.Conv2d(tokens, w, 1), r) for w, r in zip(widths, resample, strict=True)
        )
        self.layer_rn = nn.ModuleList(nn.Conv2d(w, features, 3, padding=1, bias=False) for w in widths)
        self.refine = nn.ModuleList(_Fusion(features, align) for _ in widths)
        self.conv1 = nn.Conv2d(features, features // 2, 3, padding=1)
        self.align = align
        self.conv2 = nn.Sequential(
            nn.Conv2d(features // 2, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 1, 1), nn.ReLU()
        )

    def forward(self, a: Tensor, b: Tensor, c: Tensor, d: Tensor) -> Tensor:
        maps = [rn(up(x)) for rn, up, x in zip(self.layer_rn, self.reassemble, (a, b, c, d), strict=True)]
        x = self.refine[3](maps[3])
        for index in (2, 1, 0):
            x = self.refine[index](x, maps[index])
        x = F.interpolate(self.conv1(x), scale_factor=2, mode="bilinear", align_corners=self.align)
        return self.conv2(x)


def _maps(side: int) -> tuple[Tensor, ...]:
    return tuple(torch.zeros(1, 48, side, side) for _ in range(4))


def _dpt(width: float, align: bool) -> nn.Module:
    widths = tuple(scaled(c, width) for c in (96, 192, 384, 768))
    return DPTHead(48, widths, scaled(256, width), align)


@architecture(
    "dpt_head",
    inputs=lambda: _maps(8),
    source="Ranftl, Bochkovskiy & Koltun, DPT (arXiv 2103.13413), dpt/models.py, depth head, readout ignored",
    period=(None,),
    gradient_period=(None,) * 4,
    rules="EV103",
    forbidden="EV101 EV102",
    simulate=None,
    simulate_backward=None,
    notes="align_corners=True interpolates by (n - 1)/(2n - 1): neither a pattern nor the gradient has a period below "
    "the size of the picture afterwards. The tokens have 48 channels at every width.",
)
def _dpt_head(width: float) -> nn.Module:
    return _dpt(width, align=True)


@architecture(
    "dpt_head_half_pixel",
    inputs=lambda: _maps(8),
    source="The same with align_corners=False, an option of DPT's fusion layers in the transformers library",
    period=(16,),
    gradient_period=(1, 1, 1, 2),
    rules="EV103 EV106",
    forbidden="EV101 EV102",
    simulate={"head": "conv2.2"},
    notes="The tokens have 48 channels at every width.",
)
def _dpt_head_half_pixel(width: float) -> nn.Module:
    return _dpt(width, align=False)


# ------------------------------------------------------------------------------------------------ SAM


class _TwoWayBlock(nn.Module):
    def __init__(self, width: int, hidden: int, first: bool) -> None:
        super().__init__()
        self.first = first
        self.self_attn = Attention(width, 8)
        self.to_image, self.to_tokens = Attention(width, 8, width // 2), Attention(width, 8, width // 2)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(4))
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, width))

    def forward(self, q: Tensor, k: Tensor, q_place: Tensor, k_place: Tensor) -> tuple[Tensor, Tensor]:
        q = self.self_attn(q, q, q) if self.first else q + self.self_attn(q + q_place, q + q_place, q)
        q = self.norms[0](q)
        q = self.norms[1](q + self.to_image(q + q_place, k + k_place, k))
        q = self.norms[2](q + self.mlp(q))
        return q, self.norms[3](k + self.to_tokens(k + k_place, q + q_place, q))


def _mlp(width: int, last: int) -> nn.Module:
    return nn.Sequential(
        *[nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, last)]
    )


class SAMMaskDecoder(nn.Module):
    def __init__(self, width: int, hidden: int, masks: int = 4) -> None:
        super().__init__()
        self.output_tokens = nn.Parameter(torch.randn(masks + 1, width))
        self.blocks = nn.ModuleList(_TwoWayBlock(width, hidden, first) for first in (True, False))
        self.final_attention, self.norm = Attention(width, 8, width // 2), nn.LayerNorm(width)
        self.output_upscaling = nn.Sequential(
            nn.ConvTranspose2d(width, width // 4, 2, 2),
            LayerNorm2d(width // 4, eps=1e-6),
            nn.GELU(),
            nn.ConvTranspose2d(width // 4, width // 8, 2, 2),
            nn.GELU(),
        )
        self.hyper = nn.ModuleList(_mlp(width, width // 8) for _ in range(masks))
        self.iou_head = _mlp(width, masks)

    def forward(self, image: Tensor, place: Tensor, sparse: Tensor, dense: Tensor) -> tuple[Tensor, Tensor]:
        tokens = torch.cat([self.output_tokens[None].expand(image.shape[0], -1, -1), sparse], 1)
        n, c, h, w = image.shape
        k, k_place = (image + dense).flatten(2).transpose(1, 2), place.flatten(2).transpose(1, 2)
        q = tokens
        for block in self.blocks:
            q, k = block(q, k, tokens, k_place)
        q = self.norm(q + self.final_attention(q + tokens, k + k_place, k))
        fine = self.output_upscaling(k.transpose(1, 2).view(n, c, h, w))
        weights = torch.stack([mlp(q[:, 1 + i]) for i, mlp in enumerate(self.hyper)], 1)
        n, c, h, w = fine.shape
        return (weights @ fine.view(n, c, h * w)).view(n, -1, h, w), self.iou_head(q[:, 0])


@architecture(
    "sam_mask_decoder",
    inputs=lambda: (*(torch.zeros(1, 64, 8, 8) for _ in range(2)), torch.zeros(1, 3, 64), torch.zeros(1, 64, 8, 8)),
    source="Kirillov et al., Segment Anything (arXiv 2304.02643), modeling/mask_decoder.py, 64 of 256 channels",
    period=(4, None),
    gradient_period=(1, 1, None, 1),
    rules="EV103",
    forbidden="EV101 EV102",
    prior=False,
    gates=True,
    notes="Inputs: image embedding, its position encoding, prompt tokens, dense prompt.",
)
def _sam_mask_decoder(width: float) -> nn.Module:
    return SAMMaskDecoder(64, scaled(2048, width))


# ------------------------------------------------------------------------------------------------ SegFormer


class SegFormerHead(nn.Module):
    def __init__(self, widths: Sequence[int], hidden: int) -> None:
        super().__init__()
        self.linear_c = nn.ModuleList(nn.Linear(w, hidden) for w in widths)
        self.linear_fuse = nn.Conv2d(4 * hidden, hidden, 1, bias=False)
        self.norm = nn.BatchNorm2d(hidden)
        self.classifier = nn.Conv2d(hidden, 19, 1)

    def forward(self, a: Tensor, b: Tensor, c: Tensor, d: Tensor) -> Tensor:
        size = a.shape[2:]
        fields = []
        for x, linear in zip((a, b, c, d), self.linear_c, strict=True):
            x = linear(x.flatten(2).transpose(1, 2)).permute(0, 2, 1).reshape(x.shape[0], -1, *x.shape[2:])
            fields.append(F.interpolate(x, size=size, mode="bilinear", align_corners=False))
        x = F.relu(self.norm(self.linear_fuse(torch.cat(fields[::-1], 1))))
        return self.classifier(x)


@architecture(
    "segformer_head",
    inputs=lambda: tuple(torch.zeros(1, c, s, s) for c, s in ((8, 32), (16, 16), (40, 8), (64, 4))),
    source="Xie et al., SegFormer (arXiv 2105.15203), section 3.2, B0 (32 64 160 256 channels, here a quarter)",
    period=(1,),
    gradient_period=(1, 1, 1, 1),
    forbidden="EV101 EV102 EV103 EV106",
    fast=True,
)
def _segformer_head(width: float) -> nn.Module:
    return SegFormerHead((8, 16, 40, 64), scaled(256, width))

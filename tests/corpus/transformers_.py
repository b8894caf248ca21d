"""Vision transformers from their published configurations, channels times ``width``."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from corpus import architecture, scaled


class Attention(nn.Module):
    """Multi-head attention over tokens ``(N, L, C)``."""

    def __init__(self, width: int, heads: int, inner: int | None = None) -> None:
        super().__init__()
        inner = inner or width
        self.heads = heads
        self.query, self.key, self.value = (nn.Linear(width, inner) for _ in range(3))
        self.out = nn.Linear(inner, width)

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        def split(x: Tensor) -> Tensor:
            return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

        x = F.scaled_dot_product_attention(split(self.query(q)), split(self.key(k)), split(self.value(v)))
        return self.out(x.transpose(1, 2).flatten(2))


class Block(nn.Module):
    """Pre-norm transformer block."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
        self.attention = Attention(width, heads)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm1(x)
        x = x + self.attention(y, y, y)
        return x + self.mlp(self.norm2(x))


class Tokens(nn.Module):
    """Patch embedding, class token and position embedding."""

    def __init__(self, width: int, patch: int, count: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, patch, patch)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.randn(1, count + 1, width) * 0.02)

    def forward(self, image: Tensor) -> Tensor:
        x = self.proj(image).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls_token.expand(x.shape[0], -1, -1), x], 1)
        return x + self.pos_embed


# ------------------------------------------------------------------------------------------------ ViT


class ViT(nn.Module):
    def __init__(self, width: int, depth: int, heads: int, count: int) -> None:
        super().__init__()
        self.tokens = Tokens(width, 16, count)
        self.blocks = nn.Sequential(*[Block(width, heads) for _ in range(depth)])
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.head = nn.Linear(width, 10)

    def forward(self, image: Tensor) -> Tensor:
        return self.head(self.norm(self.blocks(self.tokens(image)))[:, 0])


@architecture(
    "vit_b16",
    inputs=lambda: (torch.zeros(1, 3, 64, 64),),
    source="Dosovitskiy et al., ViT (arXiv 2010.11929), table 1, ViT-Base with 16x16 patches; 64 pixels instead of 224",
    period=(None,),
    gradient_period=(16,),
    forbidden="EV201 EV202",
    simulate=None,
    simulate_backward={"zero": ("pos_embed",)},
    gates=True,
    notes="The output has no lattice. Position embeddings are zero in the simulation: they are a source of their own.",
)
def _vit_b16(width: float) -> nn.Module:
    return ViT(scaled(768, width, 12), 12, 12, 16)


# ------------------------------------------------------------------------------------------------ MAE


class MAE(nn.Module):
    """All patches visible, as at inference with ``mask_ratio=0``."""

    def __init__(self, width: int, decoder: int, patch: int = 16, count: int = 16) -> None:
        super().__init__()
        self.patch, self.side = patch, round(count**0.5)
        self.tokens = Tokens(width, patch, count)
        self.blocks = nn.Sequential(*[Block(width, 12) for _ in range(12)])
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.decoder_embed = nn.Linear(width, decoder)
        self.decoder_pos_embed = nn.Parameter(torch.randn(1, count + 1, decoder) * 0.02)
        self.decoder_blocks = nn.Sequential(*[Block(decoder, 16) for _ in range(8)])
        self.decoder_norm = nn.LayerNorm(decoder, eps=1e-6)
        self.decoder_pred = nn.Linear(decoder, patch**2 * 3)

    def forward(self, image: Tensor) -> Tensor:
        x = self.norm(self.blocks(self.tokens(image)))
        x = self.decoder_blocks(self.decoder_embed(x) + self.decoder_pos_embed)
        x = self.decoder_pred(self.decoder_norm(x))[:, 1:]
        x = x.reshape(x.shape[0], self.side, self.side, self.patch, self.patch, 3)
        x = torch.einsum("nhwpqc->nchpwq", x)
        return x.reshape(x.shape[0], 3, self.side * self.patch, self.side * self.patch)


@architecture(
    "mae",
    inputs=lambda: (torch.zeros(1, 3, 64, 64),),
    source="He et al., MAE (arXiv 2111.06377), models_mae.py of the published code, ViT-Base, 8 decoder blocks",
    period=(16,),
    gradient_period=(16,),
    rules="EV107",
    simulate={"zero": ("pos_embed",)},
    simulate_backward={"zero": ("pos_embed",)},
    prior=False,
    gates=True,
    notes="Position embeddings are zero in the simulation: they are a source of their own.",
)
def _mae(width: float) -> nn.Module:
    return MAE(scaled(768, width, 12), scaled(512, width, 16))


# ------------------------------------------------------------------------------------------------ Swin


class WindowAttention(nn.Module):
    """Attention inside windows of ``side`` squared, with relative position bias; rolled by ``shift``."""

    def __init__(self, width: int, heads: int, side: int, shift: int) -> None:
        super().__init__()
        self.heads, self.side, self.shift = heads, side, shift
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.relative_position_bias_table = nn.Parameter(torch.randn((2 * side - 1) ** 2, heads) * 0.02)
        place = torch.stack(torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")).flatten(1)
        offset = (place[:, :, None] - place[:, None, :]).permute(1, 2, 0) + side - 1
        self.register_buffer("relative_position_index", offset[..., 0] * (2 * side - 1) + offset[..., 1])

    def mask(self, height: int, width: int) -> Tensor:
        """-100 between positions that the roll brought together from opposite borders."""
        region = torch.zeros(1, height, width, 1)
        pieces = (slice(0, -self.side), slice(-self.side, -self.shift), slice(-self.shift, None))
        for row, vertical in enumerate(pieces):
            for column, horizontal in enumerate(pieces):
                region[:, vertical, horizontal] = 3 * row + column
        windows = self.windows(region).squeeze(-1)
        return (windows[:, None] - windows[:, :, None]).ne(0).float() * -100.0

    def windows(self, x: Tensor) -> Tensor:
        n, h, w, c = x.shape
        s = self.side
        return x.view(n, h // s, s, w // s, s, c).permute(0, 1, 3, 2, 4, 5).reshape(-1, s * s, c)

    def forward(self, x: Tensor) -> Tensor:
        n, h, w, c = x.shape
        s = self.side
        if self.shift:
            x = torch.roll(x, (-self.shift, -self.shift), (1, 2))
        t = self.windows(x)
        q, k, v = self.qkv(t).reshape(-1, s * s, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        scores = q * (c // self.heads) ** -0.5 @ k.transpose(-2, -1)
        bias = self.relative_position_bias_table[self.relative_position_index.view(-1)].view(s * s, s * s, -1)
        scores = scores + bias.permute(2, 0, 1)
        if self.shift:
            mask = self.mask(h, w)
            scores = scores.view(n, mask.shape[0], self.heads, s * s, s * s) + mask[None, :, None]
            scores = scores.view(-1, self.heads, s * s, s * s)
        t = self.proj((scores.softmax(-1) @ v).transpose(1, 2).reshape(-1, s * s, c))
        x = t.view(n, h // s, w // s, s, s, c).permute(0, 1, 3, 2, 4, 5).reshape(n, h, w, c)
        return torch.roll(x, (self.shift, self.shift), (1, 2)) if self.shift else x


class SwinBlock(nn.Module):
    """Channels last."""

    def __init__(self, width: int, heads: int, side: int, shift: int, ratio: int = 4) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = WindowAttention(width, heads, side, shift)
        self.mlp = nn.Sequential(nn.Linear(width, ratio * width), nn.GELU(), nn.Linear(ratio * width, width))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class SwinStages(nn.Module):
    def __init__(self, width: int, side: int = 7) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, width, 4, 4)
        self.norm = nn.LayerNorm(width)
        self.stage1 = nn.Sequential(SwinBlock(width, 3, side, 0), SwinBlock(width, 3, side, side // 2))
        self.merge_norm, self.merge = nn.LayerNorm(4 * width), nn.Linear(4 * width, 2 * width, bias=False)
        self.stage2 = nn.Sequential(SwinBlock(2 * width, 6, side, 0), SwinBlock(2 * width, 6, side, side // 2))

    def forward(self, image: Tensor) -> Tensor:
        x = self.stage1(self.norm(self.embed(image).permute(0, 2, 3, 1)))
        corners = [x[:, i::2, j::2] for j in (0, 1) for i in (0, 1)]
        x = self.stage2(self.merge(self.merge_norm(torch.cat(corners, -1))))
        return x.permute(0, 3, 1, 2)


@architecture(
    "swin_tiny_stages",
    inputs=lambda: (torch.zeros(1, 3, 112, 112),),
    source="Liu et al., Swin Transformer (arXiv 2103.14030), Swin-T: patch embedding and stages 1 and 2",
    period=(1,),
    gradient_period=(56,),
    forbidden="EV101 EV102 EV103 EV107",
    simulate={"borders": "canvas", "bound": 1},
    simulate_backward={"borders": "canvas", "inputs": lambda: (torch.zeros(1, 3, 448, 448),)},
    prior=False,
    gates=True,
    notes="Position biases and windows give the gradient a pattern of 7 tokens of stage 2, 56 pixels.",
)
def _swin_tiny_stages(width: float) -> nn.Module:
    return SwinStages(scaled(96, width, 3))

/** Stacks of layers as people write them: kinds, names, published generators. */
import type { Block as AnyBlock, Catalogue, KindInfo } from "./layer_list";
import { firTaps, growth, interpolation, type Layer, type Unit } from "./theory";

export type Kind =
  | "transposed"
  | "subpixel"
  | "nearest"
  | "linear"
  | "fir"
  | "conv"
  | "box"
  | "residual"
  | "fusion";

export type Block = AnyBlock<Kind>;

export const KINDS: Record<Kind, KindInfo> = {
  transposed: { code: "t", label: "transposed convolution", parameters: ["kernel", "stride", "padding"] },
  subpixel: { code: "u", label: "sub-pixel convolution", parameters: ["kernel", "stride"] },
  nearest: { code: "n", label: "resize, nearest", parameters: ["stride"] },
  linear: { code: "l", label: "resize, bilinear", parameters: ["stride"] },
  fir: { code: "f", label: "resize ×2, FIR [1, 3, 3, 1]", parameters: [] },
  conv: { code: "c", label: "convolution, stride 1", parameters: ["kernel"] },
  box: { code: "e", label: "convolution, all weights equal", parameters: ["kernel"] },
  residual: { code: "r", label: "residual blocks", parameters: ["kernel", "count"] },
  fusion: { code: "m", label: "residual blocks of HiFi-GAN", parameters: [] },
};

export const CATALOGUE: Catalogue<Kind> = {
  kinds: KINDS,
  ranges: { kernel: [1, 16], stride: [2, 8], padding: [0, 8], count: [1, 16] },
  most: 12,
  added: { kind: "conv", kernel: 3, stride: 2, padding: 0, count: 1 },
};

const FIR = [1, 3, 3, 1];

/** HiFi-GAN's fusion of receptive fields (Kong et al. 2020, figure 1 and appendix A.1): three branches, mean of them. */
const FUSION: readonly (readonly Unit[])[] = [3, 7, 11].map((kernel) =>
  [1, 3, 5].map((dilation) => ({ kernel, dilations: [dilation, 1] })),
);

/** What the theory computes for a block. */
export function layerOf({ kind, kernel, stride, padding, count }: Block): Layer {
  switch (kind) {
    case "transposed":
      return { kind, kernel, stride, padding, dilation: 1 };
    case "subpixel":
      return { kind, kernel, stride };
    case "nearest":
    case "linear":
      return { kind: "resize", taps: interpolation(stride, kind) };
    case "fir":
      return { kind: "resize", taps: firTaps(FIR, 2) };
    case "conv":
    case "box":
      return { kind: "conv", kernel, padding: 0, dilation: 1, equal: kind === "box" };
    case "residual":
      return { kind, branches: [Array.from({ length: count }, () => ({ kernel, dilations: [1, 1] }))] };
    case "fusion":
      return { kind: "residual", branches: FUSION };
  }
}

/** A block in a few words: "transposed k4 s2". */
export function nameOf({ kind, kernel, stride, count }: Block): string {
  switch (kind) {
    case "transposed":
      return `transposed k${kernel} s${stride}`;
    case "subpixel":
      return `sub-pixel k${kernel} ×${stride}`;
    case "nearest":
      return `nearest ×${stride}`;
    case "linear":
      return `bilinear ×${stride}`;
    case "fir":
      return "FIR ×2";
    case "conv":
      return `conv k${kernel}`;
    case "box":
      return `equal conv k${kernel}`;
    case "residual":
      return count === 1 ? `residual k${kernel}` : `${count} residual k${kernel}`;
    case "fusion":
      return "fused residual";
  }
}

/** How much a stack enlarges. */
export const enlargement = (blocks: readonly Block[]): number =>
  blocks.reduce((total, block) => total * growth(layerOf(block)), 1);

export type Activation = "none" | "relu" | "slight" | "leaky" | "prelu";

export interface Preset {
  name: string;
  code: string;
  axes: 1 | 2;
  activation: Activation;
  remark: string;
}

/**
 * Published generators, behind the layer that makes the first map of features: until a stride there is no period, so a
 * latent vector's first layer is left out. Normalisation is left out too: over many channels it only scales.
 */
export const PRESETS: readonly Preset[] = [
  {
    // arXiv 1511.06434, figure 1; kernels and borders from the authors' code, github.com/Newmu/dcgan_code, faces/
    name: "DCGAN",
    code: "t5.2.2~t5.2.2~t5.2.2~t5.2.2",
    axes: 2,
    activation: "relu",
    remark: "Radford et al. 2016, the authors' code: four transposed convolutions k5 s2, uneven each.",
  },
  {
    // github.com/pytorch/examples, dcgan/main.py; as the authors' Torch7 code, github.com/soumith/dcgan.torch
    name: "DCGAN, k4 s2",
    code: "t4.2.1~t4.2.1~t4.2.1~t4.2.1",
    axes: 2,
    activation: "relu",
    remark: "The widespread form of PyTorch's examples: k4 s2, four times. Even overlap, and yet a pattern.",
  },
  {
    // arXiv 1606.03498; github.com/openai/improved-gan, mnist_svhn_cifar10/train_cifar_feature_matching.py
    name: "improved GAN",
    code: "t5.2.2~t5.2.2~t5.2.2",
    axes: 2,
    activation: "relu",
    remark: "Salimans et al. 2016, CIFAR-10: three transposed convolutions k5 s2.",
  },
  {
    // arXiv 1606.00704, appendix A; github.com/IshmaelBelghazi/ALI, experiments/ali_cifar10.py: the layers of stride 1 are
    // transposed there as well, which is a convolution with its taps in the other order
    name: "ALI",
    code: "t4.2.0~c4.1.0~t4.2.0~c5.1.0~c1.1.0~c1.1.0",
    axes: 2,
    activation: "slight",
    remark: "Dumoulin et al. 2016, CIFAR-10: k4 s2 twice, stride-1 layers between and behind, leaky ReLU 0.1.",
  },
  {
    // arXiv 1703.10593, appendix 7.2; github.com/junyanz/CycleGAN, models/architectures.lua, nine blocks. Its blocks bend
    // only between their two convolutions; here they see a constant, which either form keeps
    name: "CycleGAN",
    code: "r3.1.0.9~t3.2.1~t3.2.1~c7.1.0",
    axes: 2,
    activation: "relu",
    remark: "Zhu et al. 2017: nine residual blocks, which keep constants, then k3 s2 twice and a 7 × 7 convolution.",
  },
  {
    // arXiv 1609.04802, figure 4: B = 16 residual blocks, k3n256s1 with pixel shuffle twice, k9n3s1. The slope of a PReLU
    // is learned; it starts at 0.25 (He et al., arXiv 1502.01852)
    name: "SRGAN",
    code: "r3.1.0.16~u3.2.0~u3.2.0~c9.1.0",
    axes: 2,
    activation: "prelu",
    remark: "Ledig et al. 2017: sixteen residual blocks, which keep constants, sub-pixel ×2 twice, then 9 × 9.",
  },
  {
    // arXiv 2010.05646, appendix A.1; github.com/jik876/hifi-gan, models.py and V1: rates 8, 8, 2, 2, kernels twice as large,
    // padding (k - s) / 2. The slope before the last layer is 0.01 there, 0.1 here
    name: "HiFi-GAN",
    code: "t16.8.4~m1.1.0~t16.8.4~m1.1.0~t4.2.1~m1.1.0~t4.2.1~m1.1.0~c7.1.0",
    axes: 1,
    activation: "slight",
    remark: "Kong et al. 2020, V1, one axis: after each layer three branches of residual blocks, their mean.",
  },
  {
    // arXiv 2112.10752; github.com/CompVis/latent-diffusion, ldm/modules/diffusionmodules/model.py, Decoder with
    // ch_mult (1, 2, 4, 4) and two blocks per level, one more in the decoder; what stands before the first resize is left out
    name: "AutoencoderKL",
    code: "n1.2.0~c3.1.0~r3.1.0.3~n1.2.0~c3.1.0~r3.1.0.3~n1.2.0~c3.1.0~r3.1.0.3~c3.1.0",
    axes: 2,
    activation: "relu",
    remark:
      "Decoder of Stable Diffusion (Rombach et al. 2022): nearest ×2, a convolution, three residual blocks, three times; ReLU in place of SiLU.",
  },
];

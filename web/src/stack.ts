/** Stacks of layers as people write them: names, short forms for links, published generators. */
import { firTaps, growth, interpolation, type Layer } from "./theory";

export type Kind = "transposed" | "subpixel" | "nearest" | "linear" | "fir" | "conv" | "box";

export interface Block {
  kind: Kind;
  kernel: number;
  stride: number;
  padding: number;
}

export interface KindInfo {
  code: string;
  label: string;
  kernel: boolean;
  stride: boolean;
  padding: boolean;
}

export const KINDS: Record<Kind, KindInfo> = {
  transposed: { code: "t", label: "transposed convolution", kernel: true, stride: true, padding: true },
  subpixel: { code: "u", label: "sub-pixel convolution", kernel: true, stride: true, padding: false },
  nearest: { code: "n", label: "resize, nearest", kernel: false, stride: true, padding: false },
  linear: { code: "l", label: "resize, bilinear", kernel: false, stride: true, padding: false },
  fir: { code: "f", label: "resize ×2, FIR [1, 3, 3, 1]", kernel: false, stride: false, padding: false },
  conv: { code: "c", label: "convolution, stride 1", kernel: true, stride: false, padding: false },
  box: { code: "e", label: "convolution, all weights equal", kernel: true, stride: false, padding: false },
};

const LIMITS = { kernel: 16, stride: 8, padding: 8, layers: 10 } as const;
export { LIMITS };

const FIR = [1, 3, 3, 1];

/** What the theory computes for a block. */
export function layerOf({ kind, kernel, stride, padding }: Block): Layer {
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
  }
}

/** A block in a few words: "transposed k4 s2". */
export function nameOf(block: Block): string {
  switch (block.kind) {
    case "transposed":
      return `transposed k${block.kernel} s${block.stride}`;
    case "subpixel":
      return `sub-pixel k${block.kernel} ×${block.stride}`;
    case "nearest":
      return `nearest ×${block.stride}`;
    case "linear":
      return `bilinear ×${block.stride}`;
    case "fir":
      return "FIR ×2";
    case "conv":
      return `conv k${block.kernel}`;
    case "box":
      return `equal conv k${block.kernel}`;
  }
}

/** Blocks as text for a link: `t4.2.1~c3.1.0`. */
export const encode = (blocks: readonly Block[]): string =>
  blocks.map((b) => `${KINDS[b.kind].code}${b.kernel}.${b.stride}.${b.padding}`).join("~");

const within = (value: number, low: number, high: number): number => Math.max(low, Math.min(high, value));

/** Blocks of a link; what is not understood is left out. */
export function decode(text: string): Block[] {
  const blocks: Block[] = [];
  for (const part of text.slice(0, 400).split("~").slice(0, LIMITS.layers)) {
    const match = /^([a-z])(\d{1,2})\.(\d{1,2})\.(\d{1,2})$/.exec(part);
    const kind = match && (Object.keys(KINDS) as Kind[]).find((one) => KINDS[one].code === match[1]);
    if (!match || !kind) continue;
    blocks.push({
      kind,
      kernel: within(Number(match[2]), 1, LIMITS.kernel),
      stride: within(Number(match[3]), KINDS[kind].stride ? 2 : 1, LIMITS.stride),
      padding: within(Number(match[4]), 0, LIMITS.padding),
    });
  }
  return blocks;
}

/** How much a stack enlarges. */
export const enlargement = (blocks: readonly Block[]): number =>
  blocks.reduce((total, block) => total * growth(layerOf(block)), 1);

export interface Preset {
  name: string;
  code: string;
  axes: 1 | 2;
  activation: "none" | "relu" | "slight" | "leaky";
  remark: string;
}

export const PRESETS: readonly Preset[] = [
  {
    name: "DCGAN",
    code: "t4.2.1~t4.2.1~t4.2.1~t4.2.1",
    axes: 2,
    activation: "relu",
    remark: "Radford et al. 2016, in the widespread k4 s2 form; after its first layer, which has no period.",
  },
  {
    name: "improved GAN",
    code: "t5.2.2~t5.2.2~t5.2.2",
    axes: 2,
    activation: "relu",
    remark: "Salimans et al. 2016, CIFAR-10: three transposed convolutions k5 s2.",
  },
  {
    name: "ALI",
    code: "t4.2.0~c4.1.0~t4.2.0~c5.1.0~c1.1.0~c1.1.0",
    axes: 2,
    activation: "slight",
    remark: "Dumoulin et al. 2016, CIFAR-10: k4 s2 twice, stride-1 layers between and behind.",
  },
  {
    name: "CycleGAN",
    code: "t3.2.1~t3.2.1~c7.1.0",
    axes: 2,
    activation: "relu",
    remark: "Zhu et al. 2017: k3 s2 twice, then a 7 × 7 convolution; its residual blocks come before.",
  },
  {
    name: "SRGAN",
    code: "u3.2.0~u3.2.0~c9.1.0",
    axes: 2,
    activation: "leaky",
    remark: "Ledig et al. 2017: sub-pixel ×2 twice, then 9 × 9; its PReLU taken with slope 0.2.",
  },
  {
    name: "HiFi-GAN",
    code: "t16.8.4~t16.8.4~t4.2.1~t4.2.1~c7.1.0",
    axes: 1,
    activation: "slight",
    remark: "Kong et al. 2020, V1, one axis: its residual blocks between the layers are left out.",
  },
  {
    name: "AutoencoderKL",
    code: "n1.2.0~c3.1.0~n1.2.0~c3.1.0~n1.2.0~c3.1.0~c3.1.0",
    axes: 2,
    activation: "relu",
    remark:
      "Decoder of Stable Diffusion (Rombach et al. 2022): nearest ×2 and a convolution, three times; ReLU in place of SiLU, no residual blocks.",
  },
];

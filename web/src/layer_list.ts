/** A list of layers that people edit: kinds, small numbers, order; and its short form for links. */
import { button, h } from "./dom";

export const PARAMETERS = { kernel: "k", stride: "s", padding: "p", count: "×" } as const;
export type Parameter = keyof typeof PARAMETERS;

export type Block<K extends string> = { kind: K } & Record<Parameter, number>;

export interface KindInfo {
  code: string;
  label: string;
  parameters: readonly Parameter[];
}

/** What the layers of a panel may be. `most` layers; a fresh one is `added`. */
export interface Catalogue<K extends string> {
  kinds: Record<K, KindInfo>;
  ranges: Record<Parameter, readonly [low: number, high: number]>;
  most: number;
  added: Block<K>;
}

/** Layers as text for a link, `t4.2.1~c3.1.0`; a fourth number where a kind has a count. */
export function encode<K extends string>(kinds: Record<K, KindInfo>, blocks: readonly Block<K>[]): string {
  const one = ({ kind, kernel, stride, padding, count }: Block<K>): string =>
    `${kinds[kind].code}${kernel}.${stride}.${padding}${kinds[kind].parameters.includes("count") ? `.${count}` : ""}`;
  return blocks.map(one).join("~");
}

function clamped<K extends string>({ kinds, ranges }: Catalogue<K>, block: Block<K>): Block<K> {
  const kept = { ...block };
  for (const name of kinds[block.kind].parameters) {
    const [low, high] = ranges[name];
    kept[name] = Math.max(low, Math.min(high, kept[name]));
  }
  return kept;
}

/** Layers of a link; what is not understood is left out. */
export function decode<K extends string>(catalogue: Catalogue<K>, text: string): Block<K>[] {
  const kinds = Object.entries(catalogue.kinds) as [K, KindInfo][];
  const blocks: Block<K>[] = [];
  for (const part of text.slice(0, 400).split("~").slice(0, catalogue.most)) {
    const match = /^([a-z])(\d{1,2})\.(\d{1,2})\.(\d{1,2})(?:\.(\d{1,2}))?$/.exec(part);
    const found = match && kinds.find(([, { code }]) => code === match[1]);
    if (!match || !found) continue;
    const [kernel, stride, padding, count] = match.slice(2).map((digits) => Number(digits ?? 1)) as [
      number,
      number,
      number,
      number,
    ];
    blocks.push(clamped(catalogue, { kind: found[0], kernel, stride, padding, count }));
  }
  return blocks;
}

export interface LayerList<K extends string> {
  element: HTMLElement;
  add: HTMLElement;
  readonly blocks: readonly Block<K>[];
  readonly text: string;
  /** Takes the layers of a link; without a single one that is understood everything stays. */
  load(text: string): void;
}

interface Entry {
  kind: string;
  element: HTMLElement;
  update: () => void;
}

/** The list itself; `edited` is called after every change by people, `tint` colours the edge of an entry. */
export function layerList<K extends string>(
  catalogue: Catalogue<K>,
  edited: () => void,
  tint: (block: Block<K>, index: number) => string = () => "var(--rule)",
): LayerList<K> {
  const { kinds, ranges, most, added } = catalogue;
  const element = h("ol", { class: "layers" });
  const add = button("Add a layer", () => {
    blocks.push({ ...added });
    changed();
  });
  let blocks: Block<K>[] = [];

  const entries: Entry[] = [];

  /** After a change by people; the focus goes to one of the entries. */
  function changed(focus?: number): void {
    write();
    if (focus !== undefined) entries[focus]?.element.querySelector("select")?.focus();
    edited();
  }

  /** Writes the entries; one of the same kind as before stays and only takes new numbers. */
  function write(): void {
    blocks.forEach(({ kind }, index) => {
      const before = entries[index];
      if (before?.kind === kind) return;
      const now = entry(kind, index);
      if (before) before.element.replaceWith(now.element);
      else element.append(now.element);
      entries[index] = now;
    });
    for (const { element: surplus } of entries.splice(blocks.length)) surplus.remove();
    entries.forEach(({ update }) => update());
    add.disabled = blocks.length >= most;
  }

  function move(index: number, by: number): void {
    const [taken] = blocks.splice(index, 1);
    blocks.splice(index + by, 0, taken!);
    changed(index + by);
  }

  function number(name: Parameter, index: number): HTMLInputElement {
    const [low, high] = ranges[name];
    const input = h("input", { type: "number", min: low, max: high, "aria-label": `${name} of layer ${index + 1}` });
    input.addEventListener("input", () => {
      const value = Math.round(Number(input.value));
      if (input.value === "" || !(value >= low && value <= high)) return;
      blocks[index]![name] = value;
      edited();
    });
    return input;
  }

  function entry(kind: K, index: number): Entry {
    const layer = `layer ${index + 1}`;
    const choice = h(
      "select",
      { "aria-label": `kind of ${layer}` },
      ...(Object.keys(kinds) as K[]).map((one) => h("option", { value: one, selected: one === kind }, kinds[one].label)),
    );
    choice.addEventListener("change", () => {
      blocks[index] = clamped(catalogue, { ...blocks[index]!, kind: choice.value as K });
      changed(index);
    });
    const fields = kinds[kind].parameters.map((name) => ({ name, input: number(name, index) }));
    const up = button("↑", () => move(index, -1), { "aria-label": `Move ${layer} up`, disabled: index === 0 });
    const down = button("↓", () => move(index, 1), { "aria-label": `Move ${layer} down` });
    const remove = button("×", () => (blocks.splice(index, 1), changed(Math.max(0, index - 1))), {
      "aria-label": `Remove ${layer}`,
    });
    const item = h(
      "li",
      { class: "layer" },
      h("b", {}, `${index + 1}`),
      choice,
      ...fields.map(({ name, input }) => h("label", {}, h("var", { class: name }, PARAMETERS[name]), input)),
      h("span", { class: "end" }, up, down, remove),
    );
    const update = (): void => {
      for (const { name, input } of fields) input.value = String(blocks[index]![name]);
      down.disabled = index === blocks.length - 1;
      remove.disabled = blocks.length === 1;
      item.style.setProperty("--tint", tint(blocks[index]!, index));
    };
    return { kind, element: item, update };
  }

  return {
    element,
    add,
    get blocks() {
      return blocks;
    },
    get text() {
      return encode(kinds, blocks);
    },
    load(text) {
      const given = decode(catalogue, text);
      if (given.length) blocks = given;
      write();
    },
  };
}

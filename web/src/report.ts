/** Reads a report of `evenly check` (docs/json.md). Trusts nothing: every value is checked, text stays text. */

export type Size = number | null;
/** A period in samples: one number, one per axis, or not known. */
export type Period = number | number[] | null;

export interface LayerEntry {
  name: string;
  op: string;
  shape: string;
  unevenness: Size;
  gradientUnevenness: Size;
  period: Period;
  ripple: Size;
  role: string;
  removedBy: string | null;
  note: string | null;
}

export interface OutputEntry {
  name: string;
  period: Period;
  unevenness: Size;
  acFraction: Size;
  certified: boolean | null;
  brokenBy: string[];
  response: [string, Size][] | null;
  notComputed: string[];
}

export interface InputEntry {
  name: string;
  period: Period;
  unevenness: Size;
  dead: Size;
}

export interface FindingEntry {
  code: string;
  severity: string;
  layer: string;
  message: string;
  fix: string;
}

export interface Report {
  source: string;
  weights: string;
  version: string;
  layers: LayerEntry[];
  outputs: OutputEntry[];
  inputs: InputEntry[];
  findings: FindingEntry[];
  notes: string[];
}

export const LIMITS = { bytes: 64 * 2 ** 20, entries: 20000, text: 2000 } as const;

/** A file that is no such report: the message is one line for people. */
export class NotAReport extends Error {
  override readonly name = "NotAReport";
}

const ROLES = new Set(["creates", "passes", "scales", "attenuates", "removes", "immune", "unknown"]);
const SEVERITIES = new Set(["error", "warning", "info"]);

type Fields = Record<string, unknown>;

function object(value: unknown, where: string): Fields {
  if (typeof value !== "object" || value === null || Array.isArray(value))
    throw new NotAReport(`${where} is not an object.`);
  return value as Fields;
}

const field = (fields: Fields, name: string): unknown => (Object.hasOwn(fields, name) ? fields[name] : undefined);

function list(fields: Fields, name: string, where: string): unknown[] {
  const value = field(fields, name);
  if (!Array.isArray(value)) throw new NotAReport(`${where}“${name}” is not a list.`);
  if (value.length > LIMITS.entries)
    throw new NotAReport(`${where}“${name}” has ${value.length} entries; this page shows up to ${LIMITS.entries}.`);
  return value;
}

/** Text with control characters and marks that turn the direction of writing made visible. */
function text(value: unknown, fallback = ""): string {
  if (typeof value !== "string") return fallback;
  const clean = value
    .slice(0, LIMITS.text)
    .replace(/[\u0000-\u001f\u007f-\u009f\u200b-\u200f\u202a-\u202e\u2066-\u2069\ufeff]+/g, " ");
  return value.length > LIMITS.text ? `${clean}…` : clean;
}

const optional = (value: unknown): string | null => (typeof value === "string" ? text(value) : null);

const texts = (value: unknown): string[] =>
  Array.isArray(value)
    ? value
        .slice(0, 1000)
        .filter((v) => typeof v === "string")
        .map((v) => text(v))
    : [];

function size(value: unknown): Size {
  if (value === "inf") return Infinity;
  return typeof value === "number" && Number.isFinite(value) ? value : null;
}

function period(value: unknown): Period {
  const whole = (v: unknown): v is number => typeof v === "number" && Number.isInteger(v) && v >= 1;
  if (whole(value)) return value;
  return Array.isArray(value) && value.length > 0 && value.length <= 3 && value.every(whole)
    ? (value as number[])
    : null;
}

function shape(fields: Fields): string {
  const parts: string[] = [];
  const plain: Record<string, string> = { kernel: "1", stride: "1", padding: "0", dilation: "1", output_padding: "0" };
  const letters: Record<string, string> = {
    kernel: "k",
    stride: "s",
    padding: "p",
    dilation: "d",
    output_padding: "a",
  };
  for (const [name, letter] of Object.entries(letters)) {
    const value = field(fields, name);
    if (!Array.isArray(value) || value.length === 0 || value.length > 3) continue;
    const plainly = (v: unknown): string => (typeof v === "number" ? String(v) : "?");
    const each = value.map((v) => (Array.isArray(v) ? v.slice(0, 2).map(plainly).join("/") : plainly(v)));
    const short = new Set(each).size === 1 ? each[0]! : each.join("×");
    if (short !== plain[name]) parts.push(letter + short.slice(0, 24));
  }
  return parts.join(" ");
}

function layer(value: unknown, index: number): LayerEntry {
  const fields = object(value, `Layer ${index}`);
  const role = text(field(fields, "role"));
  return {
    name: text(field(fields, "name"), `layer ${index}`),
    op: text(field(fields, "op"), "unknown"),
    shape: shape(fields),
    unevenness: size(field(fields, "unevenness")),
    gradientUnevenness: size(field(fields, "gradient_unevenness")),
    period: period(field(fields, "period")),
    ripple: size(field(fields, "ripple")),
    role: ROLES.has(role) ? role : "unknown",
    removedBy: optional(field(fields, "removed_by")),
    note: optional(field(fields, "note")),
  };
}

function output(value: unknown, index: number): OutputEntry {
  const fields = object(value, `Output ${index}`);
  const response = field(fields, "response_db");
  const certified = field(fields, "certified");
  return {
    name: text(field(fields, "name"), `output ${index}`),
    period: period(field(fields, "period")),
    unevenness: size(field(fields, "unevenness")),
    acFraction: size(field(fields, "expected_ac_fraction")),
    certified: typeof certified === "boolean" ? certified : null,
    brokenBy: texts(field(fields, "broken_by")),
    response:
      typeof response === "object" && response !== null && !Array.isArray(response)
        ? Object.entries(response)
            .slice(0, 64)
            .map(([key, db]) => [text(key), size(db)])
        : null,
    notComputed: texts(field(fields, "not_computed")),
  };
}

function input(value: unknown, index: number): InputEntry {
  const fields = object(value, `Input ${index}`);
  return {
    name: text(field(fields, "name"), `input ${index}`),
    period: period(field(fields, "gradient_period")),
    unevenness: size(field(fields, "gradient_unevenness")),
    dead: size(field(fields, "dead_fraction")),
  };
}

function finding(value: unknown, index: number): FindingEntry {
  const fields = object(value, `Finding ${index}`);
  const severity = text(field(fields, "severity"));
  return {
    code: text(field(fields, "code"), "?"),
    severity: SEVERITIES.has(severity) ? severity : "info",
    layer: text(field(fields, "layer")),
    message: text(field(fields, "message")),
    fix: text(field(fields, "fix")),
  };
}

/** The report in a file's text. Raises NotAReport with one line that says what is wrong. */
export function read(content: string): Report {
  let parsed: unknown;
  try {
    parsed = JSON.parse(content);
  } catch {
    throw new NotAReport("This file is not JSON. Expected what `evenly check MODEL --format json` writes.");
  }
  const top = object(parsed, "The file");
  if (field(top, "kind") !== undefined || field(top, "images") !== undefined || field(top, "sounds") !== undefined) {
    throw new NotAReport("This is a report of evenly measure; expected one of `evenly check MODEL --format json`.");
  }
  const version = field(top, "format_version");
  if (version !== 1) {
    throw new NotAReport(
      `Its format_version is ${text(JSON.stringify(version) ?? "missing").slice(0, 40)}, expected 1: what \`evenly check MODEL --format json\` writes.`,
    );
  }
  const model = object(field(top, "model"), "“model”");
  const tool = field(top, "tool");
  return {
    source: text(field(model, "source"), "a network"),
    weights: text(field(model, "weights"), "unknown"),
    version: typeof tool === "object" && tool !== null ? text(field(tool as Fields, "version")) : "",
    layers: list(top, "layers", "").map(layer),
    outputs: list(top, "outputs", "").map(output),
    inputs: list(top, "inputs", "").map(input),
    findings: list(top, "findings", "").map(finding),
    notes: texts(field(top, "notes")),
  };
}

/** Panel 7: a report of `evenly check` on one's own network: which layer makes, passes and removes which period. */
import { layerColour } from "../colours";
import { button, choice, facts, h, percent, refill, roving, s, show } from "../dom";
import example from "../example.json?raw";
import { linked, whole, word } from "../links";
import { LIMITS, NotAReport, read, type FindingEntry, type LayerEntry, type Period, type Report } from "../report";

const ROWS = 1500;
const LANES = 10;
const ROW = { height: 44, lane: 15 } as const;
type Filter = "all" | "pattern" | "findings";

/** A pattern's way through the layers, in their order: from its maker to what removes it, or to the end. */
interface Lane {
  from: number;
  to: number;
  removed: boolean;
  place: number;
}

export function network(body: Element): void {
  const file = h("input", { type: "file", accept: ".json,application/json", id: "network-file" });
  const drop = h(
    "div",
    { class: "drop" },
    h("label", { for: "network-file" }, "Drop a report here, or choose one: "),
    file,
  );
  const message = h("p", { class: "alarm", role: "alert", hidden: true });
  const view = h("div", { class: "stack" });
  const link = linked("network", restore);
  let report: Report | null = null;
  let filter: Filter = "all";
  let chosen = 0;

  refill(
    body,
    h(
      "div",
      { class: "stack" },
      drop,
      h(
        "div",
        { class: "row" },
        button("Open an example", () => open(example)),
        h("span", { class: "note" }, "a small decoder, checked by evenly"),
      ),
      message,
      view,
    ),
    link.element,
  );
  file.addEventListener("change", () => {
    if (file.files?.[0]) void load(file.files[0]);
  });
  for (const name of ["dragover", "dragenter"]) {
    drop.addEventListener(name, (event) => {
      event.preventDefault();
      drop.classList.add("over");
    });
  }
  drop.addEventListener("dragleave", () => drop.classList.remove("over"));
  drop.addEventListener("drop", (event) => {
    event.preventDefault();
    drop.classList.remove("over");
    const dropped = event.dataTransfer?.files[0];
    if (dropped) void load(dropped);
  });
  // a report that `evenly explore MODEL` put into the page, as data
  const given = document.getElementById("evenly-report")?.textContent;
  if (given) open(given);
  // a file that misses its place must not replace the page
  for (const name of ["dragover", "drop"]) addEventListener(name, (event) => event.preventDefault());

  function restore(query: URLSearchParams): void {
    filter = word<Filter>(query, "show", ["all", "pattern", "findings"], "all");
    chosen = whole(query, "layer", [0, LIMITS.entries, 0]);
    if (report) draw();
    else link.changed({ show: filter, layer: chosen });
  }

  async function load(given: File): Promise<void> {
    if (given.size > LIMITS.bytes) {
      fail(
        `This file has ${show(given.size / 2 ** 20)} MiB; this page opens reports of up to ${LIMITS.bytes / 2 ** 20} MiB.`,
      );
      return;
    }
    try {
      open(await given.text());
    } catch {
      fail("This file could not be read.");
    }
  }

  function open(content: string): void {
    try {
      report = read(content);
    } catch (error) {
      fail(
        error instanceof NotAReport
          ? error.message
          : "This file could not be understood. Expected what `evenly check MODEL --format json` writes.",
      );
      return;
    }
    message.hidden = true;
    draw();
  }

  function fail(line: string): void {
    report = null;
    refill(view);
    message.textContent = line;
    message.hidden = false;
  }

  function draw(): void {
    const now = report!;
    const findings = new Map<string, FindingEntry[]>();
    for (const one of now.findings) findings.set(one.layer, [...(findings.get(one.layer) ?? []), one]);
    const lanes = lanesOf(now.layers);
    chosen = Math.max(0, Math.min(now.layers.length - 1, chosen));
    const visible = now.layers
      .map((_, index) => index)
      .filter((index) => shown(now.layers[index]!, index, lanes, findings));
    const details = h("div", { class: "card stack", "aria-live": "polite" });
    const options = [
      ["all", "all layers"],
      ["pattern", "makers and removers"],
      ["findings", "layers with findings"],
    ] as const;
    const select = choice("Show", options, () => {
      filter = select.select.value as Filter;
      draw();
    });
    select.select.value = filter;
    const drawn = visible.slice(0, ROWS);
    const width = Math.max(1, ...lanes.map((lane) => lane.place + 1)) * ROW.lane + 8;
    const rows = drawn.map((index) => rowOf(now.layers[index]!, index, lanes, width, findings));
    const pick = (index: number): void => {
      chosen = index;
      rows.forEach((row, order) => row.setAttribute("aria-pressed", String(drawn[order] === index)));
      detail(details, now, index, findings);
      link.changed({ show: filter, layer: chosen });
    };
    rows.forEach((row, order) => {
      row.addEventListener("click", () => pick(drawn[order]!));
      row.addEventListener("focus", () => pick(drawn[order]!));
    });
    if (rows.length) roving(rows, 1);
    refill(
      view,
      verdict(now),
      h(
        "div",
        { class: "row" },
        select.element,
        h(
          "span",
          { class: "note" },
          `${visible.length} of ${now.layers.length} layers${visible.length > ROWS ? `, the first ${ROWS} drawn` : ""}; ${now.findings.length} findings`,
        ),
      ),
      h(
        "div",
        { class: "split report" },
        h(
          "div",
          { class: "rows", role: "group", "aria-label": "Layers in order; arrow keys move" },
          ...rows,
          rows.length
            ? null
            : h("p", { class: "note" }, now.layers.length ? "No layer of this kind." : "The report has no layers."),
        ),
        details,
      ),
      h(
        "p",
        { class: "note" },
        "Lines on the left: each starts at the layer that makes a pattern and ends at the layer that provably removes it, or runs on to the output. Layers are in the report's order; branches are not drawn.",
      ),
      now.notes.length ? h("ul", { class: "note" }, ...now.notes.slice(0, 50).map((note) => h("li", {}, note))) : null,
    );
    if (now.layers.length) pick(drawn.includes(chosen) ? chosen : (drawn[0] ?? chosen));
    else refill(details, h("p", { class: "note" }, "Nothing to show."));
  }

  function shown(
    layer: LayerEntry,
    index: number,
    lanes: readonly Lane[],
    findings: Map<string, FindingEntry[]>,
  ): boolean {
    if (filter === "findings") return findings.has(layer.name);
    if (filter === "pattern")
      return (
        layer.role === "creates" || layer.role === "removes" || lanes.some((lane) => lane.removed && lane.to === index)
      );
    return true;
  }
}

const px = (period: Period): string =>
  period === null ? "not known" : Array.isArray(period) ? `${period.join(" × ")} px` : `${period} px`;

const creates = (layer: LayerEntry): boolean => layer.role === "creates" && layer.period !== 1 && layer.period !== null;

/** At most LANES side by side; a lane is free again behind the layer that ends it. */
function lanesOf(layers: readonly LayerEntry[]): Lane[] {
  const index = new Map(layers.map((layer, place) => [layer.name, place]));
  const lanes: Lane[] = [];
  const busy: number[] = [];
  layers.forEach((layer, from) => {
    if (!creates(layer)) return;
    const end = layer.removedBy === null ? undefined : index.get(layer.removedBy);
    const to = end !== undefined && end > from ? end : layers.length - 1;
    let place = busy.findIndex((until) => until < from);
    if (place < 0) place = busy.length;
    if (place >= LANES) return;
    busy[place] = to;
    lanes.push({ from, to, removed: end !== undefined && end > from, place });
  });
  return lanes;
}

function rowOf(
  layer: LayerEntry,
  index: number,
  lanes: readonly Lane[],
  width: number,
  findings: Map<string, FindingEntry[]>,
): HTMLButtonElement {
  const { height } = ROW;
  const marks = lanes
    .filter((lane) => lane.from <= index && index <= lane.to)
    .flatMap((lane) => {
      const [x, colour] = [lane.place * ROW.lane + 9, layerColour(lane.from)];
      const first = lane.from === index;
      const end = lane.removed && lane.to === index;
      const line = s("line", {
        x1: x,
        x2: x,
        y1: first ? height / 2 : 0,
        y2: end ? height / 2 : height,
        stroke: colour,
        "stroke-width": 3,
      });
      if (first) return [line, s("circle", { cx: x, cy: height / 2, r: 5.5, fill: colour })];
      return end
        ? [line, s("line", { x1: x - 6, x2: x + 6, y1: height / 2, y2: height / 2, stroke: colour, "stroke-width": 4 })]
        : [line];
    });
  const worst = ["error", "warning", "info"].find((severity) =>
    findings.get(layer.name)?.some((one) => one.severity === severity),
  );
  const removes = lanes.filter((lane) => lane.removed && lane.to === index).length;
  const row = h(
    "button",
    { type: "button", class: "entry", "aria-pressed": "false" },
    s("svg", { width, height, viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true" }, ...marks),
    h(
      "span",
      { class: "what" },
      h("bdi", {}, h("b", {}, layer.name)),
      h("span", {}, `${layer.op.replace(/_/g, " ")} ${layer.shape}`),
    ),
    h(
      "span",
      { class: "tags" },
      h(
        "span",
        { class: `tag ${removes ? "removes" : layer.role}` },
        creates(layer) ? `makes ${px(layer.period)}` : removes && layer.role !== "removes" ? "removes" : layer.role,
      ),
      worst ? h("span", { class: `tag ${worst}` }, worst) : null,
    ),
  );
  return row;
}

function verdict(report: Report): HTMLElement {
  const output = report.outputs[0];
  const input = report.inputs[0];
  const entries: Parameters<typeof facts>[0][number][] = [];
  if (output) {
    const loudest = output.response?.filter(([, db]) => db !== null).sort(([, a], [, b]) => b! - a!)[0];
    const even = output.period === 1;
    entries.push([
      "Period at the output",
      px(output.period),
      even ? "a constant stays constant" : "what generic weights give a constant",
      even ? "good" : "bad",
    ]);
    if (output.acFraction !== null)
      entries.push([
        "Pattern before training",
        percent(output.acFraction),
        "of the output's expected power",
        output.acFraction ? "bad" : "good",
      ]);
    if (output.certified !== null)
      entries.push([
        "Certificate",
        output.certified ? "yes" : "no",
        output.certified
          ? "these weights keep every constant"
          : `broken by ${output.brokenBy.slice(0, 3).join(", ") || "the weights"}${output.brokenBy.length > 3 ? " …" : ""}`,
        output.certified ? "good" : "bad",
      ]);
    if (loudest)
      entries.push([
        "Response to constants",
        `${show(loudest[1]!)} dB`,
        `period ${loudest[0]}, against the constant's own output`,
      ]);
  }
  if (input) {
    entries.push([
      "Gradient at the input",
      input.unevenness === null ? "not known" : input.unevenness === Infinity ? "∞" : show(input.unevenness),
      `largest : smallest expected square${input.dead ? `; ${percent(input.dead)} of positions dead` : ""}`,
      input.unevenness === 1 ? "good" : undefined,
    ]);
  }
  const more = report.outputs.length > 1 ? `; the first of ${report.outputs.length} outputs below` : "";
  return h(
    "div",
    { class: "stack" },
    h("h3", {}, h("bdi", {}, report.source), `, weights: ${report.weights}, evenly ${report.version}${more}`),
    facts(entries),
  );
}

function detail(target: Element, report: Report, index: number, findings: Map<string, FindingEntry[]>): void {
  const layer = report.layers[index]!;
  const made = report.layers.filter((one) => one.removedBy === layer.name);
  const ratio = (value: number | null, what: string): [string, string][] =>
    value === null ? [] : [[what, value === Infinity ? "∞ (holes)" : show(value)]];
  const lines: [string, string][] = [
    ["Operation", `${layer.op.replace(/_/g, " ")} ${layer.shape}`],
    ["Role", layer.role],
    ...(creates(layer) || layer.period === null ? ([["Period it makes", px(layer.period)]] as [string, string][]) : []),
    ...ratio(layer.unevenness, "Writes, most : fewest"),
    ...ratio(layer.gradientUnevenness, "Reads, most : fewest"),
    ...ratio(layer.ripple, "Ripple of the weights"),
    ...(layer.removedBy
      ? ([["Removed by", layer.removedBy]] as [string, string][])
      : creates(layer)
        ? ([["Removed by", "no later layer"]] as [string, string][])
        : []),
    ...(made.length
      ? ([
          [
            "Removes what is made by",
            made
              .slice(0, 6)
              .map((one) => one.name)
              .join(", "),
          ],
        ] as [string, string][])
      : []),
    ...(layer.note ? ([["Note", layer.note]] as [string, string][]) : []),
  ];
  const own = findings.get(layer.name) ?? [];
  refill(
    target,
    h("h3", {}, h("bdi", {}, layer.name)),
    h(
      "table",
      { class: "plain" },
      h(
        "tbody",
        {},
        ...lines.map(([term, value]) =>
          h("tr", {}, h("th", { scope: "row", class: "wide" }, term), h("td", { class: "wide" }, h("bdi", {}, value))),
        ),
      ),
    ),
    own.length
      ? h("h3", {}, `${own.length} ${own.length === 1 ? "finding" : "findings"}`)
      : h("p", { class: "note" }, "No findings here."),
    ...own
      .slice(0, 30)
      .map((one) =>
        h(
          "div",
          {},
          h(
            "p",
            { class: "finding" },
            h("span", { class: `tag ${one.severity}` }, `${one.code} ${one.severity}`),
            " ",
            one.message,
          ),
          one.fix ? h("p", { class: "note" }, `Fix: ${one.fix}`) : null,
        ),
      ),
  );
}

import "./style.css";
import { framed } from "./dom";
import { follow } from "./links";
import { gradients } from "./panels/gradients";
import { kernel } from "./panels/kernel";
import { learned } from "./panels/learned";
import { matrices } from "./panels/matrices";
import { network } from "./panels/network";
import { planes } from "./panels/planes";
import { stacks } from "./panels/stacks";
import { read } from "./report";
import * as theory from "./theory";

// Checks outside a browser (check_vectors.mjs, check_reports.mjs) take the functions from the page itself.
Object.assign(globalThis, { evenlyTheory: theory, evenlyReport: read });

const PANELS: Record<string, (body: Element) => void> = {
  kernel,
  planes,
  stacks,
  matrices,
  learned,
  gradients,
  network,
};

/** Marks the panel in view in the list of panels: the last one that begins in the upper part, at the end the last of all. */
function watch(): void {
  const entries = [...document.querySelectorAll<HTMLAnchorElement>(".contents a")];
  const sections = [...document.querySelectorAll("main section")];
  const mark = framed(() => {
    const ended = scrollY + innerHeight >= document.documentElement.scrollHeight - 2;
    const begun = sections.filter((section) => section.getBoundingClientRect().top < 0.3 * innerHeight);
    const current = (ended ? sections : begun).at(-1);
    for (const entry of entries) {
      if (entry.hash === `#${current?.id}`) entry.setAttribute("aria-current", "true");
      else entry.removeAttribute("aria-current");
    }
  });
  addEventListener("scroll", mark, { passive: true });
  addEventListener("resize", mark);
}

if (typeof document !== "undefined") {
  for (const [id, build] of Object.entries(PANELS)) build(document.querySelector(`#${id} .body`)!);
  watch();
  addEventListener("hashchange", follow);
  follow();
}

import "./style.css";
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

/** Marks the panel in view in the list of panels. */
function watch(): void {
  const entries = [...document.querySelectorAll<HTMLAnchorElement>(".contents a")];
  const observer = new IntersectionObserver(
    (seen) => {
      for (const { isIntersecting, target } of seen) {
        if (!isIntersecting) continue;
        for (const entry of entries) {
          if (entry.hash === `#${target.id}`) entry.setAttribute("aria-current", "true");
          else entry.removeAttribute("aria-current");
        }
      }
    },
    { rootMargin: "-25% 0px -70% 0px" },
  );
  document.querySelectorAll("main section").forEach((section) => observer.observe(section));
}

if (typeof document !== "undefined") {
  for (const [id, build] of Object.entries(PANELS)) build(document.querySelector(`#${id} .body`)!);
  watch();
  addEventListener("hashchange", follow);
  follow();
}

import "./style.css";
import { follow } from "./links";
import { kernel } from "./panels/kernel";
import * as theory from "./theory";

// The comparison with the Python library (check_vectors.mjs) reads the theory from the page itself.
(globalThis as unknown as { evenlyTheory: typeof theory }).evenlyTheory = theory;

const PANELS: Record<string, (body: Element) => void> = { kernel };

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

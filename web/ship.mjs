// Puts the built page into the package.
import { copyFileSync, mkdirSync } from "node:fs";
import { join } from "node:path";

const target = join(import.meta.dirname, "..", "src", "evenly", "explore");
mkdirSync(target, { recursive: true });
copyFileSync(join(import.meta.dirname, "dist", "index.html"), join(target, "page.html"));

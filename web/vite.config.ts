import { createHash } from "node:crypto";
import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { defineConfig, type Plugin } from "vite";
import { viteSingleFile } from "vite-plugin-singlefile";

const ROOT = import.meta.dirname;
const SOURCES = ["index.html", "package.json", "package-lock.json", "tsconfig.json", "vite.config.ts", "src"];

function files(path: string): string[] {
  const entries = readdirSync(join(ROOT, path), { withFileTypes: true });
  return entries.flatMap((e) => (e.isDirectory() ? files(`${path}/${e.name}`) : [`${path}/${e.name}`]));
}

/** SHA-256 over every source's path and bytes; tests/explore/test_page.py computes the same. */
function digest(): string {
  const hash = createHash("sha256");
  const all = SOURCES.flatMap((name) => (name === "src" ? files(name) : [name]));
  for (const name of all.sort())
    hash
      .update(`${name}\0`)
      .update(readFileSync(join(ROOT, name)))
      .update("\0");
  return hash.digest("hex");
}

const integrity = (text: string): string => `'sha256-${createHash("sha256").update(text).digest("base64")}'`;

/** Only the page's own script and styles may run, named by their hashes; nothing may be loaded from anywhere. */
function seal(): Plugin {
  return {
    name: "seal",
    enforce: "post",
    generateBundle: {
      order: "post",
      handler(_, bundle) {
        const page = bundle["index.html"];
        if (page?.type !== "asset") throw new Error("there is no page to seal");
        let html = String(page.source).replace(" crossorigin", "");
        const inner = (tag: string): string[] =>
          [...html.matchAll(new RegExp(`<${tag}[^>]*>([\\s\\S]*?)</${tag}>`, "g"))].map((match) =>
            integrity(match[1]!),
          );
        const policy = [
          "default-src 'none'",
          `script-src ${inner("script").join(" ")}`,
          `style-src ${inner("style").join(" ")}`,
          "img-src data:",
          "base-uri 'none'",
          "form-action 'none'",
        ].join("; ");
        html = html.replace(
          '<meta charset="utf-8" />',
          `<meta charset="utf-8" />\n    <meta http-equiv="Content-Security-Policy" content="${policy}" />\n` +
            `    <meta name="sources" content="sha256-${digest()}" />`,
        );
        page.source = html;
      },
    },
  };
}

export default defineConfig({
  root: ROOT,
  build: { target: "es2022", modulePreload: false, outDir: "dist", emptyOutDir: true, cssCodeSplit: false },
  plugins: [viteSingleFile({ removeViteModuleLoader: true }), seal()],
});

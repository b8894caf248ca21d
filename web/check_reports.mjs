// Reads files as the panel "Your network" of the shipped page does; prints one line of JSON per file. Needs only node.
import { readFileSync } from "node:fs";
import vm from "node:vm";

const [page, ...files] = process.argv.slice(2);
const script = /<script[^>]*>([\s\S]*?)<\/script>/.exec(readFileSync(page, "utf8"));
const sandbox = {};
vm.createContext(sandbox);
vm.runInContext(script[1], sandbox);
for (const file of files) {
  let answer;
  try {
    answer = { report: sandbox.evenlyReport(readFileSync(file, "utf8")) };
  } catch (error) {
    answer = { error: error.message, kind: error.name };
  }
  console.log(JSON.stringify(answer, (_, value) => (value === Infinity ? "inf" : value)));
}

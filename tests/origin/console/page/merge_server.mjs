// Applies the merge patches that come as lines, `[target, [patch, …]]`; answers with lines.
import { createInterface } from "node:readline";
import { mergeAll } from "./merge.js";

for await (const line of createInterface({ input: process.stdin })) {
  const [target, patches] = JSON.parse(line);
  process.stdout.write(`${JSON.stringify(mergeAll(target, patches))}\n`);
}

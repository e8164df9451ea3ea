// A program that runs a script with stand-ins for its output, and says on stderr which of Node's modules were loaded at its end: SCRIPT.
import { writeSync } from "node:fs";
import { createRequire } from "node:module";
import { makeOutputLate } from "../../src/platform/node/late-output.ts";

const known = process as unknown as { moduleLoadList: string[] };
const before = new Set(known.moduleLoadList);
makeOutputLate();
createRequire(import.meta.url)(process.argv[2] ?? "");
process.on("exit", () => {
  const loaded = known.moduleLoadList.filter((name) => !before.has(name));
  const names = loaded.flatMap((name) => /^NativeModule ([a-z_]+)$/.exec(name)?.[1] ?? []);
  writeSync(2, `loaded: ${names.join(" ")}\n`);
});

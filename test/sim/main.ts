/** `npm run sim`: the verb sim of the build; with --zoo, the planted bugs, which are no part of the package. */
import { spawnSync } from "node:child_process";
import { join } from "node:path";

const words = process.argv.slice(2);
const root = join(import.meta.dirname, "..", "..", "..");
const command = words.includes("--zoo")
  ? [join(root, "node_modules/vitest/vitest.mjs"), "run", "--project", "sim", "test/sim/plants.test.ts"]
  : [join(root, "build/cli/main.js"), "sim", ...words];
const { status } = spawnSync(process.execPath, command, { cwd: process.cwd(), stdio: "inherit" });
process.exitCode = status ?? 1;

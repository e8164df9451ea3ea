// The repository's root, also for programs that .ci/ts.mjs has bundled elsewhere.
import { existsSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

function findRoot(): string {
  let folder = dirname(fileURLToPath(import.meta.url));
  while (!existsSync(join(folder, "package.json"))) folder = dirname(folder);
  return folder;
}

/** An absolute path without a slash at its end. */
export const root = findRoot();

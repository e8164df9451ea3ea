// The profile of the browser that tests run in: on disk, so that its private file system is the one that users have, and
// not one in memory behind the browser's main process. Of this run alone, and removed when it ends.
import { rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** The directory; the browser makes it. */
export const browserProfile = join(tmpdir(), `blockwright-chromium-${process.pid}`);

/** Called by vitest (globalSetup) before the first test. The browser writes to its profile until it has gone, so that goes last. */
export function setup(): void {
  process.once("exit", () => rmSync(browserProfile, { recursive: true, force: true, maxRetries: 5 }));
}

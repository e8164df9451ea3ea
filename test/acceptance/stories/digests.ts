// The same workloads in a browser, by the library as it is built, and here by its sources: the results are the same to the last digit.
import { mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect } from "vitest";
import * as library from "../../../src/workload.ts";
import { DIGESTS_MODULE, type DigestWorkload, digestWorkloads } from "../../support/digest-workloads.ts";
import { root } from "../../support/root.ts";
import { Browser, type EngineName, Profile } from "../support/browser.ts";
import { Site } from "../support/site.ts";

type DigestsOf = (library: object, list: readonly DigestWorkload[]) => Promise<string[]>;

declare global {
  /** The page's function. */
  var digestsOfAll: ((list: readonly DigestWorkload[]) => Promise<string[]>) | undefined;
}

const PAGE = `<!doctype html><script type="module">
import * as library from "./build/workload.js";
import { digestsOf } from "./digests.js";
globalThis.digestsOfAll = (list) => digestsOf(library, list);
</script>`;

/** Compares an engine's results with this Node's. */
export async function digests(engine: EngineName): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), "blockwright-digests-"));
  const profile = new Profile(engine);
  let browser: Browser | undefined;
  try {
    writeFileSync(join(folder, "index.html"), PAGE);
    writeFileSync(join(folder, "digests.js"), DIGESTS_MODULE);
    symlinkSync(join(root, "build"), join(folder, "build"));
    const list = digestWorkloads();
    const url = `data:text/javascript,${encodeURIComponent(DIGESTS_MODULE)}`;
    const { digestsOf } = (await import(/* @vite-ignore */ url)) as { digestsOf: DigestsOf };
    const expected = await digestsOf(library, list);
    await using site = await Site.serve(folder);
    browser = await Browser.start(profile);
    const page = await browser.visit(site.url);
    await expect.poll(() => page.evaluate(() => typeof globalThis.digestsOfAll)).toBe("function");
    const found = await page.evaluate((all) => globalThis.digestsOfAll!(all), list);
    expect(found).toEqual(expected);
    expect(expected.some((line) => line.startsWith("done "))).toBe(true);
  } finally {
    await browser?.kill();
    profile.remove();
    rmSync(folder, { recursive: true, force: true });
  }
}

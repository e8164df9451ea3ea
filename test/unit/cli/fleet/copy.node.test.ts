// A copy whose target another worker takes over at a moment at which there is no part yet: nothing of it stays.
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, it } from "vitest";
import { carryOut } from "../../../../src/cli/fleet/copy.ts";
import { contentOf } from "../../../support/content.ts";

it("leaves no part when it was taken over before it began one", async () => {
  const folder = mkdtempSync(join(tmpdir(), "bw-copy-"));
  const [source, target] = [join(folder, "a"), join(folder, "b")];
  writeFileSync(source, contentOf(65536));
  const copy = carryOut(
    { id: "a", kind: "convert", source, target, options: { sourceFormat: "raw" }, priority: 0 },
    {
      ...{ signal: new AbortController().signal, watchMs: 1000, isHelper: false },
      ...{ claimed: () => undefined, transferred: () => undefined, progress: () => undefined },
      isGivenUp: () => false,
      // As long as a worker is stopped here, another one takes the next generation.
      mayTransfer: () => Promise.resolve(writeFileSync(join(folder, ".b.fleet", "g000002"), "{}")),
    },
  );
  await expect(copy).rejects.toThrow("another worker has taken the job over");
  expect(readdirSync(folder).filter((name) => name.includes(".part-"))).toEqual([]);
  rmSync(folder, { recursive: true });
});

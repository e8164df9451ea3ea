// A copy into a file whose target another worker takes over at a moment at which there is no part yet: nothing of it stays; one whose
// source changes meanwhile; and what is told of a disk that fails.
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import { blockError } from "../../../../src/base/errors.ts";
import { carryOut } from "../../../../src/cli/fleet/copy.ts";
import type { FleetJob } from "../../../../src/fleet/jobs.ts";
import { Pace } from "../../../../src/cli/fleet/pace.ts";
import { copyRange } from "../../../../src/cli/fleet/steps.ts";
import * as library from "../../../../src/node.ts";
import { contentOf } from "../../../support/content.ts";

let folder: string;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "bw-copy-"));
  writeFileSync(join(folder, "a"), contentOf(65536));
});
afterEach(() => rmSync(folder, { recursive: true }));

interface Setting {
  /** Called before the first byte. */
  readonly now?: () => void;
  readonly options?: FleetJob["options"];
  readonly abort?: AbortController;
  readonly progress?: () => void;
}

/** Copies a to b. */
function copy({ now, options, abort = new AbortController(), progress }: Setting = {}): Promise<unknown> {
  const [source, target] = [join(folder, "a"), join(folder, "b")];
  return carryOut(
    { id: "a", kind: "convert", source, target, options: { sourceFormat: "raw", ...options }, priority: 0 },
    {
      ...{ signal: abort.signal, watchMs: 1000, isHelper: false },
      ...{ claimed: () => undefined, transferred: () => undefined, progress: () => progress?.() },
      isGivenUp: () => false,
      mayTransfer: () => Promise.resolve(now?.()),
    },
  );
}

it("leaves no part when it was taken over before it began one", async () => {
  // As long as a worker is stopped here, another one takes the next generation.
  const taken = copy({ now: () => writeFileSync(join(folder, ".b.fleet", "g000002"), "{}") });
  await expect(taken).rejects.toThrow("another worker has taken the job over");
  expect(readdirSync(folder).filter((name) => name.includes(".part-"))).toEqual([]);
});

it("begins anew where the source has changed meanwhile", async () => {
  const changed = contentOf(65536, 2);
  const torn = copy({ now: () => writeFileSync(join(folder, "a"), changed) });
  await expect(torn).rejects.toThrow("the source has changed while it was copied");
  expect(readdirSync(folder)).not.toContain("b");
  await copy();
  expect(readFileSync(join(folder, "b")).equals(changed)).toBe(true);
  expect(readdirSync(folder).filter((name) => name.includes(".part-"))).toEqual([]);
});

it("says that it begins anew before it makes a part anew that can't be opened", async () => {
  writeFileSync(join(folder, "a"), contentOf(8 * 2 ** 20));
  const options = { targetFormat: "qcow2", create: { "cluster-size": 65536 } };
  const abort = new AbortController();
  await expect(copy({ options, abort, progress: () => abort.abort() })).rejects.toThrow();
  const kept = (): { position: number } =>
    JSON.parse(
      readFileSync(
        join(
          folder,
          ".b.fleet",
          readdirSync(join(folder, ".b.fleet"))
            .filter((name) => name.startsWith("c"))
            .toSorted()
            .at(-1)!,
        ),
        "utf8",
      ),
    ) as { position: number };
  expect(kept().position).toBe(2 ** 21);
  // What is in its place can neither be opened nor made anew.
  const spoil = (): void => {
    rmSync(join(folder, ".b.part-2"));
    mkdirSync(join(folder, ".b.part-2"));
  };
  await expect(copy({ options, now: spoil })).rejects.toThrow();
  expect(kept().position).toBe(0);
});

it.each([
  ["read", "ENOMEDIUM", "'/a': No medium found"],
  ["write", "ENOSPC", "'/b': No space left on device"],
  ["flush", "ENOSPC", "'/b': No space left on device"],
] as const)("says which disk it was that could not %s", async (what, code, message) => {
  const error = blockError(code, what);
  const convert = (): Promise<void> =>
    what === "flush" ? Promise.resolve() : Promise.reject(new library.CopyError(what, error));
  const job = { id: "a", kind: "convert", source: "/a", target: "/b", options: {}, priority: 0 } as const;
  const { signal } = new AbortController();
  const work = { library: { ...library, convert }, job, pace: new Pace(), signal };
  const target = { flush: () => Promise.reject(error) };
  const copied = copyRange(work, { source: {}, target } as never, { offset: 0, length: 1, data: 1 });
  await expect(copied).rejects.toMatchObject({ code, message });
});

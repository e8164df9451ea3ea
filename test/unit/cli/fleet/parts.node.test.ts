// A copy in parts that another worker does at the moment at which this one begins: what is to be seen is made once.
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { type Make, type Medium, FileMedium, StoreMedium } from "../../../../src/cli/fleet/medium.ts";
import { PartsCopy, type PartsInit } from "../../../../src/cli/fleet/parts.ts";
import { createEngine, createImage, type Engine, openNode } from "../../../../src/node.ts";
import * as library from "../../../../src/node.ts";
import { contentOf } from "../../../support/content.ts";
import { withKeys } from "../../../support/s3-place.ts";
import { TestStore } from "../../../support/s3-store.ts";

const MiB = 2 ** 20;
let folder: string;
let engine: Engine;
let store: TestStore;
let withoutKeys: () => void;

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), "bw-parts-"));
  engine = createEngine();
  store = await TestStore.start();
  withoutKeys = withKeys();
});

afterEach(async () => {
  withoutKeys();
  await engine.close();
  await store.stop();
  rmSync(folder, { recursive: true });
});

/** A medium whose work is done by another worker when it is begun. */
function overtaken(medium: Medium, other: () => Promise<unknown>): Medium {
  return {
    objects: medium.objects,
    exists: () => medium.exists(),
    storage: (token) => medium.storage(token),
    publish: (token, isQuiet) => medium.publish(token, isQuiet),
    discard: (token) => medium.discard(token),
    begin: async (make) => {
      await other();
      return medium.begin(make);
    },
  };
}

const inFolder = {
  what: "a file",
  target: () => join(folder, "b"),
  open: (target: string) => Promise.resolve(new FileMedium({ library, engine }, target)),
  seen: (target: string) => `${statSync(target).ino} ${statSync(target).mtimeMs}`,
  left: () => readdirSync(folder, { recursive: true }).map(String).toSorted(),
  expected: [".b.fleet", ".b.fleet/f", ".b.fleet/f/done", ".b.fleet/tmp", "a", "b"],
};
const inStore = {
  what: "an object",
  target: () => `s3://disks/b?endpoint=${encodeURIComponent(store.endpoint)}`,
  open: (target: string) => StoreMedium.open({ library, engine }, target),
  seen: () => store.objects.get("disks/b")?.changed,
  left: () => store.keys(),
  expected: ["disks/b", "disks/b.fleet/f/done"],
};

describe.each([inFolder, inStore])("a copy to $what", ({ target, open, seen, left, expected }) => {
  it("that was done by another one as this one began is done", async () => {
    const content = contentOf(3 * MiB);
    writeFileSync(join(folder, "a"), content);
    await using source = await openNode(
      { driver: "raw", file: { driver: "file", filename: join(folder, "a") } },
      { engine, readOnly: true },
    );
    const name = target();
    const job = { id: "a", kind: "convert", source: "a", target: name, options: {}, priority: 0 } as const;
    const context = {
      ...{ signal: new AbortController().signal, watchMs: 1000, isHelper: false },
      ...{ claimed: () => undefined, transferred: () => undefined, progress: () => undefined },
      ...{ isGivenUp: () => false, mayTransfer: () => Promise.resolve() },
    };
    const make: Make = async (file) => {
      await createImage({ driver: "raw", size: source.length, file } as never, { engine, overwrite: true });
    };
    const medium = await open(name);
    const init: PartsInit = {
      ...{ work: { library, engine, job, context }, source, medium, format: "raw", make },
      cut: { partBytes: 4 * MiB, measure: { share: MiB, unit: 2 * MiB } },
    };
    let first: unknown;
    const other = async (): Promise<void> => {
      expect(await new PartsCopy(init).run()).toEqual({ bytes: 3 * MiB });
      first = seen(name);
    };
    const second = new PartsCopy({ ...init, medium: overtaken(medium, other) });
    expect(await second.run()).toEqual({ bytes: 3 * MiB });
    expect(first).toBeDefined();
    expect(seen(name)).toBe(first);
    expect(left()).toEqual(expected);
    expect(readFileSync(join(folder, "a")).equals(content)).toBe(true);
  });
});

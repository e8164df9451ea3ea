// Copies in parts by two workers at once, into a file, an object and a disk in chunks: each part is copied, and what is to be seen made,
// once, also where one of them is given up and comes back.
import { Pace } from "../../../../src/cli/fleet/pace.ts";
import { closeSync, ftruncateSync, openSync, readdirSync, statSync, writeFileSync, writeSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { deferred } from "../../../../src/base/signals.ts";
import { type Make, type Medium, FileMedium, StoreMedium } from "../../../../src/cli/fleet/medium.ts";
import { openNamed } from "../../../../src/cli/fleet/names.ts";
import { PartsCopy, type PartsInit } from "../../../../src/cli/fleet/parts.ts";
import { createImage, type Node, openNode } from "../../../../src/node.ts";
import * as library from "../../../../src/node.ts";
import { contentOf } from "../../../support/content.ts";
import { placesOfEachTest } from "../../../support/places.ts";

const MiB = 2 ** 20;
const PARTS = 4;
const places = placesOfEachTest("none");
/** The key of an object or of the head of a disk, and whether nothing but it, what it names and the word that it is done is there. */
const KEY = "disks/b";

interface Kind {
  readonly what: string;
  /** The first three; the last part is a MiB. */
  readonly partBytes: number;
  target(): string;
  open(target: string): Promise<Medium>;
  /** What changes when it is made once more. */
  seen(): unknown;
  left(): string[];
  readonly expected: readonly string[];
}

const inStore = (what: string, query: string, partBytes: number): Kind => ({
  ...{ what, partBytes, expected: [KEY, `${KEY}.fleet/f/done`] },
  target: () => `s3://${KEY}?endpoint=${encodeURIComponent(places.store.endpoint)}${query}`,
  open: (target) => StoreMedium.open({ library, engine: places.engine }, target),
  seen: () => places.store.objects.get(KEY)?.changed,
  left: () => places.store.keys().filter((key) => !/\.blockwright\/[0-9a-z]+-[0-9a-z]+-[0-9a-f]+$/.test(key)),
});

const kinds: readonly Kind[] = [
  {
    ...{ what: "a file", partBytes: 8 * MiB },
    target: () => join(places.folder, "b"),
    open: (target) => Promise.resolve(new FileMedium({ library, engine: places.engine }, target)),
    seen: () => {
      const { ino, mtimeMs } = statSync(join(places.folder, "b"), { throwIfNoEntry: false }) ?? {};
      return ino && `${ino} ${mtimeMs}`;
    },
    left: () => readdirSync(places.folder, { recursive: true }).map(String).toSorted(),
    expected: [".b.fleet", ".b.fleet/f", ".b.fleet/f/done", ".b.fleet/tmp", "a", "b"],
  },
  inStore("an object", "", 8 * MiB),
  inStore("a disk in chunks", "&form=chunks&chunk-size=64K", 64 * MiB),
];

/** A medium with other ways to do some things. */
function changed(medium: Medium, changes: Partial<Medium>): Medium {
  return {
    objects: medium.objects,
    exists: () => medium.exists(),
    begin: (make, parts, announce) => medium.begin(make, parts, announce),
    storage: (token, part) => medium.storage(token, part),
    publish: (token, isQuiet) => medium.publish(token, isQuiet),
    discard: (token) => medium.discard(token),
    ...changes,
  };
}

/** As of a worker who gives no signs of life. */
function silent(medium: Medium): Medium {
  const { objects } = medium;
  return changed(medium, {
    objects: {
      putIfAbsent: (name, bytes) => objects.putIfAbsent(name, bytes),
      put: (name, bytes) => (name.startsWith("f/h") ? Promise.resolve() : objects.put(name, bytes)),
      get: (name) => objects.get(name),
      list: (prefix) => objects.list(prefix),
      remove: (name) => objects.remove(name),
      isEmpty: () => objects.isEmpty(),
      sweep: () => objects.sweep(),
    },
  });
}

/** A way to hold others up: they have come when `reached` resolves, and go on after `open`. */
function gate(): { reached: Promise<void>; pass: () => Promise<void>; open: () => void } {
  const [came, opened] = [deferred(), deferred()];
  const pass = (): Promise<void> => {
    came.resolve();
    return opened.promise;
  };
  return { reached: came.promise, pass, open: opened.resolve };
}

describe.each(kinds)("a copy to $what", ({ partBytes, target, open, seen, left, expected }) => {
  let source: Node;
  let length: number;
  let medium: Medium;

  beforeEach(async () => {
    length = (PARTS - 1) * partBytes + MiB;
    const path = join(places.folder, "a");
    const fd = openSync(path, "w");
    ftruncateSync(fd, length);
    for (let part = 0; part < PARTS - 1; part++)
      writeSync(fd, contentOf(2 * MiB, part), 0, 2 * MiB, part * partBytes + 2 * MiB);
    closeSync(fd);
    const file = { driver: "file", filename: path } as const;
    source = await openNode({ driver: "raw", file }, { engine: places.engine, readOnly: true });
    medium = await open(target());
  });

  afterEach(() => source.close());

  /** A worker's copy, in so many parts. */
  function copy(
    changes: Partial<Pick<PartsInit, "medium">> & {
      parts?: number;
      watchMs?: number;
      with?: typeof library;
    } = {},
  ) {
    const { parts = PARTS, watchMs = 600_000 } = changes;
    const name = target();
    const job = { id: "a", kind: "convert", source: "a", target: name, options: {}, priority: 0 } as const;
    const context = {
      ...{ signal: new AbortController().signal, watchMs, isHelper: false },
      ...{ claimed: () => undefined, transferred: () => undefined, progress: () => undefined },
      ...{ isGivenUp: () => false, mayTransfer: () => Promise.resolve() },
    };
    const { engine } = places;
    const make: Make = async (file) => {
      await createImage({ driver: "raw", size: length, file } as never, { engine, overwrite: true });
    };
    return new PartsCopy({
      ...{
        work: { library: changes.with ?? library, engine, job, context, pace: new Pace() },
        source,
        format: "raw",
        make,
      },
      medium: changes.medium ?? medium,
      cut: {
        partBytes: parts === 1 ? length : partBytes,
        measure: { share: MiB, unit: Math.min(partBytes, 8 * MiB) },
      },
    });
  }

  const bytes = (PARTS - 1) * 2 * MiB;

  async function isEqual(): Promise<void> {
    await using made = await openNamed({ library, engine: places.engine }, target(), "raw");
    expect(made.length).toBe(length);
    expect(await library.compare(source, made)).toMatchObject({ identical: true });
    expect(left()).toEqual(expected);
  }

  it.each([1, PARTS])("that was done by another one as this one began is done (in %i)", async (parts) => {
    let first: unknown;
    const begin: Medium["begin"] = async (make, some, announce) => {
      expect(await copy({ parts }).run()).toEqual({ bytes });
      first = seen();
      return medium.begin(make, some, announce);
    };
    expect(await copy({ parts, medium: changed(medium, { begin }) }).run()).toEqual({ bytes });
    expect(first).toBeDefined();
    expect(seen()).toBe(first);
    await isEqual();
  });

  it("leaves nothing of one who was killed before his draft had its plan", async () => {
    const begin: Medium["begin"] = async (make, some, announce) => {
      await medium.begin(make, some, announce);
      throw new Error("killed");
    };
    await expect(copy({ medium: changed(medium, { begin }) }).run()).rejects.toThrow("killed");
    expect(left()).not.toEqual(["a"]);
    expect(await copy().run()).toEqual({ bytes });
    await isEqual();
  });

  it("begins anew where the source changes as it is copied", async () => {
    let left = 1;
    const convert: typeof library.convert = async (...words) => {
      const result = await library.convert(...words);
      // Where all has been copied already.
      if (left-- > 0) writeFileSync(join(places.folder, "a"), "changed", { flag: "r+" });
      return result;
    };
    const first = copy({ with: { ...library, convert } }).run();
    await expect(first).rejects.toThrow("the source has changed while it was copied");
    expect(seen()).toBeUndefined();
    await copy().run();
    await isEqual();
  });

  it("is done once by two at once", async () => {
    let publications = 0;
    const publish: Medium["publish"] = (token, isQuiet) => {
      publications += 1;
      return medium.publish(token, isQuiet);
    };
    const counted = changed(medium, { publish });
    const both = await Promise.all([copy({ medium: counted }).run(), copy({ medium: counted }).run()]);
    expect(both).toEqual([{ bytes }, { bytes }]);
    expect(publications).toBe(1);
    await isEqual();
  });

  it("is done once where clocks jump by days, to and fro", async () => {
    vi.useFakeTimers({ toFake: ["Date"] });
    let days = 1;
    const convert: typeof library.convert = (...words) => {
      vi.setSystemTime(Date.now() + (days *= -2) * 24 * 3600_000);
      return library.convert(...words);
    };
    try {
      const jumpy = { with: { ...library, convert } };
      expect(await Promise.all([copy(jumpy).run(), copy(jumpy).run()])).toEqual([{ bytes }, { bytes }]);
    } finally {
      vi.useRealTimers();
    }
    expect(days).not.toBe(1);
    await isEqual();
  });

  it("goes on without one who was given up in a part, and who comes back", async () => {
    const { reached, pass, open: goOn } = gate();
    // He has written, and not flushed.
    const convert: typeof library.convert = async (...words) => {
      const result = await library.convert(...words);
      await pass();
      return result;
    };
    const late = copy({ medium: silent(medium), with: { ...library, convert } })
      .run()
      .catch((error: unknown) => error);
    await reached;
    const { bytes: moved } = await copy({ watchMs: 500 }).run();
    // A step may have been copied twice.
    expect(moved).toBeGreaterThanOrEqual(bytes);
    expect(moved).toBeLessThanOrEqual(bytes + 2 * MiB);
    const first = seen();
    expect(first).toBeDefined();
    goOn();
    expect(await late).toEqual({ bytes: moved });
    expect(seen()).toBe(first);
    await isEqual();
  });

  it("goes on without one who was given up as he published, and who comes back", async () => {
    const { reached, pass, open: goOn } = gate();
    const publish: Medium["publish"] = async (token, isQuiet) => {
      await pass();
      await medium.publish(token, isQuiet);
    };
    const late = copy({ medium: changed(silent(medium), { publish }) }).run();
    await reached;
    expect(await copy({ watchMs: 500 }).run()).toEqual({ bytes });
    const first = seen();
    expect(first).toBeDefined();
    goOn();
    expect(await late).toEqual({ bytes });
    expect(seen()).toBe(first);
    await isEqual();
  });
});

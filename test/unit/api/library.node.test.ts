/**
 * The functions on images, written once for all entries: in whose engine a call works, and when that engine is made.
 */
import { afterEach, describe, expect, it } from "vitest";
import { libraryOver, portableLibrary, sharedEngine } from "../../../src/api/library.ts";
import * as portable from "../../../src/index.ts";
import * as entry from "../../../src/node.ts";

const engines: entry.Engine[] = [];

function makeEngine(): entry.Engine {
  const engine = entry.createEngine();
  engines.push(engine);
  return engine;
}

afterEach(async () => {
  for (const engine of engines.splice(0)) await engine.close();
});

const disk = { driver: "null-co", size: 65536, "node-name": "disk" } as const;

describe("the library over a default engine", () => {
  it("makes that engine when the first call needs it, and only once", async () => {
    const shared = sharedEngine(makeEngine);
    const { openNode } = libraryOver(shared);
    expect(engines).toHaveLength(0);
    await using first = await openNode(disk);
    await using second = await openNode({ ...disk, "node-name": "other" });
    expect(engines).toHaveLength(1);
    expect([first.engine, second.engine]).toEqual([engines[0], engines[0]]);
    expect(shared()).toBe(engines[0]);
  });

  it("works in the engine that the caller brings, and makes none", async () => {
    const own = makeEngine();
    const { openNode, fromBlob } = libraryOver(() => {
      throw new Error("nobody asked for it");
    });
    await using node = await openNode(disk, { engine: own });
    await using blob = await fromBlob(new Blob(["12"]), { engine: own });
    expect([node.engine, blob.engine]).toEqual([own, own]);
    expect(blob.length).toBe(2);
  });
});

function anyFunction(name: string): [string, unknown] {
  return [name, expect.any(Function)];
}

describe("the entries", () => {
  it("have the same functions, by one hand", () => {
    expect(Object.keys(portableLibrary)).toEqual(Object.keys(libraryOver(makeEngine)));
    expect(entry).toMatchObject(Object.fromEntries(Object.keys(portableLibrary).map(anyFunction)));
    expect(portable).toMatchObject(portableLibrary);
  });

  it("say what is missing where plain JavaScript brings no engine to the portable one", async () => {
    // @ts-expect-error: the types want an engine, too.
    await expect(portable.openNode(disk)).rejects.toThrow("options.engine is missing");
  });
});

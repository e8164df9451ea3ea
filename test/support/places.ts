// A folder, an engine and an object store with the keys that it wants, anew for each test of a file, and objects in either place.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach } from "vitest";
import type { ObjectPlace } from "../../src/base/objects.ts";
import { createEngine, type Engine } from "../../src/node.ts";
import { ObjectDirectory } from "../../src/platform/node/object-directory.ts";
import { placeIn, withKeys } from "./s3-place.ts";
import { TestStore } from "./s3-store.ts";

/** What a test finds. */
export interface Places {
  readonly folder: string;
  readonly engine: Engine;
  readonly store: TestStore;
  /** Objects in a directory of the folder, and below a key of the store, by what they lie in. */
  readonly objects: readonly { readonly place: string; open(this: void): Promise<ObjectPlace> }[];
}

/** Has each test of the file find places of its own. `key`: of the objects in the store, percent-encoded. */
export function placesOfEachTest(key: string): Places {
  let now: { folder: string; engine: Engine; store: TestStore; withoutKeys: () => void };
  beforeEach(async () => {
    const folder = mkdtempSync(join(tmpdir(), "bw-places-"));
    now = { folder, engine: createEngine(), store: await TestStore.start(), withoutKeys: withKeys() };
  });
  afterEach(async () => {
    now.withoutKeys();
    await now.engine.close();
    await now.store.stop();
    rmSync(now.folder, { recursive: true });
  });
  return {
    get folder() {
      return now.folder;
    },
    get engine() {
      return now.engine;
    },
    get store() {
      return now.store;
    },
    objects: [
      { place: "a directory", open: () => Promise.resolve(new ObjectDirectory(join(now.folder, "objects"))) },
      { place: "a bucket", open: () => placeIn(now.store, now.engine, key) },
    ],
  };
}

// Beside an object store for tests: objects below a key by the driver, and the keys that it wants.
import type { ObjectPlace } from "../../src/base/objects.ts";
import { s3 } from "../../src/drivers/protocol/http/s3/index.ts";
import type { Engine } from "../../src/node.ts";
import type { TestStore } from "./s3-store.ts";

const KEYS = { AWS_ACCESS_KEY_ID: "ID", AWS_SECRET_ACCESS_KEY: "key" };

/** Puts keys into the environment; what it answers takes them out. */
export function withKeys(): () => void {
  Object.assign(process.env, KEYS);
  return () => {
    for (const name of Object.keys(KEYS)) Reflect.deleteProperty(process.env, name);
  };
}

/** Objects below a key of the bucket `disks`; what fails is tried once more. */
export function placeIn(store: TestStore, engine: Engine, key: string): Promise<ObjectPlace> {
  const file = { driver: "s3", url: `s3://disks/${key}`, endpoint: store.endpoint, retries: 1 };
  return s3.store!.objects!(engine.graph, file);
}

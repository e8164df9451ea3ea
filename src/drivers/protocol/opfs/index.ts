/**
 * opfs: a disk in the browser's origin private file system, for dedicated workers. It takes the room of what was written
 * to it, survives crashes, and is open once only. Platform: Host.privateStorage. Source: WHATWG File System; the format
 * is ours (map-file.ts, store.ts).
 */
import { BlockError, errnoOf, messageOf } from "../../../base/errors.ts";
import type { Host, HostPrivateStorage, PrivateDirectory } from "../../../base/host.ts";
import type {
  BlockDriver,
  CreateContext,
  DriverType,
  NodeSpec,
  OpenContext,
} from "../../../block/model/contract.ts";
import { optionError, sizeOption, stringOption } from "../../../block/model/options.ts";
import { OpfsDriver } from "./driver.ts";
import { ClusterStore, STORE_CLUSTER_BYTES } from "./store.ts";

const DEFAULT_INTERVAL_MS = 1000;

function storageOf(host: Host, op: string): HostPrivateStorage {
  if (host.privateStorage) return host.privateStorage;
  const message =
    "The 'opfs' driver needs a dedicated worker with synchronous file handles, 'indexeddb' neither";
  throw new BlockError({ code: "ENOTSUP", op, message });
}

function requiredFilename(spec: NodeSpec): string {
  const filename = stringOption(spec, "filename");
  if (filename === undefined) throw optionError("Parameter 'filename' is missing");
  const names = filename.split("/");
  if (names.some((name) => name === "" || name === "." || name === ".." || name.includes("\0")))
    throw optionError(`'${filename}' is no path: names joined by slashes`);
  return filename;
}

/** Milliseconds between a change and its flush; undefined for `strict`. */
function intervalOption(spec: NodeSpec): number | undefined {
  const durability = stringOption(spec, "durability") ?? "strict";
  const interval = sizeOption(spec, "flush-interval");
  if (durability !== "strict" && durability !== "interval")
    throw optionError(`Parameter 'durability' does not accept value '${durability}'`);
  if (durability === "interval") return interval ?? DEFAULT_INTERVAL_MS;
  if (interval !== undefined) throw optionError("'flush-interval' needs durability=interval");
  return undefined;
}

/** `Could not <verb> 'name': why`, with the errno of the cause. */
function couldNot(verb: "open" | "create" | "remove", filename: string, error: unknown): BlockError {
  const message = `Could not ${verb} '${filename}': ${messageOf(error)}`;
  return new BlockError({ code: errnoOf(error), op: verb, message, cause: error });
}

async function open({ node, host }: OpenContext, spec: NodeSpec): Promise<BlockDriver> {
  const filename = requiredFilename(spec);
  const intervalMs = intervalOption(spec);
  let directory: PrivateDirectory | undefined;
  try {
    directory = await storageOf(host, "open").open(filename);
    const store = await ClusterStore.open(directory, { write: !node.readOnly });
    return new OpfsDriver({ node, clock: host.clock, directory, store, intervalMs });
  } catch (error) {
    directory?.close();
    throw couldNot("open", filename, error);
  }
}

async function create({ host }: CreateContext, options: Record<string, unknown>): Promise<void> {
  const spec: NodeSpec = { driver: "opfs", ...options };
  const filename = requiredFilename(spec);
  const size = sizeOption(spec, "size");
  if (size === undefined) throw optionError("Parameter 'size' is missing");
  const clusterBytes = sizeOption(spec, "cluster-size") ?? STORE_CLUSTER_BYTES;
  const storage = storageOf(host, "create");
  try {
    const directory = await storage.open(filename, { create: true, replace: spec["exclusive"] !== true });
    try {
      await ClusterStore.create(directory, { size, clusterBytes, salt: host.random.below(2 ** 32) });
    } finally {
      directory.close();
    }
  } catch (error) {
    throw couldNot("create", filename, error);
  }
}

async function remove({ host }: CreateContext, options: Record<string, unknown>): Promise<void> {
  const filename = requiredFilename({ driver: "opfs", ...options });
  try {
    await storageOf(host, "remove").remove(filename);
  } catch (error) {
    throw couldNot("remove", filename, error);
  }
}

/**
 * Options: `filename` (names joined by slashes), `durability` (strict, interval), `flush-interval` (ms). Errors of open:
 * ENOENT, EAGAIN (open elsewhere), ENOTSUP (no private file system here) with `Could not open '…'`; of writes: ENOSPC
 * when the quota is used up.
 */
export const opfs: DriverType = { name: "opfs", kind: "protocol", open, create, remove };

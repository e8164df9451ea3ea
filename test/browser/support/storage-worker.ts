// A dedicated worker with an engine over the private file system, for tests: the page calls its functions by name.
import type { StreamOptions } from "../../../src/api/jobs.ts";
import type { Node } from "../../../src/api/node.ts";
import { check, createEngine, createImage, openNode, removeImage, stream } from "../../../src/browser.ts";
import { BlockBackend, guestPermissions } from "../../../src/block/graph/backend.ts";
import type { BlockDriver } from "../../../src/block/model/contract.ts";
import type { StreamJob } from "../../../src/job/stream/stream.ts";
import type { Engine } from "../../../src/machine/engine.ts";
import { COMPLIANCE_BYTES, complianceCases } from "../../unit/drivers/protocol/compliance.ts";
import { randomness } from "../../support/random.ts";

/**
 * Where the guest notes its writes, in memory that outlives the worker: the number of notes, then four words for each:
 * 0 (issued) or 1 (acknowledged), offset, bytes, value.
 */
export type Notes = Int32Array<SharedArrayBuffer>;

const MiB = 1024 * 1024;
let engine: Engine = createEngine();
let job: StreamJob | undefined;
let jobError: string | undefined;
const nodes = new Map<string, Node>();

function node(name: string): Node {
  const found = nodes.get(name);
  if (!found) throw new Error(`no node '${name}'`);
  return found;
}

/** Writes to random places until the worker is killed; each write is filled with its number. */
async function guest(name: string, seed: number, notes: Notes): Promise<void> {
  const disk = node(name);
  const random = randomness(seed);
  const note = (...words: number[]): void => {
    notes.set(words, 1 + 4 * notes[0]!);
    Atomics.add(notes, 0, 1);
  };
  for (let value = 1; ; value = (value % 250) + 1) {
    const bytes = 512 * (1 + random(24));
    const offset = 512 * random((disk.length - bytes) / 512);
    note(0, offset, bytes, value);
    await disk.write(offset, new Uint8Array(bytes).fill(value));
    // The image's tables are in memory until then; a guest's disk without a write cache does the same.
    await disk.flush();
    note(1, offset, bytes, value);
  }
}

/** Microseconds of a random read of 4 KiB: by the node, and by a bare handle on a file of the same length; the best of several rounds. */
async function measureReads(name: string, rounds: number): Promise<{ node: number; bare: number }> {
  const root = await navigator.storage.getDirectory();
  const file = await root.getFileHandle("bare", { create: true });
  const { length } = node(name);
  const handle = await (
    file as FileSystemFileHandle & { createSyncAccessHandle(): Promise<BareHandle> }
  ).createSyncAccessHandle();
  for (let at = 0; at < length; at += MiB) handle.write(new Uint8Array(MiB).fill(1), { at });
  const buffer = new Uint8Array(4096);
  const [best, reads] = [{ node: Infinity, bare: Infinity }, 2000];
  const random = randomness(1);
  const { backend } = await guestBackend(name);
  for (let round = 0; round < rounds; round++) {
    const places = Array.from({ length: reads }, () => 4096 * random(length / 4096));
    let begin = performance.now();
    for (const at of places) handle.read(buffer, { at });
    best.bare = Math.min(best.bare, (1000 * (performance.now() - begin)) / reads);
    begin = performance.now();
    for (const at of places) await backend.pread(at, buffer);
    best.node = Math.min(best.node, (1000 * (performance.now() - begin)) / reads);
  }
  await backend.close();
  handle.close();
  await root.removeEntry("bare");
  return best;
}

interface BareHandle {
  read(buffer: Uint8Array, options: { at: number }): number;
  write(buffer: Uint8Array, options: { at: number }): number;
  close(): void;
}

/** What a guest's disk reads through. */
async function guestBackend(name: string): Promise<{ backend: BlockBackend }> {
  await node(name).release();
  const backend = new BlockBackend(engine.graph);
  await backend.attach(node(name).blockNode, guestPermissions);
  return { backend };
}

/** Runs a case of the compliance suite over a fresh disk of a driver; see compliance.ts. */
export async function complianceCase(driver: "opfs" | "indexeddb", name: string): Promise<void> {
  const file = { driver, filename: "tests/compliance" } as const;
  await using own = createEngine();
  await createImage({ driver: "raw", file, size: COMPLIANCE_BYTES }, { engine: own, overwrite: true });
  let open = await openNode(file, { engine: own });
  const reopen = async (): Promise<BlockDriver> => {
    await open.close();
    open = await openNode(file, { engine: own });
    return open.blockNode.driver;
  };
  const found = complianceCases.find((one) => one.name === name)!;
  await found.run({ driver: open.blockNode.driver, reopen, grows: true });
  await open.close();
  await removeImage(file, { engine: own });
}

/** What the page may call. */
export const calls = {
  create: (spec: Parameters<typeof createImage>[0]) => createImage(spec, { engine }),
  remove: (filename: string) => removeImage({ driver: "opfs", filename }, { engine }),
  async open(name: string, spec: Parameters<typeof openNode>[0]) {
    const opened = await openNode(spec, { engine });
    nodes.set(name, opened);
    return opened.length;
  },
  close: (name: string) => node(name).close(),
  read: (name: string, offset: number, bytes: number) => node(name).read(offset, bytes),
  write: (name: string, offset: number, data: Uint8Array) => node(name).write(offset, data),
  flush: (name: string) => node(name).flush(),
  check: (spec: Parameters<typeof openNode>[0]) => check(spec, { engine }),
  chain: (name: string) => Promise.resolve(node(name).chain.map(({ driver }) => driver)),
  guest(name: string, seed: number, notes: Notes): Promise<void> {
    void guest(name, seed, notes);
    return Promise.resolve();
  },
  measureReads,
  complianceCase,
  async stream(name: string, options: StreamOptions) {
    job = await stream(node(name), options);
    jobError = undefined;
    job.done.catch((error: Error) => (jobError = error.message));
  },
  job() {
    const { status, ioStatus, offset, length } = job!;
    return Promise.resolve({ status, ioStatus, offset, length, error: jobError });
  },
  async resume() {
    job!.resume();
  },
  async restart() {
    await engine.close();
    nodes.clear();
    engine = createEngine();
  },
};
/** Their types. */
export type Calls = typeof calls;

globalThis.addEventListener(
  "message",
  ({ data }: MessageEvent<{ id: number; name: keyof Calls; args: unknown[] }>) => {
    const call = calls[data.name] as (...args: unknown[]) => Promise<unknown>;
    call(...data.args).then(
      (value) => postMessage({ id: data.id, value }),
      (error: unknown) => {
        const { message, code } = error as { message: string; code?: string };
        postMessage({ id: data.id, error: { message: `${data.name}: ${message}`, code } });
      },
    );
  },
);

/**
 * What plain JavaScript passes is checked, by every function of the library, before anything is touched: unknown options,
 * wrong types, words that an option does not take. A function that is exported and not in this table fails the last test.
 */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import * as library from "../../../src/browser.ts";
import { optionsOf } from "../../../src/api/options.ts";
import { toV86Disk } from "../../../src/v86.ts";
import { closest } from "../../../src/wire/qapi/suggest.ts";
import { connectWorker } from "../../../src/browser-worker.ts";

const MiB = 2 ** 20;
const engine = library.createEngine({ arenaBytes: 16 * MiB });
let disk: library.Node;
let other: library.Node;

beforeAll(async () => {
  disk = await library.openNode({ driver: "memory", size: MiB, "node-name": "disk" }, { engine });
  other = await library.openNode({ driver: "memory", size: MiB, "node-name": "other" }, { engine });
});

afterAll(() => engine.close());

/** A call with options as plain JavaScript may have them; what it refuses it throws, at once or later. */
type Call = (options: unknown) => unknown;

const spec = { driver: "memory", size: MiB } as const;
const image = { driver: "raw", file: { driver: "opfs", filename: "none" }, size: MiB } as const;

/** Each function, how it is called, and options of it that are wrong, beside one that no function has. */
const calls: Record<string, { call: Call; wrong: Record<string, unknown>[] }> = {
  createEngine: {
    call: (options) => library.createEngine(options as never),
    wrong: [{ kernels: "Twin" }, { gate: "local" }, { arenaBytes: "16M" }, { strictErrorPolicy: 1 }],
  },
  openNode: {
    call: (options) => library.openNode(spec, { engine, ...(options as object) }),
    wrong: [{ gate: "all" }, { metadataOnly: "yes" }, { signal: true }],
  },
  createImage: {
    call: (options) => library.createImage(image, { engine, ...(options as object) }),
    wrong: [{ overwrite: "yes" }, { signal: 1 }],
  },
  removeImage: {
    call: (options) => library.removeImage(image.file, { engine, ...(options as object) }),
    wrong: [{ engine: {} }],
  },
  probe: {
    call: (options) => library.probe(spec, { engine, ...(options as object) }),
    wrong: [{ signal: "soon" }],
  },
  check: {
    call: (options) => library.check(spec, { engine, ...(options as object) }),
    wrong: [{ repair: "ALL" }, { repair: true }, { onMessage: "log" }],
  },
  openGuestDisk: {
    call: (options) => library.openGuestDisk({ url: "disk.img", ...(options as object) }),
    wrong: [{ url: 1 }, { name: 2 }, { size: "16M" }, { use_parts: "yes" }, { whenChanged: "mix" }],
  },
  openGuestDiskIn: {
    call: (options) => library.openGuestDiskIn(engine, { url: "disk.img", ...(options as object) }),
    wrong: [{ url: 1 }, { name: 2 }, { size: "16M" }, { use_parts: "yes" }, { whenChanged: "mix" }],
  },
  importImage: {
    call: (options) => library.importImage(new Blob(["1"]), image, { engine, ...(options as object) }),
    wrong: [{ format: 2 }, { overwrite: "yes" }, { onProgress: true }],
  },
  listImages: {
    call: (options) => library.listImages({ engine, ...(options as object) }),
    wrong: [{ driver: "file" }, { signal: 1 }],
  },
  resumeJob: {
    call: (options) => library.resumeJob("no.checkpoint", { engine, ...(options as object) }),
    wrong: [{ source: 1 }, { gate: "all" }, { speedBytesPerSecond: "1M" }, { checkpoint: "a" }],
  },
  fromBlob: {
    call: (options) => library.fromBlob(new Blob(["1"]), { engine, ...(options as object) }),
    wrong: [{ format: 2 }, { nodeName: null }],
  },
  transaction: {
    call: (options) =>
      library.transaction([{ type: "addBitmap", node: disk, name: "none" }], options as never),
    wrong: [{ completion: "both" }],
  },
  liveRestore: {
    call: (options) => library.liveRestore(disk, other, options as never),
    wrong: [{ jobId: 5 }, { onError: "retry" }, { speedBytesPerSecond: "1M" }, { map: "map" }],
  },
  mirror: {
    call: (options) => library.mirror(disk, other, options as never),
    wrong: [
      { sync: "all" },
      { bitmapMode: "sometimes" },
      { onTargetError: "ENOSPC" },
      { onSourceError: true },
      { copyMode: "active" },
      { granularity: "64k" },
      { autoFinalize: "no" },
      { autoResume: true },
      { autoResume: { probeMs: "5 s" } },
      { replaces: 7 },
    ],
  },
  backup: {
    call: (options) => library.backup(disk, other, options as never),
    wrong: [{ sync: "delta" }, { compress: "true" }, { bitmapMode: "sometimes" }, { maxWorkers: 1.5 }],
  },
  stream: {
    call: (options) => library.stream(disk, options as never),
    wrong: [{ base: 1 }, { baseNode: {} }, { onError: "retry" }, { speedBytesPerSecond: NaN }],
  },
  commit: {
    call: (options) => library.commit(disk, options as never),
    wrong: [{ top: true }, { topNode: 1 }, { onError: "Stop" }],
  },
  commitOverlay: {
    call: (options) => library.commitOverlay(disk, options as never),
    wrong: [{ keep: "yes" }, { follow: true }, { jobId: 7 }],
  },
  convert: {
    call: (options) => library.convert(disk, other, options as never),
    wrong: [
      { compress: "yes" },
      { offload: "yes" },
      { stepBytes: "1M" },
      { sparseBytes: "4k" },
      { salvage: true },
      { onProgress: 1 },
    ],
  },
  compare: {
    call: (options) => library.compare(disk, other, options as never),
    wrong: [{ strict: "yes" }, { offset: "1M" }],
  },
  rebase: {
    call: (options) => library.rebase(disk, null, options as never),
    wrong: [{ unsafe: 1 }],
  },
  resize: {
    call: (options) => library.resize(disk, 2 * MiB, options as never),
    wrong: [{ preallocation: "Full" }],
  },
  measure: {
    call: (options) => library.measure({ format: "qcow2", bytes: MiB, ...(options as object) }),
    wrong: [
      { clusterSize: "64k" },
      { compat: "v3" },
      { preallocation: "all" },
      { options: { clusterSize: 512 } },
      { options: { "cluster-size": true } },
    ],
  },
  amend: {
    call: (options) => library.amend(disk, {}, options as never),
    wrong: [{ force: "yes" }],
  },
  imageStream: {
    call: (options) => library.imageStream(disk, options as never),
    wrong: [{ compress: "yes" }, { scratch: 5 }, { scratch: { driver: "memory", sise: 1 } }, { format: 1 }],
  },
  exportDisk: {
    call: (options) => library.exportDisk(disk, options as never),
    wrong: [{ compress: "yes" }],
  },
  imageMap: {
    call: (options) => library.imageMap(disk, options as never),
    wrong: [{ offset: "0" }],
  },
  map: {
    call: (options) => library.map(disk, options as never),
    wrong: [{ offset: "0" }],
  },
  makeManifest: {
    call: (options) => library.makeManifest(disk, options as never),
    wrong: [{ clusterBytes: "64k" }],
  },
  addBitmap: {
    call: (options) => library.addBitmap(disk, "b", options as never),
    wrong: [{ granularity: "64k" }, { persistent: "yes" }],
  },
  dirtyRanges: {
    call: (options) => library.dirtyRanges(disk, "b", options as never),
    wrong: [{ most: "all" }],
  },
  whenReady: {
    call: (options) => library.whenReady({ isReady: true } as never, options as never),
    wrong: [{ signal: "soon" }],
  },
  changeMirror: {
    call: (options) => library.changeMirror({} as never, options as never),
    wrong: [{ copyMode: "active" }, { copyMode: true }, { mode: "background" }],
  },
  autoResume: {
    call: (options) => library.autoResume({ done: Promise.resolve() } as never, options as never),
    wrong: [{ probeMs: "5" }, { hasRoom: true }],
  },
  autoCont: {
    call: (options) => library.autoCont(engine, options as never),
    wrong: [{ probeMs: "5" }],
  },
  toV86Disk: {
    call: (options) => toV86Disk(disk, options as never),
    wrong: [{ rerror: "halt" }, { werror: "ENOSPC" }, { writeCache: "on" }, { deadlineMs: "20" }],
  },
  serveMonitor: {
    call: (options) => library.serveMonitor({} as never, engine, options as never),
    wrong: [{ indent: "2" }, { onQuit: true }, { version: "7.2" }],
  },
  serveEngine: {
    call: (options) => library.serveEngine({} as never, engine, options as never),
    wrong: [{ keepEngine: "yes" }],
  },
  connectEngine: {
    call: (options) => library.connectEngine({} as never, options as never),
    wrong: [{ signal: 5 }],
  },
  connectWorker: {
    call: (options) => connectWorker({} as never, options as never),
    wrong: [{ flushWhenHidden: "no" }, { createWorker: "worker.js" }],
  },
  "Node.read": { call: (options) => disk.read(0, 512, options as never), wrong: [{ signal: 1 }] },
  "Node.write": {
    call: (options) => disk.write(0, new Uint8Array(512).fill(1), options as never),
    wrong: [{ signal: 1 }],
  },
  "Node.writeZeroes": {
    call: (options) => disk.writeZeroes(0, 512, options as never),
    wrong: [{ unmap: "yes" }],
  },
  "Node.discard": { call: (options) => disk.discard(0, 512, options as never), wrong: [{ signal: 1 }] },
  "Node.flush": { call: (options) => disk.flush(options as never), wrong: [{ signal: 1 }] },
  "Node.blockStatus": { call: (options) => disk.blockStatus(0, 1, options as never), wrong: [{ signal: 1 }] },
  "Node.info": { call: (options) => disk.info(options as never), wrong: [{ backingChain: "yes" }] },
  "Node.map": { call: (options) => disk.map(options as never), wrong: [{ length: "all" }] },
  "Node.readable": { call: (options) => disk.readable(options as never), wrong: [{ offset: "0" }] },
  "Node.writable": { call: (options) => disk.writable(options as never), wrong: [{ offset: "0" }] },
};

/** Builders, whose descriptions openNode() and createImage() check. */
const builders = [
  "blob",
  "custom",
  "file",
  "http",
  "indexeddb",
  "luks",
  "memory",
  "opfs",
  "overlay",
  "qcow2",
  "raw",
];

/** Exports that take no options: accessors, and functions of plain arguments. */
const withoutOptions = [
  "applySnapshot",
  "bitmaps",
  "browserHost",
  "clearBitmap",
  "createSnapshot",
  "defaultEngine",
  "denyGate",
  "discardOverlay",
  "enableBitmap",
  "engineCommands",
  "errnoOf",
  "fileGate",
  "isActivelySynced",
  "mergeBitmaps",
  "metrics",
  "persistStorage",
  "portConnection",
  "removeBitmap",
  "removeSnapshot",
  "showSnapshot",
  "snapshots",
  "stats",
  "storageStatus",
  "strerror",
  "urlGate",
];

/** The nodes, jobs and devices that there are, and what the disk holds. */
async function state(): Promise<unknown> {
  const { graph, jobs, machine } = engine;
  return {
    nodes: [...graph.nodes].map(({ name }) => name),
    jobs: jobs.jobs.map(({ id }) => id),
    devices: machine.devices.size,
    bitmaps: library.bitmaps(disk),
    length: disk.length,
    head: [...(await disk.read(0, 512))],
  };
}

async function refusal(call: Call, options: unknown): Promise<unknown> {
  try {
    await call(options);
  } catch (error) {
    return error;
  }
  return "it was taken";
}

describe.each(Object.entries(calls))("%s()", (_name, { call, wrong }) => {
  it("refuses an option that it does not have", async () => {
    const before = await state();
    const error = await refusal(call, { bogus: 1 });
    expect(error).toBeInstanceOf(library.CommandError);
    expect((error as Error).message).toBe("Parameter 'bogus' is unexpected");
    expect(await state()).toEqual(before);
  });

  it.each(wrong)("refuses %j", async (options) => {
    const before = await state();
    const error = await refusal(call, options);
    expect(error).toBeInstanceOf(library.CommandError);
    expect((error as Error).message).toMatch(/^(Parameter '|Invalid parameter type for ')/);
    expect(await state()).toEqual(before);
  });
});

describe("what was meant", () => {
  it.each([
    ["readOnly", "read-only"],
    ["nodeName", "node-name"],
    ["read_only", "read-only"],
    ["driverr", "driver"],
  ])("openNode() says of %s: %s", async (wrong, right) => {
    const error = await refusal(() => library.openNode({ ...spec, [wrong]: true }, { engine }), {});
    expect(error).toBeInstanceOf(library.CommandError);
    expect((error as Error).message).toBe(`Parameter '${wrong}' is unexpected (did you mean '${right}'?)`);
  });

  it("says it within children, and for creation options", async () => {
    const raw = { driver: "raw", file: { ...spec, readOnly: true } };
    expect(await refusal(() => library.openNode(raw as never, { engine }), {})).toMatchObject({
      message: "Parameter 'file.readOnly' is unexpected (did you mean 'read-only'?)",
    });
    const qcow2 = { driver: "qcow2", file: "disk", size: MiB, clusterSize: 4096 };
    expect(await refusal(() => library.createImage(qcow2 as never, { engine }), {})).toMatchObject({
      message: "Parameter 'clusterSize' is unexpected (did you mean 'cluster-size'?)",
    });
  });

  it.each([
    [{ compres: true }, "Parameter 'compres' is unexpected (did you mean 'compress'?)"],
    [{ speed: 5 }, "Parameter 'speed' is unexpected (did you mean 'speedBytesPerSecond'?)"],
    [
      { "on-target-error": "stop" },
      "Parameter 'on-target-error' is unexpected (did you mean 'onTargetError'?)",
    ],
    [
      { onTargetError: "ENOSPC" },
      "Parameter 'onTargetError' does not accept value 'ENOSPC' (did you mean 'enospc'?)",
    ],
    [
      { sync: "all" },
      "Parameter 'sync' does not accept value 'all' (it takes 'top', 'full', 'none', 'incremental', 'bitmap')",
    ],
    [{ sync: 1 }, "Invalid parameter type for 'sync', expected: string"],
  ])("backup() says of %j: %s", async (options, message) => {
    expect(await refusal(calls["backup"]!.call, options)).toMatchObject({ message });
  });

  it.each([
    ["zero", ["on", "off"], undefined],
    ["fulll", ["full", "top"], "full"],
    ["o", ["on", "off"], undefined],
    ["fool", ["full"], undefined],
  ])("of %s in %j is %s", (word, known, found) => {
    expect(closest(word, known)).toBe(found);
  });
});

describe("node descriptions and creation options", () => {
  it.each([
    [{ ...spec, "read-only": "yes" }, "Invalid parameter type for 'read-only', expected: boolean"],
    [
      { ...spec, discard: "on" },
      "Parameter 'discard' does not accept value 'on' (it takes 'ignore', 'unmap')",
    ],
    [{ ...spec, cache: { direct: 1 } }, "Invalid parameter type for 'cache.direct', expected: boolean"],
    [{ driver: "memory", buffer: "abc" }, "Invalid parameter type for 'buffer', expected: Uint8Array"],
    [{ driver: "blob", blob: 1, "read-only": true }, "Invalid parameter type for 'blob', expected: Blob"],
    [{ driver: "http", url: 1 }, "Invalid parameter type for 'url', expected: string"],
    [{ size: MiB }, "Parameter 'driver' is missing"],
    [null, "Invalid parameter type for 'image', expected: path, URL or description"],
  ])("openNode(%j) is refused, and nothing is opened", async (wrong, message) => {
    const before = await state();
    const error = await refusal(() => library.openNode(wrong as never, { engine }), {});
    expect(error).toBeInstanceOf(library.CommandError);
    expect((error as Error).message).toBe(message);
    expect(await state()).toEqual(before);
  });

  it("a driver of the caller's own that does not describe its options looks at them itself", async () => {
    const seen: unknown[] = [];
    const { memory } = await import("../../../src/drivers/protocol/memory.ts");
    const driver: library.DriverType = {
      name: "mine",
      kind: "protocol",
      open: (context, given) => {
        seen.push(given["anything"]);
        return memory.open(context, { driver: "memory", size: 512 });
      },
    };
    const own = library.createEngine({ drivers: [driver], arenaBytes: 16 * MiB });
    const node = await library.openNode({ driver: "mine", anything: [1] } as never, { engine: own });
    expect([node.length, seen]).toEqual([512, [[1]]]);
    const wrong = { driver: "mine", "read-only": 1 } as never;
    await expect(library.openNode(wrong, { engine: own })).rejects.toThrow("expected: boolean");
    await own.close();
  });

  it.each<[string, () => unknown]>([
    ["snapshots", () => library.applySnapshot(disk, 5 as never)],
    ["snapshot names", () => library.createSnapshot(disk, 5 as never)],
    ["bitmaps' switches", () => library.enableBitmap(disk, "b", "no" as never)],
    ["targets of rebase()", () => library.rebase(disk, { filname: "x" } as never)],
  ])("checks %s", async (_what, call) => {
    expect(await refusal(call, {})).toBeInstanceOf(Error);
  });
});

it("undefined is absent, and what passes is not copied", () => {
  const check = optionsOf<{ force?: boolean }>({ force: "bool" });
  expect(() => check({ force: undefined, other: undefined })).not.toThrow();
  expect(() => check(null)).toThrow("Invalid parameter type for 'options', expected: object");
});

it("every function that the library exports is in the table, or takes no options", () => {
  const functions = Object.entries(library).filter(
    ([, value]) => typeof value === "function" && !/^class\b/.test(Function.prototype.toString.call(value)),
  );
  const missing = functions.map(([name]) => name).filter((name) => !(name in calls));
  expect(missing.sort()).toEqual([...withoutOptions, ...builders].sort());
});

it("an arena of no size, or more than there can be, is the caller's mistake", () => {
  for (const arenaBytes of [0, -1, 1.5, 2 ** 30 + 1, 2 ** 45])
    expect(() => library.createEngine({ arenaBytes })).toThrow(
      expect.objectContaining({
        code: "EINVAL",
        message: expect.stringContaining("arenaBytes must be") as string,
      }),
    );
});

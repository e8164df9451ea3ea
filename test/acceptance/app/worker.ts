// The worker of the acceptance tests: engine, job and v86 in one thread, as a fork of v86 would have it. The page calls
// these functions by name.
import "./ticks.ts";
import {
  type Engine,
  type Node,
  type V86Disk,
  createEngine,
  createImage,
  http,
  openNode,
  opfs,
  qcow2,
  raw,
  stream,
  toV86Disk,
} from "blockwright/v86";
import { V86 } from "v86";
import { MonitorGuest } from "../../support/v86/monitor-guest.ts";

type StreamJob = Awaited<ReturnType<typeof stream>>;

/** What the base is: an image that a server has. */
export interface Base {
  url: string;
  size: number;
  manifest?: string;
}

/** What the page sees of everything. */
export interface State {
  events: string[];
  guest: { ticks: number; errors: number; runs: boolean; output: string };
  machine: string;
  job: { status: string; ioStatus: string; offset: number; length: number; error: string | null } | undefined;
}

const FILE = { driver: "opfs", filename: "disk.qcow2" } as const;
const events: string[] = [];
let engine: Engine = newEngine();
let node: Node | undefined;
let disk: V86Disk | undefined;
let emulator: V86 | undefined;
let guest: MonitorGuest | undefined;
let job: StreamJob | undefined;
let output = "";

function newEngine(): Engine {
  const made = createEngine({ drivers: [qcow2, raw, http, opfs] });
  made.graph.events.subscribe(({ event, data }) => {
    const { status, operation, action, error } = data as Record<string, string | undefined>;
    events.push([event, status, operation, action, error].filter((part) => part !== undefined).join(" "));
  });
  return made;
}

function need<T>(value: T | undefined, what: string): T {
  if (value === undefined) throw new Error(`there is no ${what} yet`);
  return value;
}

function hex(bytes: ArrayBuffer): string {
  return [...new Uint8Array(bytes)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Whether the overlay still names a base in its header. */
async function isComplete(): Promise<boolean> {
  const plain = await openNode(engine, { driver: "qcow2", "read-only": true, file: FILE, backing: null });
  const info = await plain.info();
  await plain.close();
  return info["backing-filename"] === undefined;
}

const calls = {
  /** Makes the overlay. */
  create: ({ url, size }: Base) =>
    createImage(engine, { driver: "qcow2", file: FILE, size, "backing-file": url, "backing-fmt": "raw" }),

  /** Opens the overlay, over the base as long as it is needed; returns whether the overlay is complete. */
  async open({ url, size, manifest }: Base): Promise<boolean> {
    const complete = await isComplete();
    const base = {
      driver: "http",
      "node-name": "base",
      url,
      size,
      retries: 1,
      ...(manifest === undefined ? {} : { manifest }),
    } as const;
    const backing = complete ? null : ({ driver: "raw", file: base } as const);
    const file = { ...FILE, durability: "strict" } as const;
    node = await openNode(engine, { driver: "qcow2", "node-name": "disk", file, backing });
    return complete;
  },

  /** Fills the overlay. */
  async fill(options: { speed?: number; onError: "stop" | "enospc" | "report" }): Promise<void> {
    const { speed: speedBytesPerSecond, onError } = options;
    job = await stream(need(node, "node"), {
      jobId: "fill",
      speedBytesPerSecond,
      onError,
      autoDismiss: false,
    });
    job.done.catch(() => undefined);
  },

  /** Boots a guest: the test's monitor from the disk, or a kernel. */
  async boot(options: { kernel?: boolean; cmdline?: string; memoryMiB?: number }): Promise<void> {
    const { kernel = false, cmdline = "", memoryMiB = 16 } = options;
    disk = await toV86Disk(need(node, "node"));
    emulator = new V86({
      wasm_path: "/v86.wasm",
      bios: { url: "/bios.bin" },
      vga_bios: { url: "/vgabios.bin" },
      hda: disk,
      memory_size: memoryMiB << 20,
      vga_memory_size: 2 << 20,
      disable_speaker: true,
      autostart: true,
      boot_order: 0x132,
      ...(kernel ? { bzimage: { url: "/bzimage" }, initrd: { url: "/initrd" }, cmdline } : {}),
    });
    disk.attach(emulator);
    emulator.add_listener("serial0-output-byte", (byte) => {
      output = (output + String.fromCharCode(byte)).slice(-65_536);
    });
    guest = new MonitorGuest(emulator);
    if (!kernel) await guest.booted;
  },

  guestRead: (lba: number, count?: number) => need(guest, "guest").read(lba, count),
  guestWrite: (lba: number, seed: number, count?: number) => need(guest, "guest").write(lba, seed, count),
  guestType: (text: string) => need(emulator, "emulator").serial0_send(text),

  state(): State {
    return {
      events: [...events],
      guest: {
        ticks: guest?.ticks ?? 0,
        errors: guest?.errors ?? 0,
        runs: emulator?.is_running() ?? false,
        output,
      },
      machine: engine.machine.query().status,
      job: job && {
        status: job.status,
        ioStatus: job.ioStatus,
        offset: job.offset,
        length: job.length,
        error: job.error instanceof Error ? job.error.message : null,
      },
    };
  },

  cont: () => engine.machine.cont(),
  resumeJob: () => need(job, "job").resume(),
  setSpeed: (bytesPerSecond: number) => need(job, "job").setSpeed(bytesPerSecond),

  async digest(): Promise<string> {
    const { length } = need(node, "node");
    const bytes = new Uint8Array(await need(node, "node").read(0, length));
    return hex(await crypto.subtle.digest("SHA-256", bytes));
  },

  /** The content of the disk, or of the file that holds it. */
  async content(what: "disk" | "file"): Promise<Uint8Array> {
    if (what === "disk") return need(node, "node").read(0, need(node, "node").length);
    await disk?.sync();
    const { children } = need(engine.graph.findNode("disk"), "node");
    const { name } = need(
      [...children].find((child) => child.name === "file"),
      "file",
    ).node;
    const handle = await openNode(engine, { driver: "raw", "read-only": true, file: name });
    const bytes = await handle.read(0, handle.length);
    await handle.close();
    return bytes;
  },

  /** Uses up the origin's storage until only so much is left, for engines whose quota no test can set; undefined: ends that. */
  async ballast(left?: number): Promise<void> {
    const root = await navigator.storage.getDirectory();
    if (left === undefined) return root.removeEntry("ballast");
    const file = (await root.getFileHandle("ballast", { create: true })) as unknown as {
      createSyncAccessHandle(): Promise<{ truncate(bytes: number): void; close(): void }>;
    };
    const handle = await file.createSyncAccessHandle();
    const { quota = 0, usage = 0 } = await navigator.storage.estimate();
    handle.truncate(quota - usage - left);
    handle.close();
  },

  async close(): Promise<void> {
    await disk?.close();
    await emulator?.destroy();
    await engine.close();
    [node, disk, emulator, guest, job] = [undefined, undefined, undefined, undefined, undefined];
    engine = newEngine();
  },
};

/** What the page may call. */
export type Calls = typeof calls;

// v86 has no other way to tell that it did not start.
globalThis.addEventListener(
  "unhandledrejection",
  ({ reason }) => void events.push(`unhandled: ${String(reason)}`),
);
globalThis.addEventListener("error", ({ message }) => void events.push(`error: ${message}`));

globalThis.addEventListener(
  "message",
  ({ data }: MessageEvent<{ id: number; name: keyof Calls; args: unknown[] }>) => {
    const call = calls[data.name] as (...args: unknown[]) => unknown;
    Promise.resolve()
      .then(() => call(...data.args))
      .then(
        (value) => postMessage({ id: data.id, value }),
        (error: unknown) => postMessage({ id: data.id, error: String(error) }),
      );
  },
);

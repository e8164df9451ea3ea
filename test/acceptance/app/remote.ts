// The other page of the acceptance tests: v86 on the page, its disk in an engine in a worker, control by QMP. The test calls
// the same functions by name as on the first page, as far as it needs them.
import { connectWorker } from "blockwright/browser";
import { keepGeneration, toV86Disk } from "blockwright/v86";
import type { V86Disk } from "blockwright/v86";
import { V86 } from "v86";
import { MonitorGuest } from "../../support/v86/monitor-guest.ts";
import { obeyAgent } from "./agent.ts";
import type { Base, State } from "./worker.ts";

/** Where the overlay is: in OPFS, or where the page's address says, since WebKitGTK has no synchronous handles. */
const store = new URLSearchParams(location.search).get("store") === "indexeddb" ? "indexeddb" : "opfs";
const FILE = { driver: store, filename: "remote.qcow2" } as const;
const engine = await connectWorker(undefined, {
  createWorker: () => new Worker("/engine.js", { type: "module" }),
});
const { qmp } = engine;
const events: string[] = [];
let emulator: V86 | undefined;
let guest: MonitorGuest | undefined;
let hda: V86Disk | undefined;

for (const name of ["BLOCK_IO_ERROR", "STOP", "RESUME"] as const) qmp.on(name, () => void events.push(name));

async function jobState(): Promise<State["job"]> {
  const jobs = await qmp.execute("query-block-jobs");
  const [job] = jobs;
  return (
    job && {
      status: job.status,
      ioStatus: job["io-status"],
      offset: job.offset,
      length: job.len,
      error: job.error ?? null,
    }
  );
}

const calls = {
  create: ({ size }: Base) => engine.createImage({ driver: "qcow2", file: FILE, size }),

  async open({ url, size }: Base): Promise<void> {
    await qmp.execute("blockdev-add", {
      driver: "http",
      url,
      size,
      retries: 1,
      "node-name": "base",
      "read-only": true,
    });
    await qmp.execute("blockdev-add", { driver: "qcow2", "node-name": "disk", file: FILE, backing: "base" });
  },

  async fill({ speed = 0, onError }: { speed?: number; onError: "stop" }): Promise<void> {
    const more = { "on-error": onError, "auto-dismiss": false } as const;
    await qmp.execute("block-stream", { device: "disk", "job-id": "fill", speed, ...more });
  },

  async boot({ isOn = true }: { isOn?: boolean }): Promise<void> {
    const remote = await engine.guestDisk("disk", { writeCache: false });
    hda = await toV86Disk(remote, { identity: "remote", generation: keepGeneration("remote") });
    emulator = new V86({
      wasm_path: "/v86.wasm",
      bios: { url: "/bios.bin" },
      vga_bios: { url: "/vgabios.bin" },
      hda,
      memory_size: 16 << 20,
      vga_memory_size: 2 << 20,
      disable_speaker: true,
      autostart: isOn,
      boot_order: 0x132,
    });
    hda.attach(emulator);
    guest = new MonitorGuest(emulator);
    if (isOn) await guest.booted;
    else await new Promise<void>((resolve) => emulator!.add_listener("emulator-ready", () => resolve()));
  },

  /** Saves the stopped machine where the next page finds it. */
  async save(): Promise<void> {
    await emulator!.stop();
    await hda!.sync();
    const states = await caches.open("states");
    await states.put("/state", new Response(await emulator!.save_state()));
  },

  /** Lets the machine go on from the state that an earlier page has saved. */
  async restore(): Promise<void> {
    const state = await (await caches.open("states")).match("/state");
    await emulator!.restore_state(await state!.arrayBuffer());
    await emulator!.run();
  },

  forget: () => keepGeneration("remote").forget(),

  /** Microseconds of a guest's read of 4 KiB by messages: the median of batches. */
  async measureReads(): Promise<number> {
    const disk = await engine.guestDisk("disk");
    const times: number[] = [];
    for (let round = 0; round < 9; round++) {
      const start = performance.now();
      for (let i = 0; i < 500; i++) await disk.read((((i * 7919) % 2000) + round) * 4096, 4096);
      times.push(((performance.now() - start) * 1000) / 500);
    }
    await disk.close();
    return times.toSorted((a, b) => a - b)[4]!;
  },

  guestRead: (lba: number, count?: number) => guest!.read(lba, count),
  guestWrite: (lba: number, seed: number, count?: number) => guest!.write(lba, seed, count),

  async state(): Promise<State> {
    return {
      events: [...events],
      guest: {
        ticks: guest?.ticks ?? 0,
        errors: guest?.errors ?? 0,
        runs: emulator?.is_running() ?? false,
        output: "",
      },
      machine: (await qmp.execute("query-status")).status,
      job: await jobState(),
    };
  },

  cont: () => qmp.execute("cont"),
  resumeJob: () => qmp.execute("block-job-resume", { device: "fill" }),

  qmp: (command: "query-status", args: object) => qmp.execute(command, args),
  createImage: (spec: Parameters<typeof engine.createImage>[0]) => engine.createImage(spec),

  /** An image's file as it lies in its store. */
  async file(file: { driver: "opfs" | "indexeddb"; filename: string }): Promise<Uint8Array> {
    const disk = await engine.open({ ...file, "read-only": true });
    const bytes = await disk.read(0, disk.length);
    await disk.close();
    return bytes;
  },

  /** An export that the guest writes under: three writes, before the stream is read. */
  async exported(options: { format: "raw" | "qcow2"; compress?: boolean }, lba: number): Promise<Uint8Array> {
    const disk = await engine.disk("disk");
    const stream = await disk.imageStream(options);
    for (let i = 0; i < 3; i++) await guest!.write(lba + 700 * i, 77 + i, 9);
    const bytes = new Uint8Array(
      await new Response(stream as ReadableStream<Uint8Array<ArrayBuffer>>).arrayBuffer(),
    );
    await disk.close();
    return bytes;
  },

  /** The disk as a stream reads it. */
  async streamed(): Promise<Uint8Array> {
    const disk = await engine.disk("disk");
    const stream = disk.readable() as ReadableStream<Uint8Array<ArrayBuffer>>;
    const bytes = new Uint8Array(await new Response(stream).arrayBuffer());
    await disk.close();
    return bytes;
  },

  /** The disk as a handle reads it that would have its data in shared memory; and whether it has. */
  async shared(): Promise<{ isShared: boolean; first: number[] }> {
    const disk = await engine.disk("disk", { shared: true });
    const first = [...(await disk.read(0, 512))];
    await disk.close();
    return { isShared: disk.isShared, first };
  },

  async content(): Promise<Uint8Array> {
    const disk = await engine.disk("disk");
    const bytes = await disk.read(0, disk.length);
    await disk.close();
    return bytes;
  },
};

globalThis.call = async (name, args) =>
  (calls[name as keyof typeof calls] as (...given: unknown[]) => unknown)(...args);
globalThis.upload = async (name, args) => {
  const bytes = (await call(name, args)) as Uint8Array<ArrayBuffer>;
  await fetch("/upload", { method: "POST", body: new Blob([bytes]) });
};

obeyAgent();

/**
 * A guest's disk stays the guest's: what would change it as a whole is refused while the guest runs; sizes that cannot be held
 * are refused by name; a guest whose worker has gone stands still; a state is asked for before it is restored.
 */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import * as library from "../../../src/browser.ts";
import { RemoteMachine, type RunControl } from "../../../src/api/worker/guest.ts";
import { DiskState, savedParts } from "../../../src/machine/v86/state.ts";
import { toV86Disk } from "../../../src/v86.ts";

const MiB = 2 ** 20;
const engine = library.createEngine({ arenaBytes: 16 * MiB });
let disk: library.Node;

beforeAll(async () => {
  const file = { driver: "memory", size: 0 } as const;
  await using base = await library.openNode({ driver: "memory", size: MiB, "node-name": "base" }, { engine });
  await using storage = await library.openNode({ ...file, "node-name": "file" }, { engine });
  await library.createImage({ driver: "qcow2", file: "file", size: MiB }, { engine });
  disk = await library.openNode(
    { driver: "qcow2", file: storage.name, backing: base.name, "node-name": "disk" },
    { engine },
  );
});

afterAll(() => engine.close());

/** As much of v86 as the disk's link needs. */
class Emulator {
  running = true;
  run(): void {
    this.running = true;
  }
  stop(): void {
    this.running = false;
  }
  add_listener(): void {}
  remove_listener(): void {}
}

/** A state as v86 writes it: a header, and its description in JSON. */
function saved(parts: unknown[], magic = 0x86768676): Uint8Array {
  const text = new TextEncoder().encode(JSON.stringify({ buffer_infos: [], state: [1, [null, parts]] }));
  const bytes = new Uint8Array(16 + text.byteLength);
  const header = new DataView(bytes.buffer);
  header.setUint32(0, magic, true);
  header.setUint32(12, text.byteLength, true);
  bytes.set(text, 16);
  return bytes;
}

describe("under a guest that runs", () => {
  it("snapshots are not applied and the overlay is not discarded, unless that is wanted or the guest stands", async () => {
    await library.createSnapshot(disk, "before");
    const guest = await toV86Disk(disk, { device: "guest" });
    const busy = { code: "EBUSY", message: "the guest of 'guest' runs from node 'disk': stop it first" };
    await expect(library.applySnapshot(disk, "before")).rejects.toMatchObject(busy);
    await expect(library.discardOverlay(disk)).rejects.toMatchObject(busy);
    await library.applySnapshot(disk, "before", { underRunningGuest: true });
    await engine.machine.stop();
    await library.applySnapshot(disk, "before");
    await engine.machine.cont();
    await expect(library.applySnapshot(disk, "before", { force: true } as never)).rejects.toBeInstanceOf(
      library.CommandError,
    );
    await guest.close();
    await library.applySnapshot(disk, "before");
  });
});

describe("sizes beyond what is held", () => {
  const huge = 7 * 2 ** 60;
  it.each<[string, () => Promise<unknown>]>([
    ["measure", () => library.measure({ format: "raw", bytes: huge })],
    ["measure", () => library.measure({ format: "raw", bytes: Number.MAX_SAFE_INTEGER })],
    ["resize", () => library.resize(disk, huge)],
    [
      "createImage",
      () =>
        library.createImage(
          { driver: "raw", file: { driver: "opfs", filename: "x" }, size: huge },
          { engine },
        ),
    ],
  ])("%s() refuses them by name", async (_name, call) => {
    const refused = { code: "EFBIG", message: expect.stringContaining("limits.maxImageBytes") as string };
    await expect(call()).rejects.toMatchObject(refused);
  });
});

describe("a saved state", () => {
  it("is asked for before it is restored", async () => {
    const guest = await toV86Disk(disk, { device: "guest", identity: "mine" });
    guest.attach(new Emulator());
    const part = guest.get_state();
    expect(guest.accepts(saved(part))).toBe(true);
    expect(guest.accepts(saved(part).buffer as ArrayBuffer)).toBe(true);
    expect(guest.accepts(saved([...part.slice(0, 3), 5]))).toBe(false);
    expect(guest.accepts(saved([]))).toBe(false);
    expect(() => guest.accepts(new Uint8Array(4))).toThrow("no state of v86's save_state()");
    expect(() => guest.accepts(saved(part, 0xfd2fb528))).toThrow("the state is compressed");
    await guest.close();
  });

  it("that is refused leaves the machine stopped", async () => {
    const guest = await toV86Disk(disk, { device: "guest", identity: "mine" });
    const emulator = new Emulator();
    guest.attach(emulator);
    expect(() => guest.set_state(["blockwright", 1, "mine", 5])).toThrow("was written to since");
    expect([emulator.running, engine.machine.isRunning]).toEqual([false, false]);
    await engine.machine.cont();
    await guest.close();
  });

  it("names its parts", async () => {
    const state = await DiskState.load("a", 7);
    expect(savedParts(saved(state.hand())).map((part) => state.isOf(part))).toEqual([true]);
  });
});

it("a machine whose worker has gone stands still, and says why", async () => {
  const control: RunControl = {
    follow: () => undefined,
    running: () => Promise.resolve(true),
    stop: () => Promise.resolve(),
    cont: () => Promise.resolve(),
  };
  let end: (reason: Error) => void = () => undefined;
  const ended = new Promise<Error>((resolve) => (end = resolve));
  const machine = await RemoteMachine.follow(control, ended);
  const told: boolean[] = [];
  machine.watch((running) => told.push(running));
  const reason = new Error("the worker has gone");
  end(reason);
  await ended;
  expect([machine.isRunning, machine.lost, told]).toEqual([false, reason, [false]]);
  await machine.stop();
  await expect(machine.cont()).rejects.toBe(reason);
});

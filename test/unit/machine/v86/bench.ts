// A disk of v86 over a probe node, with an emulator that only stops and runs.
import { guestDiskOf } from "../../../../src/machine/guest-disk.ts";
import type { GuestDeviceOptions } from "../../../../src/machine/device.ts";
import { V86Disk } from "../../../../src/machine/v86/disk.ts";
import { DiskState, type GenerationKeeper } from "../../../../src/machine/v86/state.ts";
import { TestMachine } from "../../support/guest.ts";
import { type ProbeDriver, addProbe } from "../../support/probe.ts";
import { FakeEmulator } from "./fake-emulator.ts";

export interface Bench {
  bench: TestMachine;
  driver: ProbeDriver;
  disk: V86Disk;
  emulator: FakeEmulator;
  /** Reads as v86 does. */
  get(start: number, length: number, signal?: AbortSignal): { data: Uint8Array | undefined; calls: number };
  /** Writes as v86 does. */
  set(start: number, data: Uint8Array): { done: number };
}

type Policy = Pick<GuestDeviceOptions, "rerror" | "werror" | "deadlineMs" | "writeCache">;

export async function v86Bench(
  options: Policy & {
    size?: number;
    identity?: string;
    keeper?: GenerationKeeper;
    session?: number;
  } = {},
): Promise<Bench> {
  const { size = 64 * 1024, identity = "disk", keeper, session, ...policy } = options;
  const bench = new TestMachine();
  const { driver } = await addProbe(bench.test.graph, { "node-name": "p", size });
  const guest = await bench.guest("hda", { node: "p", rerror: "stop", werror: "stop", ...policy });
  const local = guestDiskOf(guest.device);
  const inner = { ...local, session: session ?? local.session };
  const disk = new V86Disk({
    disk: inner,
    state: await DiskState.load(identity, inner.session, keeper),
  });
  const emulator = new FakeEmulator();
  disk.attach(emulator);
  return {
    bench,
    driver,
    disk,
    emulator,
    get: (start, length, signal) => {
      const result: ReturnType<Bench["get"]> = { data: undefined, calls: 0 };
      const done = (data: Uint8Array): void => {
        result.data = data;
        result.calls += 1;
      };
      disk.get(start, length, done, signal ? { signal } : undefined);
      return result;
    },
    set: (start, data) => {
      const result = { done: 0 };
      disk.set(start, data, () => void (result.done += 1));
      return result;
    },
  };
}

/** `bytes` bytes of one value. */
export function filled(bytes: number, value: number): Uint8Array<ArrayBuffer> {
  return new Uint8Array(bytes).fill(value);
}

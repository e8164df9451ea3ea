// The disk that v86 gets: the whole interface, the order of requests, errors that stop the emulator or reach the guest.
import { AssertionError } from "../../../../src/base/assert.ts";
import { describe, expect, test } from "vitest";
import { blockError } from "../../../../src/base/errors.ts";
import { deferred } from "../../../../src/base/signals.ts";
import { limits } from "../../../../src/base/limits.ts";
import { V86Disk, type V86DiskInit } from "../../../../src/machine/v86/disk.ts";
import { filled, v86Bench } from "./bench.ts";
import { FakeDrive, FakeEmulator } from "./fake-emulator.ts";

describe("the interface", () => {
  test("load calls onload, byteLength is known before", async () => {
    const { disk } = await v86Bench();
    let loaded = 0;
    disk.onload = () => void (loaded += 1);
    expect(disk.byteLength).toBe(64 * 1024);
    disk.load();
    expect(loaded).toBe(1);
  });

  test("get gives exactly the bytes, set writes them", async () => {
    const { bench, driver, get, set } = await v86Bench();
    const written = set(512, filled(1024, 7));
    await bench.idle();
    expect(written.done).toBe(1);
    expect([driver.bytes[511], driver.bytes[512], driver.bytes[1535], driver.bytes[1536]]).toEqual([
      0, 7, 7, 0,
    ]);
    const read = get(1024, 1024);
    await bench.idle();
    expect(read).toEqual({ data: Uint8Array.from([...filled(512, 7), ...filled(512, 0)]), calls: 1 });
  });

  test("the first sector is at hand after get_and_cache, until it is written", async () => {
    const { bench, driver, disk, set } = await v86Bench();
    driver.bytes.set([1, 2, 3]);
    expect(disk.get_from_cache(0, 512)).toBeUndefined();
    let calls = 0;
    disk.get_and_cache(0, 512, () => void (calls += 1));
    await bench.idle();
    expect(calls).toBe(1);
    expect(disk.get_from_cache(0, 512)?.subarray(0, 4)).toEqual(Uint8Array.from([1, 2, 3, 0]));
    expect(disk.get_from_cache(256, 512)).toBeUndefined();
    set(0, filled(512, 9));
    expect(disk.get_from_cache(0, 512)).toBeUndefined();
  });

  test("get_buffer has none; buffer refuses", async () => {
    const { disk } = await v86Bench();
    let calls = 0;
    disk.get_buffer(() => void (calls += 1));
    expect(calls).toBe(1);
    expect(() => disk.buffer).toThrow("only as hda, hdb or cdrom");
  });

  test.each([0, 1000, 2 ** 41 + 512])("a disk of %i bytes is refused", (length) => {
    const init = { disk: { length }, state: undefined } as unknown as V86DiskInit;
    expect(() => new V86Disk(init)).toThrow(`this one has ${length} bytes`);
  });

  test("use before attach, and a second attach, are refused", async () => {
    const { disk } = await v86Bench();
    expect(() => disk.attach(new FakeEmulator())).toThrow("attached to an emulator already");
    const init = { disk: { length: 512 }, state: undefined } as unknown as V86DiskInit;
    const other = new V86Disk(init);
    expect(() => other.get(0, 512, () => undefined)).toThrow("attach(emulator) must be called");
  });
});

describe("order", () => {
  test("a read waits for every write that came before, and not for later ones", async () => {
    const { bench, driver, get, set } = await v86Bench();
    const gates = [deferred(), deferred()];
    let writes = 0;
    driver.before = ({ op }) => (op === "pwrite" ? gates[writes++]?.promise : undefined);
    const one = set(0, filled(512, 1));
    const read = get(0, 512);
    await bench.idle();
    expect([one.done, read.calls]).toEqual([0, 0]);
    gates[0]?.resolve();
    await bench.idle();
    expect(read.data).toEqual(filled(512, 1));
    const two = set(0, filled(512, 2));
    await bench.idle();
    expect(two.done).toBe(0);
  });

  test("writes go one after the other, and each is copied when it comes", async () => {
    const { bench, driver, set } = await v86Bench();
    const reused = filled(512, 1);
    set(0, reused);
    reused.fill(2);
    set(0, reused);
    reused.fill(3);
    await bench.idle();
    expect(driver.bytes.subarray(0, 512)).toEqual(filled(512, 2));
    expect(driver.take()).toEqual(["pwrite 0+512", "pwrite 0+512"]);
  });

  test("a write whose command the guest gave up is done, but not told", async () => {
    const { bench, driver, set } = await v86Bench();
    const gate = deferred();
    driver.before = () => gate.promise;
    const [one, two] = [set(0, filled(512, 1)), set(512, filled(512, 2))];
    gate.resolve();
    await bench.idle();
    expect([one.done, two.done]).toEqual([0, 1]);
    expect([driver.bytes[0], driver.bytes[512]]).toEqual([1, 2]);
  });

  test("an error of an aborted read stops nothing, and is answered to nobody but v86's own bookkeeping", async () => {
    const { bench, driver, get, disk } = await v86Bench();
    const gate = deferred();
    driver.before = () => gate.promise;
    const reset = new AbortController();
    const read = get(0, 512, reset.signal);
    await bench.idle();
    reset.abort();
    gate.reject(blockError("EIO", "pread"));
    await bench.idle();
    expect([read.data?.byteLength, disk.busy]).toEqual([0, false]);
    expect(bench.machine.isRunning).toBe(true);
  });

  test("writeCache: false makes a write durable before it is told", async () => {
    const { bench, driver, set } = await v86Bench({ writeCache: false });
    const written = set(0, filled(512, 1));
    driver.before = ({ op }) => expect([op, written.done]).toEqual([op, 0]);
    await bench.idle();
    expect(driver.take()).toEqual(["pwrite 0+512:16", "flush"]);
  });

  test("sync makes all writes durable, and refuses while some wait for the machine", async () => {
    const { bench, driver, set, disk } = await v86Bench();
    set(0, filled(512, 2));
    await bench.settle(disk.sync());
    expect(driver.take()).toEqual(["pwrite 0+512", "flush"]);
    await bench.machine.stop();
    await disk.sync();
    set(0, filled(512, 3));
    await expect(disk.sync()).rejects.toThrow("writes wait for the machine to run");
    expect(() => disk.get_state()).toThrow("writes are under way");
    await bench.machine.cont();
    await disk.sync();
    disk.get_state();
  });
});

describe("a disk that answers at once", () => {
  /** Reads give sevens at once. */
  async function fast() {
    const all = await v86Bench();
    const pread = (_offset: number, buffer: Uint8Array): void => void buffer.fill(7);
    Object.assign(all.driver, { pread });
    return all;
  }

  test("is answered within get, and keeps nothing waiting", async () => {
    const { disk, driver, get } = await fast();
    expect(get(512, 512)).toEqual({ data: filled(512, 7), calls: 1 });
    expect([disk.busy, driver.calls]).toEqual([false, []]);
  });

  test("waits for a write that came before, for a drain and for the machine all the same", async () => {
    const { bench, get, set } = await fast();
    set(0, filled(512, 1));
    const behind = get(512, 512);
    expect(behind.calls).toBe(0);
    await bench.idle();
    expect(behind.calls).toBe(1);
    await bench.machine.stop();
    const stopped = get(0, 512);
    await bench.idle();
    expect(stopped.calls).toBe(0);
    await bench.machine.cont();
    await bench.idle();
    expect(stopped.calls).toBe(1);
  });

  test("waits where it must", async () => {
    const { bench, driver, get } = await fast();
    const late: { buffer: Uint8Array; answer: () => void }[] = [];
    const pread = (_offset: number, buffer: Uint8Array): Promise<void> =>
      new Promise((answer) => void late.push({ buffer, answer }));
    Object.assign(driver, { pread });
    // Each under way has a buffer of its own.
    const reads = [get(0, 512), get(512, 512)];
    expect(reads.map(({ calls }) => calls)).toEqual([0, 0]);
    for (const [index, { buffer, answer }] of late.entries()) {
      buffer.fill(3 + index);
      answer();
    }
    await bench.idle();
    expect(reads.map(({ data }) => data)).toEqual([filled(512, 3), filled(512, 4)]);
  });
});

describe("errors", () => {
  test("a broken invariant stops the machine, and is told instead of tried again", async () => {
    const { bench, disk, driver, get, set } = await v86Bench();
    driver.before = ({ op }) => {
      if (op === "pwrite") throw new AssertionError("two and two");
    };
    const write = set(0, filled(512, 1));
    await bench.idle();
    expect([bench.machine.state, write.done]).toEqual(["io-error", 0]);
    driver.take();
    await bench.machine.cont();
    await bench.idle();
    expect(driver.take()).toEqual([]);
    expect(() => get(0, 512)).toThrow("two and two");
    expect(() => set(0, filled(512, 2))).toThrow("two and two");
    await expect(disk.sync()).rejects.toThrow("two and two");
    await expect(disk.close()).rejects.toThrow("two and two");
  });

  test("stop: the emulator stops, cont tries again and lets it run only when the answer is there", async () => {
    const { bench, driver, emulator, get } = await v86Bench();
    let failing = true;
    const gate = deferred();
    driver.before = () => {
      if (failing) throw blockError("EIO", "pread");
      return gate.promise;
    };
    const read = get(0, 512);
    await bench.idle();
    expect(bench.take()).toEqual(["BLOCK_IO_ERROR hda read stop", "STOP"]);
    emulator.tick();
    expect(emulator.running).toBe(false);
    failing = false;
    await bench.machine.cont();
    await bench.idle();
    expect([read.calls, emulator.running]).toEqual([0, false]);
    gate.resolve();
    await bench.idle();
    expect([read.data?.byteLength, emulator.running]).toEqual([512, true]);
    expect(bench.take()).toEqual(["RESUME"]);
  });

  test("an error at the second try stops it again, and it never ran", async () => {
    const { bench, driver, emulator, set } = await v86Bench();
    driver.before = () => {
      throw blockError("ENOSPC", "pwrite");
    };
    set(0, filled(512, 1));
    await bench.idle();
    emulator.tick();
    await bench.machine.cont();
    await bench.idle();
    expect(emulator.running).toBe(false);
    expect(bench.take()).toEqual([
      "BLOCK_IO_ERROR hda write stop",
      "STOP",
      "RESUME",
      "BLOCK_IO_ERROR hda write stop",
      "STOP",
    ]);
    driver.before = undefined;
    await bench.machine.cont();
    await bench.idle();
    expect([emulator.running, driver.bytes[0]]).toEqual([true, 1]);
  });

  test("the deadline stops the emulator at 20 s; a late answer reaches it, cont lets it run", async () => {
    const { bench, driver, emulator, get } = await v86Bench({ deadlineMs: 20_000 });
    const gate = deferred();
    driver.before = () => gate.promise;
    const read = get(0, 512);
    await bench.test.host.clock.step();
    await bench.idle();
    expect(bench.test.host.clock.nowMs()).toBe(20_000);
    expect(emulator.goesOn).toBe(false);
    emulator.tick();
    gate.resolve();
    await bench.idle();
    expect([read.data?.byteLength, emulator.running]).toEqual([512, false]);
    await bench.machine.cont();
    expect(emulator.running).toBe(true);
  });

  test("report without a way to the guest stops too, and loses nothing", async () => {
    const { bench, driver, emulator, disk, set } = await v86Bench({ werror: "report" });
    expect(disk.canReportErrors).toBe(false);
    let failing = true;
    driver.before = () => {
      if (failing) throw blockError("EIO", "pwrite");
    };
    const written = set(0, filled(512, 5));
    await bench.idle();
    expect(bench.take()).toEqual(["BLOCK_IO_ERROR hda write report", "STOP"]);
    expect([bench.machine.state, emulator.goesOn]).toEqual(["io-error", false]);
    failing = false;
    await bench.machine.cont();
    await bench.idle();
    expect([written.done, driver.bytes[0], emulator.goesOn]).toEqual([1, 5, true]);
  });
});

describe("run state", () => {
  test("the machine's stop and cont drive the emulator, and the emulator's own drive the machine", async () => {
    const { bench, emulator } = await v86Bench();
    await bench.machine.stop();
    expect(emulator.goesOn).toBe(false);
    emulator.tick();
    await bench.machine.cont();
    expect(emulator.running).toBe(true);
    void emulator.stop();
    emulator.tick();
    await bench.idle();
    expect(bench.machine.state).toBe("paused");
    void emulator.run();
    await bench.idle();
    expect([bench.machine.state, emulator.running]).toEqual(["running", true]);
    expect(bench.take()).toEqual(["STOP", "RESUME", "STOP", "RESUME"]);
  });

  test("a stop and a cont within one time slice leave it running", async () => {
    const { bench, emulator } = await v86Bench();
    await bench.machine.stop();
    await bench.machine.cont();
    emulator.tick();
    await bench.idle();
    expect([emulator.goesOn, bench.machine.state]).toEqual([true, "running"]);
  });

  test("run() during an error waits for the answer, as cont does", async () => {
    const { bench, driver, emulator, get } = await v86Bench();
    let failing = true;
    driver.before = () => {
      if (failing) throw blockError("EIO", "pread");
    };
    get(0, 512);
    await bench.idle();
    emulator.tick();
    void emulator.run();
    await bench.idle();
    emulator.tick();
    expect(emulator.running).toBe(false);
    failing = false;
    void emulator.run();
    await bench.idle();
    expect(emulator.goesOn).toBe(true);
  });

  test("too many bytes that the guest takes for written hold the emulator until they are", async () => {
    const { bench, driver, emulator, set } = await v86Bench({ size: limits.v86MaxPendingBytes + 512 });
    const gate = deferred();
    driver.before = () => gate.promise;
    set(0, filled(limits.v86MaxPendingBytes, 1));
    expect(emulator.goesOn).toBe(true);
    set(limits.v86MaxPendingBytes, filled(512, 1));
    expect(emulator.goesOn).toBe(false);
    emulator.tick();
    expect(bench.machine.isRunning).toBe(true);
    gate.resolve();
    await bench.idle();
    expect(emulator.running).toBe(true);
  });

  test("close leaves nothing behind", async () => {
    const { bench, emulator, disk, driver, set } = await v86Bench();
    set(0, filled(512, 4));
    await disk.close();
    expect(driver.bytes[0]).toBe(4);
    expect([emulator.listeners, bench.machine.devices.size]).toEqual([0, 0]);
    expect(bench.test.graph.backends.size).toBe(0);
  });
});

describe("telling the guest", () => {
  const eio = (): never => {
    throw blockError("EIO", "probe");
  };

  test.each([
    { name: "PIO", command: 0x20, status: 0xc0 },
    { name: "DMA", command: 0xc8, status: 0x58 },
  ])("a failed $name read is an uncorrectable error", async ({ command, status }) => {
    const { bench, driver, emulator, disk, get } = await v86Bench({ rerror: "report" });
    const drive = new FakeDrive().plug(emulator, disk);
    expect(disk.canReportErrors).toBe(true);
    Object.assign(drive, { current_command: command, status_reg: status });
    drive.channel.dma_status = 1;
    driver.before = eio;
    get(0, 512);
    await bench.idle();
    expect([drive.status_reg, drive.error_reg, drive.current_command]).toEqual([0x41, 0x40, -1]);
    expect([drive.channel.dma_status & 1, drive.cancelled]).toEqual([0, 1]);
    expect(drive.irqs).toEqual(["raise"]);
    expect([bench.machine.state, emulator.goesOn]).toEqual(["running", true]);
  });

  test("a PIO write keeps the drive busy until the disk has it", async () => {
    const { bench, driver, emulator, disk, set } = await v86Bench();
    const drive = new FakeDrive().plug(emulator, disk);
    const gate = deferred();
    driver.before = () => gate.promise;
    drive.current_command = 0x30;
    drive.push_irq();
    set(0, filled(512, 1));
    expect([drive.status_reg, drive.channel.dma_status & 4]).toEqual([0xd0, 0]);
    gate.resolve();
    await bench.idle();
    expect(drive.status_reg).toBe(0x50);
    expect(drive.irqs).toEqual(["raise", "lower 14", "raise"]);
  });

  test("a failed write is told as aborted, PIO or DMA", async () => {
    for (const command of [0x30, 0xca]) {
      const { bench, driver, emulator, disk, set } = await v86Bench({ werror: "report" });
      const drive = new FakeDrive().plug(emulator, disk);
      Object.assign(drive, { current_command: command, status_reg: 0x58 });
      driver.before = eio;
      const written = set(0, filled(512, 1));
      await bench.idle();
      expect([drive.status_reg, drive.error_reg, written.done]).toEqual([0x41, 0x04, 0]);
      expect(bench.machine.state).toBe("running");
    }
  });

  test("a drive that was reset meanwhile is left alone", async () => {
    const { bench, driver, emulator, disk, set } = await v86Bench();
    const drive = new FakeDrive().plug(emulator, disk);
    const gate = deferred();
    driver.before = () => gate.promise;
    drive.current_command = 0x30;
    set(0, filled(512, 1));
    drive.status_reg = 0x51;
    gate.resolve();
    await bench.idle();
    expect([drive.status_reg, driver.bytes[0]]).toEqual([0x51, 1]);
  });

  test("fields of other types than expected, or a CD-ROM drive, are left alone", async () => {
    const { emulator, disk } = await v86Bench();
    const drive = new FakeDrive().plug(emulator, disk);
    Object.assign(drive, { status_reg: "80" });
    expect(disk.canReportErrors).toBe(false);
    Object.assign(drive, { status_reg: 80, is_atapi: true });
    expect(disk.canReportErrors).toBe(false);
  });
});

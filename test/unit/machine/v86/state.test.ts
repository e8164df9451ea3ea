// What a saved state of the emulator holds of a disk, and when it is refused.
import { describe, expect, test } from "vitest";
import { deferred } from "../../../../src/base/signals.ts";
import type { GenerationKeeper } from "../../../../src/machine/v86/state.ts";
import { guestDiskOf } from "../../../../src/machine/guest-disk.ts";
import { TestMachine } from "../../support/guest.ts";
import { filled, v86Bench } from "./bench.ts";

/** Keeps the generation as a page's storage would. */
class MemoryKeeper implements GenerationKeeper {
  kept: number | undefined;
  fails = 0;

  load(): Promise<number | undefined> {
    return Promise.resolve(this.kept);
  }

  save(generation: number): Promise<void> {
    if (this.fails-- > 0) return Promise.reject(new Error("full"));
    this.kept = generation;
    return Promise.resolve();
  }
}

describe("a state", () => {
  test("is an array of primitives, and is taken while the disk is unchanged", async () => {
    const { disk } = await v86Bench();
    const state = disk.get_state();
    expect(state.every((part) => ["string", "number"].includes(typeof part))).toBe(true);
    disk.set_state(state);
    disk.set_state(JSON.parse(JSON.stringify(state)));
  });

  test("of an older content is refused", async () => {
    const { bench, disk, set } = await v86Bench();
    const state = disk.get_state();
    set(0, filled(512, 1));
    set(0, filled(512, 2));
    await bench.idle();
    expect(() => disk.set_state(state)).toThrow("was written to since the state was saved");
    const newer = disk.get_state();
    disk.set_state(newer);
    expect(newer.at(-1)).toBe((state.at(-1) as number) + 1);
  });

  test("of another disk, or of none of ours, is refused", async () => {
    const [one, other] = [await v86Bench({ identity: "one" }), await v86Bench({ identity: "other" })];
    expect(() => other.disk.set_state(one.disk.get_state())).toThrow(
      "the state belongs to the disk 'one', this is 'other'",
    );
    for (const state of [undefined, [], [[]], ["blockwright", 2, "other", 1]])
      expect(() => other.disk.set_state(state)).toThrow("not saved with a disk of Blockwright's");
  });

  test("is refused while writes are under way", async () => {
    const { bench, driver, disk, set } = await v86Bench();
    const gate = deferred();
    driver.before = () => gate.promise;
    set(0, filled(512, 1));
    expect(() => disk.get_state()).toThrow("writes are under way");
    gate.resolve();
    await bench.settle(disk.sync());
    disk.get_state();
  });

  test("without a keeper is good in its own session only", async () => {
    const [one, other] = [await v86Bench({ session: 1 << 20 }), await v86Bench({ session: 2 << 20 })];
    expect(() => other.disk.set_state(one.disk.get_state())).toThrow("was written to");
    const bench = new TestMachine();
    const sessions = [await bench.guest("a"), await bench.guest("b")].map(
      ({ device }) => guestDiskOf(device).session,
    );
    expect(Math.abs(sessions[0]! - sessions[1]!)).toBeGreaterThan(2 ** 20);
  });
});

describe("a keeper", () => {
  test("lets a state be restored after a reload, if nothing was written since", async () => {
    const keeper = new MemoryKeeper();
    const before = await v86Bench({ keeper });
    before.set(0, filled(512, 1));
    await before.bench.settle(before.disk.sync());
    const state = before.disk.get_state();
    const after = await v86Bench({ keeper });
    after.disk.set_state(state);
    after.set(0, filled(512, 2));
    await after.bench.idle();
    expect(() => after.disk.set_state(state)).toThrow("was written to");
    const third = await v86Bench({ keeper });
    expect(() => third.disk.set_state(state)).toThrow("was written to");
  });

  test("has the new generation before a write after a state is done", async () => {
    const keeper = new MemoryKeeper();
    const { bench, disk, driver, set } = await v86Bench({ keeper });
    const [, , , generation] = disk.get_state();
    driver.before = ({ op }) => {
      if (op === "pwrite") expect(keeper.kept).toBe((generation as number) + 1);
    };
    set(0, filled(512, 1));
    set(0, filled(512, 2));
    await bench.idle();
    expect(driver.take()).toEqual(["pwrite 0+512", "pwrite 0+512"]);
    expect(keeper.kept).toBe((generation as number) + 1);
  });

  test("that fails stops the machine, and no write is done before it works again", async () => {
    const keeper = new MemoryKeeper();
    const { bench, disk, driver, set } = await v86Bench({ keeper });
    const state = disk.get_state();
    keeper.fails = 1;
    bench.take();
    set(0, filled(512, 1));
    await bench.idle();
    expect([bench.machine.state, driver.take()]).toEqual(["io-error", []]);
    expect(bench.take()).toEqual(["BLOCK_IO_ERROR hda write stop", "STOP"]);
    await bench.machine.cont();
    await bench.idle();
    expect(driver.take()).toEqual(["pwrite 0+512"]);
    expect(() => disk.set_state(state)).toThrow("was written to");
    expect(keeper.kept).toBe((state.at(-1) as number) + 2);
  });
});

// The fence of a target whose parts several workers write, in a directory and in an object store: who may write which, who must stop,
// what the next one goes on from.
import { beforeEach, describe, expect, it } from "vitest";
import type { ObjectPlace } from "../../../../src/base/objects.ts";
import { type ActivePlan, Fence, type Plan, type Taken } from "../../../../src/cli/fleet/fence.ts";
import { FencedError } from "../../../../src/cli/fleet/place.ts";
import { placesOfEachTest } from "../../../support/places.ts";

const places = placesOfEachTest("a.fleet");

const plan: Plan = { spec: "job", source: "id", length: 300, partBytes: 100, token: "t" };

async function begun(fence: Fence, before?: ActivePlan): Promise<ActivePlan> {
  const number = before ? before.number + 1 : (await fence.look()).next;
  expect(await fence.replace(number, plan)).toBe(true);
  return { ...plan, number };
}

async function taken(fence: Fence, active: ActivePlan, part: number, last = 0): Promise<Taken> {
  return (await fence.take(active, part, last))!;
}

describe.each(places.objects)("a fence in $place", ({ open }) => {
  let one: Fence;
  let two: Fence;
  let objects: ObjectPlace;
  let discarded: string[];
  const fence = (watchMs: number): Fence =>
    new Fence(objects, watchMs, async (token) => void discarded.push(token));

  beforeEach(async () => {
    objects = await open();
    discarded = [];
    one = fence(60_000);
    two = fence(60_000);
  });

  it("gives a part to one of two, and to the next with what is durable of it", async () => {
    const active = await begun(one);
    expect(await two.plan()).toMatchObject({ ...plan, number: 1 });
    const both = await Promise.all([one.take(active, 0, 0), two.take(active, 0, 0)]);
    expect(both.filter((got) => got !== undefined)).toHaveLength(1);
    const first = both.find((got) => got !== undefined)!;
    await one.save(active, first, { position: 40, bytes: 40, under: 10 });
    expect((await two.states(active, 3)).map(({ is }) => is)).toEqual(["watched", "free", "free"]);
    await one.release(active, first);
    expect((await two.states(active, 3))[0]).toEqual({ is: "free", last: 1 });
    const next = await taken(two, active, 0, 1);
    expect(next).toMatchObject({ generation: 2, checkpoint: { position: 40, bytes: 40, under: 10 } });
    // Who had it before has nothing to say any more: neither how far it is nor that it is whole.
    await expect(one.save(active, first, { position: 90, bytes: 90, under: 0 })).rejects.toThrow(FencedError);
    await expect(one.release(active, first, { bytes: 100 })).rejects.toThrow(FencedError);
    await two.release(active, next, { bytes: 110 });
    expect((await one.states(active, 3)).map(({ is }) => is)).toEqual(["done", "free", "free"]);
    expect(await one.progressOf(active, 3)).toEqual({ bytes: 110, kept: 100 });
    // A part that was done after somebody had looked is not taken again.
    expect(await one.take(active, 0, 2)).toBeUndefined();
  });

  it("gives up an owner who is silent, and not one who gives signs of life", async () => {
    const watcher = fence(0);
    const active = await begun(one);
    const mine = await taken(one, active, 0);
    expect((await watcher.states(active, 1))[0]?.is).toBe("watched");
    await one.beat(active, mine);
    expect((await watcher.states(active, 1))[0]?.is).toBe("held");
    // Silent from here on.
    expect((await watcher.states(active, 1))[0]?.is).toBe("free");
    // His signs go with him: those who look ask for the facts of each.
    await one.release(active, mine);
    expect((await objects.list("f/")).filter(({ name }) => name.startsWith("f/h"))).toEqual([]);
  });

  it("has one plan in force: whoever is at another stops", async () => {
    const active = await begun(one);
    const mine = await taken(one, active, 1);
    const newer = await begun(two, active);
    expect(newer.number).toBe(2);
    await expect(one.save(active, mine, { position: 1, bytes: 1, under: 0 })).rejects.toThrow(FencedError);
    expect(await one.take(active, 2, 0)).toBeUndefined();
    // Who knows of the old one only puts none in force over the new one.
    expect(await one.replace(active.number + 1, plan)).toBe(false);
    expect(await two.replace(newer.number + 1, undefined)).toBe(true);
    expect(await one.plan()).toBeUndefined();
    expect((await begun(one)).number).toBe(4);
  });

  it("keeps of a target that is done that it is, and no more", async () => {
    const active = await begun(one);
    const last = await taken(one, active, 3);
    await one.finish(active, last, 300);
    expect(await two.done()).toMatchObject({ plan: 1, spec: "job", bytes: 300, length: 300 });
    expect((await objects.list("f/")).map(({ name }) => name)).toEqual(["f/done"]);
    expect(await two.take(active, 0, 0)).toBeUndefined();
    expect((await objects.list("f/")).map(({ name }) => name)).toEqual(["f/done"]);
    await expect(one.finish(active, last, 300)).rejects.toThrow(FencedError);
    expect((await begun(two)).number).toBe(2);
  });

  it("puts away what was begun and never got into force, and what was replaced", async () => {
    // Somebody was killed before his draft had its plan.
    const { next } = await one.look();
    await one.announce(next, "killed");
    const word = await two.announce(next, "slower");
    const active = { ...plan, token: "first", number: next };
    expect(await one.replace(next, active)).toBe(true);
    expect(discarded.toSorted()).toEqual(["killed", "slower"]);
    // Who was slower knows of nothing.
    expect(await two.replace(next, { ...plan, token: "slower" })).toBe(false);
    await two.withdraw("slower", word);
    expect(await two.plan()).toMatchObject({ token: "first" });
    discarded.length = 0;
    await two.announce(next + 1, "second");
    expect(await two.replace(next + 1, { ...plan, token: "second" })).toBe(true);
    expect(discarded).toEqual(["first"]);
    const last = await taken(two, { ...plan, token: "second", number: next + 1 }, 3);
    // What is in force is nobody's to put away; one that was begun for what comes after it may still get there.
    await one.announce(next + 2, "third");
    await two.finish({ ...plan, token: "second", number: next + 1 }, last, 300);
    expect(discarded).toEqual(["first"]);
    expect(await one.replace(next + 2, { ...plan, token: "third" })).toBe(true);
  });

  it("keeps the word of what could not be put away, for the next one", async () => {
    let isRefused = true;
    const tries: string[] = [];
    const refusing = new Fence(objects, 60_000, async (token) => {
      tries.push(token);
      if (isRefused) throw new Error("refused");
    });
    await refusing.announce(1, "killed");
    await expect(refusing.replace(1, plan)).rejects.toThrow("refused");
    expect(await refusing.plan()).toMatchObject({ number: 1, token: "t" });
    isRefused = false;
    const active = { ...plan, number: 1 };
    await refusing.finish(active, await taken(refusing, active, 3), 300);
    expect(tries).toEqual(["killed", "killed"]);
    expect((await objects.list("f/")).map(({ name }) => name)).toEqual(["f/done"]);
  });
});

// The fence beside a target: who may go on, who must stop, and what is taken over.
import {
  existsSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { thisOwner } from "../../../../src/platform/node/owner.ts";
import {
  type Checkpoint,
  ElsewhereError,
  FencedError,
  TargetPlace,
} from "../../../../src/cli/fleet/place.ts";

let folder: string;
let target: string;
let place: TargetPlace;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "bw-place-"));
  target = join(folder, "disk");
  place = new TargetPlace(target);
});

afterEach(() => rmSync(folder, { recursive: true }));

const checkpoint: Checkpoint = { spec: "job", source: "id", position: 5, bytes: 7, under: 2 };
const claim = (spec = "job", source = "id") => place.claim(spec, source, 1);

/** Makes another process of the owner of a generation. */
function ownedBy(generation: number, change: object): void {
  const file = join(folder, ".disk.fleet", `g${String(generation).padStart(6, "0")}`);
  writeFileSync(file, JSON.stringify({ ...thisOwner(), ...change }));
}

describe("a target's place", () => {
  it("is one owner's while he lives, and goes on from his checkpoint when he is dead", async () => {
    const first = await claim();
    writeFileSync(first.part, "part");
    place.save(first.generation, checkpoint);
    await expect(claim()).rejects.toThrow(ElsewhereError);
    ownedBy(1, { start: "another" });
    const second = await claim();
    expect(second).toMatchObject({ generation: 2, resume: checkpoint, before: 9 });
    expect(readFileSync(second.part, "utf8")).toBe("part");
    // The first, if it lives after all, has lost it.
    expect(() => place.save(1, checkpoint)).toThrow(FencedError);
    expect(() => place.publish(1, checkpoint, 9)).toThrow(FencedError);
    expect(existsSync(target)).toBe(false);
    place.publish(2, checkpoint, 9);
    expect(readFileSync(target, "utf8")).toBe("part");
    expect(readdirSync(join(folder, ".disk.fleet"))).toEqual(["done.json"]);
    expect(readdirSync(folder).toSorted()).toEqual([".disk.fleet", "disk"]);
    expect(place.done("job")).toMatchObject({ generation: 2, bytes: 7, length: 9 });
    expect(place.done("another")).toBeUndefined();
    expect(() => place.check(1)).toThrow(FencedError);
    rmSync(target);
    expect(place.done("job")).toBeUndefined();
    expect((await claim()).generation).toBe(3);
  });

  it("leaves as much as was found there when it ends before it has kept anything", async () => {
    const first = await claim();
    writeFileSync(first.part, "part");
    place.save(1, checkpoint);
    for (let generation = 1; generation < 4; generation += 1) {
      ownedBy(generation, { start: "another" });
      const next = await claim();
      expect(next).toMatchObject({ generation: generation + 1, resume: { position: 5 }, before: 9 });
      expect(readFileSync(next.part, "utf8")).toBe("part");
    }
    // Nor is anything lost where it ended between its checkpoint and the part's name.
    renameSync(join(folder, ".disk.part-4"), join(folder, ".disk.part-3"));
    ownedBy(4, { start: "another" });
    expect(await claim()).toMatchObject({ generation: 5, resume: { position: 5 }, before: 9 });
    expect(readdirSync(folder).toSorted()).toEqual([".disk.fleet", ".disk.part-5"]);
  });

  it.each([
    ["one elsewhere", { machine: "another" }],
    ["one that tells no machine", { machine: "" }],
  ])("begins anew after %s, who may write yet", async (_who, change) => {
    const first = await claim();
    writeFileSync(first.part, "part");
    place.save(1, checkpoint);
    ownedBy(1, change);
    const second = await claim();
    expect(second).toMatchObject({ generation: 2, resume: undefined, before: 9 });
    expect(existsSync(first.part)).toBe(false);
    // One that died in between changes nothing of that: the first may still write.
    ownedBy(2, { start: "another" });
    writeFileSync(first.part, "part");
    expect(await claim()).toMatchObject({ generation: 3, resume: undefined });
    expect(existsSync(first.part)).toBe(false);
  });

  it("waits for one elsewhere who touches his file", async () => {
    await claim();
    ownedBy(1, { machine: "another" });
    const touching = setInterval(() => place.touch(1), 2);
    try {
      await expect(place.claim("job", "id", 100)).rejects.toThrow(ElsewhereError);
    } finally {
      clearInterval(touching);
    }
  });

  it.each([
    ["job", "another"],
    ["another", "id"],
  ])("goes on with nothing of another job or source (%s, %s)", async (spec, source) => {
    const first = await claim();
    writeFileSync(first.part, "part");
    place.save(1, checkpoint);
    place.release(1);
    expect((await claim(spec, source)).resume).toBeUndefined();
    expect(existsSync(first.part)).toBe(false);
  });

  it("is not taken where it was done after it was looked for", async () => {
    const first = await claim();
    writeFileSync(first.part, "part");
    expect(place.done("job")).toBeUndefined();
    const done = place.publish(1, checkpoint, 9);
    expect(await claim()).toMatchObject({ done });
    expect(readdirSync(join(folder, ".disk.fleet"))).toEqual(["done.json"]);
    // Another job of that target takes it.
    expect(await claim("another")).toMatchObject({ generation: 2, done: undefined });
  });

  it("knows the target of one who was killed after he named it", async () => {
    const first = await claim();
    writeFileSync(first.part, "part");
    place.publish(1, checkpoint, 9);
    // As it was before the last step.
    rmSync(join(folder, ".disk.fleet", "done.json"));
    ownedBy(1, { start: "another" });
    const { ino } = await import("node:fs").then(({ statSync }) => statSync(target));
    writeFileSync(join(folder, ".disk.fleet", "c000001"), JSON.stringify({ ...checkpoint, whole: ino }));
    const second = await claim();
    expect(second.resume).toMatchObject({ whole: ino });
    place.publish(2, second.resume!, 9);
    expect(place.done("job")).toMatchObject({ generation: 2 });
  });
});

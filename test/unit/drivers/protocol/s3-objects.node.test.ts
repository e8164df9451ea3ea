// Objects below a key of a bucket, as a repository has them: what a directory of objects does they do too, and a store's faults
// are told from another's object.
import { describe, expect, it } from "vitest";
import { placeIn } from "../../../support/s3-place.ts";
import { placesOfEachTest } from "../../../support/places.ts";

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);
const text = (content: Uint8Array): string => new TextDecoder().decode(content);

const key = "re%20po";
const places = placesOfEachTest(key);
const inBucket = () => placeIn(places.store, places.engine, key);

describe.each(places.objects)("objects in $place", ({ open }) => {
  it("are made once, put anew, read in part, listed and removed", async () => {
    const objects = await open();
    expect(await objects.isEmpty()).toBe(true);
    expect(await objects.putIfAbsent("packs/a", bytes("first"))).toBe(true);
    expect(await objects.putIfAbsent("packs/a", bytes("other"))).toBe(false);
    expect(text(await objects.get("packs/a"))).toBe("first");
    await objects.put("packs/a", bytes("0123456789"));
    expect(text(await objects.get("packs/a", { offset: 3, bytes: 4 }))).toBe("3456");
    expect(text(await objects.get("packs/a", { offset: 8, bytes: 4 }))).toBe("89");
    expect(await objects.get("packs/a", { offset: 10, bytes: 4 })).toHaveLength(0);
    expect(await objects.get("packs/a", { offset: 2, bytes: 0 })).toHaveLength(0);
    for (const name of ["e", "c", "d", "b"]) await objects.put(`packs/${name}`, bytes(name));
    await objects.put("holders/x", new Uint8Array());
    const listed = await objects.list("packs/");
    expect(listed.map(({ name, bytes: size }) => [name, size])).toEqual([
      ...[["packs/a", 10], ...["b", "c", "d", "e"].map((name) => [`packs/${name}`, 1])],
    ]);
    for (const { changedMs } of listed) expect(Math.abs(Date.now() - changedMs)).toBeLessThan(3600_000);
    expect(await objects.list("backups/")).toEqual([]);
    expect(await objects.isEmpty()).toBe(false);
    await objects.remove("packs/a");
    await objects.remove("packs/a");
    await expect(objects.get("packs/a")).rejects.toMatchObject({ code: "ENOENT" });
    await objects.sweep();
  });
});

describe("faults of a store", () => {
  it("an answer that was lost is no other's object", async () => {
    const objects = await inBucket();
    let lost = 1;
    places.store.fault = ({ method }) =>
      method === "PUT" && lost-- > 0 ? { status: 503, after: true } : undefined;
    expect(await objects.putIfAbsent("packs/a", bytes("ours"))).toBe(true);
    lost = 1;
    expect(await objects.putIfAbsent("packs/a", bytes("theirs"))).toBe(false);
  });

  it("are errnos that name the object", async () => {
    const objects = await inBucket();
    await objects.put("packs/a", bytes("0123456789"));
    places.store.fault = () => ({ status: 507 });
    await expect(objects.put("packs/b", bytes("x"))).rejects.toMatchObject({
      code: "ENOSPC",
      message: expect.stringContaining("'packs/b': ") as string,
    });
    places.store.fault = () => ({ status: 503 });
    await expect(objects.get("packs/a")).rejects.toMatchObject({ code: "EIO" });
    places.store.fault = () => ({ status: 200, headers: { "Content-Length": "0" } });
    await expect(objects.get("packs/a", { offset: 0, bytes: 2 })).rejects.toMatchObject({ code: "ENOTSUP" });
  });
});

// Objects: throttle groups, secrets and iothreads, in QEMU's words.
import { describe, expect, test } from "vitest";
import { makeObject } from "../../../src/machine/object-kinds.ts";
import { throttleGroupsOf } from "../../../src/block/throttle/throttle.ts";
import { ObjectRegistry } from "../../../src/machine/objects.ts";
import { throttle } from "../../../src/drivers/filter/throttle.ts";
import { TestGraph } from "../support/graph.ts";

function registry(): { test: TestGraph; objects: ObjectRegistry } {
  const made = new TestGraph();
  return { test: made, objects: new ObjectRegistry(made.graph, makeObject) };
}

describe("objects", () => {
  test("each kind is listed until it is removed", async () => {
    const { objects } = registry();
    await objects.add({ "qom-type": "throttle-group", id: "t", limits: { "bps-total": 1000 } });
    await objects.add({ "qom-type": "iothread", id: "i" });
    await objects.add({ "qom-type": "secret", id: "s", data: "abc" });
    expect(objects.list()).toEqual([
      { name: "t", type: "child<throttle-group>" },
      { name: "i", type: "child<iothread>" },
      { name: "s", type: "child<secret>" },
    ]);
    for (const id of ["t", "i", "s"]) objects.remove(id);
    expect(objects.list()).toEqual([]);
    expect(() => objects.remove("t")).toThrow("object 't' not found");
  });

  test("a throttle group takes limits as properties of their own, beside those in limits", async () => {
    const { test: graph, objects } = registry();
    await objects.add({
      "qom-type": "throttle-group",
      id: "t",
      "x-bps-total": 1000,
      limits: { "iops-total": 5 },
    });
    expect(throttleGroupsOf(graph.graph).get("t")?.limits).toMatchObject({
      "bps-total": 1000,
      "iops-total": 5,
    });
  });

  test.each(["", "1a", "a b", "a/b", "é"])("the id '%s' is refused", async (id) => {
    const { objects } = registry();
    await expect(objects.add({ "qom-type": "iothread", id })).rejects.toThrow(
      "Parameter 'id' expects an identifier",
    );
  });

  test("an id is taken once", async () => {
    const { objects } = registry();
    await objects.add({ "qom-type": "iothread", id: "i" });
    await expect(objects.add({ "qom-type": "iothread", id: "i" })).rejects.toThrow(
      "attempt to add duplicate property 'i' to object (type 'container')",
    );
  });

  test("an object that could not be made leaves its id free", async () => {
    const { objects, test: made } = registry();
    await expect(objects.add({ "qom-type": "secret", id: "s" })).rejects.toThrow();
    await objects.add({ "qom-type": "secret", id: "s", data: "x" });
    expect([...made.graph.secrets.lookup("s")]).toEqual([120]);
  });
});

describe("secrets", () => {
  test.each([
    [{ data: "aGk=", format: "base64" } as const, [104, 105]],
    [{ data: "aGk=" }, [97, 71, 107, 61]],
    [{ data: "ü" }, [195, 188]],
  ])("%o", async (options, bytes) => {
    const { objects, test: made } = registry();
    await objects.add({ "qom-type": "secret", id: "s", ...options });
    expect([...made.graph.secrets.lookup("s")]).toEqual(bytes);
    objects.remove("s");
    expect(() => made.graph.secrets.lookup("s")).toThrow("No secret with id 's'");
  });

  test.each([
    [{ data: "a", file: "f" }, "'file' and 'data' are mutually exclusive"],
    [{}, "Either 'file' or 'data' must be provided"],
    [{ data: "a", keyid: "k" }, "IV is required to decrypt secret"],
    [{ data: "!!", format: "base64" } as const, "Base64 data contains invalid characters"],
  ])("%o is refused", async (options, message) => {
    const { objects } = registry();
    await expect(objects.add({ "qom-type": "secret", id: "s", ...options })).rejects.toThrow(message);
  });
});

test("a throttle group in use can't be removed", async () => {
  const { test: made, objects } = registry();
  made.graph.register(throttle);
  await objects.add({ "qom-type": "throttle-group", id: "t" });
  await made.disk("n", 512);
  await made.graph.add({ driver: "throttle", "node-name": "f", file: "n", "throttle-group": "t" });
  expect(() => objects.remove("t")).toThrow("object 't' is in use, can not be deleted");
  await made.graph.remove("f");
  objects.remove("t");
  expect(objects.list()).toEqual([]);
});

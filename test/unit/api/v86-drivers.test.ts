/**
 * In `blockwright/v86` one name is a driver, for createEngine(), and the builder of its descriptions, for openNode().
 */
import { expect, it } from "vitest";
import * as library from "../../../src/browser.ts";
import * as v86 from "../../../src/v86.ts";

it("drivers are builders, and stay the drivers that they are", async () => {
  const { createEngine, createImage, memory, openNode, overlay, qcow2, raw } = v86;
  const engine = createEngine({ drivers: [qcow2, raw, memory], arenaBytes: 2 ** 24 });
  expect([...engine.graph.drivers].map(({ name }) => name)).toEqual(
    expect.arrayContaining(["qcow2", "raw", "memory"]),
  );
  await openNode(engine, memory(0, { "node-name": "store" }));
  await createImage(engine, { ...qcow2("store"), size: 2 ** 20 });
  const base = await openNode(engine, raw(memory(new Uint8Array(2 ** 20).fill(7)), { "node-name": "base" }));
  const disk = await openNode(engine, overlay("base", "store"));
  expect(await disk.read(0, 2)).toEqual(new Uint8Array([7, 7]));
  expect(qcow2.name).toBe("qcow2");
  await disk.close();
  await base.close();
  await engine.close();
});

it("and build what the library's builders build", () => {
  expect(v86.http("https://example.org/disk")).toEqual(library.http("https://example.org/disk"));
  expect(v86.opfs("disk")).toEqual(library.opfs("disk"));
  expect(v86.qcow2(v86.opfs("disk"))).toEqual(library.qcow2(library.opfs("disk")));
});

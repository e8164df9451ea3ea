// Zeroes that a mirror brings to an image free what it held there, where the image may discard.
import { afterAll, expect, test } from "vitest";
import { type Node, createEngine, createImage, mirror, openNode, whenReady } from "../../../src/browser.ts";

const MiB = 1 << 20;
const engine = createEngine({ arenaBytes: 16 * MiB });

afterAll(() => engine.close());

/** A qcow2 image full of data. */
async function full(name: string, discard: "unmap" | "ignore"): Promise<Node> {
  await engine.graph.add({ driver: "memory", "node-name": `${name}-file`, size: 0, discard: "unmap" });
  await createImage({ driver: "qcow2", file: `${name}-file`, size: 4 * MiB }, { engine });
  const spec = { driver: "qcow2", "node-name": name, file: `${name}-file`, discard } as const;
  const node = await openNode(spec, { engine });
  await node.write(0, new Uint8Array(4 * MiB).fill(7));
  await node.flush();
  return node;
}

const heldBy = async (name: string): Promise<number> =>
  (await engine.graph.node(`${name}-file`).driver.allocatedBytes?.()) ?? -1;

test.each(["unmap", "ignore"] as const)("a mirror, discard=%s", async (discard) => {
  const name = `target-${discard}`;
  const target = await full(name, discard);
  const source = await openNode({ driver: "memory", size: 4 * MiB }, { engine });
  const job = await mirror(source, target);
  await whenReady(job);
  await job.cancel({ force: false });
  await job.done;
  expect((await target.read(0, 4 * MiB)).every((byte) => byte === 0)).toBe(true);
  await target.flush();
  if (discard === "unmap") expect(await heldBy(name)).toBeLessThan(MiB);
  else expect(await heldBy(name)).toBeGreaterThan(4 * MiB);
});

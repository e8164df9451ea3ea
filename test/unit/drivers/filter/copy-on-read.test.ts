// The copy-on-read filter over a small format with a backing file.
import { childOf, nodeOf } from "../../../../src/block/model/node.ts";
import { describe, expect, it } from "vitest";
import type { Child } from "../../../../src/block/model/node.ts";
import {
  type BlockDriver,
  type BlockStatus,
  type DriverType,
  Req,
  Role,
} from "../../../../src/block/model/contract.ts";
import { FilterDriver } from "../../../../src/block/model/filter-driver.ts";
import type { BlockNode } from "../../../../src/block/model/node.ts";
import { childOption } from "../../../../src/block/model/options.ts";
import { Perm } from "../../../../src/block/model/permissions.ts";
import type { Permissions } from "../../../../src/block/model/contract.ts";
import { copyOnRead } from "../../../../src/drivers/filter/copy-on-read.ts";
import { MiB, pattern, TestGraph } from "../../support/graph.ts";

const CLUSTER = 4096;

/** The smallest format with a backing file: a set of allocated clusters, kept in memory. */
class OverlayDriver extends FilterDriver implements BlockDriver {
  readonly allocated = new Set<number>();
  readonly #node: BlockNode;

  constructor(node: BlockNode, file: Child) {
    super(file);
    this.#node = node;
  }

  override async pread(offset: number, buffer: Uint8Array): Promise<void> {
    for (let at = 0; at < buffer.byteLength; at += CLUSTER) {
      const from = this.allocated.has((offset + at) / CLUSTER) ? this.below : this.#node.backing;
      const part = buffer.subarray(at, at + CLUSTER);
      if (from) await from.pread(offset + at, part);
      else part.fill(0);
    }
  }

  override async pwrite(offset: number, buffer: Uint8Array): Promise<void> {
    for (let at = 0; at < buffer.byteLength; at += CLUSTER) this.allocated.add((offset + at) / CLUSTER);
    await this.below.pwrite(offset, buffer);
  }

  override blockStatus(offset: number): Promise<BlockStatus> {
    const allocated = this.allocated.has(offset / CLUSTER);
    return Promise.resolve({ bytes: CLUSTER, data: allocated, zero: false, allocated });
  }

  limits(): { requestAlignment: number } {
    return { requestAlignment: CLUSTER };
  }

  childPermissions(child: Child, parent: Permissions): Permissions {
    if (child.name === "backing") return { perm: parent.perm & Perm.consistentRead, shared: Perm.all };
    return { perm: Perm.consistentRead | Perm.write | Perm.resize, shared: Perm.all };
  }
}

const overlay: DriverType = {
  name: "overlay",
  kind: "format",
  supportsBacking: true,
  async open(context, spec) {
    return new OverlayDriver(
      nodeOf(context.node),
      childOf(await context.openChild(childOption(spec, "file"), "file", Role.image)),
    );
  },
};

function clusters(set: Set<number>): number[] {
  return [...set].toSorted((a, b) => a - b);
}

/** Chain top -> mid -> base, three clusters: 0 is in base, 1 in mid, 2 in top. */
async function chain(
  options: Record<string, unknown>,
): Promise<{ test: TestGraph; edge: Child; top: Set<number> }> {
  const test = new TestGraph(MiB);
  test.graph.register(overlay, copyOnRead);
  let backing: string | null = null;
  for (const [index, name] of ["base", "mid", "top"].entries()) {
    await test.disk(`${name}-file`, 4 * CLUSTER);
    const node: BlockNode = await test.graph.add({
      driver: "overlay",
      "node-name": name,
      file: `${name}-file`,
      backing,
    });
    await node.driver.pwrite?.(index * CLUSTER, pattern(CLUSTER, index + 1), 0);
    backing = name;
  }
  await test.graph.add({ driver: "copy-on-read", "node-name": "cor", file: "top", ...options });
  const driver = test.graph.node("top").driver;
  if (!(driver instanceof OverlayDriver)) throw new Error("no overlay");
  return { test, edge: await test.edge("cor"), top: driver.allocated };
}

describe("copy-on-read", () => {
  it("copies what it reads from the chain into the node below", async () => {
    const { edge, top, test } = await chain({});
    const buffer = new Uint8Array(2 * CLUSTER);
    await edge.pread(0, buffer);
    expect(buffer.subarray(0, CLUSTER)).toEqual(pattern(CLUSTER, 1));
    expect(buffer.subarray(CLUSTER)).toEqual(pattern(CLUSTER, 2));
    expect(clusters(top)).toEqual([0, 1, 2]);
    expect(await test.content("top-file", 0, CLUSTER)).toEqual(pattern(CLUSTER, 1));
  });

  it("copies with bottom only what lies above it or in it", async () => {
    const { edge, top } = await chain({ bottom: "mid" });
    const buffer = new Uint8Array(3 * CLUSTER);
    await edge.pread(0, buffer);
    for (let i = 0; i < 3; i++) {
      expect(buffer.subarray(i * CLUSTER, (i + 1) * CLUSTER)).toEqual(pattern(CLUSTER, i + 1));
    }
    expect(clusters(top)).toEqual([1, 2]);
  });

  it("populates on a prefetch and leaves the buffer alone", async () => {
    const { edge, top } = await chain({ bottom: "mid" });
    const buffer = new Uint8Array(2 * CLUSTER).fill(0xee);
    await edge.pread(0, buffer, Req.prefetch);
    expect(buffer.every((byte) => byte === 0xee)).toBe(true);
    expect(clusters(top)).toEqual([1, 2]);
  });

  it("lets writes through", async () => {
    const { edge, top, test } = await chain({});
    await edge.pwrite(3 * CLUSTER, pattern(CLUSTER, 9));
    expect(top.has(3)).toBe(true);
    expect(await test.content("top-file", 3 * CLUSTER, CLUSTER)).toEqual(pattern(CLUSTER, 9));
  });

  it("takes write-unchanged on its child, beside what the parents take", async () => {
    const { test } = await chain({});
    expect(test.graph.node("cor").filtered?.perm).toBe(
      Perm.consistentRead | Perm.write | Perm.writeUnchanged,
    );
  });

  it("freezes the chain down to bottom while it is open", async () => {
    const { test, edge } = await chain({ bottom: "mid" });
    const link = test.graph.node("top").backing;
    expect(link?.frozen).toBe(true);
    expect(test.graph.node("mid").backing?.frozen).toBe(false);
    await test.graph.detach(edge);
    await test.graph.remove("cor");
    expect(link?.frozen).toBe(false);
  });

  it("refuses a bottom that is missing, a filter, or elsewhere", async () => {
    const { test } = await chain({});
    const spec = { driver: "copy-on-read", "node-name": "other", file: "top" };
    await expect(test.graph.add({ ...spec, bottom: "zz" })).rejects.toThrow("Bottom node 'zz' not found");
    await expect(test.graph.add({ ...spec, bottom: "cor" })).rejects.toThrow("Bottom node 'cor' is a filter");
    await expect(test.graph.add({ ...spec, bottom: "top-file" })).rejects.toThrow(
      "is not in the backing chain of 'top'",
    );
    expect(test.graph.findNode("other")).toBeUndefined();
  });
});

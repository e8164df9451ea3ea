// discard-no-unref of qcow2 (QEMU 8.1): what is discarded keeps its cluster for the next write, and reads as zeroes; the file
// gives the room back. The real qemu-img 7.2 finds nothing wrong with the image and reads the same.
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { reopen } from "../../src/block/graph/reopen.ts";
import { createEngine, file, openNode, qcow2, resize } from "../../src/node.ts";

const KiB = 1024;
const MiB = KiB * KiB;
const CLUSTER = 64 * KiB;

let cwd = "";
const image = (): string => join(cwd, "a.qcow2");
const run = (program: string, ...args: string[]): string =>
  execFileSync(program, args, { cwd, encoding: "utf8" });

beforeEach(() => void (cwd = mkdtempSync(join(tmpdir(), "blockwright-unref-"))));
afterEach(() => rmSync(cwd, { recursive: true, force: true }));

function make(...options: string[]): void {
  run("qemu-img", "create", "-q", "-f", "qcow2", ...options, "a.qcow2", "2M");
  run("qemu-io", "-f", "qcow2", "-c", "write -q -P 7 0 2M", "a.qcow2");
}

const opened = (more: object = {}) =>
  openNode(qcow2(file(image()), { "discard-no-unref": true, discard: "unmap", ...more }));

interface Extent {
  start: number;
  length: number;
  zero: boolean;
  offset?: number;
}

/** Where each cluster lies in the file; undefined: nowhere. */
function places(): (number | undefined)[] {
  const extents = JSON.parse(run("qemu-img", "map", "--output=json", "a.qcow2")) as Extent[];
  const last = extents.at(-1)!;
  return Array.from({ length: (last.start + last.length) / CLUSTER }, (_, cluster) => {
    const at = cluster * CLUSTER;
    const { start, offset } = extents.find((one) => one.start <= at && at < one.start + one.length)!;
    return offset === undefined ? undefined : offset + at - start;
  });
}

describe.each([["plain", []] as const, ["extended_l2", ["-o", "extended_l2=on"]] as const])(
  "%s",
  (_name, options) => {
    it("keeps the place of what is discarded or made zero", async () => {
      make(...options);
      const before = places();
      const { size, blocks } = statSync(image());
      {
        await using node = await opened();
        await node.discard(CLUSTER, 8 * CLUSTER);
        await node.writeZeroes(16 * CLUSTER, 4 * CLUSTER, { unmap: true });
        expect((await node.read(0, MiB)).subarray(CLUSTER, 9 * CLUSTER).every((byte) => byte === 0)).toBe(
          true,
        );
      }
      run("qemu-img", "check", "-q", "a.qcow2");
      expect(places()).toEqual(before);
      expect(statSync(image()).size).toBe(size);
      expect((blocks - statSync(image()).blocks) * 512).toBeGreaterThan(11 * CLUSTER);
      {
        await using node = await opened();
        await node.write(2 * CLUSTER + 5, new Uint8Array(1000).fill(9));
      }
      run("qemu-img", "check", "-q", "a.qcow2");
      expect(places()).toEqual(before);
      run("qemu-io", "-f", "qcow2", "-c", `read -q -P 9 ${2 * CLUSTER + 5} 1000`, "a.qcow2");
      for (const [value, from, bytes] of [
        [7, 0, CLUSTER],
        [0, CLUSTER, CLUSTER],
        [0, 2 * CLUSTER, 5],
        [0, 2 * CLUSTER + 1005, 7 * CLUSTER - 1005],
        [7, 9 * CLUSTER, 7 * CLUSTER],
        [0, 16 * CLUSTER, 4 * CLUSTER],
        [7, 20 * CLUSTER, 12 * CLUSTER],
      ])
        expect(
          run("qemu-io", "-f", "qcow2", "-c", `read -P ${value} ${from} ${bytes}`, "a.qcow2"),
        ).not.toMatch(/fail/);
    });

    it("gives no room back where discards are not passed on", async () => {
      make(...options);
      const { blocks } = statSync(image());
      await using node = await opened({ "pass-discard-request": false });
      await node.discard(0, MiB);
      await node.flush();
      expect(statSync(image()).blocks).toBe(blocks);
    });

    it("lets go of what a snapshot shares, and leaves it whole", async () => {
      make(...options);
      run("qemu-img", "snapshot", "-c", "s", "a.qcow2");
      {
        await using node = await opened();
        await node.discard(0, MiB);
      }
      run("qemu-img", "check", "-q", "a.qcow2");
      expect(places().slice(0, 16)).toEqual(Array.from({ length: 16 }, () => undefined));
      run("qemu-img", "snapshot", "-a", "s", "a.qcow2");
      expect(run("qemu-io", "-f", "qcow2", "-c", "read -P 7 0 2M", "a.qcow2")).not.toMatch(/fail/);
    });

    it("gives all back when the disk is emptied or made smaller", async () => {
      make(...options);
      {
        await using node = await opened();
        await resize(node, MiB);
      }
      run("qemu-img", "check", "-q", "a.qcow2");
      expect(places()).toHaveLength(16);
      expect(statSync(image()).size).toBeLessThan(2 * MiB);
    });
  },
);

it("leaves a compressed cluster nothing to keep", async () => {
  make();
  run("qemu-img", "convert", "-c", "-O", "qcow2", "a.qcow2", "b.qcow2");
  run("mv", "b.qcow2", "a.qcow2");
  {
    await using node = await opened();
    await node.discard(0, MiB);
  }
  run("qemu-img", "check", "-q", "a.qcow2");
  expect(run("qemu-io", "-f", "qcow2", "-c", "read -P 0 0 1M", "a.qcow2")).not.toMatch(/fail/);
});

it("can be changed while the image is open, and wants version 3", async () => {
  make();
  const before = places();
  {
    await using engine = createEngine();
    const spec = qcow2(file(image()), { discard: "unmap", "node-name": "n" });
    await using node = await openNode({ ...spec, file: { ...file(image()), "node-name": "f" } }, { engine });
    await reopen(engine.graph, [{ ...spec, file: "f", "discard-no-unref": true }]);
    await node.discard(0, CLUSTER);
  }
  expect(places()).toEqual(before);
  run("qemu-img", "amend", "-f", "qcow2", "-o", "compat=0.10", "a.qcow2");
  await expect(opened()).rejects.toThrow("discard-no-unref is only supported since qcow2 version 3");
});

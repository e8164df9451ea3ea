// x-blockdev-recover: it reaches all storage below a node, tells what fails again, and knows its nodes.
import { expect, test } from "vitest";
import { blockError } from "../../../../../src/base/errors.ts";
import type { BlockDriver, DriverType } from "../../../../../src/block/model/contract.ts";
import { Daemon } from "./daemon.ts";

test("recovers each storage below the node, and nothing else", async () => {
  const daemon = new Daemon();
  const asked: string[] = [];
  let fails = false;
  const type: DriverType = {
    name: "storage",
    kind: "protocol",
    open: ({ node }) => {
      const driver: BlockDriver = {
        length: () => 1 << 20,
        pread: (_offset, buffer) => void buffer.fill(0),
        recover: () => {
          asked.push(node.name);
          return fails ? Promise.reject(blockError("EIO", "flush")) : Promise.resolve(true);
        },
      };
      return Promise.resolve(driver);
    },
  };
  daemon.engine.graph.register(type);
  await daemon.engine.graph.add({ driver: "storage", "node-name": "below" });
  await daemon.engine.graph.add({ driver: "storage", "node-name": "beside" });
  await daemon.engine.graph.add({ driver: "raw", "node-name": "disk", file: "below" });
  expect(await daemon.run("x-blockdev-recover", { "node-name": "disk" })).toEqual({});
  expect(asked).toEqual(["below"]);
  fails = true;
  await expect(daemon.run("x-blockdev-recover", { "node-name": "disk" })).rejects.toThrow(
    "Input/output error",
  );
  await expect(daemon.run("x-blockdev-recover", { "node-name": "none" })).rejects.toThrow("none");
});

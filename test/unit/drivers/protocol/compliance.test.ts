// The cases of compliance.ts for the drivers that need nothing of a platform: memory, blob, and opfs over a directory in
// memory. The browser's own
// storage: test/browser/storage-compliance.test.ts.
import { describe, test } from "vitest";
import type { Host } from "../../../../src/base/host.ts";
import type { NodeSpec } from "../../../../src/block/driver.ts";
import { BlockGraph } from "../../../../src/block/graph.ts";
import { blob } from "../../../../src/drivers/protocol/blob.ts";
import { memory } from "../../../../src/drivers/protocol/memory.ts";
import { opfs } from "../../../../src/drivers/protocol/opfs/index.ts";
import { loadKernels } from "../../../../src/kernels/load.ts";
import { contentOf } from "../../../support/content.ts";
import { MiB } from "../../support/graph.ts";
import { ModelStorage } from "../../support/private-directory.ts";
import { VirtualHost } from "../../support/virtual-host.ts";
import { COMPLIANCE_BYTES, type ComplianceBench, complianceCases } from "./compliance.ts";

function graphOver(host: Host): BlockGraph {
  const graph = new BlockGraph({ host, kernels: loadKernels({ arenaBytes: MiB }) });
  graph.register(memory, blob, opfs);
  return graph;
}

async function opened(spec: NodeSpec, more: Partial<ComplianceBench>): Promise<ComplianceBench> {
  const node = await graphOver(new VirtualHost()).add({ "node-name": "disk", ...spec });
  return { driver: node.driver, grows: false, ...more };
}

async function overModel(durability: "strict" | "interval"): Promise<ComplianceBench> {
  const storage = new ModelStorage();
  const host: Host = Object.assign(new VirtualHost(), { privateStorage: storage });
  const graph = graphOver(host);
  await opfs.create!({ graph, host }, { filename: "disk", size: COMPLIANCE_BYTES });
  const add = (): ReturnType<BlockGraph["add"]> =>
    graph.add({ driver: "opfs", "node-name": "disk", filename: "disk", durability });
  return {
    driver: (await add()).driver,
    grows: true,
    reopen: async () => {
      await graph.remove("disk");
      return (await add()).driver;
    },
  };
}

const content = contentOf(COMPLIANCE_BYTES);
const benches: readonly { name: string; make: () => Promise<ComplianceBench>; writes: boolean }[] = [
  {
    name: "memory",
    writes: true,
    make: () => opened({ driver: "memory", size: COMPLIANCE_BYTES }, { grows: true }),
  },
  {
    name: "memory over a buffer",
    writes: true,
    make: () => opened({ driver: "memory", buffer: new Uint8Array(COMPLIANCE_BYTES) }, {}),
  },
  {
    name: "blob",
    writes: false,
    make: () => opened({ driver: "blob", blob: new Blob([content]), "read-only": true }, { content }),
  },
  { name: "opfs, strict", writes: true, make: () => overModel("strict") },
  { name: "opfs, interval", writes: true, make: () => overModel("interval") },
];

describe.each(benches)("$name", ({ make, writes }) => {
  test.each(complianceCases.filter((one) => writes || !one.writes))("$name", async ({ run }) => {
    await run(await make());
  });
});

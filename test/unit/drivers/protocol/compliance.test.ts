// The cases of compliance.ts for the drivers that need nothing of a platform: memory, blob, http over a server in memory, and
// opfs over a directory in memory. Files: file.node.test.ts; the browser's own storage: test/browser/storage-compliance.test.ts.
import { describe, test } from "vitest";
import type { Host } from "../../../../src/base/host.ts";
import type { NodeSpec } from "../../../../src/block/model/contract.ts";
import { BlockGraph } from "../../../../src/block/graph/graph.ts";
import { blob } from "../../../../src/drivers/protocol/blob.ts";
import { http } from "../../../../src/drivers/protocol/http/index.ts";
import { memory } from "../../../../src/drivers/protocol/memory.ts";
import { opfs } from "../../../../src/drivers/protocol/opfs/index.ts";
import { loadKernels } from "../../../../src/kernels/load.ts";
import { contentOf } from "../../../support/content.ts";
import { MiB } from "../../support/graph.ts";
import { ModelStorage } from "../../support/private-directory.ts";
import { ModelHttp } from "../../support/model-http.ts";
import { VirtualHost } from "../../support/virtual-host.ts";
import { COMPLIANCE_BYTES, type ComplianceBench, complianceCases } from "./compliance.ts";

function graphOver(host: Host): BlockGraph {
  const graph = new BlockGraph({ host, kernels: loadKernels({ arenaBytes: MiB }) });
  graph.register(memory, blob, http, opfs);
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

/** Over a server that answers at once: the cases know no virtual time. */
async function overServer(): Promise<ComplianceBench> {
  const host = new VirtualHost();
  const server = new ModelHttp(content, host.clock);
  server.mostDelayMs = 0;
  const graph = graphOver(Object.assign(host, { http: server }));
  const spec = { driver: "http", "node-name": "disk", url: "http://server/disk.img", "read-only": true };
  return { driver: (await graph.add(spec)).driver, grows: false, content };
}

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
  { name: "http", writes: false, make: overServer },
  { name: "opfs, strict", writes: true, make: () => overModel("strict") },
  { name: "opfs, interval", writes: true, make: () => overModel("interval") },
];

describe.each(benches)("$name", ({ make, writes }) => {
  test.each(complianceCases.filter((one) => writes || !one.writes))("$name", async ({ run }) => {
    await run(await make());
  });
});

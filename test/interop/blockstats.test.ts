// query-blockstats in the shape of the real daemon: the same rows with the same members, for nodes and what lies below them.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { ours, theirs, withDaemon } from "../support/daemon.ts";
import { must } from "../support/tools.ts";

let directory: string;

beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), "blockwright-stats-"));
  const image = (name: string): string => join(directory, name);
  await must("qemu-img", "create", "-q", "-f", "raw", image("base.raw"), "1M");
  await must("qemu-img", "create", "-q", "-f", "qcow2", image("top.qcow2"), "1M");
});

afterEach(() => rmSync(directory, { recursive: true, force: true }));

function answers(program: readonly string[]): Promise<unknown> {
  const nodes = [
    "driver=file,filename=base.raw,node-name=base-file",
    "driver=raw,file=base-file,node-name=base",
    "driver=file,filename=top.qcow2,node-name=top-file",
    "driver=qcow2,file=top-file,backing=base,node-name=top",
    "driver=null-co,size=1048576,node-name=null",
  ];
  const args = nodes.flatMap((node) => ["--blockdev", node]);
  return withDaemon({ program, args, cwd: directory }, async (daemon) => [
    await daemon.execute("query-blockstats"),
    await daemon.execute("query-blockstats", { "query-nodes": false }),
    await daemon.execute("query-blockstats", { "query-nodes": true }),
  ]);
}

/** An answer without what was read while images were opened: QEMU's nodes count nothing but the end of writes. */
function withoutReads(answer: unknown): unknown {
  return JSON.parse(
    JSON.stringify(answer, (key, value: unknown) => (/^(rd|wr|flush)_.*/.test(key) ? typeof value : value)),
  );
}

test("is the same as the real daemon's", async () => {
  const [here, there] = [await answers(ours), await answers(theirs)];
  expect(withoutReads(here)).toEqual(withoutReads(there));
});

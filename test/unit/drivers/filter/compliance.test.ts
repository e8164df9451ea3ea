// The suite of filter-compliance.ts for every filter that shows a disk as it is, and for the view of one as it was.
import { blkdebug } from "../../../../src/drivers/filter/blkdebug.ts";
import { blklogwrites } from "../../../../src/drivers/filter/blklogwrites/index.ts";
import { blkreplay } from "../../../../src/drivers/filter/blkreplay.ts";
import { copyBeforeWrite } from "../../../../src/drivers/filter/copy-before-write.ts";
import { copyOnRead } from "../../../../src/drivers/filter/copy-on-read.ts";
import { snapshotAccess } from "../../../../src/drivers/filter/snapshot-access.ts";
import { throttle } from "../../../../src/drivers/filter/throttle.ts";
import { throttleGroupsOf } from "../../../../src/block/throttle/throttle.ts";
import { testFilter } from "../../support/filter-compliance.ts";

testFilter({ type: blkdebug, spec: (image) => ({ image }) });
testFilter({ type: blkreplay, spec: (image) => ({ image }) });
testFilter({
  type: blklogwrites,
  spec: (file) => ({ file, log: "log" }),
  prepare: async (bench) => void (await bench.disk("log", 512)),
});
testFilter({ type: copyOnRead, spec: (file) => ({ file }) });
testFilter({
  type: copyBeforeWrite,
  spec: (file) => ({ file, target: "before" }),
  prepare: async (bench) => void (await bench.disk("before", 256 * 1024)),
});
testFilter({
  type: throttle,
  spec: (file) => ({ file, "throttle-group": "none" }),
  prepare: ({ graph }) => void throttleGroupsOf(graph).add("none", {}),
});
testFilter({
  type: snapshotAccess,
  spec: () => ({ file: "keeper" }),
  prepare: async (bench) => {
    await bench.disk("before", 256 * 1024);
    await bench.graph.add({
      driver: copyBeforeWrite.name,
      "node-name": "keeper",
      file: "disk",
      target: "before",
      discard: "unmap",
    });
  },
  writer: "keeper",
});

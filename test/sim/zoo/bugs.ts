/**
 * The bug zoo: bugs that this field has seen, as patches of our own code. A patch is a text that stands once in a file, and what stands there
 * instead; hunt.ts builds a simulator with it, which must find the bug. None of this is shipped.
 */

import type { Bug } from "./bug.ts";
import { bugsOfOrder } from "./bugs-of-order.ts";

/** All of them. */
export const bugs: readonly Bug[] = [
  {
    name: "flush-left-out",
    history: "a flush is answered, and nothing is made durable",
    file: "src/drivers/protocol/file.ts",
    find: "return this.#file.flush();",
    replace: "return Promise.resolve();",
    seed: 4,
  },
  {
    name: "refcount-of-last-cluster",
    history: "an off-by-one: the last cluster of a run is not counted",
    file: "src/drivers/format/qcow2/metadata/refcounts.ts",
    find: "  for (let index = 0; index < length; index++) {\n    const value",
    replace: "  for (let index = 0; index < Math.max(1, length - 1); index++) {\n    const value",
    seed: 1,
  },
  {
    name: "refcount-block-lost",
    history: "a new refcount block is never entered in the table",
    file: "src/drivers/format/qcow2/metadata/refcounts.ts",
    find: "  writeU64(table.view, at, offset);\n  image.refcountTable.markDirty(table, at, at + 8);",
    replace: "  writeU64(table.view, at, offset);",
    seed: 13,
  },
  {
    name: "copied-flag",
    history: "a cluster of one reference without its COPIED flag",
    file: "src/drivers/format/qcow2/data/link.ts",
    find: "index * clusterSize, COPIED_HIGH);",
    replace: "index * clusterSize, 0);",
    seed: 1,
  },
  {
    name: "two-allocating-writes",
    history: "qcow2 with several queues: two writes allocate the same cluster (cloud-hypervisor #7660)",
    file: "src/drivers/format/qcow2/data/write.ts",
    find: "  const claim = image.claims.exclusive(from, bytes);",
    replace: "  const claim = image.claims.add({ offset: from, bytes });",
    seed: 19,
  },
  {
    name: "zeroes-beyond-edge",
    history: "a write of zeroes that begins within a cluster clears all of it",
    file: "src/drivers/format/qcow2/data/zeroes-discard.ts",
    find: "    if (from < offset) await checkEdge(image, from, { from, to: offset });\n",
    replace: "",
    seed: 2,
  },
  {
    name: "copy-on-write-tail",
    history: "the rest of a cluster behind a small write is not copied from the backing file",
    file: "src/drivers/format/qcow2/data/write.ts",
    find: "      () => copyOnWriteRead(image, guest + bytes, merged.subarray(head + bytes)),\n",
    replace: "",
    seed: 4,
  },
  {
    name: "short-backing-file",
    history: "beyond the end of a shorter backing file, what was in the buffer is shown",
    file: "src/drivers/format/qcow2/data/read.ts",
    find: "  if (!backing || offset >= backing.length) {\n    buffer.fill(0);",
    replace: "  if (!backing || offset >= backing.length) {",
    seed: 19,
  },
  {
    name: "forgotten-failed-write",
    history: "a mirror forgets a failed write to its target, and is ready",
    file: "src/job/mirror/job.ts",
    find: "    for (const { offset, bytes } of failed) this.bitmap.bitmap.set(offset, bytes);\n",
    replace: "",
    seed: 1,
  },
  {
    name: "forgotten-failed-active-write",
    history: "a write-blocking mirror forgets a failed zero write (ours, 2026-11)",
    file: "src/job/mirror/top.ts",
    find: "      for (const { offset, bytes } of failed) this.markDirty(offset, bytes);\n",
    replace: "",
    seed: 19,
  },
  {
    name: "backup-misses-writes",
    history: "a backup does not save what a write is about to change",
    file: "src/drivers/filter/copy-before-write.ts",
    find: '    await this.#copyBefore("pwrite", { offset, bytes: buffer.byteLength, flags });\n',
    replace: "",
    seed: 7,
  },
  {
    name: "backup-misses-zeroes",
    history: "a backup does not save what a write of zeroes is about to change",
    file: "src/drivers/filter/copy-before-write.ts",
    find: '    await this.#copyBefore("pwriteZeroes", { offset, bytes, flags });\n',
    replace: "",
    seed: 7,
  },
  {
    name: "iostatus-not-set",
    history: "a job that an error stopped shows no io-status",
    file: "src/job/core/block-job.ts",
    find: '    if (action === "stop") this.#stopFor(code);\n',
    replace: '    if (action === "stop") this.userPause();\n',
    seed: 1,
  },
  {
    name: "stop-that-goes-on",
    history: "an error under the policy stop leaves the job running",
    file: "src/job/core/error-policy.ts",
    find: "  return policy;\n}\n\n/** The io-status",
    replace: '  return policy === "stop" ? "ignore" : policy;\n}\n\n/** The io-status',
    seed: 1,
  },
  {
    name: "drain-without-end",
    history: "a job that a drain paused is not resumed",
    file: "src/job/core/block-job.ts",
    find: "    this.drainResume();\n",
    replace: "",
    seed: 1,
  },
  {
    name: "event-left-out",
    history: "a change of state is not told",
    file: "src/job/core/job-core.ts",
    find: 'if (to !== from) this.publish("JOB_STATUS_CHANGE"',
    replace: 'if (to !== from && to !== "waiting") this.publish("JOB_STATUS_CHANGE"',
    seed: 1,
  },
  {
    name: "node-held-for-good",
    history: "a job ends and keeps its hold on a node",
    file: "src/job/core/block-job.ts",
    find: "    child.node.unblock(this.blockReason);\n    await this.graph.detach(child);",
    replace:
      "    child.node.unblock(this.blockReason);\n    if (this.isCancelled) return;\n    await this.graph.detach(child);",
    seed: 6,
  },
  ...bugsOfOrder,
];

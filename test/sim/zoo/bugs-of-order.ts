/** Bugs of order, and of requests and jobs that meet: more of the zoo's. */
import type { Bug } from "./bug.ts";

/** They. */
export const bugsOfOrder: readonly Bug[] = [
  {
    name: "iostatus-left",
    history: "a job that was resumed after an error keeps its io-status",
    file: "src/job/core/block-job.ts",
    find: '  protected override userResumeHook(): void {\n    this.#ioStatus = "ok";\n',
    replace: "  protected override userResumeHook(): void {\n",
    seed: 1,
  },
  {
    name: "ends-with-dirty-bit",
    history: "a mirror ends with a dirty bit: a write came while its source was being drained",
    file: "src/job/mirror/job.ts",
    find: "    if (this.bitmap.dirtyBytes === 0 && (await this.#flushTarget())) return true;\n",
    replace: "    if (await this.#flushTarget()) return true;\n",
    seed: 241,
  },
  {
    name: "dirty-bit-too-early",
    history: "a dirty bit is set before the write has landed, and a copy of the old data clears it",
    file: "src/block/io/request-path.ts",
    find: "  if (isPromise(making)) return changingAll(node, [range], making);\n  grow",
    replace:
      "  if (isPromise(making)) {\n    changed(node, range);\n    return making.then(() => grow(node, range));\n  }\n  grow",
    also: [
      {
        file: "src/job/mirror/top.ts",
        find: "return andThen(apply(), () => this.sink?.markDirty(change.offset, change.bytes));",
        replace: "return apply();",
      },
    ],
    seed: 241,
  },
  {
    name: "failed-incremental-forgets",
    history: "an incremental backup that fails clears its bitmap all the same",
    file: "src/job/backup/job.ts",
    find: "    if (consumed) bitmap.abdicate();\n    else bitmap.reclaim();\n",
    replace: "    if (consumed || !success) bitmap.abdicate();\n",
    seed: 2043,
  },
  {
    name: "copy-beside-active-write",
    history: "a write-blocking mirror copies what a guest's write is just changing (ours, 2026-11)",
    file: "src/job/mirror/top.ts",
    find: "await this.#job.ranges.exclusive(start, alignUp(offset + bytes, unit) - start);",
    replace: "this.#job.ranges.add({ offset: start, bytes: alignUp(offset + bytes, unit) - start });",
    seed: 689,
  },
  {
    name: "backup-copy-not-awaited",
    history: "a guest's write overtakes the copy of what it changes, which is under way",
    file: "src/block/copy/copy-pass.ts",
    find: "      if (!this.#stopped && (await this.#copy.inFlight.waitOne(this.#range))) more = true;\n",
    replace: "",
    seed: 892,
  },
  {
    name: "copy-on-read-over-write",
    history: "copy-on-read writes the backing file's data over a newer write",
    file: "src/block/io/io.ts",
    find: "    if (flags & Req.copyOnRead) node.requests.makeSerialising(request, copyUnit(node));\n",
    replace: "",
    seed: 84,
  },
  {
    name: "unaligned-write-alone",
    history: "two writes into one sector: the read-modify-write of one takes back the other",
    file: "src/block/io/io.ts",
    find: "  node.requests.makeSerialising(request, flags & Req.serialising ? copyUnit(node) : align);\n",
    replace: "",
    seed: 1927,
  },
  {
    name: "nospace-reported",
    history: "the policy enospc ends the job where it should stop it",
    file: "src/job/core/error-policy.ts",
    find: 'return code === "ENOSPC" ? "stop" : "report";',
    replace: 'return "report";',
    seed: 19,
  },
  {
    name: "old-data-in-zero-cluster",
    history: "a write into a cluster of zeroes shows the old data behind it",
    file: "src/drivers/format/qcow2/data/plan.ts",
    find: "  const tail = (subclusterSize - ((guest + bytes) % subclusterSize)) % subclusterSize;\n",
    replace: "  const tail = 0;\n",
    seed: 8,
  },
  {
    name: "commit-without-growth",
    history: "a commit into a smaller base does not make it larger",
    file: "src/job/commit/commit.ts",
    find: '    if (this.#base.length < bytes)\n      await this.#target!.truncate(bytes, { exact: false, preallocation: "off" });\n    await this.copyAll(bytes);\n',
    replace: "    await this.copyAll(Math.min(bytes, this.#base.length));\n",
    seed: 108,
  },
];

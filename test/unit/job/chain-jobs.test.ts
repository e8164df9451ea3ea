// Stream and intermediate commit on a chain of three images: contents, graph, headers, errors, refusals.
import { describe, expect, test } from "vitest";
import type { OnError } from "../../../src/job/core/error-policy.ts";
import { jobsOf } from "../../../src/job/core/registry.ts";
import { KiB, MiB } from "../support/graph.ts";
import { Chain } from "./chain.ts";

const well = ["created", "running", "waiting", "pending", "BLOCK_JOB_COMPLETED", "concluded", "null"];
const badly = ["aborting", "BLOCK_JOB_COMPLETED", "concluded", "null"];

describe("stream", () => {
  test("of the whole chain leaves the node alone with its data", async () => {
    const chain = await new Chain().open();
    await chain.run(await chain.stream());
    await chain.idle();
    expect(chain.log).toEqual(well);
    expect(chain.top.header).toBeNull();
    expect(chain.node("top").backing).toBeUndefined();
    expect(await chain.firstDifference()).toBe(-1);
    expect([...chain.top.clusters.keys()].toSorted((a, b) => a - b)).toEqual([0, 1, 2, 3, 9, 31]);
    expect(chain.test.graph.nodes.map((node) => node.name)).toEqual(["top", "mid", "base"]);
    expect(jobsOf(chain.test.graph).jobs).toEqual([]);
  });

  test("the old link goes only after the data is durable, and the new one is durable at the end", async () => {
    const chain = await new Chain().open();
    await chain.run(await chain.stream());
    const header = chain.top.log.indexOf("header");
    expect(chain.top.log.slice(header - 1, header)).toEqual(["flush"]);
    expect(chain.top.log.lastIndexOf("write")).toBeLessThan(header - 1);
  });

  test.each([{ "base-node": "base" }, { bottom: "mid" }, { base: "base" }])(
    "down to a base (%o) keeps the base",
    async (args) => {
      const chain = await new Chain().open();
      await chain.run(await chain.stream(args));
      await chain.idle();
      expect(chain.node("top").backing?.node.name).toBe("base");
      expect([...chain.top.clusters.keys()].toSorted((a, b) => a - b)).toEqual([2, 3, 9, 31]);
      expect(await chain.firstDifference()).toBe(-1);
      expect(chain.top.header?.format).toBe("cow");
    },
  );

  test("a base that only filters part from the node is refused", async () => {
    const chain = await new Chain().open();
    await chain.test.graph.add({ driver: "blkdebug", "node-name": "filter", image: "top" });
    await expect(chain.stream({ device: "filter", "base-node": "top" })).rejects.toThrow(
      "'top' is not in the backing chain of 'filter'",
    );
    expect(chain.test.graph.nodes.map((node) => node.name)).toEqual(["filter", "top", "mid", "base"]);
  });

  test.each([{ "filter-node-name": "base" }, { speed: -1 }, { "job-id": "?" }])(
    "a refused start (%o) leaves a read-only node read-only",
    async (args) => {
      const chain = await new Chain().open();
      const { graph } = chain.test;
      await graph.setReadOnly(chain.node("top"), true);
      await expect(chain.stream(args)).rejects.toThrow();
      expect(chain.node("top").readOnly).toBe(true);
      expect(graph.nodes.map(({ name, references }) => [name, references])).toEqual([
        ["top", 0],
        ["mid", 0],
        ["base", 0],
      ]);
      expect(jobsOf(graph).jobs).toEqual([]);
      await chain.run(await chain.stream());
      expect([chain.node("top").readOnly, await chain.firstDifference()]).toEqual([true, -1]);
    },
  );

  test("the backing-file argument goes into the header", async () => {
    const chain = await new Chain().open();
    await chain.run(await chain.stream({ "base-node": "base", "backing-file": "elsewhere.img" }));
    expect(chain.top.header).toEqual({ filename: "elsewhere.img", format: "cow" });
  });

  test.each([
    ["report", "EIO", "part"],
    ["ignore", "EIO", "all"],
    ["auto", "EIO", "part"],
    ["enospc", "EIO", "part"],
    ["ignore", "ENOSPC", "all"],
    ["report", "ENOSPC", "part"],
  ] as const)("%s on %s ends with the error and keeps the link", async (policy, code, progress) => {
    const chain = await new Chain().open();
    chain.top.faults.push({ op: "write", code, once: true });
    const job = await chain.stream({ "on-error": policy });
    expect(await chain.run(job)).toMatchObject({ code });
    await chain.idle();
    expect(chain.log.filter((line) => line === "BLOCK_JOB_ERROR")).toHaveLength(1);
    expect(chain.log.slice(-4)).toEqual(badly);
    expect(job.offset === job.length ? "all" : "part").toBe(progress);
    expect(chain.top.header).toEqual({ filename: "mid", format: "cow" });
    expect(chain.node("top").backing?.node.name).toBe("mid");
    expect(await chain.firstDifference()).toBe(-1);
  });

  test.each([
    ["stop", "EIO", "failed"],
    ["stop", "ENOSPC", "nospace"],
    ["enospc", "ENOSPC", "nospace"],
    ["auto", "ENOSPC", "nospace"],
  ] as const)("%s on %s pauses with io-status %s, and a resume retries", async (on, code, ioStatus) => {
    const chain = await new Chain().open();
    const errors: unknown[] = [];
    chain.test.graph.events.subscribe(({ event, data }) => {
      if (event === "BLOCK_JOB_ERROR") errors.push(data);
    });
    chain.base.faults.push({ op: "read", code, once: true });
    const policy: OnError = on;
    const job = await chain.stream({ "on-error": policy });
    await chain.idle();
    expect(job).toMatchObject({ status: "paused", ioStatus, busy: false, userPaused: true });
    expect(errors).toEqual([{ device: "j", operation: "read", action: "stop" }]);
    job.resume();
    expect(job).toMatchObject({ status: "running", ioStatus: "ok" });
    await chain.run(job);
    await chain.idle();
    expect(chain.log.slice(-5)).toEqual(well.slice(-5));
    expect(await chain.firstDifference()).toBe(-1);
  });

  test("a failed status counts as a read error", async () => {
    const chain = await new Chain().open();
    chain.mid.faults.push({ op: "status", code: "EIO", once: true });
    expect(await chain.run(await chain.stream())).toMatchObject({ code: "EIO" });
    expect(chain.log).toContain("BLOCK_JOB_ERROR");
  });

  test("a header that cannot be written fails the job", async () => {
    const chain = await new Chain().open();
    chain.top.faults.push({ op: "header", code: "ENOSPC", once: true });
    expect(await chain.run(await chain.stream())).toMatchObject({ code: "ENOSPC" });
    await chain.idle();
    expect(chain.log.slice(-4)).toEqual(badly);
    expect(await chain.firstDifference()).toBe(-1);
  });

  test("cancelled, it leaves the chain as it was", async () => {
    const chain = await new Chain().open();
    const job = await chain.stream({ speed: 64 * KiB });
    await chain.idle();
    await job.cancel({ force: false });
    await chain.idle();
    expect(chain.log.slice(-4)).toEqual(["aborting", "BLOCK_JOB_CANCELLED", "concluded", "null"]);
    expect(chain.node("top").backing?.node.name).toBe("mid");
    expect(await chain.firstDifference()).toBe(-1);
    expect(chain.test.graph.nodes).toHaveLength(3);
  });

  test("a speed limit takes its time, and lifting it ends the wait", async () => {
    const chain = await new Chain().open();
    const { clock } = chain.test.host;
    const job = await chain.stream({ speed: 64 * KiB });
    await chain.run(job);
    const limited = clock.nowMs();
    expect(limited).toBeGreaterThan(4000);
    const again = await new Chain().open();
    const quick = await again.stream({ speed: 64 * KiB });
    await again.idle();
    quick.setSpeed(0);
    await again.run(quick);
    expect(again.test.host.clock.nowMs()).toBeLessThan(limited / 2);
  });

  test("a drain pauses it and waits for its requests", async () => {
    const chain = await new Chain().open();
    const job = await chain.stream();
    await chain.test.graph.drainAll();
    expect(chain.log).toContain("paused");
    await chain.run(job);
    await chain.idle();
    expect(await chain.firstDifference()).toBe(-1);
  });

  test("a second job on the chain is refused, and leaves nothing behind", async () => {
    const chain = await new Chain().open();
    const job = await chain.stream({ speed: 1 });
    await expect(chain.stream({ "job-id": "k" })).rejects.toThrow(
      "Node 'top' is busy: block device is in use by block job: stream",
    );
    await job.cancel();
    await chain.idle();
    expect(chain.test.graph.nodes).toHaveLength(3);
  });

  test.each([
    [{ "job-id": undefined }, "Invalid job ID ''"],
    [{ "job-id": "1bad id" }, "Invalid job ID '1bad id'"],
    [{ device: "nope" }, "Cannot find device='nope' nor node-name='nope'"],
    [{ "base-node": "nope" }, "Cannot find device='' nor node-name='nope'"],
    [{ "base-node": "other" }, "Node 'other' is not a backing image of 'top'"],
    [{ "base-node": "top" }, "Node 'top' is not a backing image of 'top'"],
    [{ base: "x.img" }, "Can't find 'x.img' in the backing chain"],
    [{ base: "mid", "base-node": "mid" }, "'base' and 'base-node' cannot be specified at the same time"],
    [{ base: "mid", bottom: "mid" }, "'base' and 'bottom' cannot be specified at the same time"],
    [{ bottom: "mid", "base-node": "mid" }, "'bottom' and 'base-node' cannot be specified at the same time"],
    [{ bottom: "other" }, "Node 'other' is not in a chain starting from 'top'"],
    [{ "filter-node-name": "1x" }, "Could not create node: Invalid node-name: '1x'"],
    [{ "backing-file": "x" }, "backing file specified, but streaming the entire chain"],
  ])("%o is refused: %s", async (args, words) => {
    const chain = await new Chain().open();
    await chain.test.disk("other", MiB);
    await expect(chain.stream(args)).rejects.toThrow(words);
    expect(chain.log).toEqual([]);
    expect(chain.test.graph.nodes).toHaveLength(4);
  });

  test("a negative speed is found after the job exists", async () => {
    const chain = await new Chain().open();
    await expect(chain.stream({ speed: -1 })).rejects.toThrow(
      "Parameter 'speed' expects a non-negative value",
    );
    expect(chain.log).toEqual(["created", "null"]);
    expect(chain.test.graph.nodes).toHaveLength(3);
    expect(await chain.firstDifference()).toBe(-1);
  });
});

describe("commit of an intermediate image", () => {
  test("a second one is refused, and so is a stream", async () => {
    const chain = await new Chain().open();
    const job = await chain.commit({ speed: 1 });
    await expect(chain.commit({ "job-id": "k" })).rejects.toThrow("Need a root block node");
    await expect(chain.stream({ "job-id": "k" })).rejects.toThrow(
      "Node 'top' is busy: block device is in use by block job: commit",
    );
    await job.cancel();
    await chain.idle();
    expect(chain.test.graph.nodes).toHaveLength(3);
  });

  test("moves its data into the base and links the overlay to it", async () => {
    const chain = await new Chain().open();
    await chain.run(await chain.commit());
    await chain.idle();
    expect(chain.log).toEqual(well);
    expect(chain.node("top").backing?.node.name).toBe("base");
    expect(chain.top.header?.format).toBe("cow");
    expect([...chain.base.clusters.keys()].toSorted((a, b) => a - b)).toEqual([0, 1, 2, 3, 9]);
    expect(await chain.firstDifference()).toBe(-1);
    expect(chain.test.graph.nodes).toHaveLength(3);
  });

  test("the base is durable before the overlay names it", async () => {
    const chain = await new Chain().open();
    chain.test.graph.events.subscribe(({ data }) => {
      if ("status" in data && data.status === "concluded") chain.base.log.push("concluded");
    });
    const order: string[] = [];
    chain.base.log.push = (...items) => order.push(...items.map((item) => `base ${item}`));
    chain.top.log.push = (...items) => order.push(...items.map((item) => `top ${item}`));
    await chain.run(await chain.commit());
    const header = order.indexOf("top header");
    expect(order.slice(0, header).at(-1)).toBe("base flush");
    expect(order.slice(header)).not.toContain("base write");
  });

  test("a shorter base grows", async () => {
    const chain = await new Chain(512 * KiB).open();
    await chain.run(await chain.commit());
    await chain.idle();
    expect(chain.base.size).toBe(2 * MiB);
    expect(await chain.firstDifference()).toBe(-1);
  });

  test.each([
    ["read", "report", "EIO"],
    ["write", "report", "ENOSPC"],
    ["write", "auto", "EIO"],
    ["read", "enospc", "EIO"],
  ] as const)("a failed %s under %s (%s) ends it and keeps the chain", async (op, policy, code) => {
    const chain = await new Chain().open();
    const errors: unknown[] = [];
    chain.test.graph.events.subscribe(({ event, data }) => {
      if (event === "BLOCK_JOB_ERROR") errors.push(data);
    });
    (op === "read" ? chain.mid : chain.base).faults.push({ op, code, once: true });
    const job = await chain.commit({ "on-error": policy });
    expect(await chain.run(job)).toMatchObject({ code });
    await chain.idle();
    expect(errors).toEqual([{ device: "j", operation: op, action: "report" }]);
    expect(chain.log.slice(-4)).toEqual(badly);
    expect(chain.node("top").backing?.node.name).toBe("mid");
    expect(chain.top.header).toEqual({ filename: "mid", format: "cow" });
    expect(await chain.firstDifference()).toBe(-1);
    expect(chain.test.graph.nodes).toHaveLength(3);
  });

  test.each([
    ["read", "stop", "EIO", "failed"],
    ["write", "enospc", "ENOSPC", "nospace"],
    ["write", "auto", "ENOSPC", "nospace"],
  ] as const)(
    "a failed %s under %s (%s) pauses with %s and is retried",
    async (op, policy, code, ioStatus) => {
      const chain = await new Chain().open();
      (op === "read" ? chain.mid : chain.base).faults.push({ op, code, once: true });
      const job = await chain.commit({ "on-error": policy });
      await chain.idle();
      expect(job).toMatchObject({ status: "paused", ioStatus, busy: false });
      expect(job.offset).toBeLessThan(job.length);
      job.resume();
      await chain.run(job);
      await chain.idle();
      expect(await chain.firstDifference()).toBe(-1);
      expect(chain.node("top").backing?.node.name).toBe("base");
    },
  );

  test("ignore retries for ever, less and less often, and is cancelled at once", async () => {
    const chain = await new Chain().open();
    chain.base.faults.push({ op: "write", code: "EIO", once: false });
    const job = await chain.commit({ "on-error": "ignore" });
    const { clock } = chain.test.host;
    for (let i = 0; i < 30; i++) await clock.step();
    const errors = chain.log.filter((line) => line === "BLOCK_JOB_ERROR").length;
    expect(errors).toBeGreaterThan(5);
    expect(clock.nowMs()).toBeGreaterThan((errors - 15) * 1000);
    const before = clock.nowMs();
    await job.cancel();
    await chain.idle();
    expect(clock.nowMs()).toBe(before);
    expect(chain.log.at(-1)).toBe("null");
    expect(await chain.firstDifference()).toBe(-1);
  });

  test("ignore succeeds if the error goes away", async () => {
    const chain = await new Chain().open();
    chain.mid.faults.push({ op: "read", code: "EIO", once: true });
    await chain.run(await chain.commit({ "on-error": "ignore" }));
    await chain.idle();
    expect(chain.log.slice(-5)).toEqual(well.slice(-5));
    expect(await chain.firstDifference()).toBe(-1);
  });

  test("cancelled, it leaves the chain as it was", async () => {
    const chain = await new Chain().open();
    const job = await chain.commit({ speed: 64 * KiB });
    await chain.idle();
    await job.cancel();
    await chain.idle();
    expect(chain.node("top").backing?.node.name).toBe("mid");
    expect(await chain.firstDifference()).toBe(-1);
    expect(chain.test.graph.nodes).toHaveLength(3);
  });

  test.each([
    [{ device: "nope" }, "Device 'nope' not found"],
    [{ device: "mid" }, "Need a root block node"],
    [{ "top-node": "other" }, "'other' is not in this backing file chain"],
    [{ "top-node": "base", "base-node": "mid" }, "'mid' is not in this backing file chain"],
    [{ "top-node": "mid", "base-node": "mid" }, "cannot commit an image into itself"],
    [{ top: "mid" }, "'top-node' and 'top' are mutually exclusive"],
    [{ base: "base" }, "'base-node' and 'base' are mutually exclusive"],
    [{ "top-node": undefined, top: "x.img" }, "Top image file x.img not found"],
    [{ "base-node": undefined, base: "x.img" }, "Can't find 'x.img' in the backing chain"],
    [{ "top-node": "top", "backing-file": "x" }, "'backing-file' specified, but 'top' is the active layer"],
    [{ "job-id": undefined }, "Invalid job ID ''"],
  ])("%o is refused: %s", async (args, words) => {
    const chain = await new Chain().open();
    await chain.test.disk("other", MiB);
    await expect(chain.commit(args)).rejects.toThrow(words);
    expect(chain.log).toEqual([]);
    expect(chain.test.graph.nodes).toHaveLength(4);
  });
});

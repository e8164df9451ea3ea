// What a process and its tools are told: channels of diagnostics_channel, NODE_DEBUG, warnings.
import { execFileSync, spawnSync } from "node:child_process";
import diagnosticsChannel from "node:diagnostics_channel";
import { join } from "node:path";
import { afterEach, describe, expect, test } from "vitest";
import { type Node, backup, createEngine, openNode } from "../../../../src/node.ts";
import { root } from "../../../support/root.ts";

const MiB = 1 << 20;
type Message = Record<string, unknown>;

const stops: (() => void)[] = [];
afterEach(() => stops.splice(0).forEach((stop) => stop()));

/** What is published on a channel from now on. */
function heard(channel: string): Message[] {
  const messages: Message[] = [];
  const listener = (message: unknown): void => void messages.push(message as Message);
  diagnosticsChannel.subscribe(channel, listener);
  stops.push(() => diagnosticsChannel.unsubscribe(channel, listener));
  return messages;
}

async function disks(engine: ReturnType<typeof createEngine>): Promise<[Node, Node]> {
  const rule = { event: "none", iotype: "write", errno: 28, once: true } as const;
  const image = { driver: "memory", size: MiB } as const;
  return [
    await openNode({ driver: "memory", size: MiB, "node-name": "source" }, { engine }),
    await openNode({ driver: "blkdebug", image, "node-name": "target", "inject-error": [rule] }, { engine }),
  ];
}

describe("channels", () => {
  test("blockwright:request tells of each request when it is over", async () => {
    await using engine = createEngine({ native: "off" });
    const [source, target] = await disks(engine);
    const requests = heard("blockwright:request");
    await source.write(4096, new Uint8Array(512));
    await source.read(0, 1024);
    await expect(target.write(0, new Uint8Array(512))).rejects.toMatchObject({ code: "ENOSPC" });
    await source.flush();
    const [write, read, failed] = requests;
    expect(write).toMatchObject({
      operation: "write",
      node: "source",
      driver: "memory",
      user: "an unnamed block device",
      offset: 4096,
      bytes: 512,
    });
    expect(write!["durationMs"]).toBeGreaterThanOrEqual(0);
    expect(read).toMatchObject({ operation: "read", offset: 0, bytes: 1024 });
    expect(failed).toMatchObject({ operation: "write", node: "target", error: { code: "ENOSPC" } });
    expect(requests.at(-1)).toMatchObject({ operation: "flush", node: "source" });
  });

  test("blockwright:job and blockwright:error tell of jobs", async () => {
    await using engine = createEngine({ native: "off" });
    const [source, target] = await disks(engine);
    await source.write(0, new Uint8Array(MiB).fill(1));
    const [jobs, errors] = [heard("blockwright:job"), heard("blockwright:error")];
    const job = await backup(source, target, { onTargetError: "ignore", jobId: "nightly" });
    await job.done;
    expect(jobs.map(({ event }) => event)).toContain("BLOCK_JOB_COMPLETED");
    expect(jobs[0]).toMatchObject({ event: "JOB_STATUS_CHANGE", data: { id: "nightly", status: "created" } });
    expect(errors).toMatchObject([
      {
        event: "BLOCK_JOB_ERROR",
        data: { device: "nightly", operation: "write", action: "ignore" },
        failure: { code: "ENOSPC", operation: "write" },
      },
    ]);
  });

  test("a listener that came later is told, and one that went no more", async () => {
    await using engine = createEngine({ native: "off" });
    const [source] = await disks(engine);
    await source.read(0, 512);
    const requests = heard("blockwright:request");
    await source.read(0, 512);
    stops.splice(0).forEach((stop) => stop());
    await source.read(0, 512);
    expect(requests).toHaveLength(1);
  });
});

const program = `
  import { backup, openNode } from ${JSON.stringify(join(root, "build", "node.js"))};
  const size = 65536;
  const source = await openNode({ driver: "memory", size, "node-name": "source" });
  const rule = { event: "none", iotype: "write", errno: 28 };
  const image = { driver: "memory", size };
  const target = await openNode({ driver: "blkdebug", image, "inject-error": [rule] });
  await source.write(0, new Uint8Array(size).fill(1));
  await backup(source, target, { jobId: "nightly" });
`;

test("NODE_DEBUG=blockwright writes what is published to standard error", () => {
  const run = (debug: string): string =>
    spawnSync(process.execPath, ["--input-type=module", "-e", program], {
      encoding: "utf8",
      env: { ...process.env, NODE_DEBUG: debug },
    }).stderr;
  const text = run("blockwright");
  expect(text).toMatch(/^BLOCKWRIGHT \d+: blockwright:request \{.*operation: 'write'.*node: 'source'/m);
  expect(text).toMatch(/^BLOCKWRIGHT \d+: blockwright:error \{.*BLOCK_JOB_ERROR/m);
  expect(run("")).not.toContain("blockwright:request");
});

test("a job that fails unheard is a warning of the process, and the process ends well", () => {
  const { status, stderr } = spawnSync(process.execPath, ["--input-type=module", "-e", program], {
    encoding: "utf8",
  });
  expect(stderr).toMatch(
    /\[BLOCKWRIGHT_JOB_FAILED\] BlockwrightWarning: job 'nightly' failed, and nobody waits for its end \(job\.done\): No space left on device/,
  );
  expect(status).toBe(0);
  expect(
    execFileSync(process.execPath, ["--no-warnings", "--input-type=module", "-e", program]),
  ).toHaveLength(0);
});

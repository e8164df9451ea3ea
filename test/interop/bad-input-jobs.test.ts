// Jobs that cannot be: refused commands in QEMU's words (asked of the real daemon too), images that vanish, shrink or turn
// out corrupt while a job works on them. The files that a refused command was given stay as they were.
import { mkdtempSync, rmSync, truncateSync, unlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { Daemon, ours, theirs, withDaemon } from "../support/daemon.ts";
import { checkFaults, must } from "../support/tools.ts";
import { contentOf, goodImage, patchFile } from "./support/bad-images.ts";

const MiB = 2 ** 20;
let directory: string;
const path = (name: string): string => join(directory, name);

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "blockwright-badjob-"));
});

afterEach(() => rmSync(directory, { recursive: true, force: true }));

function node(name: string, driver: string, filename: string, more: object = {}): Record<string, unknown> {
  return { driver, "node-name": name, file: { driver: "file", filename: path(filename) }, ...more };
}

/** A chain of two, a target of the same length, one that is smaller. */
async function makeImages(): Promise<string[]> {
  await goodImage(path("base"));
  await must("qemu-img", "create", "-q", "-f", "qcow2", "-b", "base", "-F", "qcow2", path("top"));
  await must("qemu-io", "-f", "qcow2", "-c", "write -q -P 9 128k 256k", path("top"));
  await must("qemu-img", "create", "-q", "-f", "qcow2", path("target"), "1M");
  await must("qemu-img", "create", "-q", "-f", "qcow2", path("small"), "512k");
  return ["base", "top", "target", "small"];
}

const nodes = (): Record<string, unknown>[] => [
  node("disk", "qcow2", "top", { backing: node("base", "qcow2", "base", { "read-only": true }) }),
  node("target", "qcow2", "target"),
  node("small", "qcow2", "small"),
  node("frozen", "qcow2", "base2", { "read-only": true }),
];

const job = { "job-id": "job", device: "disk" };
const copy = { ...job, target: "target", sync: "full" };

type Request = readonly [execute: string, args: Record<string, unknown>];

/** Commands that are refused at once. */
const refused: readonly Request[] = [
  ["blockdev-backup", { ...copy, target: "small" }],
  ["blockdev-backup", { ...copy, target: "disk" }],
  ["blockdev-backup", { ...copy, target: "nothing" }],
  ["blockdev-backup", { ...copy, target: "frozen" }],
  ["blockdev-backup", { ...copy, device: "nothing" }],
  ["blockdev-backup", { ...copy, sync: "bitmap" }],
  ["blockdev-backup", { ...copy, sync: "incremental", bitmap: "nothing" }],
  ["blockdev-backup", { ...copy, bitmap: "b" }],
  ["blockdev-backup", { ...copy, "x-perf": { "max-workers": 0 } }],
  ["blockdev-backup", { ...copy, "x-perf": { "max-chunk": -1 } }],
  ["blockdev-backup", { ...copy, speed: -1 }],
  ["blockdev-backup", { ...copy, flavour: "sweet" }],
  ["blockdev-mirror", { ...copy, target: "disk" }],
  ["blockdev-mirror", { ...copy, target: "base" }],
  ["blockdev-mirror", { ...copy, target: "frozen" }],
  ["blockdev-mirror", { ...copy, target: "nothing" }],
  ["blockdev-mirror", { ...copy, granularity: 1000 }],
  ["blockdev-mirror", { ...copy, granularity: 128 * MiB }],
  ["blockdev-mirror", { ...copy, "buf-size": -1 }],
  ["blockdev-mirror", { ...copy, speed: -5 }],
  ["blockdev-mirror", { ...copy, sync: "bitmap" }],
  ["blockdev-mirror", { ...copy, sync: "sideways" }],
  ["blockdev-mirror", { ...copy, replaces: "nothing" }],
  ["blockdev-mirror", { ...copy, replaces: "small" }],
  ["blockdev-mirror", { ...copy, "job-id": "9 lives" }],
  ["blockdev-mirror", { ...copy, "on-target-error": "panic" }],
  ["blockdev-mirror", { ...copy, "filter-node-name": "target" }],
  ["blockdev-mirror", { device: "disk", target: "target", sync: "full" }],
  ["block-stream", { ...job, device: "nothing" }],
  ["block-stream", { ...job, base: "nothing" }],
  ["block-stream", { ...job, "base-node": "target" }],
  ["block-stream", { ...job, "base-node": "base", bottom: "disk" }],
  ["block-stream", { ...job, bottom: "target" }],
  ["block-stream", { ...job, "backing-file": "else" }],
  ["block-stream", { ...job, "on-error": "panic" }],
  ["block-stream", { ...job, speed: -1 }],
  ["block-stream", { ...job, filter: "x" }],
  ["block-commit", { ...job, device: "nothing" }],
  ["block-commit", { ...job, "base-node": "target" }],
  ["block-commit", { ...job, "base-node": "disk" }],
  ["block-commit", { ...job, "top-node": "base" }],
  ["block-commit", { ...job, "top-node": "target" }],
  ["block-commit", { ...job, top: "x", "top-node": "disk" }],
  ["block-commit", { ...job, base: "nothing" }],
  ["block-commit", { ...job, "backing-file": "else" }],
  ["block-commit", { ...job, speed: -1 }],
  ["job-cancel", { id: "nothing" }],
  ["block-job-cancel", { device: "nothing" }],
  ["job-complete", { id: "nothing" }],
  ["block-job-set-speed", { device: "nothing", speed: 0 }],
  ["blockdev-del", { "node-name": "base" }],
  ["blockdev-del", { "node-name": "nothing" }],
  ["blockdev-create", { "job-id": "c", options: { driver: "mystery", file: "target", size: 1 } }],
  ["block_resize", { "node-name": "frozen", size: MiB }],
  ["block_resize", { "node-name": "target", size: -1 }],
  ["no-such-command", {}],
];

/** Commands that are refused while a mirror is ready. */
const busy: readonly Request[] = [
  ["blockdev-mirror", { ...copy }],
  ["blockdev-mirror", { ...copy, "job-id": "second", target: "target" }],
  ["blockdev-backup", { ...copy, "job-id": "second", target: "target" }],
  ["block-commit", { "job-id": "second", device: "disk" }],
  ["block-stream", { "job-id": "second", device: "disk", "base-node": "base" }],
  ["blockdev-del", { "node-name": "target" }],
  ["blockdev-del", { "node-name": "disk" }],
  ["block_resize", { "node-name": "target", size: 2 * MiB }],
  ["job-finalize", { id: "job" }],
  ["job-dismiss", { id: "job" }],
];

async function answers(
  program: readonly string[],
  { requests, before }: { requests: readonly Request[]; before: readonly Request[] },
): Promise<Map<string, string>> {
  return withDaemon({ program }, async (daemon) => {
    for (const spec of nodes()) await daemon.execute("blockdev-add", spec);
    for (const [execute, args] of before) await daemon.execute(execute, args);
    if (before.length > 0) await daemon.event("BLOCK_JOB_READY");
    const given = new Map<string, string>();
    for (const [execute, args] of requests) {
      const words = await daemon.refusal(execute, args);
      given.set(`${execute} ${JSON.stringify(args)}`, words ?? "accepted");
    }
    return given;
  });
}

describe("refused commands", () => {
  test("have QEMU's words and leave the images alone", async () => {
    const images = await makeImages();
    await goodImage(path("base2"));
    const before = images.map((name) => contentOf(path(name)));
    const mine = await answers(ours, { requests: refused, before: [] });
    for (const [index, name] of images.entries())
      expect(contentOf(path(name)) === before[index], `${name} is as it was`).toBe(true);
    const wanted = await answers(theirs, { requests: refused, before: [] });
    expect(Object.fromEntries(mine)).toEqual(Object.fromEntries(wanted));
    expect([...mine.values()]).not.toContain("accepted");
  });

  test("while a mirror is ready, too", async () => {
    await makeImages();
    await goodImage(path("base2"));
    const before: Request[] = [["blockdev-mirror", { ...copy }]];
    const mine = await answers(ours, { requests: busy, before });
    const wanted = await answers(theirs, { requests: busy, before });
    expect(Object.fromEntries(mine)).toEqual(Object.fromEntries(wanted));
    expect([...mine.values()]).not.toContain("accepted");
    expect(await checkFaults(path("target"), "refused")).toBeUndefined();
  });

  test("a mirror to a smaller target fails before it writes", async () => {
    await makeImages();
    const before = contentOf(path("small"));
    await withDaemon({}, async (daemon) => {
      await daemon.execute("blockdev-add", node("disk", "qcow2", "top"));
      await daemon.execute("blockdev-add", node("small", "qcow2", "small"));
      await daemon.execute("blockdev-mirror", { ...copy, target: "small" });
      const { data } = await daemon.event("BLOCK_JOB_COMPLETED");
      expect(data?.["error"]).toBe("Source and target image have different sizes");
    });
    expect(contentOf(path("small")) === before).toBe(true);
  });
});

/** Starts a slow backup or mirror of a raw source, and lets `harm` happen in the middle of it. */
async function underWay(
  kind: "mirror" | "backup",
  { sourceFormat, harm }: { sourceFormat: string; harm: () => void },
): Promise<{ error: unknown; errors: number }> {
  await must("qemu-img", "create", "-q", "-f", "qcow2", path("copy"), "8M");
  return withDaemon({}, async (daemon) => {
    await daemon.execute("blockdev-add", node("disk", sourceFormat, "source"));
    await daemon.execute("blockdev-add", node("target", "qcow2", "copy"));
    // A buffer's worth goes at once, whatever the speed: it must not reach the part that is harmed.
    const buffer = kind === "mirror" ? { "buf-size": MiB } : {};
    await daemon.execute(`blockdev-${kind}`, { ...copy, ...buffer, speed: 65536 });
    await daemon.event("JOB_STATUS_CHANGE", { status: "running" });
    harm();
    await daemon.execute("block-job-set-speed", { device: "job", speed: 0 });
    if (kind === "mirror") {
      await Promise.race([
        daemon.event("BLOCK_JOB_READY").then(() => daemon.execute("job-complete", { id: "job" })),
        daemon.event("JOB_STATUS_CHANGE", { status: "concluded" }),
      ]);
    }
    const { data } = await daemon.event("BLOCK_JOB_COMPLETED");
    await daemon.event("JOB_STATUS_CHANGE", { status: "null" });
    expect(daemon.errors).toBe("");
    const errors = daemon.events.filter(({ event }) => event === "BLOCK_JOB_ERROR").length;
    return { error: data?.["error"], errors };
  });
}

async function makeSource(format: string): Promise<void> {
  const content = Buffer.alloc(8 * MiB);
  for (let at = 0; at < content.length; at += 4) content.writeUInt32LE(at + 1, at);
  writeFileSync(path("source.raw"), content);
  await must("qemu-img", "convert", "-f", "raw", "-O", format, path("source.raw"), path("source"));
}

describe.each(["mirror", "backup"] as const)("%s", (kind) => {
  test.each(["raw", "qcow2"])("a %s source that is unlinked meanwhile is copied whole", async (format) => {
    await makeSource(format);
    const harm = (): void => unlinkSync(path("source"));
    expect(await underWay(kind, { sourceFormat: format, harm })).toEqual({ error: undefined, errors: 0 });
    await must("qemu-img", "compare", "-f", "raw", "-F", "qcow2", path("source.raw"), path("copy"));
    expect(await checkFaults(path("copy"), "refused")).toBeUndefined();
  });

  test.each(["raw", "qcow2"])("a %s source that shrinks meanwhile reads as zeroes there", async (format) => {
    await makeSource(format);
    const harm = (): void => truncateSync(path("source"), 7 * MiB);
    expect(await underWay(kind, { sourceFormat: format, harm })).toEqual({ error: undefined, errors: 0 });
    const words = ["-f", "qcow2", "-c", "read -q -P 0 7864320 524288", path("copy")];
    if (format === "raw") await must("qemu-io", ...words);
    expect(await checkFaults(path("copy"), "refused")).toBeUndefined();
  });

  test("a target that turns out corrupt is marked and written no more", async () => {
    await makeSource("raw");
    for (const name of ["ours", "theirs"]) {
      await goodImage(path(name), "-o", "cluster_size=64k");
      // The L2 table shows the first cluster at the place of the refcount block.
      patchFile(path(name), [4 * 65536, 8, 0x8000000000000000n + 2n * 65536n]);
    }
    truncateSync(path("source"), MiB);
    const ends: Record<string, unknown>[] = [];
    for (const [program, name] of [
      [ours, "ours"],
      [theirs, "theirs"],
    ] as const) {
      const daemon = await Daemon.start({ program });
      try {
        await daemon.execute("blockdev-add", node("disk", "raw", "source"));
        await daemon.execute("blockdev-add", node("target", "qcow2", name));
        await daemon.execute(`blockdev-${kind}`, { ...copy });
        const corrupt = await daemon.event("BLOCK_IMAGE_CORRUPTED");
        const { data } = await daemon.event("BLOCK_JOB_COMPLETED");
        ends.push({ corrupt: corrupt.data, error: data?.["error"] });
        await daemon.quit();
      } finally {
        if (daemon.alive) await daemon.kill();
      }
    }
    expect(ends[0]).toEqual(ends[1]);
    expect(ends[0]!["error"]).toBe("Input/output error");
    const info = JSON.parse(await must("qemu-img", "info", "--output=json", path("ours"))) as {
      "format-specific": { data: { corrupt: boolean } };
    };
    expect(info["format-specific"].data.corrupt).toBe(true);
  });
});

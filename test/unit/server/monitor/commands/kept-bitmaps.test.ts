// Persistent bitmaps are stored when their node becomes read-only by the way: the image below a new overlay, and a base that a
// commit of a middle image has written to; and what a client may do with them then.
import { describe, expect, test } from "vitest";
import { Daemon } from "./daemon.ts";

const MiB = 1 << 20;

interface Stored {
  readonly name: string;
  readonly flags: readonly string[];
}

/** What stands in the image that lies in `NAME-file`, as another reader of the same bytes sees it. */
async function stored(daemon: Daemon, name: string): Promise<readonly Stored[]> {
  const { graph } = daemon.engine;
  const file = graph.node(`${name}-file`);
  const bytes = new Uint8Array(file.length);
  await daemon.host.clock.settle(Promise.resolve(file.driver.pread(0, bytes, 0)));
  await graph.add({ driver: "memory", "node-name": "look-file", buffer: bytes });
  const options = {
    driver: "qcow2",
    "node-name": "look",
    file: "look-file",
    backing: null,
    "read-only": true,
  };
  const look = await daemon.host.clock.settle(graph.add(options));
  const { bitmaps = [] } = look.driver.formatSpecific!()!.data as { bitmaps?: readonly Stored[] };
  for (const node of ["look", "look-file"]) await daemon.host.clock.settle(graph.remove(node));
  return bitmaps.map(({ name: called, flags }) => ({ name: called, flags }));
}

async function withBitmap(daemon: Daemon, name: string, backing: string | null = null): Promise<void> {
  await daemon.image(name, MiB, backing);
  await daemon.run("block-dirty-bitmap-add", { node: name, name: "k", persistent: true });
}

const kept = [{ name: "k", flags: ["auto"] }];

describe("a persistent bitmap", () => {
  test("of an image that gets an overlay is stored, and the image is read-only from then on", async () => {
    const daemon = new Daemon();
    await withBitmap(daemon, "n");
    await daemon.image("o");
    const guest = await daemon.guest("d0", "n");
    await guest.write(0, new Uint8Array(512));
    expect(await stored(daemon, "n")).not.toEqual(kept);
    await daemon.run("blockdev-snapshot", { node: "n", overlay: "o" });
    expect(daemon.engine.graph.node("n").readOnly).toBe(true);
    expect(await stored(daemon, "n")).toEqual(kept);
    await expect(daemon.run("block-dirty-bitmap-clear", { node: "n", name: "k" })).rejects.toThrow(
      "Bitmap 'k' is readonly and cannot be modified",
    );
  });

  test("of the read-only base of a commit between is stored anew when the job has ended", async () => {
    const daemon = new Daemon();
    await withBitmap(daemon, "base");
    const options = { driver: "qcow2", "node-name": "base", file: "base-file", "read-only": true };
    await daemon.run("blockdev-reopen", { options: [options] });
    expect(await stored(daemon, "base")).toEqual(kept);
    await daemon.image("mid", MiB, "base");
    const guest = await daemon.guest("d0", "mid");
    await guest.write(4096, new Uint8Array(4096).fill(7));
    await daemon.image("top");
    await daemon.run("blockdev-snapshot", { node: "mid", overlay: "top" });
    await daemon.run("block-commit", {
      "job-id": "j",
      device: "top",
      "top-node": "mid",
      "base-node": "base",
    });
    const completed = (): unknown =>
      daemon.events.find(({ event }) => event === "BLOCK_JOB_COMPLETED")!.data["error"] ?? "well";
    await daemon.host.clock.idle();
    expect([daemon.engine.jobs.find("j"), completed()]).toEqual([undefined, "well"]);
    expect(daemon.engine.graph.node("base").readOnly).toBe(true);
    expect(await stored(daemon, "base")).toEqual(kept);
  });
});

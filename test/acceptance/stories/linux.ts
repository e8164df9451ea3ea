// A real Linux as the guest: Debian's kernel reads the whole disk while it is filled, loses its server in the middle, writes
// and reads again; its own checksums are those of the disk.
import { createHash } from "node:crypto";
import { expect } from "vitest";
import { LINUX_WRITE, linuxGuest } from "../../support/v86/debian.ts";
import { Bench, MiB, compareWithQemu, diskImage, sha256 } from "../support/bench.ts";
import type { EngineName } from "../support/browser.ts";
import type { State } from "../app/worker.ts";

const SIZE = 8 * MiB;

function md5(bytes: Uint8Array): string {
  return createHash("md5").update(bytes).digest("hex");
}

/** What the guest has said after a word. */
function said(state: State, word: string): string | undefined {
  return new RegExp(`^${word} (\\S+)`, "m").exec(state.guest.output)?.[1];
}

/** Debian's kernel over HTTP while the overlay is filled. */
export async function linux(engine: EngineName): Promise<void> {
  const { kernel, initrd } = linuxGuest();
  await using bench = await Bench.start(diskImage(SIZE), engine);
  bench.app.files.set("/bzimage", kernel);
  bench.app.files.set("/initrd", initrd);
  const { expected, server } = bench;
  const before = md5(expected);
  const line = new TextEncoder().encode(LINUX_WRITE.line);
  for (let i = 0; i < LINUX_WRITE.bytes; i++) expected[LINUX_WRITE.offset + i] = line[i % line.byteLength]!;

  const tab = await bench.tab();
  await tab.call("create", bench.base);
  await tab.call("open", bench.base);
  const cmdline = "console=ttyS0 quiet loglevel=4 mitigations=off nokaslr tsc=reliable random.trust_cpu=on";
  await tab.call("boot", { kernel: true, cmdline, memoryMiB: 128 });
  // So slow that the guest, however long it takes to start, finds clusters that are not here yet.
  await tab.call("fill", { speed: MiB / 64, onError: "stop" });

  // The server is away for a while once the guest reads: the machine stops, and the guest notices nothing.
  await tab.until("the guest reads", ({ guest }) => guest.output.includes("START"));
  await server.stop();
  const stopped = await tab.until("stopped", ({ guest, job }) => !guest.runs && job?.status === "paused");
  expect(stopped.machine).toBe("io-error");
  await server.listen();
  await tab.call("cont");
  await tab.call("resumeJob");
  await tab.call("setSpeed", 0);

  const ended = await tab.until("the guest is through", (state) => said(state, "AFTER") !== undefined);
  expect(said(ended, "BEFORE")).toBe(before);
  expect(said(ended, "WROTE")).toBe("0");
  expect(said(ended, "AFTER")).toBe(md5(expected));
  expect(ended.guest.output).not.toMatch(/ata\d.*(error|failed|exception|timeout)|I\/O error/i);
  await tab.until("concluded", ({ job }) => job?.status === "concluded");
  expect(await tab.call("digest")).toBe(sha256(expected));
  compareWithQemu(await tab.content(bench.app, "file"), expected);
}

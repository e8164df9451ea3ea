// One page with a disk on a server: what each acceptance test begins with.
import { createHash } from "node:crypto";
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect } from "vitest";
import { ImageServer } from "../../support/image-server.ts";
import { guestChecksum, guestPattern } from "../../support/v86/monitor-guest.ts";
import { monitorSector } from "../../support/v86/node.ts";
import type { Base } from "../app/worker.ts";
import { AppServer } from "./app.ts";
import { Browser, type EngineName, Profile, type Tab } from "./browser.ts";

export const MiB = 1024 * 1024;

/** `bytes` bytes that look random, the same each time for a seed, with the monitor's boot sector first. */
export function diskImage(bytes: number, seed = 1): Uint8Array<ArrayBuffer> {
  const words = new Uint32Array(bytes / 4);
  let state = seed;
  for (let i = 0; i < words.length; i++) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    words[i] = state;
  }
  const image = new Uint8Array(words.buffer);
  image.set(monitorSector());
  return image;
}

/** The SHA-256 in hexadecimal digits. */
export function sha256(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}

/** Servers, a browser and what the disk must hold. */
export class Bench implements AsyncDisposable {
  readonly app: AppServer;
  readonly server: ImageServer;
  readonly profile: Profile;
  /** What the guest must see: the image with its writes. */
  readonly expected: Uint8Array;
  browser: Browser;

  private constructor(parts: { app: AppServer; server: ImageServer; browser: Browser; profile: Profile }) {
    this.app = parts.app;
    this.server = parts.server;
    this.browser = parts.browser;
    this.profile = parts.profile;
    this.expected = parts.server.content.slice();
  }

  static async start(image: Uint8Array, engine: EngineName = "chromium"): Promise<Bench> {
    const profile = new Profile(engine);
    const [app, server, browser] = await Promise.all([
      AppServer.start(),
      ImageServer.start(image),
      Browser.start(profile),
    ]);
    return new Bench({ app, server, browser, profile });
  }

  get base(): Base {
    return { url: this.server.url, size: this.expected.byteLength };
  }

  /** A tab with the page, or another. */
  tab(path?: string): Promise<Tab> {
    return this.browser.open(this.app.origin, path);
  }

  /** The guest writes, and is answered well. */
  async write(tab: Tab, { lba, seed, count }: { lba: number; seed: number; count: number }): Promise<void> {
    const data = guestPattern(seed, count * 512);
    expect(await tab.call("guestWrite", lba, seed, count)).toEqual({
      status: 0,
      checksum: guestChecksum(data),
    });
    this.expected.set(data, lba * 512);
  }

  /** The guest reads, and gets what it must. */
  async read(tab: Tab, { lba, count }: { lba: number; count: number }): Promise<void> {
    const data = this.expected.subarray(lba * 512, (lba + count) * 512);
    expect(await tab.call("guestRead", lba, count)).toEqual({ status: 0, checksum: guestChecksum(data) });
  }

  /**
   * With v86 on the page: boot over HTTP, fill, lose the server, stop, go on when it is back, finish. In the end the disk holds what it
   * must; `missing` is a sector that the guest had to wait for.
   */
  async throughALoss(tab: Tab): Promise<{ missing: number }> {
    const { base, server, expected } = this;
    await tab.call("create", base);
    await tab.call("open", base);
    await tab.call("fill", { speed: 2 * MiB, onError: "stop" });
    await tab.call("boot", {});
    await this.write(tab, { lba: 100, seed: 1, count: 16 });
    await this.read(tab, { lba: 96, count: 32 });
    await tab.until("under way", ({ job }) => job!.offset >= MiB);

    await server.stop();
    const paused = await tab.until("paused", ({ job }) => job?.status === "paused");
    expect(paused.job).toMatchObject({ ioStatus: "failed" });
    const ticks = paused.guest.ticks + 5;
    await tab.until("ticking", ({ guest }) => guest.ticks >= ticks);
    const missing = expected.byteLength / 512 - 1024;
    const answer = this.read(tab, { lba: missing, count: 16 });
    const stopped = await tab.until("stopped", ({ guest }) => !guest.runs);
    expect(stopped.machine).toBe("io-error");
    expect(stopped.events).toEqual(["BLOCK_IO_ERROR", "STOP"]);

    await server.listen();
    await tab.call("cont");
    await answer;
    await tab.call("resumeJob");
    await this.write(tab, { lba: missing + 3, seed: 2, count: 5 });
    const done = await tab.until("concluded", ({ job }) => job?.status === "concluded");
    expect(done.job).toMatchObject({ error: null, offset: expected.byteLength });
    expect(done.guest).toMatchObject({ errors: 0, runs: true });
    expect(sha256(await tab.content(this.app, "disk"))).toBe(sha256(expected));
    return { missing };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.browser.kill();
    this.profile.remove();
    await this.server.stop();
    this.app.stop();
  }
}

/**
 * Holds a qcow2 file against qemu-img: it is sound, and the same as `expected`; what it does not hold itself it takes
 * from `base`, if given. After a kill it may have leaked clusters, which are no damage.
 */
export function compareWithQemu(
  file: Uint8Array,
  expected: Uint8Array,
  { base, mayLeak = false }: { base?: Uint8Array; mayLeak?: boolean } = {},
): void {
  const folder = mkdtempSync(join(tmpdir(), "blockwright-acceptance-"));
  const qemuImg = (...args: string[]): string =>
    execFileSync("qemu-img", args, { cwd: folder, encoding: "utf8" });
  try {
    writeFileSync(join(folder, "disk.qcow2"), file);
    writeFileSync(join(folder, "expected.raw"), expected);
    if (base) {
      writeFileSync(join(folder, "base.raw"), base);
      qemuImg("rebase", "-u", "-f", "qcow2", "-b", "base.raw", "-F", "raw", "disk.qcow2");
    }
    if (mayLeak) qemuImg("check", "-r", "leaks", "-f", "qcow2", "disk.qcow2");
    qemuImg("check", "-f", "qcow2", "disk.qcow2");
    const words = qemuImg("compare", "-f", "qcow2", "-F", "raw", "disk.qcow2", "expected.raw");
    expect(words).toContain("Images are identical");
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

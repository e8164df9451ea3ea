// Block devices beside qemu-img and qemu-io: a loop device each, over files of the same size. What the two print, and what then lies on
// the devices, is compared.
import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { commands, masked } from "./support/io.ts";
import { type Outcome, Twins } from "./support/twins.ts";

const MiB = 2 ** 20;
const twins = new Twins();
const folder = mkdtempSync(join(tmpdir(), "blockwright-devices-"));

/** A loop device over a new file, or why there is none. */
function attach(name: string): { device?: string; why?: string } {
  const file = join(folder, name);
  writeFileSync(file, "");
  truncateSync(file, 16 * MiB);
  const { status, stdout, stderr } = spawnSync("losetup", ["--find", "--show", file], { encoding: "utf8" });
  return status === 0 ? { device: stdout.trim() } : { why: stderr || "there is no losetup" };
}

const [theirs, ours] = [attach("theirs"), attach("ours")];
const why = theirs.why ?? ours.why;
if (why !== undefined) console.warn(`devices.test.ts is skipped: ${why.trim()}`);

beforeAll(() => {
  const img = (words: string): unknown => execFileSync("qemu-img", words.split(" "), { cwd: twins.theirs });
  img("create -q -f qcow2 small 16M");
  execFileSync("qemu-io", ["-c", "write -q -P 7 1M 3M", "-c", "write -q -P 8 15M 1M", "small"], {
    cwd: twins.theirs,
  });
  img("create -q -f qcow2 large 32M");
  twins.same();
});

afterAll(() => {
  for (const { device } of [theirs, ours]) if (device !== undefined) spawnSync("losetup", ["-d", device]);
  twins.remove();
  rmSync(folder, { recursive: true, force: true });
});

/** The words with the device of either side, and what is said as of one. */
const on = (device: string, words: readonly string[]): string[] =>
  words.map((word) => word.replace("DEVICE", device));
const asOne = (text: string): string =>
  text.replaceAll(theirs.device!, "DEVICE").replaceAll(ours.device!, "DEVICE");

function same(words: readonly string[]): Outcome {
  const real = twins.qemuImg(...on(theirs.device!, words));
  const here = twins.blockwright(...on(ours.device!, words));
  expect(asOne(JSON.stringify(here))).toBe(asOne(JSON.stringify(real)));
  return here;
}

function content(name: string): Buffer {
  execFileSync("sync");
  return readFileSync(join(folder, name));
}

describe.skipIf(why !== undefined)("a block device", () => {
  it.each([
    ["info DEVICE", 0],
    ["info --output=json host_device:DEVICE", 0],
    ["map --output=json -f raw DEVICE", 0],
    ["measure -O qcow2 -f raw DEVICE", 0],
    // A new image takes the device as it is, if it is large enough.
    ["create -f raw DEVICE 16M", 0],
    ["create -f raw DEVICE 32M", 1],
    ["create -f raw -o preallocation=full DEVICE 16M", 1],
    ["create -f qcow2 DEVICE 1T", 0],
    ["info DEVICE", 0],
    ["convert -O raw small DEVICE", 0],
    ["convert -O raw large DEVICE", 1],
    ["convert -n -O raw large DEVICE", 1],
    ["dd -f qcow2 -O raw if=small of=DEVICE bs=1M", 0],
    ["convert -O qcow2 small DEVICE", 0],
    ["check DEVICE", 0],
    ["snapshot -c one DEVICE", 0],
    ["convert -f qcow2 -O raw DEVICE copy", 0],
    ["convert -n -O raw small DEVICE", 0],
    ["resize -f raw DEVICE 8M", 1],
    ["resize -f raw DEVICE 32M", 1],
  ] as const)("%s", (line, status) => {
    const words = line.split(" ");
    expect(same(words).status).toBe(status);
    if (words[0] === "convert" && status === 0 && words.at(-1) === "DEVICE" && !words.includes("qcow2"))
      expect(content("ours").equals(content("theirs"))).toBe(true);
  });

  it("is a format's name no longer where another image was made on it", () => {
    same(["create", "-q", "-f", "qcow2", "DEVICE", "1M"]);
    same(["create", "-q", "-f", "raw", "DEVICE", "1M"]);
    expect(same(["info", "DEVICE"]).stdout).toContain("file format: raw");
  });

  it("is read, written, zeroed and discarded, and never longer", () => {
    const lines = [
      ...["write -P 5 0 4M", "discard 0 1M", "read -P 0 0 1M", "write -z -u 2M 1M", "read -P 0 2M 1M"],
      ...["write -P 6 1000 3000", "read -P 6 1000 3000", "write 15M 2M", "truncate 1M", "length"],
    ];
    const real = masked(twins.qemuIo(["-f", "raw", ...commands(...lines), theirs.device!]));
    const here = masked(twins.blockwright("io", "-f", "raw", ...commands(...lines), ours.device!));
    expect(asOne(JSON.stringify(here))).toBe(asOne(JSON.stringify(real)));
    expect(content("ours").equals(content("theirs"))).toBe(true);
  });
});

// A LUKS volume that the real qemu-storage-daemon has open: who else may open it, and that nobody changes its keys meanwhile, by our
// programs as by QEMU's.
import { spawn, spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import { loadNativeCalls } from "../../src/platform/node/native.ts";
import { program } from "./support/twins.ts";

let folder = "";
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "blockwright-luks-"));
  const options = ["--object", "secret,id=s,data=hunter2", "-o", "key-secret=s,iter-time=10"];
  // QEMU's own fails where the machine is too busy to measure its key derivation.
  const words = [program, "create", "-q", "-f", "luks", ...options, "t.luks", "1M"];
  const made = spawnSync(process.execPath, words, { cwd: folder, encoding: "utf8" });
  expect(made.stderr).toBe("");
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const secret = ["--object", "secret,id=s,data=hunter2"];
const image = (readOnly: boolean): string =>
  `driver=luks,node-name=l,key-secret=s,read-only=${readOnly ? "on" : "off"},file.driver=file,file.filename=t.luks`;

/** Runs `body` while a daemon has the volume open. */
async function whileOpen(readOnly: boolean, body: () => void): Promise<void> {
  const words = [...secret, "--blockdev", image(readOnly), "--pidfile", "pid"];
  const child = spawn("qemu-storage-daemon", words, { cwd: folder, stdio: "ignore" });
  const ended = new Promise((resolve) => child.on("close", resolve));
  try {
    while (!existsSync(join(folder, "pid")) && child.exitCode === null)
      await new Promise((resolve) => setTimeout(resolve, 20));
    expect(child.exitCode).toBe(null);
    body();
  } finally {
    child.kill("SIGTERM");
    await ended;
  }
}

const run = (name: string, words: readonly string[]): unknown[] => {
  const [command, before] =
    name === "ours" ? [process.execPath, [program, `--run-as=${words[0]}`]] : [words[0] as string, []];
  const { status, stdout, stderr } = spawnSync(command, [...before, ...words.slice(1)], {
    cwd: folder,
    encoding: "utf8",
  });
  return [status, stdout.replaceAll(/\d[\d.]* ops; .*/g, ""), stderr];
};

it.skipIf(!loadNativeCalls()).each([true, false])(
  "is opened beside it, and its keys stay: read-only %s",
  async (readOnly) => {
    const amend = [
      "-o",
      "state=active,new-secret=n,iter-time=10",
      `driver=luks,key-secret=s,file.filename=t.luks`,
    ];
    const all: string[][] = [
      ["qemu-img", "amend", ...secret, "--object", "secret,id=n,data=other", "--image-opts", ...amend],
      ["qemu-io", ...secret, "--image-opts", image(true), "-c", "read 0 4k"],
      ["qemu-io", ...secret, "--image-opts", image(false), "-c", "write 0 4k"],
    ];
    await whileOpen(readOnly, () => {
      const before = readFileSync(join(folder, "t.luks"), "latin1").slice(0, 1 << 20);
      for (const words of all) expect(run("ours", words), words.join(" ")).toEqual(run("theirs", words));
      expect(run("ours", all[0]!)).toEqual([1, "", expect.stringContaining('"consistent read" lock')]);
      expect(readFileSync(join(folder, "t.luks"), "latin1").slice(0, 1 << 20)).toBe(before);
    });
    expect(run("ours", all[0]!)).toEqual([0, "", ""]);
  },
  120_000,
);

it.skipIf(!loadNativeCalls())(
  "names who may have it, where a device of a machine can't get it",
  async () => {
    spawnSync("qemu-img", ["create", "-q", "-f", "raw", "t.raw", "1M"], { cwd: folder });
    const child = spawn("qemu-io", ["-f", "raw", "t.raw"], {
      cwd: folder,
      stdio: ["pipe", "pipe", "ignore"],
    });
    const ended = new Promise((resolve) => child.on("close", resolve));
    child.stdin.write("write 0 512\n");
    await new Promise((resolve) => child.stdout.once("data", resolve));
    const nodes = ["-blockdev", "file,node-name=f,filename=t.raw", "-device", "virtio-blk,drive=f"];
    const words = ["qemu-system-x86_64", "-nodefaults", "-display", "none", "-S", ...nodes];
    const real = run("theirs", words);
    const mine = run("ours", words);
    child.stdin.end();
    await ended;
    expect(real).toEqual([1, "", expect.stringContaining("Is another process using the image [t.raw]?")]);
    expect(mine).toEqual(real);
  },
  120_000,
);

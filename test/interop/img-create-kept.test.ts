// A file that is there when another is made in its place: it stays as it was where that fails half-way (here at a limit on the size
// of files, which no file system tells beforehand), and what is made has its names, its owner and its mode.
import { spawnSync } from "node:child_process";
import {
  chmodSync,
  linkSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterEach, beforeEach, describe, expect, it } from "vitest";

const cli = fileURLToPath(new URL("../../build/cli/main.js", import.meta.url));
const OLD = "what was there";
let folder: string;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "blockwright-kept-"));
  writeFileSync(join(folder, "there"), OLD);
});

afterEach(() => rmSync(folder, { recursive: true, force: true }));

interface Done {
  status: number | null;
  stderr: string;
}

function run(line: string, { most }: { most?: number } = {}): Done {
  const limit = most === undefined ? "" : `ulimit -f ${most}; `;
  const command = `${limit}exec "$0" "$@"`;
  const words = ["-c", command, process.execPath, cli, ...line.split(" ")];
  const { status, stderr } = spawnSync("bash", words, { cwd: folder, encoding: "utf8" });
  return { status, stderr };
}

const secret = "--object secret,id=s,data=x";

describe("a file that can't be made whole", () => {
  it.each([
    "create -q -f qcow2 -o preallocation=full there 8M",
    "create -q -f qcow2 -o preallocation=falloc there 8M",
    "create -q -f raw -o preallocation=full there 8M",
    "create -q -f raw -o preallocation=falloc there 8M",
    "create -q -f raw -o preallocation=full link 8M",
    `create -q ${secret} -f luks -o key-secret=s,iter-time=10,preallocation=full there 8M`,
    "convert -f raw -O qcow2 -o preallocation=full source there",
  ])("leaves what was there: %s", (line) => {
    symlinkSync("there", join(folder, "link"));
    writeFileSync(join(folder, "source"), Buffer.alloc(8 << 20));
    const before = statSync(join(folder, "there"));
    const { status, stderr } = run(line, { most: 2048 });
    expect(stderr).toMatch(/too large/i);
    expect(status).toBe(1);
    expect(readFileSync(join(folder, "there"), "utf8")).toBe(OLD);
    expect(statSync(join(folder, "there")).ino).toBe(before.ino);
    // Nothing else is left, and the words are about the file that was asked for.
    expect(readdirSync(folder).toSorted()).toEqual(["link", "source", "there"]);
    expect(stderr).not.toContain(".new");
  });
});

describe("a copy that fails", () => {
  // Half of the source can't be read: behind it qemu-img leaves half a disk in the place of what was there.
  const rules = '[inject-error]\nevent = "read_aio"\nerrno = "5"\nsector = "8192"\n';

  it.each([
    ["convert -f raw -O qcow2 blkdebug:rules:source there", /reading at byte/],
    ["convert -f raw -O raw blkdebug:rules:source file:there", /reading at byte/],
    ["convert -f raw -O raw -t none blkdebug:rules:source link", /reading at byte/],
    ["convert -f raw -O qcow2 -B base -F raw blkdebug:rules:source there", /reading at byte/],
    ["dd -f raw -O raw if=blkdebug:rules:source of=there bs=1M", /reading from input/],
  ])("leaves what was there: %s", (line, words) => {
    symlinkSync("there", join(folder, "link"));
    writeFileSync(join(folder, "source"), Buffer.alloc(8 << 20, 7));
    writeFileSync(join(folder, "base"), Buffer.alloc(1 << 20));
    writeFileSync(join(folder, "rules"), rules);
    const { status, stderr } = run(line);
    expect(stderr).toMatch(words);
    expect(status).toBe(1);
    expect(readFileSync(join(folder, "there"), "utf8")).toBe(OLD);
    expect(readdirSync(folder).toSorted()).toEqual(["base", "link", "rules", "source", "there"]);
    expect(stderr).not.toContain(".new");
  });

  it("leaves what was there where the file may not grow so far", () => {
    writeFileSync(join(folder, "source"), Buffer.alloc(8 << 20, 7));
    for (const line of [
      "convert -f raw -O qcow2 source there",
      "convert -f raw -O raw source there",
      "dd -f raw if=source of=there",
    ]) {
      const { status, stderr } = run(line, { most: 2048 });
      expect(stderr, line).toMatch(/too large/i);
      expect(status).toBe(1);
      expect(readFileSync(join(folder, "there"), "utf8")).toBe(OLD);
      expect(readdirSync(folder).toSorted()).toEqual(["source", "there"]);
    }
  });

  it("is the new image, and nothing else, where it succeeds", () => {
    writeFileSync(join(folder, "source"), Buffer.alloc(1 << 20, 7));
    for (const line of ["convert -f raw -O raw source there", "dd -f raw -O raw if=source of=there"]) {
      writeFileSync(join(folder, "there"), OLD);
      expect(run(line)).toEqual({ status: 0, stderr: "" });
      expect(readFileSync(join(folder, "there")).equals(Buffer.alloc(1 << 20, 7))).toBe(true);
      expect(readdirSync(folder).toSorted()).toEqual(["source", "there"]);
    }
    // An image is not made over its own backing file, though it would lie beside it for a while.
    const own = "convert -f raw -O qcow2 -B there -F raw source there";
    expect(run(own)).toMatchObject({ status: 1 });
    expect(readFileSync(join(folder, "there")).length).toBe(1 << 20);
  });
});

describe("a file that is made in another's place", () => {
  it("has the name to which a link leads, and the mode", () => {
    chmodSync(join(folder, "there"), 0o640);
    symlinkSync("there", join(folder, "link"));
    expect(run("create -q -f qcow2 link 1M")).toEqual({ status: 0, stderr: "" });
    expect(readdirSync(folder).toSorted()).toEqual(["link", "there"]);
    expect(readFileSync(join(folder, "there")).toString("latin1", 0, 3)).toBe("QFI");
    expect(statSync(join(folder, "there")).mode & 0o7777).toBe(0o640);
  });

  it.runIf(process.getuid?.() === 0)("has the owner", () => {
    spawnSync("chown", ["65534:65534", join(folder, "there")]);
    expect(run("create -q -f qcow2 there 1M").status).toBe(0);
    const { uid, gid } = statSync(join(folder, "there"));
    expect({ uid, gid }).toEqual({ uid: 65_534, gid: 65_534 });
  });

  it("is that file where it has a second name", () => {
    linkSync(join(folder, "there"), join(folder, "twin"));
    expect(run("create -q -f qcow2 there 1M").status).toBe(0);
    expect(statSync(join(folder, "twin")).ino).toBe(statSync(join(folder, "there")).ino);
    expect(readFileSync(join(folder, "twin")).toString("latin1", 0, 3)).toBe("QFI");
  });

  it("is refused while an image is in use", () => {
    expect(run("create -q -f qcow2 there 1M").status).toBe(0);
    const before = readFileSync(join(folder, "there"));
    const inner = `${process.execPath} ${cli} create -q -f qcow2 there 2M`;
    const script = `qemu-io -f qcow2 -c "sleep 1500" there & sleep 0.5; ${inner}; status=$?; wait; exit $status`;
    const { status, stderr } = spawnSync("bash", ["-c", script], { cwd: folder, encoding: "utf8" });
    expect(stderr).toContain('Failed to get "write" lock');
    expect(status).toBe(1);
    expect(readFileSync(join(folder, "there")).equals(before)).toBe(true);
    expect(readdirSync(folder)).toEqual(["there"]);
  });
});

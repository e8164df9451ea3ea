// The commands of io that change an open disk, hold requests back, or end the program, beside qemu-io: the same words, exit
// codes and images. Node names are masked; what QEMU's QemuOpts accepts (`-o x` for `x=on`) is left out.
import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { commands, masked } from "./support/io.ts";
import { type Outcome, withTemplates } from "./support/twins.ts";

const images = ["a.qcow2", "top.qcow2", "a.raw"];

const twins = withTemplates((templates) => {
  const img = (words: string): unknown =>
    execFileSync("qemu-img", words.split(" "), { cwd: templates.theirs });
  img("create -q -f qcow2 a.qcow2 4M");
  img("create -q -f raw a.raw 1M");
  img("create -q -f qcow2 -b a.qcow2 -F qcow2 top.qcow2");
});

/** Runs the lines on a disk in both; compares what was said, and the images, which ours must check clean. */
function same(disk: string, ...lines: string[]): Outcome {
  const words = [...disk.split(" ").filter((word) => word !== ""), ...commands(...lines)];
  const ours = masked(twins.blockwright("io", ...words));
  expect(ours).toEqual(masked(twins.qemuIo(words)));
  for (const file of images) {
    const format = file.endsWith("raw") ? "raw" : "qcow2";
    const compare = ["compare", "-f", format, "-F", format, join(twins.ours, file), join(twins.theirs, file)];
    expect(execFileSync("qemu-img", compare, { encoding: "utf8" })).toBe("Images are identical.\n");
    if (format === "qcow2") execFileSync("qemu-img", ["check", "-q", file], { cwd: twins.ours });
  }
  return ours;
}

const debugged = `json:${JSON.stringify({
  driver: "qcow2",
  file: { driver: "blkdebug", image: { driver: "file", filename: "a.qcow2" } },
})}`;

describe("io: reopen, as qemu-io", () => {
  it("another window of a raw file", () => {
    const window = "driver=raw,offset=512,size=512,file.filename=a.raw";
    same(
      `--image-opts ${window}`,
      "write -P 1 0 512",
      "write -P 1 512 1",
      "reopen -o offset=1024,size=1k",
      "length",
      "write -P 2 0 1k",
      "write -P 2 1k 1",
      "reopen -o size=3",
      "reopen -o offset=9M,size=512",
      "length",
      "reopen -r",
      "reopen -o size=2k,offset=1k",
      "length",
    );
  });

  it.each([
    ["a.qcow2", "reopen", "length", "reopen -r", "write 0 512", "read 0 512", "reopen -w", "write 0 512"],
    [
      "a.qcow2",
      "reopen -rw",
      "reopen -r -w",
      "reopen -c foo",
      "reopen foo",
      "reopen -x",
      "reopen -o",
      "length",
    ],
    ["-r a.qcow2", "write 0 512", "reopen -w", "write 0 512", "reopen -o read-only=off", "length"],
    ["-r a.qcow2", "reopen -o read-only=off", "write -P 1 0 512", "reopen -r", "write 0 512"],
    ["a.qcow2", "write 0 512", "reopen -o read-only=on", "reopen -r -o read-only=on", "write 0 512"],
    [
      "a.qcow2",
      "reopen -c writethrough",
      "write 0 512",
      "reopen -c unsafe",
      "write 1k 512",
      "reopen -c none",
    ],
    ["a.qcow2", "reopen -c none -o cache.direct=on", "reopen -o cache.no-flush=on", "write 0 512", "flush"],
    [
      "top.qcow2",
      "reopen",
      "reopen -o backing=",
      "reopen -o backing.driver=raw",
      "reopen -r",
      "reopen -w",
      "write 0 1",
    ],
    ["a.qcow2", "reopen -o backing=foo", "reopen -o file=foo", "reopen -o file.locking=off"],
    ["-C top.qcow2", "reopen -r", "read 0 512", "reopen -w", "write 0 512"],
    ["-f raw a.raw", "reopen -r", "write 0 512", "reopen -w", "write 0 512"],
    ["", "reopen", "reopen -r"],
  ])("%s: %s, …", (disk, ...lines) => {
    same(disk, ...lines);
  });

  it("changes the driver's options", () => {
    const { status } = same(
      "a.qcow2",
      "reopen -o lazy-refcounts=on,discard=ignore",
      "write -P 1 0 200k",
      "reopen -o pass-discard-request=off,pass-discard-other=on -o pass-discard-snapshot=off",
      "discard 0 64k",
      "reopen -o overlap-check=none",
      "reopen -o overlap-check=all,lazy-refcounts=off",
      "reopen -o cache-size=1M,l2-cache-entry-size=4k",
      "reopen -o l2-cache-size=256k,cache-size=0x80000",
      "reopen -o discard=unmap,detect-zeroes=unmap",
      "write -z 64k 64k",
      "reopen -o auto-read-only=on,cache-clean-interval=5",
      "read 0 200k",
    );
    expect(status).toBe(0);
  });

  it.each([
    ["reopen -o cache-size=1M", "reopen -o l2-cache-size=512k", "reopen -o refcount-cache-size=256k"],
    ["reopen -o l2-cache-size=64k", "reopen -o refcount-cache-size=256k", "reopen -o cache-size=1M"],
    ["reopen -o l2-cache-size=2M", "reopen -o cache-size=1M", "reopen -o refcount-cache-size=512k"],
  ])("a size of caches takes the place of those that it excludes: %s, %s, %s", (...lines) => {
    expect(same("a.qcow2", ...lines, "write -P 1 0 200k", "read -P 1 0 200k").status).toBe(0);
  });

  it("leaves a lazy image dirty in a crash, and none after it was reopened as it was", () => {
    const flags = (): unknown => {
      const check = ["check", "--output=json", "a.qcow2"];
      const said = twins.blockwright(...check);
      return { ...(JSON.parse(said.stdout) as object), status: said.status };
    };
    const lines = ["write 1M 64k", "reopen -o lazy-refcounts=off", "flush", "sigraise 9"];
    twins.blockwright("io", "a.qcow2", ...commands("reopen -o lazy-refcounts=on", ...lines));
    expect(flags()).toMatchObject({ status: 0, "check-errors": 0 });
    const marked = ["reopen -o lazy-refcounts=on", "write 2M 64k", "flush", "sigraise 9"];
    twins.blockwright("io", "a.qcow2", ...commands(...marked));
    const said = execFileSync("qemu-io", ["-r", "a.qcow2", "-c", "info"], {
      cwd: twins.ours,
      encoding: "utf8",
    });
    expect(said).toContain("format name: qcow2");
    expect(twins.blockwright("check", "-r", "all", "a.qcow2").status).toBe(0);
  });

  it.each([
    "read-only=maybe",
    "lazy-refcounts=maybe",
    "overlap-check=foo",
    "overlap-check.template=foo",
    "overlap-check.main-header=foo",
    "discard=foo",
    "detect-zeroes=unmap,discard=ignore",
    "detect-zeroes=foo",
    "node-name=foo",
    "driver=raw",
    "file.driver=host_device",
    "file.filename=b",
    "l2-cache-size=x",
    "l2-cache-entry-size=3",
    "cache-size=1M,l2-cache-size=2M",
    "cache-size=1M,l2-cache-size=64k,refcount-cache-size=64k",
    "refcount-cache-size=256T",
    "cache-size=256T",
    "cache-size=256T,l2-cache-size=1M",
    "cache-size=256T,refcount-cache-size=1M",
    "cache-clean-interval=-1",
    "cache-clean-interval=4294967296",
    "force-share=on",
    "data-file=x",
    "x=y",
  ])("refuses %s", (option) => {
    expect(same("a.qcow2", `reopen -o ${option}`, "read 0 512").status).toBe(1);
  });
});

describe("io: breakpoints, as qemu-io", () => {
  it("holds requests back and lets them go on", () => {
    const started = ["break write_aio A", "aio_write -P 1 0 512", "wait_break A"];
    same(
      debugged,
      ...started,
      "write -P 2 64k 512",
      "read -P 0 0 512",
      "resume A",
      "aio_flush",
      "read -P 1 0 512",
    );
    same(debugged, ...started, "resume A", "aio_flush", "resume A", "remove_break A");
    same(debugged, ...started, "remove_break A", "aio_flush", "remove_break A", "write 1M 512");
    same(debugged, "break l2_load A", "break l2_load B", "remove_break A", "remove_break B", "read 0 512");
    const two = ["break write_aio B", "aio_write -P 3 1M 512", "wait_break B"];
    // The sleep lets the one end before the other.
    same(debugged, ...started, ...two, "resume B", "sleep 200", "resume A", "aio_flush");
  });

  it("refuses what there is not", () => {
    same(
      debugged,
      "break foo A",
      "remove_break A",
      "resume A",
      "break read_aio",
      "resume",
      "wait_break",
      "break a b c",
    );
    same("a.qcow2", "break write_aio A", "remove_break A", "resume A");
    same("-C top.qcow2", "break write_aio A");
    same("", "break write_aio A", "wait_break A");
  });

  it("does not wait for ever, as qemu-io would", () => {
    const lines = ["break write_aio A", "wait_break A", "aio_write 0 512", "sleep 50", "close"];
    const { status, stdout } = masked(twins.blockwright("io", debugged, ...commands(...lines)));
    expect({ status, stdout }).toEqual({
      status: 1,
      stdout:
        "Could not wait for a request: No such file or directory\nblkdebug: Suspended request 'A'\n" +
        "blkdebug: Resuming request 'A'\nwrote 512/512 bytes at offset 0\n512 bytes, 1 ops; TIME\n",
    });
  });
});

describe("io: the end of the program, as qemu-io", () => {
  it.each(["1", "9", "10", "14", "15", "34", "0"])("sigraise %s", (signal) => {
    same("", `sigraise ${signal}`, "sleep 1");
  });

  it("refuses what is no signal", () => {
    same(
      "",
      "sigraise 66",
      "sigraise x",
      "sigraise -1",
      "sigraise 1k",
      "sigraise",
      "sigraise 1 2",
      "abort x",
    );
  });

  it("aborts in the middle of its work", () => {
    const words = ["a.qcow2", ...commands("write -P 5 0 64k", "flush", "abort", "write -P 6 0 64k")];
    expect(twins.blockwright("io", ...words).status).toBe(134);
    expect(twins.qemuIo(words).status).toBe(134);
    expect(twins.blockwright("io", "a.qcow2", ...commands("read -P 5 0 64k")).status).toBe(0);
  });
});

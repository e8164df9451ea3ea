// io beside qemu-io: the same words, exit codes and images for the same commands, good and bad, from -c and from stdin. Times
// and rates are masked, and so is what help says in words of its own.
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { commands, masked } from "./support/io.ts";
import { type Outcome, withTemplates } from "./support/twins.ts";

const twins = withTemplates((templates) => {
  const img = (...words: string[]): unknown => execFileSync("qemu-img", words, { cwd: templates.theirs });
  img("create", "-q", "-f", "qcow2", "a.qcow2", "4M");
  img("create", "-q", "-f", "raw", "a.raw", "1M");
  img("create", "-q", "-f", "qcow2", "-b", "a.qcow2", "-F", "qcow2", "top.qcow2");
  img(..."create -q -f qcow2 -o extended_l2=on,cluster_size=128k,lazy_refcounts=on x.qcow2 1M".split(" "));
  img(..."create -q -f qcow2 -o compat=0.10,cluster_size=4k old.qcow2 1M".split(" "));
  writeFileSync(join(templates.theirs, "pattern"), "abc");
  writeFileSync(join(templates.theirs, "empty"), "");
  writeFileSync(join(templates.theirs, "odd.raw"), new Uint8Array(1500).fill(1));
});

const images = ["a.qcow2", "top.qcow2", "x.qcow2", "old.qcow2", "a.raw", "odd.raw"];

/** Compares the images that either program has changed, and checks ours. */
function compareImages(): void {
  const bytes = (directory: string, file: string): Buffer => readFileSync(join(directory, file));
  for (const file of images) {
    const ours = bytes(twins.ours, file);
    if (ours.equals(bytes(twins.theirs, file))) continue;
    expect(file).toMatch(/qcow2$/);
    const compare = ["compare", join(twins.ours, file), join(twins.theirs, file)];
    expect(execFileSync("qemu-img", compare, { encoding: "utf8" })).toBe("Images are identical.\n");
    execFileSync("qemu-img", ["check", "-q", join(twins.ours, file)]);
  }
}

/** Runs the commands in both; compares what was said, and the images. */
function same(words: readonly string[], input = ""): Outcome {
  const theirs = masked(twins.qemuIo(words, input));
  const ours = masked(twins.blockwrightWith(input, "io", ...words));
  expect(ours).toEqual(theirs);
  compareImages();
  return ours;
}

const good: Record<string, string[]> = {
  "writes and reads": [
    "write 0 64k",
    "read -P 0xcd 0 64k",
    "w -P 0x12 1M 64k",
    "r -P 18 1M 64k",
    "write -q 3M 1k",
  ],
  "unaligned requests": [
    "write -P 1 511 1025",
    "read -v 500 40",
    "write 1 1",
    "read -P 1 1535 1",
    "write 4194303 1",
  ],
  "nothing at all": ["write 0 0", "write 4M 0", "read 4M 0", "discard 0 0", "", "  "],
  numbers: [
    "write 0x200 0x200",
    "write 1.5k 1K",
    "read +1 1",
    "read 1.9999999k 1b",
    "write -P 010 0 1",
    "read -P 8 0 1",
  ],
  zeroes: [
    "write 0 256k",
    "write -z 0 64k",
    "write -zu 64k 64k",
    "write -zn 128k 64k",
    "write -z -f 3 5",
    "map",
  ],
  compressed: [
    "write -c -P 7 2M 64k",
    "write -c 2112k 128k",
    "read -P 7 2M 64k",
    "write -c -z 1M 64k",
    "map",
  ],
  "a file's bytes": ["write -s pattern 1 512", "read -v 0 32"],
  "parts of what was read": [
    "write -z 0 1k",
    "write -P 5 100 50",
    "read -P 5 -s 100 -l 50 0 1k",
    "read -P 0 -l 100 0 1k",
  ],
  vectors: [
    "writev 0 512 512",
    "writev -P 7 0 1 1 1",
    "readv -v 0 2 2",
    "readv -P 7 0 3",
    "writev -f 1M 512",
    "readv 0 0",
  ],
  "machine-readable": [
    "write -C 0 64k",
    "read -Cv 0 10",
    "readv -C 0 512",
    "discard -C 0 64k",
    "read -qv 0 4",
  ],
  "asynchronous writes": [
    "aio_write -P 3 1k 512 512",
    "aio_flush",
    "aio_read -P 3 1k 1k",
    "aio_flush",
    "aio_write -zu 0 64k",
    "aio_flush",
  ],
  "asynchronous dumps": [
    "aio_read -v 0 16",
    "aio_flush",
    "aio_read -C 0 512",
    "aio_flush",
    "aio_read -q 0 512",
  ],
  "invalid requests that only count": ["aio_write -i 0 64k", "aio_read -i 0 64k", "aio_flush"],
  discards: ["write 0 256k", "discard 0 64k", "d -q 64k 64k", "discard 100 64k", "map", "read -P 0 0 64k"],
  "what it is": ["info", "i", "length", "l", "flush", "f", "sleep 1", "sleep 0x1"],
  "what it holds": [
    "write 1M 70k",
    "map",
    "alloc 0",
    "a 1M 64k",
    "alloc 0 6M",
    "alloc 4M 512",
    "alloc 7M",
    "alloc 3",
  ],
  lengths: ["truncate 5M", "length", "map", "t 4M", "truncate -m full 5M", "truncate -m off 4M", "length"],
  "the saved machine": [
    "write -b -P 9 0 64k",
    "read -b -P 9 0 64k",
    "read -b 64k 512",
    "write -b 1M 1k",
    "info",
    "map",
  ],
  "the words of options anywhere": [
    "write -z 0 1k",
    "read 0 512 -q",
    "read 0 -qv 512",
    "read -- 0 512",
    "read -qP0 0 512",
  ],
  "the end": ["read 0 512", "quit", "read 0 x"],
};

const bad: Record<string, string[]> = {
  patterns: [
    "write -P 300 0 1",
    "write -P x 0 1",
    "write -P -1 0 1",
    "write -P 0x 0 1",
    "write -P 1k 0 1",
    "readv -P 300 0 1",
  ],
  "what is not what it should be": [
    "read -P 5 0 64k",
    "read -P 5 -s 100 0 1k",
    "read -P 5 -l 100 0 1k",
    "readv -P 7 0 4",
  ],
  numbers: [
    "write foo 1",
    "write 0 foo",
    "read 1kk 1",
    "read 1.5 1",
    "read .5k 1",
    "write 0 8E",
    "write 0 16E",
    "read -P 0 -l x 0 1",
  ],
  ranges: [
    "write 5M 1",
    "write 4M 1",
    "read 4M 512",
    "read 4095k 2k",
    "discard 7M 512",
    "writev 4M 1",
    "readv 4M 1",
    "write -z 4M 1",
  ],
  lengths: [
    "write 0 2G",
    "write -z 0 3G",
    "write -zn 0 3G",
    "discard 0 3G",
    "readv 0 3G",
    "readv 0 1G 1G 1G",
  ],
  "options that are none": [
    "write -x 0 1",
    "readv -x 0 1",
    "writev -z 0 1",
    "aio_read -x 0 1",
    "discard -x 0 1",
    "truncate -x 1",
    "read -a 0 1",
  ],
  "options without a value": ["write 0 -P", "read -P 0 -s", "truncate 5M -m"],
  "options that exclude each other": [
    "write -z -P 1 0 1",
    "write -u 0 1",
    "write -n 0 1",
    "write -s pattern -P 3 0 1",
    "write -bz 0 512",
    "write -cf 0 64k",
  ],
  "too few words": [
    "write",
    "write 0",
    "read 0",
    "readv 0",
    "discard 0",
    "truncate",
    "alloc",
    "sleep",
    "aio_write 0",
    "writev -P 1 0",
  ],
  "too many words": [
    "write 0 1 2",
    "length x",
    "info x",
    "map x",
    "flush x",
    "alloc 0 1 2",
    "sleep 1 2",
    "help a b",
    "close 1",
  ],
  "verification outside of what is read": [
    "read -s 100 0 1k",
    "read -l 100 0 1k",
    "read -P 0 -s 2000 0 1k",
    "read -P 0 -s 10 -l 2000 0 1k",
  ],
  "what is not aligned": [
    "write -c 3 512",
    "write -c 512 5",
    "write -c 512 512",
    "read -b 3 1",
    "read -b 512 1",
  ],
  "files that are not there": ["write -s none 0 1", "write -s empty 0 1", "write -s . 0 1"],
  "no commands": ["nope", "nope 1 2", "rv 0 1", "h", "\twrite 0 1", "read 0 512;length", "help nope"],
  quotes: ['write "0" 512', "write '0' 512"],
  "asynchronous requests that are none": [
    "aio_write -z 0 64k 64k",
    "aio_write -u 0 1",
    "aio_read 0 x",
    "aio_write -P 300 0 1",
  ],
  "new lengths": ["truncate x", "truncate -m x 6M", "truncate 100P", "length"],
  waiting: ["sleep x", "sleep 1k", "sleep -1"],
  "more than one disk": ["open a.raw", "open -x", "open", "close", "close", "length", "read 0 1"],
  modes: [
    "close",
    "open -t nope a.raw",
    "open -d nope a.raw",
    "open -i nope a.raw",
    "open a b",
    "open -U a.qcow2",
    "open -k a.qcow2",
    "open none",
    "open -n",
  ],
};

/** The cases' commands in one run, with lines between them that tell where a case begins. */
function batch(cases: Readonly<Record<string, readonly string[]>>): string[] {
  return Object.entries(cases).flatMap(([name, lines]) =>
    commands(`help ${name.replaceAll(" ", "_")}`, ...lines),
  );
}

describe("io", () => {
  it("carries out commands as qemu-io", () => {
    const { status, stdout } = same(["-f", "qcow2", "a.qcow2", ...commands(...Object.values(good).flat())]);
    expect(stdout).not.toContain("failed");
    expect(status).toBe(0);
    // The saved machine that we wrote is one to the original.
    twins.same();
    const read = ["-c", "read -b -P 9 0 64k", "-c", "read -b -P 0xcd 1M 1k"];
    expect(
      twins.blockwright("io", "a.qcow2", "-c", "write -b -P 9 0 64k", "-c", "write -b 1M 1k").status,
    ).toBe(0);
    const said = execFileSync("qemu-io", [...read, "a.qcow2"], { cwd: twins.ours, encoding: "utf8" });
    expect(said).not.toContain("failed");
  });

  it("refuses commands as qemu-io", () => {
    expect(same(["-f", "qcow2", "a.qcow2", ...batch(bad)]).status).toBe(1);
  });

  it("does not count asynchronous failures, as qemu-io", () => {
    const lines = ["aio_read 4M 512", "aio_flush", "aio_write 4M 512", "aio_flush", "aio_read -P 4 0 1k"];
    expect(same(["a.qcow2", ...commands(...lines)]).status).toBe(0);
  });

  it.each(["top.qcow2", "x.qcow2", "old.qcow2", "-f raw a.raw", "-f raw odd.raw", "-f file a.raw"])(
    "works on %s as qemu-io does",
    (words) => {
      const lines = [
        "info",
        "length",
        "write -P 1 4k 4k",
        "write -z 512 512",
        "discard 0 4k",
        "alloc 0 64k",
        "map",
        "read 0 1k",
      ];
      same([...words.split(" "), ...commands(...lines, "write -b 0 512")]);
    },
  );

  it.each([
    [
      "-r a.qcow2",
      "write 0 512",
      "write",
      "write x 1",
      "discard 0 512",
      "truncate 8M",
      "read 0 512",
      "aio_write 0 1",
      "help nope",
    ],
    ["-s -f qcow2 a.qcow2", "write 0 512", "read -P 0xcd 0 512", "map", "info", "length"],
    ["-s -r a.qcow2", "write 0 512", "read 0 1", "info"],
    ["-C top.qcow2", "read 0 64k", "map", "info"],
    ["-r -C a.qcow2", "length"],
    ["-n -f raw a.raw", "write 3 5", "read -v 0 16"],
    ["-t writethrough a.qcow2", "write 0 512"],
    ["-d ignore a.qcow2", "write 0 64k", "discard 0 64k", "map"],
    ["-m a.qcow2", "write 3 512", "read 3 512"],
    ["-U -r a.qcow2", "length"],
    ["-i threads a.qcow2", "length"],
    ["a.raw", "write 512 512", "write -c 64k 64k"],
    ["--image-opts driver=qcow2,file.filename=a.qcow2", "length"],
    ["--image-opts driver=qcow2,file.driver=file,file.filename=a.qcow2,read-only=on -r", "write 0 1"],
    ['json:{"driver":"qcow2","file":{"driver":"file","filename":"a.qcow2"}}', "length"],
    [
      'json:{"driver":"null-co","size":1048576,"read-zeroes":true}',
      "info",
      "length",
      "write 0 512",
      "map",
      "read -P 0 0 1M",
    ],
  ])("opens as qemu-io: %s", (words, ...lines) => {
    same([...words.split(" "), ...commands(...lines)]);
  });

  it.each([
    "-f nope a.raw",
    "-f qcow2 a.raw",
    "none.raw",
    "-t nope a.qcow2",
    "-d nope a.qcow2",
    "-i nope a.qcow2",
    "-k a.qcow2",
    "-U a.qcow2",
    "--image-opts -f qcow2 driver=qcow2,file.filename=a.qcow2",
    "--image-opts driver=nope,file.filename=a.qcow2",
    "--image-opts cache.direct=on",
    "json:{}",
  ])("does not open, as qemu-io: %s", (words) => {
    expect(same([...words.split(" "), "-c", "length"]).status).toBe(1);
  });

  it.each([
    ["open a.qcow2", "length", "close", "open -r a.raw", "length", "read 0 512"],
    ["open -o driver=qcow2,file.filename=a.qcow2", "length"],
    [
      "open -o driver=qcow2 a.qcow2",
      "write 0 1",
      "close",
      "open -s top.qcow2",
      "write 0 64k",
      "close",
      "open top.qcow2",
      "map",
    ],
    ["open -o driver=raw,file.driver=file,file.filename=a.raw a.qcow2"],
    ["open -o driver=raw -o read-only=on a.raw", "length"],
    ["open -n -U -r a.qcow2", "length", "q", "nope"],
  ])("opens by command as qemu-io: %s", (...lines) => {
    same(commands(...lines));
  });

  it.each([
    "write 0 512\nread -P 5 0 512\n\nlength\nfoo\n# comment\nq\nlength\n",
    "write 0 512\nread 0 512",
    "read -P 5 0 512\n",
    "",
  ])("takes commands from stdin as qemu-io: %j", (input) => {
    same(["a.qcow2"], input);
  });

  it("lists the same commands with the same words as qemu-io", () => {
    const theirs = masked(twins.qemuIo(["-c", "help"])).stdout;
    expect(masked(twins.blockwright("io", "-c", "help")).stdout).toBe(theirs);
    for (const name of ["read", "w", "?", "map", "aio_write", "reopen", "break", "sigraise"]) {
      const first = (text: string): string => text.split(" -- ")[0]!;
      const { status, stdout } = twins.blockwright("io", "-c", `help ${name}`);
      expect({ status, stdout: first(stdout).trimEnd() }).toEqual({
        status: 0,
        stdout: first(twins.qemuIo(["-c", `help ${name}`]).stdout).trimEnd(),
      });
    }
  });

  it("is kept out by another process with the image", async () => {
    const other = spawn("qemu-io", ["a.qcow2"], { cwd: twins.ours });
    await once(other.stdout, "data");
    const refused = twins.blockwright("io", "a.qcow2", "-c", "length");
    other.kill();
    const hint = "Is another process using the image [a.qcow2]?";
    const stderr = `blockwright: can't open device a.qcow2: Failed to get "write" lock\n${hint}`;
    expect(refused).toEqual({ status: 1, stdout: "", stderr });
  });
});

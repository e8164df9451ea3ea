// blklogwrites beside qemu-io: the same requests leave the same log, byte for byte, and the same disk; a log that is there goes on or is
// refused in the same words; and the harness replays what is in it.
import { execFileSync, spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import { runVerb } from "../support/verb-client.ts";

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "blockwright-log-"));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

interface Left {
  readonly said: readonly string[];
  readonly status: number | null;
  readonly log: string;
  readonly disk: string;
}

const who = ["real", "ours"] as const;

/** What either program's qemu-io says of the requests, and what it leaves; `log` is what lies there before. */
function perform(
  name: (typeof who)[number],
  options: string,
  commands: readonly string[],
  log: Buffer,
): Left {
  const cwd = join(folder, name);
  mkdirSync(cwd, { recursive: true });
  execFileSync("qemu-img", ["create", "-q", "-f", "raw", "disk", "1M"], { cwd });
  writeFileSync(join(cwd, "log"), log);
  const image = `driver=blklogwrites,file.driver=file,file.filename=disk,${options}`;
  // qemu-io else flushes after each write.
  const words = ["-t", "writeback", ...commands.flatMap((command) => ["-c", command]), "--image-opts", image];
  const { stdout, stderr, status } =
    name === "real"
      ? spawnSync("qemu-io", words, { cwd, encoding: "utf8" })
      : runVerb(["io", ...words], { cwd, input: "" });
  const said = `${stdout}${stderr}`
    .split("\n")
    .filter((line) => /bytes at|write failed|open|nvalid/.test(line))
    .map((line) => line.replace(/^(qemu-io|blockwright): /, ""));
  const content = (file: string): string => readFileSync(join(cwd, file)).toString("latin1");
  return { said, status, log: content("log"), disk: content("disk") };
}

/** Has both do it, and holds one beside the other. */
function both(options: string, commands: readonly string[], log: Buffer = Buffer.alloc(0)): Left {
  const [theirs, ours] = who.map((name) => perform(name, options, commands, log));
  expect(ours?.said).toEqual(theirs?.said);
  expect(ours?.status).toBe(theirs?.status);
  expect(ours?.log === theirs?.log, "the logs").toBe(true);
  expect(ours?.disk === theirs?.disk, "the disks").toBe(true);
  return ours!;
}

const LOG = "log.driver=file,log.filename=log";
const requests = [
  ...["write -P 1 0 4k", "write -f -P 2 8k 1k", "write -P 3 100 10", "write -z 64k 8k"],
  ...["write -z -u 70001 8k", "discard 4k 8k", "flush", "flush", "read -P 3 100 10", "write -P 9 1020k 4k"],
];

it.each(["", ",discard=unmap", ",log-sector-size=4096", ",log-super-update-interval=2", ",read-only=on"])(
  "leaves the log that qemu-io leaves: %s",
  (more) => {
    const { log } = both(`${LOG}${more}`, requests);
    expect(log.length).toBe(more === ",read-only=on" ? 0 : log.length);
    if (more !== ",read-only=on") expect(log.startsWith("rhswfsj\0")).toBe(true);
  },
);

it("goes on with a log, and starts anew without being asked to", () => {
  const { log } = both(LOG, requests);
  const longer = both(`${LOG},log-append=on`, ["write -P 5 0 1k", "flush"], Buffer.from(log, "latin1"));
  expect(longer.log.length).toBe(log.length + 512 + 1024 + 512);
  const anew = both(LOG, ["write -P 6 0 512"], Buffer.from(longer.log, "latin1"));
  expect(anew.log.length).toBe(longer.log.length);
});

/** A log of one discard, two writes and a flush, changed at some place. */
function changedLog(log: string, at: number, value: bigint): Buffer {
  const bytes = Buffer.from(log, "latin1");
  bytes.writeBigUInt64LE(value, at);
  return bytes;
}

it.each<[string, number, bigint]>([
  ["no magic", 0, 7n],
  ["another version", 8, 2n],
  ["no entries", 16, 0n],
  ["more entries than there are", 16, 100n],
  ["sectors of no bytes", 24, 0n],
  ["sectors of 100 bytes", 24, 100n],
  ["sectors of 16 MiB", 24, 1n << 24n],
  ["sectors of another size", 24, 1024n],
  ["unknown flags", 512 + 16, 0xf0n],
  ["a mark", 512 + 16, 8n],
])("a log with %s", (_name, at, value) => {
  const { log } = both(`${LOG},discard=unmap`, ["write -P 1 0 4k", "discard 8k 4k", "write -P 1 4k 512"]);
  both(`${LOG},log-append=on`, ["write -P 5 0 1k"], changedLog(log, at, value));
});

it.each([
  ...["log-sector-size=0", "log-sector-size=16", "log-sector-size=100", "log-sector-size=16777216"],
  ...["log-super-update-interval=0", "log-append=on,log-sector-size=512", "log-append=maybe"],
])("refuses %s in the same words", (more) => {
  expect(both(`${LOG},${more}`, ["write 0 512"]).status).toBe(1);
});

const failing = (iotype: string, errno: number): string =>
  `log.driver=blkdebug,log.image.driver=file,log.image.filename=log,log.inject-error.0.event=none,log.inject-error.0.iotype=${iotype},log.inject-error.0.errno=${errno}`;

it("fails a request whose entry can't be written", () => {
  const { said } = both(failing("write", 28), ["write -P 1 0 4k", "read 0 512"]);
  expect(said[0]).toContain("No space left on device");
  both(failing("flush", 5), ["write -P 1 0 4k", "flush"]);
});

it("an end of a log that nobody could count to is found at once", () => {
  const { log } = both(LOG, ["write -P 1 0 4k"]);
  const { status, said } = perform(
    "ours",
    `${LOG},log-append=on`,
    ["write -P 5 0 1k"],
    changedLog(log, 16, 2n ** 63n),
  );
  expect(said.join()).toMatch(/failed: File too large/);
  expect(status).toBe(1);
});

it("a file of no bytes is a log that goes on", () => {
  expect(both(`${LOG},log-append=on`, requests).log.length).toBeGreaterThan(512);
});

it("is replayed by the harness", () => {
  // A discard need not be carried out where it is replayed.
  const { log, disk } = both(
    LOG,
    requests.filter((command) => !command.startsWith("discard")),
  );
  writeFileSync(join(folder, "disk.log"), log, "latin1");
  execFileSync("qemu-img", ["create", "-q", "-f", "raw", "copy", "1M"], { cwd: folder });
  const { status, stderr } = runVerb(["workload", "replay", "disk.log", "--target", "copy"], {
    cwd: folder,
    input: "",
  });
  expect({ status, stderr }).toMatchObject({ status: 0 });
  expect(readFileSync(join(folder, "copy")).toString("latin1") === disk).toBe(true);
});

it("blkreplay hands requests on", () => {
  const at = { cwd: folder, encoding: "utf8" } as const;
  const commands = ["-t", "writeback", ...requests.flatMap((command) => ["-c", command])];
  for (const name of ["plain", "below"])
    execFileSync("qemu-img", ["create", "-q", "-f", "raw", name, "1M"], at);
  const theirs = spawnSync("qemu-io", [...commands, "-f", "raw", "plain"], at);
  const image = "driver=blkreplay,image.driver=file,image.filename=below";
  const ours = runVerb(["io", ...commands, "--image-opts", image], { cwd: folder, input: "" });
  const told = (text: string): string[] => text.split("\n").filter((line) => line.includes("bytes at"));
  expect(told(ours.stdout)).toEqual(told(theirs.stdout));
  expect(readFileSync(join(folder, "below")).equals(readFileSync(join(folder, "plain")))).toBe(true);
});

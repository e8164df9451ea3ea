// Backups that a client pulls by NBD, as oVirt, KubeVirt and virtnbdbackup do: a guest writes to two disks without pause, one
// transaction gives each disk a scratch image and turns its bitmaps, and a client of libnbd copies what block status names. What is
// restored must be both disks as they were after one and the same write. The chain of bitmaps goes on in QEMU, and back.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { copyFileSync, existsSync, readFileSync, writeFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { afterAll, describe, expect, test } from "vitest";
import { Daemon, ours, theirs, withDaemon } from "../support/daemon.ts";
import { tool } from "../support/tools.ts";
import { said, Scratch, SHELL } from "./support/nbd.ts";

const scratch = new Scratch();
afterAll(() => scratch.remove());

const MiB = 2 ** 20;
const SIZE = 24 * MiB;
/** Where each disk has data that no guest writes to. */
const OLD = { offset: 18 * MiB, bytes: 4 * MiB, value: 5 } as const;
const WRITE = 4096;
/** What one bit of a bitmap stands for; the guest writes somewhere in the first so many. */
const GRANULE = 65_536;
const SPOTS = 256;
const disks = ["a", "b"] as const;
type Disk = (typeof disks)[number];

/**
 * Which disk the guest's write number `i` goes to, where, and what it leaves there: its number, or zeroes, over the number of the write
 * before it on that disk, so that each write is seen.
 */
function writeOf(i: number): { disk: Disk; offset: number; value: number } {
  const place = i % 13 === 0 ? i - 2 : i;
  const offset = ((place * 7919) % SPOTS) * GRANULE + (place % 16) * WRITE;
  return { disk: disks[i % 2]!, offset, value: i % 13 === 0 ? 0 : i };
}

/** The same for the guest, which has one write under way at a time and says the number of each that was answered. */
const GUEST = `
import struct, sys, threading, nbd
uris, first = sys.argv[1:3], int(sys.argv[3])
going = True
def wait():
    global going
    sys.stdin.read()
    going = False
threading.Thread(target=wait, daemon=True).start()
hs = []
for uri in uris:
    h = nbd.NBD()
    h.connect_uri(uri)
    hs.append(h)
i = first
while going:
    j = i - 2 if i % 13 == 0 else i
    h, at = hs[i % 2], (j * 7919 % ${SPOTS}) * ${GRANULE} + (j % 16) * ${WRITE}
    if i % 13 == 0: h.zero(${WRITE}, at)
    else: h.pwrite(struct.pack("<I", i) * ${WRITE / 4}, at)
    print(i, flush=True)
    i += 1
for h in hs: h.shutdown()
`;

/** Copies what a context names into a file that is there: all that is not zero, or all that is dirty. Says how many bytes. */
const PULL = `
import sys, nbd
uri, context, path = sys.argv[1:4]
h = nbd.NBD()
h.add_meta_context(context)
h.connect_uri(uri)
assert h.can_meta_context(context)
out, copied, at, size = open(path, "r+b"), 0, 0, h.get_size()
while at < size:
    runs = []
    h.block_status(size - at, at, lambda name, offset, entries, error: runs.extend(entries))
    assert runs
    for length, flags in zip(runs[::2], runs[1::2]):
        wanted = flags == 1 if "bitmap" in context else not flags & 2
        for piece in range(at, at + length, 1 << 20) if wanted else []:
            bytes_ = min(1 << 20, at + length - piece)
            out.seek(piece)
            out.write(h.pread(bytes_, piece))
            copied += bytes_
        at += length
out.close()
h.shutdown()
print(copied)
`;

/** A guest that writes until it is stopped. */
class Guest {
  last: number;
  readonly #child;
  readonly #over: Promise<unknown[]>;
  #watch = (): void => undefined;

  constructor(uris: readonly string[], first: number) {
    this.last = first - 1;
    const args = ["-c", GUEST, ...uris, String(first)];
    this.#child = spawn(SHELL[0], args, { stdio: ["pipe", "pipe", "inherit"] });
    this.#over = once(this.#child, "close");
    createInterface({ input: this.#child.stdout }).on("line", (line) => {
      this.last = Number(line);
      this.#watch();
    });
  }

  /** Waits until so many more writes were answered. */
  more(writes: number): Promise<void> {
    return this.beyond(this.last + writes - 1);
  }

  /** Waits until one after that number was answered. */
  async beyond(last: number): Promise<void> {
    const goal = last + 1;
    if (this.last >= goal) return;
    const there = new Promise<void>((resolve) => {
      this.#watch = () => this.last >= goal && resolve();
    });
    const ended = this.#over.then(() => Promise.reject(new Error("the guest has ended")));
    await Promise.race([there, ended]);
  }

  async stop(): Promise<void> {
    this.#child.stdin.end();
    expect(await this.#over).toEqual([0, null]);
  }
}

/** What a round does: the daemon that runs it, with the disks of a folder. */
interface Round {
  readonly daemon: Daemon;
  readonly at: (name: string) => string;
  readonly number: number;
}

function uriOf({ at }: { at: (name: string) => string }, name: string): string {
  return `nbd+unix:///${name}?socket=${at("sock")}`;
}

/** One moment of both disks: a scratch image each, and the bitmaps' turn. */
async function turn({ daemon, number, at }: Round): Promise<void> {
  for (const disk of disks) {
    const file = at(`scratch-${disk}`);
    await tool("qemu-img", "create", "-q", "-f", "qcow2", file, String(SIZE));
    const more = { driver: "qcow2", file: { driver: "file", filename: file }, backing: disk };
    await daemon.execute("blockdev-add", { "node-name": `scratch-${disk}`, ...more });
  }
  const action = (type: string, data: object): object => ({ type, data });
  const bitmaps = disks.flatMap((node) => {
    const [before, now] = [`point-${number - 1}`, `point-${number}`];
    const begin = action("block-dirty-bitmap-add", { node, name: now, persistent: true });
    if (number === 0) return [begin];
    return [
      action("block-dirty-bitmap-add", { node, name: "pull", disabled: true }),
      action("block-dirty-bitmap-disable", { node, name: before }),
      action("block-dirty-bitmap-merge", { node, target: "pull", bitmaps: [before] }),
      begin,
    ];
  });
  const jobs = disks.map((device) =>
    action("blockdev-backup", {
      ...{ device, target: `scratch-${device}`, sync: "none" },
      "job-id": `fleece-${device}`,
    }),
  );
  await daemon.execute("transaction", { actions: [...bitmaps, ...jobs] });
}

/** Where a disk's copy of a round goes, and what it is made of. */
interface Copy {
  readonly bitmap: string | undefined;
  readonly at: (name: string) => string;
  readonly disk: Disk;
  readonly number: number;
}

/** Copies a disk into a file beside the one of the round before, of which it takes what is not dirty; how many bytes came. */
async function copy(uri: string, { bitmap, at, disk, number }: Copy): Promise<number> {
  const path = at(`${disk}-${number}`);
  if (number === 0) writeFileSync(path, Buffer.alloc(SIZE));
  else copyFileSync(at(`${disk}-${number - 1}`), path);
  const context = bitmap === undefined ? "base:allocation" : `qemu:dirty-bitmap:${bitmap}`;
  return Number(await said(SHELL[0], "-c", PULL, uri, context, path));
}

/** Copies both disks as they were; how many bytes that took. */
async function pull({ daemon, number, at }: Round): Promise<number> {
  const bitmap = number === 0 ? undefined : "pull";
  const copied = disks.map(async (disk) => {
    const more = bitmap === undefined ? {} : { bitmaps: [bitmap] };
    const node = `scratch-${disk}`;
    await daemon.execute("block-export-add", { type: "nbd", id: `pull-${disk}`, "node-name": node, ...more });
    return copy(uriOf({ at }, node), { bitmap, at, disk, number });
  });
  const [a, b] = await Promise.all(copied);
  return a! + b!;
}

async function finish({ daemon, number }: Round): Promise<void> {
  for (const disk of disks) {
    await daemon.execute("block-export-del", { id: `pull-${disk}` });
    await daemon.event("BLOCK_EXPORT_DELETED", { id: `pull-${disk}` });
    await daemon.execute("block-job-cancel", { device: `fleece-${disk}` });
    await daemon.event("JOB_STATUS_CHANGE", { id: `fleece-${disk}`, status: "null" });
    await daemon.execute("blockdev-del", { "node-name": `scratch-${disk}` });
    if (number > 0) await daemon.execute("block-dirty-bitmap-remove", { node: disk, name: "pull" });
  }
}

/** The number of the write after which both disks were what was restored; every byte of them is looked at. */
function momentOf(at: (name: string) => string, number: number): number {
  const restored = disks.map((disk) => readFileSync(at(`${disk}-${number}`)));
  const seen = restored.map((bytes) => {
    let most = 0;
    for (const [spot] of Array.from({ length: SIZE / WRITE }).entries()) {
      const value = bytes.readUInt32LE(spot * WRITE);
      if (value !== OLD.value * 0x01010101) most = Math.max(most, value);
    }
    return most;
  });
  const last = Math.max(...seen);
  // The very last one may have been one of zeroes, which says no number.
  const candidates = [last, ...((last + 1) % 13 === 0 ? [last + 1] : [])];
  const found = candidates.find((n) => disks.every((disk, i) => replayed(disk, n).equals(restored[i]!)));
  if (found === undefined) throw new Error(`no moment of the guest's gives what was restored (${last}?)`);
  return found;
}

function replayed(disk: Disk, last: number): Buffer {
  const bytes = Buffer.alloc(SIZE);
  bytes.fill(OLD.value, OLD.offset, OLD.offset + OLD.bytes);
  const word = Buffer.alloc(4);
  for (let i = 1; i <= last; i++) {
    const { disk: where, offset, value } = writeOf(i);
    word.writeUInt32LE(value);
    if (where === disk) bytes.fill(word, offset, offset + WRITE);
  }
  return bytes;
}

async function makeDisks(at: (name: string) => string): Promise<void> {
  for (const disk of disks) {
    await tool("qemu-img", "create", "-q", "-f", "qcow2", at(`${disk}.qcow2`), String(SIZE));
    const old = `write -P ${OLD.value} ${OLD.offset} ${OLD.bytes}`;
    await tool("qemu-io", "-c", old, at(`${disk}.qcow2`));
  }
}

function daemonArgs(at: (name: string) => string, guests = disks as readonly string[]): string[] {
  const nodes = disks.flatMap((disk) => {
    const file = at(`${disk}.qcow2`);
    return ["--blockdev", `driver=qcow2,node-name=${disk},file.driver=file,file.filename=${file}`];
  });
  const exports = guests.flatMap((disk) => [
    "--export",
    `nbd,id=guest-${disk},node-name=${disk},writable=on`,
  ]);
  return [...nodes, "--nbd-server", `addr.type=unix,addr.path=${at("sock")}`, ...exports];
}

/** How many bytes the bitmaps name when the guest's writes after `before`, up to `last`, are dirty. */
function dirtyBytes(before: number, last: number): number {
  const granules = new Set<string>();
  for (let i = before + 1; i <= last; i++) {
    const { disk, offset } = writeOf(i);
    granules.add(`${disk} ${Math.floor(offset / GRANULE)}`);
  }
  return granules.size * GRANULE;
}

/** A full copy and three increments while a guest writes, each round by one of the programs; restores and checks them all. */
async function chain(name: string, programs: readonly (readonly string[])[]): Promise<void> {
  const at = (file: string): string => scratch.at(`${name}-${file}`);
  const uris = disks.map((disk) => uriOf({ at }, disk));
  await makeDisks(at);
  let running: { daemon: Daemon; guest: Guest } | undefined;
  let [next, before] = [1, 0];
  for (const [number, program] of programs.entries()) {
    running ??= {
      daemon: await Daemon.start({ program, args: daemonArgs(at) }),
      guest: new Guest(uris, next),
    };
    const { daemon, guest } = running;
    const round = { daemon, at, number };
    await guest.more(number === 0 ? 300 : 60);
    const from = guest.last;
    await turn(round);
    await guest.more(40);
    const copied = await pull(round);
    const moment = momentOf(at, number);
    expect(moment).toBeGreaterThanOrEqual(from);
    // It did not wait for the copy.
    await guest.beyond(moment);
    if (number > 0) expect(copied).toBe(dirtyBytes(before, moment));
    else expect(copied).toBeGreaterThan(disks.length * OLD.bytes);
    before = moment;
    await finish(round);
    if (programs[number + 1] === program) continue;
    await guest.stop();
    next = guest.last + 1;
    expect(await daemon.quit()).toBe(0);
    running = undefined;
  }
}

describe("a full copy and three increments of two disks, while a guest writes", () => {
  test("by ours alone", () => chain("ours", [ours, ours, ours, ours]), 120_000);
  test(
    "begun by ours, gone on with by QEMU, and back",
    () => chain("mixed", [ours, theirs, ours, theirs]),
    120_000,
  );
});

describe("the same with nobody on the disks", () => {
  /** Serves a disk for reading, by ours or by qemu-nbd, while `body` runs. */
  async function served<T>(
    program: readonly string[],
    { file, socket, bitmap }: { file: string; socket: string; bitmap: string | undefined },
    body: () => Promise<T>,
  ): Promise<T> {
    const [command, ...first] = program;
    const args = ["-r", "-t", "-k", socket, "-f", "qcow2", ...(bitmap === undefined ? [] : ["-B", bitmap])];
    const child = spawn(command!, [...first, ...args, file], { stdio: "inherit" });
    const over = once(child, "exit");
    try {
      while (!existsSync(socket) && child.exitCode === null)
        await new Promise((resolve) => setTimeout(resolve, 20));
      return await body();
    } finally {
      child.kill("SIGTERM");
      await over;
    }
  }

  test("bitmaps turned by one transaction, disks served by ours and by qemu-nbd in turn", async () => {
    const at = (file: string): string => scratch.at(`offline-${file}`);
    await makeDisks(at);
    const servers = [[...ours.slice(0, 2), "nbd"], ["qemu-nbd"]];
    let [next, before] = [1, 0];
    for (const number of [0, 1, 2, 3]) {
      await withDaemon({ args: daemonArgs(at) }, async () => {
        const uris = disks.map((disk) => uriOf({ at }, disk));
        const guest = new Guest(uris, next);
        await guest.more(100);
        await guest.stop();
        next = guest.last + 1;
      });
      const actions = disks.flatMap((node) => [
        ...(number === 0
          ? []
          : [{ type: "block-dirty-bitmap-disable", data: { node, name: `point-${number - 1}` } }]),
        { type: "block-dirty-bitmap-add", data: { node, name: `point-${number}`, persistent: true } },
      ]);
      await withDaemon({ args: daemonArgs(at, []) }, (daemon) => daemon.execute("transaction", { actions }));
      const copied = disks.map(async (disk, i) => {
        const bitmap = number === 0 ? undefined : `point-${number - 1}`;
        const socket = at(`${disk}-${number}.sock`);
        const server = servers[(number + i) % 2]!;
        return served(server, { file: at(`${disk}.qcow2`), socket, bitmap }, () =>
          copy(`nbd+unix:///?socket=${socket}`, { bitmap, at, disk, number }),
        );
      });
      const bytes = await Promise.all(copied);
      expect(momentOf(at, number)).toBe(next - 1);
      if (number > 0) expect(bytes[0]! + bytes[1]!).toBe(dirtyBytes(before, next - 1));
      before = next - 1;
    }
  });
});

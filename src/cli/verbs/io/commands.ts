/**
 * The commands of `io` beside those that read and write, and the whole table. Source: behaviour of qemu-io 7.2.
 */
import { messageOf } from "../../../base/errors.ts";
import { alignUp } from "../../../base/ranges.ts";
import { limits, SECTOR_SIZE } from "../../../base/limits.ts";
import { sleep } from "../../../base/sleep.ts";
import type { BlockNode } from "../../../block/model/node.ts";
import { Perm } from "../../../block/model/permissions.ts";
import { isAllocated } from "../../../block/io/status.ts";
import { standIn } from "../../program.ts";
import { specificLines } from "../../specific.ts";
import { preallocationMode, safeBytes, tooLong } from "../../options/sizes.ts";
import { type Arguments, byteCount, MAX_REQUEST_BYTES, milliseconds } from "./arguments.ts";
import { breakpointCommands } from "./breakpoints.ts";
import { aioMode, cacheChoice, discardChoice } from "./choices.ts";
import { crashCommands } from "./crash.ts";
import { defaultChoices } from "./disk.ts";
import { IoFailure, wrongUse } from "./failure.ts";
import { readWriteCommands } from "./read-write.ts";
import { reopenCommand } from "./reopen.ts";
import { sizeText } from "./report.ts";
import { requestFailure, timed } from "./requests.ts";
import { type IoCommand, type Session, synopsisOf } from "./session.ts";

/** Length of the disk in whole sectors, bytes. */
function diskLength({ disk }: Session): number {
  return alignUp(disk.backend.length, SECTOR_SIZE);
}

async function discard(session: Session, args: Arguments): Promise<boolean> {
  const given = new Set([...args.options("Cq")].map(({ letter }) => letter));
  const [offsetText, lengthText] = args.rest;
  if (args.rest.length !== 2 || offsetText === undefined || lengthText === undefined) throw wrongUse();
  const offset = safeBytes(byteCount(offsetText));
  const bytes = safeBytes(byteCount(lengthText));
  if (bytes > MAX_REQUEST_BYTES)
    throw new IoFailure(`length cannot exceed ${MAX_REQUEST_BYTES}, given ${lengthText}`);
  const { backend } = session.disk;
  const told = { quiet: given.has("q"), machine: given.has("C") };
  const request = { name: "discard", verb: "discard", offset, bytes, ...told };
  session.verb.print(await timed(request, () => backend.pdiscard(offset, bytes)));
  return true;
}

async function truncate(session: Session, args: Arguments): Promise<boolean> {
  let preallocation = preallocationMode("off");
  for (const { value } of args.options("m:")) {
    preallocation = preallocationMode(value);
    if (!preallocation) throw new IoFailure(`Invalid preallocation mode '${value}'`, "note");
  }
  const [text] = args.rest;
  const bytes = byteCount(text ?? "");
  if (bytes > BigInt(limits.maxImageBytes)) throw new IoFailure(tooLong(session.disk.node), "note");
  try {
    await session.disk.backend.root!.truncate(safeBytes(bytes), {
      exact: false,
      preallocation: preallocation ?? "off",
    });
  } catch (error) {
    throw new IoFailure(messageOf(error), "note");
  }
  return true;
}

async function alloc(session: Session, { rest }: Arguments): Promise<boolean> {
  const start = byteCount(rest[0]!);
  const wanted = rest[1] === undefined ? BigInt(SECTOR_SIZE) : byteCount(rest[1]);
  const left = BigInt(diskLength(session)) - start;
  const count = Number(left < 0n ? 0n : left < wanted ? left : wanted);
  const { node } = session.disk;
  let sum = 0;
  for (let at = 0; at < count;) {
    const found = await isAllocated(node, Number(start) + at, count - at);
    // The last sector may reach beyond the end.
    if (found.allocated || Number(start) + at >= node.length) sum += found.bytes;
    at += found.bytes;
  }
  session.verb.print(`${sum}/${count} bytes allocated at offset ${sizeText(Number(start))}\n`);
  return true;
}

/** Ranges that are alike, joined. */
async function* allocations(
  node: BlockNode,
  end: number,
): AsyncGenerator<{ at: number; bytes: number; allocated: boolean }> {
  for (let at = 0; at < end;) {
    const { allocated } = await isAllocated(node, at, end - at);
    let to = at;
    while (to < end) {
      const next = to < node.length ? await isAllocated(node, to, end - to) : { allocated, bytes: end - to };
      if (next.allocated !== allocated) break;
      to += next.bytes;
    }
    yield { at, bytes: to - at, allocated };
    at = to;
  }
}

async function map(session: Session): Promise<boolean> {
  for await (const { at, bytes, allocated } of allocations(session.disk.node, diskLength(session))) {
    session.verb.signal.throwIfAborted();
    const what = allocated ? "    allocated" : "not allocated";
    const size = `${sizeText(bytes)} (0x${bytes.toString(16)})`;
    session.verb.print(`${size} bytes ${what} at offset ${sizeText(at)} (0x${at.toString(16)})\n`);
  }
  return true;
}

function info(session: Session): boolean {
  const { node } = session.disk;
  const print = (text: string): void => session.verb.print(text);
  print(`format name: ${node.type.name}\n`);
  if (node.type.kind === "protocol") print(`format name: ${node.type.name}\n`);
  const found = node.driver.getInfo?.();
  if (!found) return false;
  print(`cluster size: ${sizeText(found.clusterSize)}\n`);
  print(`vm state offset: ${sizeText(found.vmStateOffset ?? 0)}\n`);
  const specific = node.driver.formatSpecific?.();
  if (specific) print(`${specificLines(specific.data).join("\n")}\n`);
  return true;
}

async function open(session: Session, args: Arguments): Promise<boolean> {
  const choices = defaultChoices();
  const lists: string[] = [];
  for (const { letter, value } of args.options("snCro:ki:t:d:U")) {
    if (letter === "s") choices.snapshot = true;
    else if (letter === "n") Object.assign(choices, cacheChoice("none"));
    else if (letter === "C") choices.copyOnRead = true;
    else if (letter === "r") choices.readOnly = true;
    else if (letter === "U") choices.forceShare = true;
    else if (letter === "k") choices.aio = "native";
    else if (letter === "i") choices.aio = aioMode(value);
    else if (letter === "t") Object.assign(choices, cacheChoice(value));
    else if (letter === "d") choices.discard = discardChoice(value);
    else lists.push(value);
  }
  if (lists.length > 0) choices.options = lists.join(",");
  if (args.rest.length > 1) throw wrongUse();
  await session.open(args.rest[0], choices);
  return true;
}

function help(session: Session, { rest }: Arguments): boolean {
  const print = (text: string): void => session.verb.print(text);
  const [name] = rest;
  if (name === undefined) {
    print(session.commands.map((command) => synopsisOf(command)).join(""));
    print("\nUse 'help commandname' for extended help.\n");
    return true;
  }
  const command = session.find(name);
  if (!command) {
    print(`command ${name} not found\n`);
    return false;
  }
  print(synopsisOf(command, name));
  if (command.details) print(`\n${command.details.map((line) => ` ${line}\n`).join("")}\n`);
  return true;
}

/** Takes all words as they are. */
function plain(run: (session: Session, args: Arguments) => Promise<boolean> | boolean): IoCommand["run"] {
  return (session, args) => {
    args.takeAll();
    return run(session, args);
  };
}

const others: readonly IoCommand[] = [
  {
    name: "aio_flush",
    synopsis: "",
    summary: "waits for the reads and writes that were started, and flushes",
    words: [0, 0],
    run: async (session) => {
      const startMs = performance.now();
      await session.settle();
      session.disk.account?.done("flush", 0, performance.now() - startMs);
      return true;
    },
  },
  {
    name: "alloc",
    alias: "a",
    synopsis: "offset [count]",
    summary: "says how much of a range the image itself holds",
    words: [1, 2],
    run: plain(alloc),
  },
  {
    name: "close",
    alias: "c",
    synopsis: "",
    summary: "closes the disk",
    words: [0, 0],
    run: async (session) => {
      await session.close();
      return true;
    },
  },
  {
    name: "discard",
    alias: "d",
    synopsis: "[-Cq] off len",
    summary: "drops the content of a range",
    details: ["-C  the report is one line for programs", "-q  no report"],
    words: [2, Infinity],
    perm: Perm.write,
    run: discard,
  },
  {
    name: "flush",
    alias: "f",
    synopsis: "",
    summary: "makes what was written durable",
    words: [0, 0],
    run: async (session) => {
      try {
        await session.disk.backend.flush();
      } catch (error) {
        // The real one tells of it by its exit status alone.
        if (standIn()) return false;
        throw requestFailure("flush", error);
      }
      return true;
    },
  },
  {
    name: "help",
    alias: "?",
    synopsis: "[command]",
    summary: "lists the commands, or explains one",
    words: [0, 1],
    diskless: true,
    run: plain(help),
  },
  { name: "info", alias: "i", synopsis: "", summary: "says what the image is", words: [0, 0], run: info },
  {
    name: "length",
    alias: "l",
    synopsis: "",
    summary: "says how long the disk is",
    words: [0, 0],
    run: (session) => {
      session.verb.print(`${sizeText(diskLength(session))}\n`);
      return true;
    },
  },
  { name: "map", synopsis: "", summary: "says which ranges the image itself holds", words: [0, 0], run: map },
  {
    name: "open",
    alias: "o",
    synopsis: "[-rsCnkU] [-t cache] [-d discard] [-o options] [path]",
    summary: "opens a disk",
    details: [
      "-r  read-only",
      "-s  writes go to an overlay that is thrown away",
      "-C  what is read from the backing file is copied into the image",
      "-n  as -t none",
      "-U  although another process writes to it",
      "-k  as -i native",
      "-i MODE  threads, native or io_uring",
      "-t MODE  none, writeback, writethrough, directsync, unsafe",
      "-d MODE  unmap, ignore",
      "-o NAME=VALUE,...  options of the driver",
    ],
    words: [1, Infinity],
    diskless: true,
    run: open,
  },
  {
    name: "quit",
    alias: "q",
    synopsis: "",
    summary: "ends the program",
    words: [0, Infinity],
    diskless: true,
    run: (session) => {
      session.done = true;
      return true;
    },
  },
  {
    name: "sleep",
    synopsis: "",
    summary: "waits for a number of milliseconds",
    words: [1, 1],
    diskless: true,
    run: plain(async (session, { rest }) => {
      const { engine, signal } = session.verb;
      await sleep(engine.graph.host.clock, milliseconds(rest[0]!), signal);
      return true;
    }),
  },
  {
    name: "truncate",
    alias: "t",
    synopsis: "[-m prealloc_mode] off",
    summary: "sets the length of the disk",
    details: ["-m MODE  how a new part is prepared: off, metadata, falloc, full"],
    words: [1, 3],
    perm: Perm.write | Perm.resize,
    run: truncate,
  },
];

/** All commands, by name. */
export const ioCommands: readonly IoCommand[] = [
  ...readWriteCommands,
  ...others,
  ...breakpointCommands,
  ...crashCommands,
  reopenCommand,
].toSorted((a, b) => (a.name < b.name ? -1 : 1));

/**
 * The commands `read`, `write`, `readv`, `writev`, `aio_read` and `aio_write`. Source: behaviour of qemu-io 7.2.
 */
import { readFile } from "node:fs/promises";
import { errnoOf } from "../../../base/errors.ts";
import { strerror } from "../../../base/errno.ts";
import { SECTOR_SIZE } from "../../../base/limits.ts";
import { Req } from "../../../block/model/contract.ts";
import { Perm } from "../../../block/model/permissions.ts";
import { safeBytes } from "../../options/sizes.ts";
import { type Arguments, byteCount, MAX_REQUEST_BYTES, patternByte } from "./arguments.ts";
import { IoFailure, wrongUse } from "./failure.ts";
import { carryOutRead, carryOutWrite, FILL_BYTE, type ReadRequest, type WriteRequest } from "./requests.ts";
import type { Disk } from "./disk.ts";
import type { IoCommand, Session } from "./session.ts";

const statistics = ["-C  the report is one line for programs", "-q  no report"];
const verification = "-P BYTE  what all bytes must be";
const filling = "-P BYTE  what to write instead of 0xcd";

/** The options that were given: a letter's last value, `""` for one without. */
type Given = ReadonlyMap<string, string>;

/** Takes the options; numbers among them are read at once, so that the first mistake is the one that is told. */
function takeOptions(
  args: Arguments,
  letters: string,
  read: Readonly<Record<string, (text: string) => unknown>> = { P: patternByte },
): Given {
  const given = new Map<string, string>();
  for (const { letter, value } of args.options(letters)) {
    if (letters[letters.indexOf(letter) + 1] === ":") read[letter]?.(value);
    given.set(letter, value);
  }
  return given;
}

function telling(given: Given): { quiet: boolean; machine: boolean } {
  return { quiet: given.has("q"), machine: given.has("C") };
}

/** Offset and length, where there must be just these. */
function offsetAndLength({ rest }: Arguments): [string, string] {
  const [offset, length] = rest;
  if (rest.length !== 2 || offset === undefined || length === undefined) throw wrongUse();
  return [offset, length];
}

function checkSector(value: number, text: string, what: string): void {
  if (value % SECTOR_SIZE !== 0) throw new IoFailure(`${text} is not a sector-aligned value for '${what}'`);
}

async function read(session: Session, args: Arguments): Promise<boolean> {
  const given = takeOptions(args, "bCl:pP:qs:v", { P: patternByte, l: byteCount, s: byteCount });
  const [offsetText, lengthText] = offsetAndLength(args);
  const offset = safeBytes(byteCount(offsetText));
  const bytes = safeBytes(byteCount(lengthText));
  if (bytes > MAX_REQUEST_BYTES)
    throw new IoFailure(`length cannot exceed ${MAX_REQUEST_BYTES}, given ${lengthText}`);
  const pattern = given.get("P");
  if (pattern === undefined && (given.has("l") || given.has("s"))) throw wrongUse();
  const start = safeBytes(byteCount(given.get("s") ?? "0"));
  const checked = given.has("l") ? safeBytes(byteCount(given.get("l")!)) : bytes - start;
  if (checked < 0 || start + checked > bytes)
    throw new IoFailure("pattern verification range exceeds end of read data");
  if (given.has("b")) {
    checkSector(offset, offsetText, "offset");
    checkSector(bytes, lengthText, "count");
  }
  return carryOutRead(session.verb, session.disk.backend, {
    name: "read",
    offset,
    bytes,
    ...telling(given),
    dump: given.has("v"),
    vmState: given.has("b"),
    pattern: pattern === undefined ? undefined : { byte: patternByte(pattern), start, bytes: checked },
  });
}

function checkWriteOptions(given: Given): void {
  if (given.has("b") && given.has("z")) throw new IoFailure("-b and -z cannot be specified at the same time");
  if (given.has("f") && (given.has("b") || given.has("c")))
    throw new IoFailure("-f and -b or -c cannot be specified at the same time");
  if (given.has("n") && !given.has("z")) throw new IoFailure("-n requires -z to be specified");
  if (given.has("u") && !given.has("z")) throw new IoFailure("-u requires -z to be specified");
  if (["z", "P", "s"].filter((letter) => given.has(letter)).length > 1)
    throw new IoFailure("Only one of -z, -P, and -s can be specified at the same time");
}

function flagsOf(given: Given): number {
  return (
    (given.has("f") ? Req.fua : 0) |
    (given.has("n") ? Req.noFallback : 0) |
    (given.has("u") ? Req.mayUnmap : 0) |
    (given.has("c") && !given.has("z") && !given.has("b") ? Req.compressed : 0)
  );
}

/** What is written: the pattern's byte, or a file's bytes. */
async function sourceOf(given: Given): Promise<Uint8Array> {
  const file = given.get("s");
  if (file === undefined) return new Uint8Array([patternByte(given.get("P") ?? String(FILL_BYTE))]);
  const bytes = await readFile(file).catch((error: unknown) => {
    throw new IoFailure(`${file}: ${strerror(errnoOf(error))}`, "stderr");
  });
  if (bytes.byteLength === 0) throw new IoFailure(`${file}: file is empty`, "stderr");
  return bytes;
}

async function write(session: Session, args: Arguments): Promise<boolean> {
  const given = takeOptions(args, "bcCfnpP:qs:uz");
  const [offsetText, lengthText] = offsetAndLength(args);
  checkWriteOptions(given);
  const offset = safeBytes(byteCount(offsetText));
  const bytes = safeBytes(byteCount(lengthText));
  if (bytes > MAX_REQUEST_BYTES && !given.has("n"))
    throw new IoFailure(`length cannot exceed ${MAX_REQUEST_BYTES} without -n, given ${lengthText}`);
  if (given.has("b") || given.has("c")) {
    checkSector(offset, offsetText, "offset");
    checkSector(bytes, lengthText, "count");
  }
  return carryOutWrite(session.verb, session.disk.backend, {
    name: "write",
    offset,
    bytes,
    ...telling(given),
    flags: flagsOf(given),
    zeroes: given.has("z"),
    vmState: given.has("b"),
    source: given.has("z") ? new Uint8Array(1) : await sourceOf(given),
  });
}

/** Offset and the sum of the lengths of a request with several buffers. */
function vector({ rest }: Arguments): { offset: number; bytes: number } {
  const [first, ...lengths] = rest;
  if (first === undefined || lengths.length === 0) throw wrongUse();
  const offset = safeBytes(byteCount(first));
  let bytes = 0;
  for (const text of lengths) {
    const length = safeBytes(byteCount(text));
    if (length > MAX_REQUEST_BYTES)
      throw new IoFailure(`Argument '${text}' exceeds maximum size ${MAX_REQUEST_BYTES}`);
    if (bytes > MAX_REQUEST_BYTES - length)
      throw new IoFailure(`The total number of bytes exceed the maximum size ${MAX_REQUEST_BYTES}`);
    bytes += length;
  }
  return { offset, bytes };
}

function vectorRead(given: Given, args: Arguments): ReadRequest {
  const range = vector(args);
  const byte = given.get("P");
  const pattern = byte === undefined ? undefined : { byte: patternByte(byte), start: 0, bytes: range.bytes };
  return { name: "readv", ...range, ...telling(given), dump: given.has("v"), pattern };
}

function vectorWrite(name: string, given: Given, args: Arguments): WriteRequest {
  const source = new Uint8Array([patternByte(given.get("P") ?? String(FILL_BYTE))]);
  return { name, ...vector(args), ...telling(given), flags: flagsOf(given), zeroes: given.has("z"), source };
}

/** Does a request that is left to itself, and counts it where somebody counts. */
async function counted(
  { account }: Disk,
  { kind, bytes }: { kind: "read" | "write"; bytes: number },
  request: () => Promise<unknown>,
): Promise<void> {
  const startMs = performance.now();
  try {
    await request();
    account?.done(kind, bytes, performance.now() - startMs);
  } catch (error) {
    account?.failed(kind, performance.now() - startMs);
    throw error;
  }
}

function aioRead(session: Session, args: Arguments): boolean {
  const given = takeOptions(args, "CP:iqv");
  if (args.rest.length < 2) throw wrongUse();
  if (given.has("i")) {
    session.verb.print("injecting invalid read request\n");
    session.disk.account?.invalid("read");
    return true;
  }
  const request = vectorRead(given, args);
  const { backend } = session.disk;
  session.launch(() =>
    counted(session.disk, { kind: "read", bytes: request.bytes }, () =>
      carryOutRead(session.verb, backend, request),
    ),
  );
  return true;
}

function aioWrite(session: Session, args: Arguments): boolean {
  const given = takeOptions(args, "CfiP:quz");
  if (args.rest.length < 2) throw wrongUse();
  if (given.has("z") && args.rest.length !== 2)
    throw new IoFailure("-z supports only a single length parameter");
  if (given.has("u") && !given.has("z")) throw new IoFailure("-u requires -z to be specified");
  if (given.has("i")) {
    session.verb.print("injecting invalid write request\n");
    session.disk.account?.invalid("write");
    return true;
  }
  const request = vectorWrite("aio_write", given, args);
  const { backend } = session.disk;
  session.launch(() =>
    counted(session.disk, { kind: "write", bytes: request.bytes }, () =>
      carryOutWrite(session.verb, backend, request),
    ),
  );
  return true;
}

/** The commands that read and write. */
export const readWriteCommands: readonly IoCommand[] = [
  {
    name: "aio_read",
    synopsis: "[-Ciqv] [-P pattern] off len [len..]",
    summary: "starts to read bytes, without waiting for them",
    details: [verification, "-i  only counts as an invalid request", "-v  prints the bytes", ...statistics],
    words: [2, Infinity],
    run: aioRead,
  },
  {
    name: "aio_write",
    synopsis: "[-Cfiquz] [-P pattern] off len [len..]",
    summary: "starts to write bytes, without waiting for it",
    details: [
      filling,
      "-f  durable when it is over",
      "-i  only counts as an invalid request",
      "-u  with -z: the range may be unmapped",
      "-z  writes zeroes",
      ...statistics,
    ],
    words: [2, Infinity],
    perm: Perm.write,
    run: aioWrite,
  },
  {
    name: "read",
    alias: "r",
    synopsis: "[-abCqv] [-P pattern [-s off] [-l len]] off len",
    summary: "reads bytes at an offset",
    details: [
      verification,
      "-s OFFSET, -l BYTES  with -P: only this part of the request is verified",
      "-b  reads from the saved machine instead of the disk",
      "-p  without effect",
      "-v  prints the bytes",
      ...statistics,
    ],
    words: [2, Infinity],
    run: read,
  },
  {
    name: "readv",
    synopsis: "[-Cqv] [-P pattern] off len [len..]",
    summary: "reads the sum of the lengths at an offset",
    details: [verification, "-v  prints the bytes", ...statistics],
    words: [2, Infinity],
    run: (session, args) =>
      carryOutRead(session.verb, session.disk.backend, vectorRead(takeOptions(args, "CP:qv"), args)),
  },
  {
    name: "write",
    alias: "w",
    synopsis: "[-bcCfnquz] [-P pattern | -s source_file] off len",
    summary: "writes bytes at an offset",
    details: [
      filling,
      "-s FILE  writes a file's bytes, again and again",
      "-b  writes to the saved machine instead of the disk",
      "-c  stores compressed clusters",
      "-f  durable when it is over",
      "-n  with -z: fails rather than writing zeroes as data",
      "-p  without effect",
      "-u  with -z: the range may be unmapped",
      "-z  writes zeroes",
      ...statistics,
    ],
    words: [2, Infinity],
    perm: Perm.write,
    run: write,
  },
  {
    name: "writev",
    synopsis: "[-Cfq] [-P pattern] off len [len..]",
    summary: "writes the sum of the lengths at an offset",
    details: [filling, "-f  durable when it is over", ...statistics],
    words: [2, Infinity],
    perm: Perm.write,
    run: (session, args) =>
      carryOutWrite(
        session.verb,
        session.disk.backend,
        vectorWrite("writev", takeOptions(args, "CfqP:"), args),
      ),
  },
];

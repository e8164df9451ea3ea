/**
 * fio's iolog, versions 2 and 3, and writing version 3. Source: fio's HOWTO, "Trace file format"; that the times of version 3 are
 * microseconds is what fio 3.33 writes, and how it replays them.
 */
import { type Operation, WorkloadError } from "../model/plan.ts";
import type { Recorded } from "./recorded.ts";
import { type RecordingBytes, linesOf } from "./source.ts";

const HEAD = /^fio version ([23]) iolog\s*$/;

const ACTIONS: Readonly<Record<string, Operation>> = {
  read: "read",
  write: "write",
  trim: "discard",
  sync: "flush",
  datasync: "flush",
};

/** Actions that are no requests, and change nothing here. */
const OF_FILES = new Set(["add", "open", "close"]);

/** Whether it is the first line of one. */
export function isIologHead(line: string): boolean {
  return HEAD.test(line);
}

function requestOf(words: readonly string[], where: string): Recorded | undefined {
  const [file = "", action = "", offset, bytes] = words;
  const operation = Object.hasOwn(ACTIONS, action) ? ACTIONS[action] : undefined;
  if (!operation) return undefined;
  // What a file is synchronized by has no place.
  if (operation === "flush") return { file, operation, offset: 0, bytes: 0, atNs: undefined };
  const request = { operation, offset: Number(offset), bytes: Number(bytes) };
  if (![request.offset, request.bytes].every((value) => Number.isSafeInteger(value) && value >= 0))
    throw new WorkloadError(`${where}: '${words.join(" ")}' is no request`);
  return { file, ...request, atNs: undefined };
}

/** A microsecond's number as nanoseconds. Throws WorkloadError. */
function microseconds(text: string | undefined, where: string): number {
  const value = Number(text);
  if (text === undefined || !Number.isSafeInteger(value) || value < 0)
    throw new WorkloadError(`${where}: '${text ?? ""}' is no time`);
  return value * 1e3;
}

/**
 * The requests. Version 2 has waits between them, whose time goes on from the last wait, version 3 a time before each.
 * `other` is told of actions that are not understood. Throws WorkloadError.
 */
export function* readIolog(
  source: RecordingBytes,
  other: (action: string, where: string) => void,
): Generator<Recorded> {
  let version = "";
  let number = 0;
  let waitedNs = 0;
  for (const line of linesOf(source)) {
    number += 1;
    if (number === 1) version = HEAD.exec(line)?.[1] ?? "";
    const words = line.trim().split(/\s+/);
    if (number === 1 || words[0] === "") continue;
    const where = `line ${number}`;
    const isTimed = version === "3";
    const [, action = ""] = isTimed ? words.slice(1) : words;
    if (action === "wait" && !isTimed) {
      waitedNs += microseconds(words[2], where);
      continue;
    }
    const request = requestOf(isTimed ? words.slice(1) : words, where);
    if (request) yield { ...request, atNs: isTimed ? microseconds(words[0], where) : waitedNs };
    else if (!OF_FILES.has(action)) other(action, where);
  }
}

/** A request as a recorder is told of it. */
export interface RecordedRequest {
  readonly operation: Operation;
  readonly offset: number;
  readonly bytes: number;
}

const ACTION_OF: Readonly<Record<Operation, string>> = {
  read: "read",
  write: "write",
  // Iologs have no zeroed ranges.
  zero: "write",
  discard: "trim",
  flush: "sync",
};

/** Characters that are kept before they are written on. */
const PIECE = 65_536;

/** A writer of iolog version 3, whose times are whole microseconds. */
export class Recorder {
  #text = "fio version 3 iolog\n0 disk add\n0 disk open\n";
  readonly #write: ((text: string) => void) | undefined;

  /** `write` takes the recording as it grows; absent: it is kept, see `text`. */
  constructor(write?: (text: string) => void) {
    this.#write = write;
  }

  /** A request was sent, ns from the begin on. A zeroed range is written as a write, which iologs have. */
  readonly record = ({ operation, offset, bytes }: RecordedRequest, atNs: number): void => {
    const at = Math.round(atNs / 1e3);
    this.#text += `${at} disk ${ACTION_OF[operation]} ${offset} ${bytes}\n`;
    if (this.#write && this.#text.length >= PIECE) this.#give(this.#write);
  };

  /** The recording; of one that is written on, what is left of it. */
  get text(): string {
    return `${this.#text}0 disk close\n`;
  }

  /** Writes what is left, where it is written on. */
  end(): void {
    if (!this.#write) return;
    this.#text = this.text;
    this.#give(this.#write);
  }

  #give(write: (text: string) => void): void {
    write(this.#text);
    this.#text = "";
  }
}

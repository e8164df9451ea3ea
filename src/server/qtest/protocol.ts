/**
 * The qtest protocol: a test moves the virtual clock and reaches for the guest's hands. There is no guest here: the clock counts
 * what it is stepped by, memory is what was written to it, ports and interrupt lines are accepted.
 * Source: QEMU's docs/devel/qtest and behaviour of 7.2.
 */

/** The virtual clock of a machine. It stands still between the steps. */
export interface VirtualClock {
  /** Nanoseconds since the start. */
  now(): bigint;
  /** Moves it on; without a number to the next moment that something waits for. Answers the time then. */
  step(nanoseconds: bigint | undefined): bigint;
  set(nanoseconds: bigint): bigint;
}

/** Bytes of memory that are kept. */
const PAGE = 4096;
const MAX_PAGES = 4096;

/** Memory of which only what was written is kept. */
class SparseMemory {
  readonly #pages = new Map<bigint, Uint8Array>();

  read(address: bigint, bytes: number): Uint8Array {
    const found = new Uint8Array(bytes);
    for (const { page, offset, at, count } of pieces(address, bytes)) {
      const held = this.#pages.get(page);
      if (held) found.set(held.subarray(offset, offset + count), at);
    }
    return found;
  }

  /** False: there is no room for more. */
  write(address: bigint, bytes: Uint8Array): boolean {
    for (const { page, offset, at, count } of pieces(address, bytes.byteLength)) {
      let held = this.#pages.get(page);
      if (!held) {
        if (this.#pages.size >= MAX_PAGES) return false;
        held = new Uint8Array(PAGE);
        this.#pages.set(page, held);
      }
      held.set(bytes.subarray(at, at + count), offset);
    }
    return true;
  }
}

/** The parts of a range that lie in one page each. */
function* pieces(
  address: bigint,
  bytes: number,
): Generator<{ page: bigint; offset: number; at: number; count: number }> {
  for (let at = 0; at < bytes;) {
    const from = address + BigInt(at);
    const offset = Number(from % BigInt(PAGE));
    const count = Math.min(PAGE - offset, bytes - at);
    yield { page: from / BigInt(PAGE), offset, at, count };
    at += count;
  }
}

const widths: Readonly<Record<string, number>> = { b: 1, w: 2, l: 4, q: 8 };
const MAX_BYTES = 1 << 20;

function hex(bytes: Uint8Array): string {
  return `0x${[...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("")}`;
}

function number(text: string | undefined): bigint | undefined {
  if (text === undefined || !/^(0[xX][0-9a-fA-F]+|[0-9]+)$/.test(text)) return undefined;
  return BigInt.asUintN(64, BigInt(text));
}

/** One client. */
export class QtestSession {
  readonly #clock: VirtualClock;
  readonly #memory = new SparseMemory();

  constructor(clock: VirtualClock) {
    this.#clock = clock;
  }

  /** The answer to a line, with its end; empty for an empty line. */
  answer(line: string): string {
    const [command, ...words] = line.trim().split(/\s+/);
    if (command === undefined || command === "") return "";
    return `${this.#run(command, words)}\n`;
  }

  #run(command: string, words: readonly string[]): string {
    if (command === "clock_step") return this.#step(words[0]);
    if (command === "clock_set") {
      const to = number(words[0]);
      return to === undefined ? "FAIL invalid argument" : `OK ${this.#clock.set(to)}`;
    }
    if (command === "endianness") return "OK little";
    if (/^irq_intercept_(in|out)$/.test(command) || command === "set_irq_in") return "OK";
    if (/^out[bwl]$/.test(command)) return "OK";
    if (/^in[bwl]$/.test(command)) return `OK ${hex(new Uint8Array(widths[command[2]!]!).fill(0xff))}`;
    return this.#access(command, words) ?? `FAIL Unknown command '${command}'`;
  }

  #step(text: string | undefined): string {
    const by = text === undefined ? undefined : number(text);
    if (text !== undefined && by === undefined) return "FAIL invalid argument";
    return `OK ${this.#clock.step(by)}`;
  }

  #access(command: string, words: readonly string[]): string | undefined {
    const address = number(words[0]);
    const width = widths[command.at(-1)!];
    if (/^(read|write)[bwlq]$/.test(command)) {
      if (address === undefined || width === undefined) return "FAIL invalid argument";
      return command.startsWith("read")
        ? this.#readWord(address, width)
        : this.#writeWord(address, width, words[1]);
    }
    if (!["read", "write", "memset", "b64read", "b64write"].includes(command)) return undefined;
    const bytes = number(words[1]);
    if (address === undefined || bytes === undefined || bytes > MAX_BYTES) return "FAIL invalid argument";
    return this.#block(command, { address, bytes: Number(bytes), data: words[2] });
  }

  #readWord(address: bigint, width: number): string {
    const bytes = this.#memory.read(address, width).toReversed();
    return `OK 0x${hex(bytes).slice(2).padStart(16, "0")}`;
  }

  #writeWord(address: bigint, width: number, text: string | undefined): string {
    let value = number(text);
    if (value === undefined) return "FAIL invalid argument";
    const bytes = new Uint8Array(width);
    for (let at = 0; at < width; at++, value >>= 8n) bytes[at] = Number(value & 0xffn);
    return this.#write(address, bytes);
  }

  #write(address: bigint, bytes: Uint8Array): string {
    return this.#memory.write(address, bytes) ? "OK" : "FAIL out of memory";
  }

  #block(
    command: string,
    { address, bytes, data }: { address: bigint; bytes: number; data: string | undefined },
  ): string {
    if (command === "read") return `OK ${hex(this.#memory.read(address, bytes))}`;
    if (command === "b64read") return `OK ${btoa(String.fromCharCode(...this.#memory.read(address, bytes)))}`;
    if (command === "memset") {
      const fill = number(data);
      return fill === undefined
        ? "FAIL invalid argument"
        : this.#write(address, new Uint8Array(bytes).fill(Number(fill & 0xffn)));
    }
    const given = command === "write" ? fromHex(data ?? "") : fromBase64(data ?? "");
    if (!given || given.byteLength > bytes) return "ERR invalid argument size";
    const all = new Uint8Array(bytes);
    all.set(given);
    return this.#write(address, all);
  }
}

function fromHex(text: string): Uint8Array | undefined {
  if (!/^0x([0-9a-fA-F]{2})*$/.test(text)) return undefined;
  return Uint8Array.from(text.slice(2).match(/../g) ?? [], (pair) => Number.parseInt(pair, 16));
}

function fromBase64(text: string): Uint8Array | undefined {
  try {
    return Uint8Array.from(atob(text), (char) => char.charCodeAt(0));
  } catch {
    return undefined;
  }
}

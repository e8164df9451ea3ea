/**
 * Standard output and error for programs that print little: written at once, by one call, without the stream that Node makes of each.
 * Those streams load Node's network and terminal modules, which takes as long as what a short program does.
 *
 * `process.stdout` (`stderr`) is a stand-in until more is asked of it than a short text and whether it is a terminal. Then it is the
 * stream: for a long text (a pipe that nobody reads must not stop the process), for a write that fails (the error is the stream's to
 * tell), for anything else that a stream has. Invariant: bytes leave in the order in which they were written.
 */
import { fstatSync, statSync, writeSync } from "node:fs";

/** What is written without the stream, bytes in all: an empty pipe has room for it. */
const MOST_BYTES = 4096;

type Name = "stdout" | "stderr";
type Listener = (...given: unknown[]) => void;

const descriptors: Readonly<Record<Name, number>> = { stdout: 1, stderr: 2 };

/** What stands in for a stream, and the stream once it was needed. */
class LateOutput {
  readonly #name: Name;
  readonly #errorListeners: Listener[] = [];
  readonly #descriptor: PropertyDescriptor;
  #writtenBytes = 0;
  #real: NodeJS.WriteStream | undefined;

  constructor(name: Name, descriptor: PropertyDescriptor) {
    this.#name = name;
    this.#descriptor = descriptor;
  }

  /** What is not written yet, bytes. */
  get waitingBytes(): number {
    return this.#real?.writableLength ?? 0;
  }

  /** The stream, which stands for itself from here on. */
  real(): NodeJS.WriteStream {
    if (this.#real) return this.#real;
    Object.defineProperty(process, this.#name, this.#descriptor);
    const stream = process[this.#name];
    for (const listener of this.#errorListeners) stream.on("error", listener);
    return (this.#real = stream);
  }

  /** A member: the stand-in's own, or the stream's. */
  get(name: string | symbol): unknown {
    if (!this.#real) {
      if (name === "isTTY") return undefined;
      if (name === "write")
        return (chunk: string | Uint8Array, ...rest: unknown[]) => this.#write(chunk, rest as []);
      if (name === "on" || name === "off")
        return (event: string, listener: Listener) => this.#listen(name, event, listener);
    }
    const real = this.real();
    const member = Reflect.get(real, name, real) as unknown;
    return typeof member === "function" ? (member.bind(real) as unknown) : member;
  }

  #listen(name: "on" | "off", event: string, listener: Listener): NodeJS.WriteStream {
    if (event !== "error" || this.#real) return this.real()[name](event, listener);
    const at = this.#errorListeners.indexOf(listener);
    if (name === "on") this.#errorListeners.push(listener);
    else if (at >= 0) this.#errorListeners.splice(at, 1);
    return process[this.#name];
  }

  #write(chunk: string | Uint8Array, rest: []): boolean {
    const [told] = rest as unknown[];
    // An encoding, or a text that is too long, is the stream's.
    if (this.#real || typeof told === "string") return this.real().write(chunk, ...rest);
    const bytes = typeof chunk === "string" ? Buffer.from(chunk) : chunk;
    this.#writtenBytes += bytes.byteLength;
    if (this.#writtenBytes > MOST_BYTES) return this.real().write(bytes, ...rest);
    let done = 0;
    try {
      while (done < bytes.byteLength) done += writeSync(descriptors[this.#name], bytes, done);
    } catch {
      return this.real().write(bytes.subarray(done), ...rest);
    }
    if (typeof told === "function") process.nextTick(told);
    return true;
  }
}

/** Whether a descriptor is a file, a pipe, a socket or the null device, which are plain to write to. */
function isPlain(fd: number): boolean {
  try {
    const stats = fstatSync(fd);
    return !stats.isCharacterDevice() || stats.rdev === statSync("/dev/null").rdev;
  } catch {
    return false;
  }
}

function standInFor(name: Name): LateOutput | undefined {
  const descriptor = Object.getOwnPropertyDescriptor(process, name);
  if (descriptor?.get === undefined || descriptor.configurable !== true || !isPlain(descriptors[name]))
    return undefined;
  const late = new LateOutput(name, descriptor);
  const value: unknown = new Proxy(
    {},
    {
      get: (_target, member) => late.get(member),
      set: (_target, member, to) => Reflect.set(late.real(), member, to),
      has: (_target, member) => Reflect.has(late.real(), member),
      getPrototypeOf: () => Object.getPrototypeOf(late.real()) as object,
    },
  );
  Object.defineProperty(process, name, { value, configurable: true, enumerable: true, writable: true });
  return late;
}

/**
 * Puts stand-ins in the place of both streams where nothing but plain writing is lost by it. The answer tells whether the process may
 * end: all that was written has left it. A terminal's stream, as Node's own, has nothing that waits.
 */
export function makeOutputLate(): () => boolean {
  const made = (["stdout", "stderr"] as const).flatMap((name) => standInFor(name) ?? []);
  return () => made.every(({ waitingBytes }) => waitingBytes === 0);
}

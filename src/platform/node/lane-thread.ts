/**
 * A thread that makes the calls of one file, one at a time, for when the pool is taken by disks that do not answer. It has
 * its own buffer, since the library's memory is not shared: bytes are copied. Invariant: a call is posted only when the one
 * before it was answered, so a descriptor that is closed meanwhile is used by none that waits here.
 */
import type { Worker } from "node:worker_threads";
import type { Answered, FileAnswer, FileCall } from "./calls.ts";

/** What the thread runs: each call by its synchronous function, buffers aligned for O_DIRECT. */
const PROGRAM = `
const fs = process.getBuiltinModule("node:fs");
const { parentPort } = process.getBuiltinModule("node:worker_threads");
let area = new Uint8Array(0);
const room = (bytes) => {
  if (bytes > area.length) area = new Uint8Array(new WebAssembly.Memory({ initial: Math.ceil(bytes / 65536) }).buffer);
  return area.subarray(0, bytes);
};
const big = { bigint: true };
const facts = ({ mode, size, blocks, dev, ino, rdev, nlink, uid, gid, mtimeNs, ctimeNs }) => (
  { mode, size, blocks, dev, ino, rdev, nlink, uid, gid, mtimeNs, ctimeNs }
);
const calls = {
  read({ fd, bytes, position }) {
    const buffer = room(bytes);
    const count = fs.readSync(fd, buffer, 0, bytes, position);
    return [count, buffer.slice(0, count)];
  },
  write({ fd, data, position }) {
    const buffer = room(data.length);
    buffer.set(data);
    return [fs.writeSync(fd, buffer, 0, data.length, position)];
  },
  fdatasync: ({ fd }) => [fs.fdatasyncSync(fd)],
  fsync: ({ fd }) => [fs.fsyncSync(fd)],
  close: ({ fd }) => [fs.closeSync(fd)],
  fstat: ({ fd }) => [facts(fs.fstatSync(fd, big))],
  stat: ({ path }) => [facts(fs.statSync(path, big))],
  lstat: ({ path }) => [facts(fs.lstatSync(path, big))],
  ftruncate: ({ fd, size }) => [fs.ftruncateSync(fd, size)],
  open: ({ path, flags, mode }) => [fs.openSync(path, flags, mode)],
  unlink: ({ path }) => [fs.unlinkSync(path)],
  realpath: ({ path }) => [fs.realpathSync.native(path)],
  rename: ({ path, to }) => [fs.renameSync(path, to)],
  chmod: ({ path, mode }) => [fs.chmodSync(path, mode)],
  chown: ({ path, uid, gid }) => [fs.chownSync(path, uid, gid)],
};
parentPort.on("message", (call) => {
  try {
    const [answer, data] = calls[call.call](call);
    parentPort.postMessage({ answer, data });
  } catch ({ message, code, errno }) {
    parentPort.postMessage({ error: { message, code, errno } });
  }
});
`;

interface Answer {
  answer?: FileAnswer;
  data?: Uint8Array;
  error?: { message: string; code?: string; errno?: number };
}

/** The thread of one file. */
export class LaneThread {
  readonly #worker: Worker;
  #dead = false;
  #current: { call: FileCall; done: Answered } | undefined;

  constructor() {
    const { Worker } = process.getBuiltinModule("node:worker_threads");
    // With streams of its own, which say nothing: Node would end ours with the thread, where a stand-in was asked (late-output.ts).
    const streams = { stdout: true, stderr: true };
    this.#worker = new Worker(PROGRAM, { eval: true, execArgv: [], trackUnmanagedFds: false, ...streams });
    this.#worker.unref();
    this.#worker.on("message", (answer: Answer) => this.#take(answer));
    this.#worker.on("error", (error: Error) => {
      this.#dead = true;
      this.#take({ error: { message: error.message } });
    });
  }

  /** It could not be started, or has ended by itself. */
  get dead(): boolean {
    return this.#dead;
  }

  /** A call is under way. */
  get busy(): boolean {
    return this.#current !== undefined;
  }

  /** Makes a call. Only when none is under way. */
  make(call: FileCall, done: Answered): void {
    this.#current = { call, done };
    // A call that is under way keeps the process alive, as one on the pool does.
    this.#worker.ref();
    if (call.call !== "read" && call.call !== "write") return this.#worker.postMessage(call);
    const { buffer, at, ...rest } = call;
    const data = call.call === "write" ? buffer.slice(at, at + call.bytes) : undefined;
    this.#worker.postMessage({ ...rest, data });
  }

  /** Ends the thread; only when no call is under way. */
  end(): void {
    void this.#worker.terminate();
  }

  #take({ answer, data, error }: Answer): void {
    const current = this.#current;
    if (!current) return;
    this.#current = undefined;
    this.#worker.unref();
    const { call, done } = current;
    if (error) return done(Object.assign(new Error(error.message), error));
    if (data && call.call === "read") call.buffer.set(data, call.at);
    done(null, answer);
  }
}

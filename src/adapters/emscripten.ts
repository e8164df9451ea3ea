/**
 * The entry emscripten: a disk as a file of a C program that Emscripten has compiled as it is. A C program's read must have
 * its bytes when it returns, so its worker sleeps (Atomics.wait) while another worker, where the engine is, serves it.
 *
 * Protocol: the program's side shares memory, a head of numbers and room for data. For each request it fills the head, posts
 * an empty message and waits for the head's first number to change. One request at a time. What it has read lately it keeps, as long
 * as the head's version says that nobody else has changed the disk.
 * Invariants: it behaves as a block device, whose length no write changes; bytes that a call did not give are never taken for the disk's: every failure is an errno of the C library.
 * Source: Emscripten's FS (an FS type has mount, node_ops and stream_ops), WASI's errno numbers.
 */
import type { Errno } from "../base/errno.ts";
import { BlockError, errnoOf } from "../base/errors.ts";
import { assert } from "../base/assert.ts";
import type { Node } from "../api/node.ts";
import { resize } from "../api/resize.ts";
import { ChangeWatch } from "./change-watch.ts";
import { ReadCache, aroundPages } from "./read-cache.ts";

/** A MessagePort, or a Worker and the global scope of one. */
export interface FilePort {
  postMessage(message: unknown): void;
  addEventListener(type: "message", listener: (event: { data: unknown }) => void): void;
  start?(): void;
}

/** VERSION grows when another changes the disk; READ_AT is what it was when a read began. */
const [STATE, CODE, OP, BYTES, VERSION, READ_AT] = [0, 1, 2, 3, 4, 5];
const [IDLE, ASKED, DONE] = [0, 1, 2];
const [STAT, READ, WRITE, FLUSH, TRUNCATE] = [0, 1, 2, 3, 4];
/** The head: six 32-bit numbers, then offset and length of the disk as 64-bit ones. */
const [NUMBERS_AT, DATA_AT] = [24, 40];
const [OFFSET, LENGTH] = [0, 1];
/** Room for the data of a request, bytes; longer ones are cut. */
const PIECE = 256 * 1024;
/** Longer reads are not kept. */
const KEPT_BYTES = 64 * 1024;

/** The C library's number of an errno (WASI); EIO for what it has none for. */
const numbers: Partial<Record<Errno, number>> = {
  EACCES: 2,
  EAGAIN: 6,
  EBADF: 8,
  EBUSY: 10,
  EFBIG: 22,
  EINVAL: 28,
  EIO: 29,
  ENOENT: 44,
  ENOMEM: 48,
  ENOSPC: 51,
  EPERM: 63,
  EROFS: 69,
  ESTALE: 72,
  ETIMEDOUT: 73,
  ENOTSUP: 138,
};

function numberOf(code: Errno): number {
  return numbers[code] ?? numbers.EIO!;
}

/** The shared memory, seen from both sides. */
class Slate {
  readonly head: Int32Array;
  readonly places: Float64Array;
  readonly data: Uint8Array;

  constructor(memory: SharedArrayBuffer) {
    this.head = new Int32Array(memory, 0, 6);
    this.places = new Float64Array(memory, NUMBERS_AT, 2);
    this.data = new Uint8Array(memory, DATA_AT);
  }
}

/** A program that is served. */
interface Served {
  readonly node: Node;
  readonly slate: Slate;
  readonly watch: ChangeWatch;
}

/** Does what the slate asks for; the bytes that came of it. */
async function perform({ node, slate, watch }: Served, buffer: Uint8Array): Promise<number> {
  const [op, bytes, offset] = [slate.head[OP]!, slate.head[BYTES]!, slate.places[OFFSET]!];
  // What drivers are given is never shared: they hand it to APIs that refuse shared memory.
  const own = buffer.subarray(0, bytes);
  if (op === READ) {
    watch.follow();
    slate.head[READ_AT] = slate.head[VERSION]!;
    slate.data.set(await node.read(offset, own));
  } else if (op === WRITE) {
    own.set(slate.data.subarray(0, bytes));
    await watch.write(offset, own);
  } else if (op === FLUSH) await node.flush();
  else if (op === TRUNCATE) await resize(node, offset);
  else assert(op === STAT, "an operation of the protocol");
  return bytes;
}

/**
 * Serves a node to a program at the other end of a port, in the worker where the node's engine is; as long as the node is
 * open. Failures reach the program as its C library's errno.
 */
export function serveFile(node: Node, port: FilePort): void {
  let served: Served | undefined;
  const buffer = new Uint8Array(PIECE);
  const answer = async (to: Served): Promise<void> => {
    const asked = to.slate;
    // Whatever happens, the program is woken.
    let failure = numberOf("EIO");
    try {
      asked.head[BYTES] = await perform(to, buffer);
      failure = 0;
    } catch (error) {
      failure = numberOf(errnoOf(error));
    } finally {
      asked.head[CODE] = failure;
      asked.places[LENGTH] = node.length;
      Atomics.store(asked.head, STATE, DONE);
      Atomics.notify(asked.head, STATE);
    }
  };
  port.addEventListener("message", ({ data }) => {
    if (data instanceof SharedArrayBuffer) {
      const slate = new Slate(data);
      const watch = new ChangeWatch(node, () => void Atomics.add(slate.head, VERSION, 1));
      served = { node, slate, watch };
    } else if (served && Atomics.load(served.slate.head, STATE) === ASKED) void answer(served);
  });
  port.start?.();
}

/** What of Emscripten's FS is used (it is among EXPORTED_RUNTIME_METHODS). */
export interface EmscriptenFS {
  readonly ErrnoError: new (errno: number) => Error;
  createNode(parent: unknown, name: string, mode: number, device: number): FileNode;
  mkdirTree(path: string): unknown;
  mount(type: { mount: (mount: unknown) => FileNode }, options: object, path: string): unknown;
}

/** A node of Emscripten's FS. */
interface FileNode {
  readonly id: number;
  readonly mode: number;
  node_ops: object;
  stream_ops: object;
}

interface Stream {
  position: number;
}

/** What read and write are given: where in the program's memory, and where in the file. */
type Access = [stream: Stream, heap: Uint8Array, at: number, bytes: number, position: number];

const [DIRECTORY, FILE] = [0o40755, 0o100666];
const [SEEK_CUR, SEEK_END] = [1, 2];

/** The program's side of a served node. */
class ServedFile {
  readonly #fs: EmscriptenFS;
  readonly #port: FilePort;
  readonly #slate: Slate;
  readonly #cache = new ReadCache();

  constructor(fs: EmscriptenFS, port: FilePort) {
    this.#fs = fs;
    this.#port = port;
    const memory = new SharedArrayBuffer(DATA_AT + PIECE);
    this.#slate = new Slate(memory);
    port.postMessage(memory);
  }

  /** Bytes. */
  get length(): number {
    this.#ask(STAT, 0, 0);
    return this.#slate.places[LENGTH]!;
  }

  /** Bytes of the disk from `offset` on, at most so many. Asks only where what the last answer told is not enough. */
  #room(offset: number, bytes: number): number {
    const known = this.#slate.places[LENGTH]! - offset;
    return known >= bytes ? bytes : Math.max(0, Math.min(bytes, this.length - offset));
  }

  read(into: Uint8Array, offset: number): number {
    const bytes = this.#room(offset, into.length);
    if (bytes <= KEPT_BYTES) {
      this.#readKept(into.subarray(0, bytes), offset);
      return bytes;
    }
    for (let at = 0; at < bytes; at += PIECE) {
      const piece = Math.min(PIECE, bytes - at);
      this.#ask(READ, offset + at, piece);
      into.set(this.#slate.data.subarray(0, piece), at);
    }
    return bytes;
  }

  #readKept(into: Uint8Array, offset: number): void {
    const { head, data, places } = this.#slate;
    if (into.byteLength === 0 || this.#cache.read(into, offset, Atomics.load(head, VERSION))) return;
    const [start, bytes] = aroundPages(offset, into.byteLength, places[LENGTH]!);
    this.#ask(READ, start, bytes);
    into.set(data.subarray(offset - start, offset - start + into.byteLength));
    this.#cache.keep(data.subarray(0, bytes), start, head[READ_AT]);
  }

  /** As to a block device: less where the disk ends, and ENOSPC behind its end. */
  write(data: Uint8Array, offset: number): number {
    const bytes = this.#room(offset, data.length);
    if (bytes === 0 && data.length > 0) throw new this.#fs.ErrnoError(numberOf("ENOSPC"));
    for (let at = 0; at < bytes; at += PIECE) {
      const piece = data.subarray(at, Math.min(at + PIECE, bytes));
      this.#slate.data.set(piece);
      this.#cache.drop(offset + at, piece.length);
      this.#ask(WRITE, offset + at, piece.length);
      if (data.length <= KEPT_BYTES) this.#cache.keep(piece, offset + at);
    }
    return bytes;
  }

  flush(): void {
    this.#ask(FLUSH, 0, 0);
  }

  truncate(bytes: number): void {
    if (bytes !== this.length) this.#ask(TRUNCATE, bytes, 0);
  }

  #ask(op: number, offset: number, bytes: number): void {
    const { head, places } = this.#slate;
    [head[OP], head[BYTES], places[OFFSET]] = [op, bytes, offset];
    Atomics.store(head, STATE, ASKED);
    this.#port.postMessage(null);
    while (Atomics.load(head, STATE) === ASKED) Atomics.wait(head, STATE, ASKED);
    Atomics.store(head, STATE, IDLE);
    if (head[CODE] !== 0) throw new this.#fs.ErrnoError(head[CODE]!);
  }
}

/** What Emscripten's FS does with the file. */
function operationsOf(fs: EmscriptenFS, file: ServedFile): Pick<FileNode, "node_ops" | "stream_ops"> {
  return {
    node_ops: {
      getattr: (node: FileNode) => attributes(node, file.length),
      setattr(_node: FileNode, { size }: { size?: number }) {
        if (size !== undefined) file.truncate(size);
      },
    },
    stream_ops: {
      read: (...[, heap, at, bytes, position]: Access) => file.read(bytesOf(heap, at, bytes), position),
      write: (...[, heap, at, bytes, position]: Access) => file.write(bytesOf(heap, at, bytes), position),
      llseek(stream: Stream, offset: number, whence: number) {
        const start = whence === SEEK_CUR ? stream.position : whence === SEEK_END ? file.length : 0;
        if (start + offset < 0) throw new fs.ErrnoError(numberOf("EINVAL"));
        return start + offset;
      },
      fsync() {
        file.flush();
        return 0;
      },
    },
  };
}

/** A part of the program's memory, which Emscripten gives as signed bytes. */
function bytesOf(heap: Uint8Array, at: number, bytes: number): Uint8Array {
  return new Uint8Array(heap.buffer, heap.byteOffset + at, bytes);
}

function attributes({ id, mode }: FileNode, size: number): object {
  const [never, blksize] = [new Date(0), 4096];
  const times = { atime: never, mtime: never, ctime: never };
  const owner = { uid: 0, gid: 0, rdev: 0, dev: 1 };
  return { ...owner, ino: id, mode, nlink: 1, size, ...times, blksize, blocks: Math.ceil(size / 512) };
}

/**
 * Mounts disks as files of a folder: each member of `files` is the port at whose other end serveFile() is. In the program's
 * worker, before or while it runs. ENOTSUP where there is no shared memory, as on a page that is not cross-origin isolated.
 */
export function mountDisks(
  fs: EmscriptenFS,
  folder: string,
  files: Readonly<Record<string, FilePort>>,
): void {
  if (typeof SharedArrayBuffer === "undefined") {
    const message =
      "A C program can't wait for a disk without shared memory, which only a cross-origin isolated page has (COOP, COEP)";
    throw new BlockError({ code: "ENOTSUP", op: "mount", message });
  }
  const mount = (): FileNode => {
    const root = fs.createNode(null, "/", DIRECTORY, 0);
    const nodes = new Map<string, FileNode>();
    for (const [name, port] of Object.entries(files)) {
      const node = fs.createNode(root, name, FILE, 0);
      nodes.set(name, Object.assign(node, operationsOf(fs, new ServedFile(fs, port))));
    }
    root.node_ops = {
      getattr: (node: FileNode) => attributes(node, 0),
      lookup(_parent: FileNode, name: string) {
        const node = nodes.get(name);
        if (!node) throw new fs.ErrnoError(numberOf("ENOENT"));
        return node;
      },
      readdir: () => [".", "..", ...nodes.keys()],
    };
    root.stream_ops = {};
    return root;
  };
  fs.mkdirTree(folder);
  fs.mount({ mount }, {}, folder);
}

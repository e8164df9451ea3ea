// A private directory in memory whose power can be cut, for tests: of what was written since a file's last flush, each
// sector and each change of length may be lost. Also a quota, and writes that fall short.
import { BlockError } from "../../../src/base/errors.ts";
import type { HostPrivateStorage, PrivateDirectory, SyncFile } from "../../../src/base/host.ts";

const SECTOR = 512;

interface Change {
  /** Absent: the length is set. */
  data?: Uint8Array;
  offset: number;
}

function apply(content: Uint8Array<ArrayBuffer>, { data, offset }: Change): Uint8Array<ArrayBuffer> {
  if (!data) {
    const cut = new Uint8Array(offset);
    cut.set(content.subarray(0, offset));
    return cut;
  }
  const end = offset + data.byteLength;
  let grown = content;
  if (end > content.byteLength) {
    grown = new Uint8Array(end);
    grown.set(content);
  }
  grown.set(data, offset);
  return grown;
}

/** One file: what is durable, and what came after it. */
class ModelFile {
  durable: Uint8Array<ArrayBuffer>;
  current: Uint8Array<ArrayBuffer>;
  pending: Change[] = [];
  /** A flush has failed: what it should have kept is taken for kept, and is not. */
  #forgot = false;

  constructor(content: Uint8Array<ArrayBuffer>) {
    this.durable = content;
    this.current = content.slice();
  }

  change(change: Change): void {
    this.current = apply(this.current, change);
    this.pending.push(change);
  }

  flush(): void {
    if (!this.#forgot) this.durable = this.current.slice();
    else for (const change of this.pending) this.durable = apply(this.durable, change);
    this.pending = [];
  }

  forget(): void {
    this.#forgot = true;
    this.pending = [];
  }

  /** What a power cut leaves; `survives` is asked for each sector and each change of length. */
  cut(survives: () => boolean): ModelFile {
    let content = this.durable.slice();
    for (const { data, offset } of this.pending) {
      if (!data) {
        if (survives()) content = apply(content, { offset });
        continue;
      }
      for (let at = 0; at < data.byteLength;) {
        const step = Math.min(data.byteLength - at, SECTOR - ((offset + at) % SECTOR));
        if (survives()) content = apply(content, { data: data.subarray(at, at + step), offset: offset + at });
        at += step;
      }
    }
    return new ModelFile(content);
  }
}

/** Private storage in memory. */
export class ModelStorage implements HostPrivateStorage {
  /** Bytes that all files together may have. */
  quota = Number.POSITIVE_INFINITY;
  /** What a write that does not fit does: it throws, or returns this. */
  oddCount: number | undefined;
  /** Called before each write, flush and truncate; may throw (the power is cut). */
  before: ((op: "write" | "flush" | "truncate", file: string) => void) | undefined;
  /** The file whose next flush fails with EIO, and forgets what it should have made durable. */
  failingFlush: string | undefined;
  readonly #directories = new Map<string, Map<string, ModelFile>>();
  readonly #open = new Set<string>();

  async open(path: string, { create = false, replace = false } = {}): Promise<PrivateDirectory> {
    if (this.#open.has(path)) throw new BlockError({ code: "EAGAIN", op: "open" });
    const known = this.#directories.get(path);
    if (!known && !create) throw new BlockError({ code: "ENOENT", op: "open" });
    if (create && !replace && known && known.size > 0) throw new BlockError({ code: "EEXIST", op: "create" });
    const files = known && !replace ? known : new Map<string, ModelFile>();
    this.#directories.set(path, files);
    this.#open.add(path);
    return {
      file: (name) => {
        const file = files.get(name) ?? new ModelFile(new Uint8Array(0));
        files.set(name, file);
        return Promise.resolve(this.#handle(file, name));
      },
      close: () => void this.#open.delete(path),
    };
  }

  async remove(path: string): Promise<void> {
    if (this.#open.has(path)) throw new BlockError({ code: "EAGAIN", op: "remove" });
    if (!this.#directories.delete(path)) throw new BlockError({ code: "ENOENT", op: "remove" });
  }

  /** Bytes of all files. */
  get used(): number {
    let bytes = 0;
    for (const files of this.#directories.values())
      for (const file of files.values()) bytes += file.current.byteLength;
    return bytes;
  }

  /** What a power cut leaves of everything. */
  cut(survives: () => boolean): ModelStorage {
    const left = new ModelStorage();
    for (const [path, files] of this.#directories)
      left.#directories.set(path, new Map([...files].map(([name, file]) => [name, file.cut(survives)])));
    return left;
  }

  /** The site's data are cleared: the files are empty for whoever has them open. */
  clear(path: string): void {
    for (const file of this.#directories.get(path)!.values()) file.current = new Uint8Array(0);
  }

  /** A file's bytes, to look at or damage. */
  content(path: string, name: string): Uint8Array {
    return this.#directories.get(path)!.get(name)!.current;
  }

  #handle(file: ModelFile, name: string): SyncFile {
    let lost = false;
    let closed = false;
    const checkOpen = (): void => {
      if (closed) throw new BlockError({ code: "EIO", op: "closed" });
    };
    return {
      read: (buffer, offset) => {
        checkOpen();
        const part = file.current.subarray(offset, offset + buffer.byteLength);
        buffer.set(part);
        return part.byteLength;
      },
      write: (buffer, offset) => {
        checkOpen();
        this.before?.("write", name);
        const growth = Math.max(0, offset + buffer.byteLength - file.current.byteLength);
        if (growth > 0 && this.used + growth > this.quota) return this.#full(file, buffer, offset);
        file.change({ data: buffer.slice(), offset });
        return buffer.byteLength;
      },
      flush: () => {
        checkOpen();
        this.before?.("flush", name);
        if (this.failingFlush === name) {
          this.failingFlush = undefined;
          lost = true;
          file.forget();
        }
        if (lost) throw new BlockError({ code: "EIO", op: "flush" });
        file.flush();
      },
      size: () => file.current.byteLength,
      truncate: (size) => {
        this.before?.("truncate", name);
        file.change({ offset: size });
      },
      close: () => void (closed = true),
    };
  }

  #full(file: ModelFile, buffer: Uint8Array, offset: number): number {
    if (this.oddCount === undefined) throw new BlockError({ code: "ENOSPC", op: "pwrite" });
    const part = Math.min(this.oddCount, buffer.byteLength);
    if (part > 0 && this.oddCount < buffer.byteLength) file.change({ data: buffer.slice(0, part), offset });
    return this.oddCount;
  }
}

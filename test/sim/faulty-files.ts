// Files that outlive their nodes and fail the n-th I/O, whichever it is, once or for good: for tests of every way out of a job.
import { blockError } from "../../src/base/errors.ts";
import type { BlockDriver, BlockStatus, DriverType, NodeView } from "../../src/block/model/contract.ts";

/** What is to fail: the I/O of this number, and with `forGood` every one after it. */
export interface Plan {
  at: number;
  forGood: boolean;
}

/** Content of one file. */
class Content {
  bytes = new Uint8Array(0);

  resize(length: number): void {
    const next = new Uint8Array(length);
    next.set(this.bytes.subarray(0, length));
    this.bytes = next;
  }
}

/** A folder of files with one count of all I/O to them. */
export class FaultyFiles {
  readonly #files = new Map<string, Content>();
  #plan: Plan | undefined;
  /** I/Os since the plan was made. */
  count = 0;
  /** What failed, in order. */
  readonly failed: string[] = [];

  /** Begins to count; the plan's I/O fails. */
  arm(plan: Plan | undefined): void {
    this.#plan = plan;
    this.count = 0;
    this.failed.length = 0;
  }

  /** Nothing fails any more. */
  disarm(): void {
    this.#plan = undefined;
  }

  io(op: string): void {
    this.count += 1;
    const plan = this.#plan;
    if (!plan || (plan.forGood ? this.count < plan.at : this.count !== plan.at)) return;
    this.failed.push(op);
    throw blockError("EIO", op);
  }

  make(name: string, length = 0): Content {
    const content = new Content();
    content.resize(length);
    this.#files.set(name, content);
    return content;
  }

  /** ENOENT if there is none. */
  content(name: string): Content {
    const content = this.#files.get(name);
    if (!content) throw blockError("ENOENT", "open");
    return content;
  }

  /** The driver `file` over this folder. */
  readonly driver: DriverType = {
    name: "file",
    kind: "protocol",
    open: async ({ node }, spec) => {
      await Promise.resolve();
      const name = spec["filename"] as string;
      this.io(`open ${name}`);
      return new FaultyFile({ files: this, node, name });
    },
    create: async (_context, options) => {
      await Promise.resolve();
      this.io("create");
      this.make(options["filename"] as string, options["size"] as number);
    },
  };
}

class FaultyFile implements BlockDriver {
  readonly #files: FaultyFiles;
  readonly #node: NodeView;
  readonly #name: string;
  readonly #content: Content;

  constructor({ files, node, name }: { files: FaultyFiles; node: NodeView; name: string }) {
    this.#files = files;
    this.#node = node;
    this.#name = name;
    this.#content = files.content(name);
  }

  async #io(op: string): Promise<void> {
    await Promise.resolve();
    this.#files.io(`${op} ${this.#name}`);
  }

  length(): number {
    return this.#content.bytes.byteLength;
  }

  async pread(offset: number, buffer: Uint8Array): Promise<void> {
    await this.#io("read");
    buffer.fill(0);
    buffer.set(this.#content.bytes.subarray(offset, offset + buffer.byteLength));
  }

  async pwrite(offset: number, buffer: Uint8Array): Promise<void> {
    const copy = buffer.slice();
    await this.#io("write");
    if (offset + copy.byteLength > this.length()) this.#content.resize(offset + copy.byteLength);
    this.#content.bytes.set(copy, offset);
  }

  async pwriteZeroes(offset: number, bytes: number): Promise<void> {
    await this.#io("zero");
    if (offset + bytes > this.length()) this.#content.resize(offset + bytes);
    this.#content.bytes.fill(0, offset, offset + bytes);
  }

  async pdiscard(offset: number, bytes: number): Promise<void> {
    await this.#io("discard");
    this.#content.bytes.fill(0, offset, offset + bytes);
  }

  async blockStatus(offset: number, bytes: number): Promise<BlockStatus> {
    await this.#io("status");
    return { bytes, data: true, zero: false, allocated: true, map: { node: this.#node, offset } };
  }

  async flush(): Promise<void> {
    await this.#io("flush");
  }

  async truncate(size: number): Promise<void> {
    await this.#io("truncate");
    this.#content.resize(size);
  }

  async setReadOnly(): Promise<void> {
    await this.#io("reopen");
  }

  async close(): Promise<void> {
    await this.#io("close");
  }
}

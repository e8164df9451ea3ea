/**
 * The exports of a served disk. A piece is made when it is asked for, so the other end's reader sets the pace.
 */
import { blockError } from "../../base/errors.ts";
import { exportDisk } from "../export.ts";
import type { Node } from "../node.ts";
import type { DiskCalls, ExportPiece, RemoteExportOptions } from "./calls.ts";
import type { CallHandlers } from "./port.ts";

interface Export {
  reader: ReadableStreamDefaultReader<Uint8Array>;
  progress: { done: number; total: number };
}

/** The exports under way. */
export class ServedExports {
  readonly #node: Node;
  readonly #exports = new Map<number, Export>();
  #next = 1;

  constructor(node: Node) {
    this.#node = node;
  }

  handlers(): Pick<CallHandlers<DiskCalls>, "exportStart" | "exportNext" | "exportEnd"> {
    return {
      exportStart: ({ options }) => this.#start(options),
      exportNext: async ({ id }, { transfer }) => {
        const { data, ...progress } = await this.#piece(id);
        if (!data) return progress;
        transfer.push(data.buffer);
        return { data, ...progress };
      },
      exportEnd: ({ id }) => this.#stop(id),
    };
  }

  /** Takes them all down. */
  async end(): Promise<void> {
    await Promise.all([...this.#exports.keys()].map((id) => this.#stop(id)));
  }

  async #start(options: RemoteExportOptions): Promise<number> {
    const progress = { done: 0, total: 0 };
    const onProgress = (done: number, total: number): void => void Object.assign(progress, { done, total });
    const stream = await exportDisk(this.#node, { ...options, onProgress });
    const id = this.#next++;
    this.#exports.set(id, { reader: stream.getReader(), progress });
    return id;
  }

  async #piece(id: number): Promise<ExportPiece> {
    const found = this.#exports.get(id);
    if (!found) throw blockError("EINVAL", "export", "there is no such export");
    const { value } = await found.reader.read();
    if (!value) this.#exports.delete(id);
    return value ? { data: value, ...found.progress } : { ...found.progress };
  }

  async #stop(id: number): Promise<void> {
    const found = this.#exports.get(id);
    this.#exports.delete(id);
    await found?.reader.cancel();
  }
}

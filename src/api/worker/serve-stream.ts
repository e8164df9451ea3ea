/**
 * The image streams of a served disk. A piece is made when it is asked for, so the other end's reader sets the pace.
 */
import { blockError } from "../../base/errors.ts";
import type { Node } from "../node.ts";
import type { DiskCalls, StreamPiece, RemoteStreamOptions } from "./calls.ts";
import type { CallHandlers } from "./port.ts";

interface Stream {
  reader: ReadableStreamDefaultReader<Uint8Array>;
  progress: { done: number; total: number };
}

/** The streams under way. */
export class ServedStreams {
  readonly #node: Node;
  readonly #streams = new Map<number, Stream>();
  #next = 1;

  constructor(node: Node) {
    this.#node = node;
  }

  handlers(): Pick<CallHandlers<DiskCalls>, "streamStart" | "streamNext" | "streamEnd"> {
    return {
      streamStart: ({ options }) => this.#start(options),
      streamNext: async ({ id }, { transfer }) => {
        const { data, ...progress } = await this.#piece(id);
        if (!data) return progress;
        transfer.push(data.buffer);
        return { data, ...progress };
      },
      streamEnd: ({ id }) => this.#stop(id),
    };
  }

  /** Takes them all down. */
  async end(): Promise<void> {
    await Promise.all([...this.#streams.keys()].map((id) => this.#stop(id)));
  }

  async #start(options: RemoteStreamOptions): Promise<number> {
    const progress = { done: 0, total: 0 };
    const onProgress = (done: number, total: number): void => void Object.assign(progress, { done, total });
    // Few pages read a disk as a file: the way there comes when one does.
    const { imageStream } = await import("../image-stream.ts");
    const stream = await imageStream(this.#node, { ...options, onProgress });
    const id = this.#next++;
    this.#streams.set(id, { reader: stream.getReader(), progress });
    return id;
  }

  async #piece(id: number): Promise<StreamPiece> {
    const found = this.#streams.get(id);
    if (!found) throw blockError("EINVAL", "stream", "there is no such stream");
    const { value } = await found.reader.read();
    if (!value) this.#streams.delete(id);
    return value ? { data: value, ...found.progress } : { ...found.progress };
  }

  async #stop(id: number): Promise<void> {
    const found = this.#streams.get(id);
    this.#streams.delete(id);
    await found?.reader.cancel();
  }
}

/**
 * Reads an answer's body into pieces that lie one after the other, and not a byte more. Nothing of a body that is too
 * short or too long may be used.
 */
import type { HttpResponse } from "../../../base/host.ts";

/** Calls `piece` with the body's chunks, and `progress` at each; cancels the body if either throws. */
export async function eachChunk(response: HttpResponse, chunk: (bytes: Uint8Array) => void): Promise<void> {
  if (!response.body) return;
  const reader = response.body.getReader();
  let ended = false;
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) break;
      chunk(value);
    }
    ended = true;
  } finally {
    if (!ended) await reader.cancel().catch(() => undefined);
  }
}

/** The same answer; `progress` is called as its body comes. */
export function watched({ status, headers, body }: HttpResponse, progress: () => void): HttpResponse {
  const telling = new TransformStream<Uint8Array, Uint8Array>({
    transform(chunk, controller) {
      progress();
      controller.enqueue(chunk);
    },
  });
  return { status, headers, body: body && body.pipeThrough(telling) };
}

/** Lets go of an answer whose body nobody wants. */
export async function discardBody(response: HttpResponse): Promise<void> {
  await response.body?.cancel().catch(() => undefined);
}

/** Fills several buffers in turn. */
export class PieceWriter {
  readonly #pieces: readonly Uint8Array[];
  #piece = 0;
  #at = 0;
  /** Bytes taken, those beyond the last piece included. */
  bytes = 0;

  constructor(pieces: readonly Uint8Array[]) {
    this.#pieces = pieces;
  }

  write(chunk: Uint8Array): void {
    this.bytes += chunk.byteLength;
    for (let done = 0; done < chunk.byteLength;) {
      const piece = this.#pieces[this.#piece];
      if (!piece) return;
      const part = chunk.subarray(done, done + piece.byteLength - this.#at);
      piece.set(part, this.#at);
      done += part.byteLength;
      this.#at += part.byteLength;
      if (this.#at < piece.byteLength) continue;
      this.#piece += 1;
      this.#at = 0;
    }
  }
}

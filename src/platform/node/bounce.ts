/**
 * Page-aligned memory for O_DIRECT requests whose buffer is not aligned (blocks padded by the layer, a caller's own heap).
 * A WebAssembly memory starts on a page; nothing else in JavaScript promises that. One request uses it at a time.
 */

/** Size of the buffer, bytes; a multiple of every alignment. */
const BOUNCE_BYTES = 1 << 20;
const WASM_PAGE = 1 << 16;

/** A piece of a transfer: its place in the caller's buffer and the aligned memory to use. */
export type BouncePiece = (aligned: Uint8Array, start: number) => Promise<"more" | "end">;

/** One aligned buffer, handed to one transfer after the other. */
export class BounceBuffer {
  #memory: Uint8Array | undefined;
  #last: Promise<unknown> = Promise.resolve();

  /** Calls `piece` for `bytes` in steps until it says `end`, when the buffer is free. */
  transfer(bytes: number, piece: BouncePiece): Promise<void> {
    const run = this.#last.then(async () => {
      this.#memory ??= new Uint8Array(new WebAssembly.Memory({ initial: BOUNCE_BYTES / WASM_PAGE }).buffer);
      for (let start = 0; start < bytes; start += BOUNCE_BYTES) {
        const aligned = this.#memory.subarray(0, Math.min(BOUNCE_BYTES, bytes - start));
        if ((await piece(aligned, start)) === "end") return;
      }
    });
    this.#last = run.catch(() => undefined);
    return run;
  }
}

/**
 * A gate before a thread's calls of native code. The addon of koffi aborts the process where its thread is ended in the middle of a
 * call; so whoever ends the thread closes the gate first, and so does the end of the process, which ends all threads.
 *
 * Invariant: when close() has returned, the thread is in no native call and begins none.
 */

/** What a gate's cell holds. */
export const Gate = { open: 0, inside: 1, closed: 2 } as const;
/** A call that takes longer is not waited for, ms: the program shall end. */
const MOST_WAIT_MS = 2000;

/** Source of a function of a gate's cell, for the thread: it makes a call in it; `refused` where the gate is closed. */
export const THROUGH_GATE = `(cell) => (call, refused) => {
  if (Atomics.compareExchange(cell, 0, ${Gate.open}, ${Gate.inside}) !== ${Gate.open}) return refused;
  try {
    return call();
  } finally {
    Atomics.store(cell, 0, ${Gate.open});
    Atomics.notify(cell, 0);
  }
}`;

const open = new Set<NativeGate>();
const closeAll = (): void => {
  for (const gate of open) gate.close();
};

/** The owner's side. */
export class NativeGate {
  /** For the thread. */
  readonly cell = new Int32Array(new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT));

  constructor() {
    if (open.size === 0) process.on("exit", closeAll);
    open.add(this);
  }

  /** Waits until the thread is outside, and lets it in no more. */
  close(): void {
    const until = performance.now() + MOST_WAIT_MS;
    while (Atomics.compareExchange(this.cell, 0, Gate.open, Gate.closed) === Gate.inside) {
      const left = until - performance.now();
      if (left <= 0) break;
      Atomics.wait(this.cell, 0, Gate.inside, left);
    }
    this.forget();
  }

  /** The thread has ended. */
  forget(): void {
    open.delete(this);
    if (open.size === 0) process.off("exit", closeAll);
  }
}

/**
 * Asserts for programmer errors. They stay on in release: a wrong invariant must never write to a disk image.
 * Bad input is not an assert; it gets a BlockError or ImageError.
 */

/** A broken invariant of Blockwright itself; never the user's fault. */
export class AssertionError extends Error {
  override readonly name = "AssertionError";

  constructor(message = "an invariant is broken") {
    super(message);
  }
}

/** Throws AssertionError unless `condition` holds. What is built has no messages (.ci/assert-words.mjs): the stack tells. */
export function assert(condition: unknown, message?: string): asserts condition {
  if (!condition) throw new AssertionError(message);
}

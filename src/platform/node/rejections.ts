/** Promises that nobody waited for: what the process would die of is told to one listener instead. */

/** Calls `see` for every rejection that nobody handles, until the returned function is called. */
export function watchRejections(see: (reason: unknown) => void): () => void {
  process.on("unhandledRejection", see);
  return () => process.off("unhandledRejection", see);
}

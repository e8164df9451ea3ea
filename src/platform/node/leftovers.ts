/**
 * A word at the process's end about files that were written to, and neither flushed nor closed: what formats keep in memory until
 * then is lost without a trace. Engines that nobody holds any more are not kept for it.
 */

type Leftovers<E extends object> = { engine: WeakRef<E>; files: (engine: E) => readonly string[] };

const watched = new Set<Leftovers<never>>();

/** Tells on stderr, when the process ends, of the files that `files` finds in `engine` then. */
export function warnAtExit<E extends object>(engine: E, files: (engine: E) => readonly string[]): void {
  if (watched.size === 0) process.once("exit", tell);
  for (const known of watched) if (known.engine.deref() === undefined) watched.delete(known);
  watched.add({ engine: new WeakRef(engine), files } as unknown as Leftovers<never>);
}

function tell(): void {
  for (const { engine, files } of watched) {
    const open = engine.deref();
    for (const name of open === undefined ? [] : files(open))
      process.stderr.write(
        `blockwright: the process ends while '${name}' is open, and what was written since its last flush may be lost: ` +
          "await close() (or `await using`) before\n",
      );
  }
}

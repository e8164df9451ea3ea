/**
 * Telling that a thread has died: it holds a Web Lock while it lives, and who waits for the lock gets it when it is gone,
 * however that came about. Browsers send no event for a worker that was killed. Source: the Web Locks standard.
 */
import { deferred } from "../../base/signals.ts";

/** The lock manager; pages from plain HTTP have none. */
function manager(): LockManager | undefined {
  return (navigator as { locks?: LockManager }).locks;
}

/** Takes the lock and holds it until the returned function is called. Without Web Locks nothing is held. */
export async function holdAlive(name: string): Promise<() => void> {
  const locks = manager();
  if (!locks) return () => undefined;
  const taken = deferred();
  const over = deferred();
  void locks.request(name, () => {
    taken.resolve();
    return over.promise;
  });
  await taken.promise;
  return () => over.resolve();
}

/** Calls `onDeath` once nobody holds the lock any more; `signal` ends the watch. It must be held by now. */
export function watchAlive(name: string, signal: AbortSignal, onDeath: () => void): void {
  const freed = manager()?.request(name, { signal }, () => onDeath());
  // The watch was ended.
  freed?.catch(() => undefined);
}

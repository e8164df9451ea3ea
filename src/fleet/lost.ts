/**
 * Jobs that are lost with their worker: killed, out of memory, a machine that went down. Nobody says whose fault it was, so a job is
 * tried for as long as it gets on. One that gets no further again and again runs where nothing else does, so that it takes nobody
 * along, and is given up in the end.
 */

/** Losses in a row, with nothing kept between, after which a job runs where nothing else does. */
const SUSPECT = 3;
/** Losses in a row, with nothing kept between, after which a job has failed. */
export const MOST_LOST = 10;

/** Whether a job is suspected of ending its workers. */
export function isSuspect(lost: number): boolean {
  return lost >= SUSPECT;
}

/** Why a job failed that was lost too often. */
export const lostText = `its worker ended without a word ${MOST_LOST} times in a row (killed, or out of memory?), and it got no further: retry it when that is mended`;

/** What runs in a process: all that is suspected of nothing, or one that is. */
export class Company<K> {
  readonly #running = new Set<K>();
  #suspect: K | undefined;

  /** Whether a job may begin here now; it has begun then. */
  enter(key: K, lost: number): boolean {
    if (this.#suspect !== undefined || (isSuspect(lost) && this.#running.size > 0)) return false;
    this.#running.add(key);
    if (isSuspect(lost)) this.#suspect = key;
    return true;
  }

  /** It gets on: others may come. */
  clear(key: K): void {
    if (this.#suspect === key) this.#suspect = undefined;
  }

  leave(key: K): void {
    this.clear(key);
    this.#running.delete(key);
  }
}

/**
 * Which pieces of the suites a budget has room for: a pure function of the pieces, their usual times and a seed, so that
 * a seed repeats a choice. The clock only takes away from it (lanes.ts).
 *
 * Invariants: a suite that a phase names, and of which nothing ran yet, gets a piece in that phase however small the
 * budget is; no piece is chosen twice; what is not chosen is told.
 */
import { randomness } from "../../test/support/random.ts";
import type { Phase } from "./stages.ts";

/** A test file in a suite, or a part of one. */
export interface Piece {
  readonly suite: string;
  /** Its path in the repository. */
  readonly file: string;
  /** `2/4`: the second of four parts. */
  readonly shard?: string;
  /** What it usually takes. */
  readonly seconds: number;
}

/** Pieces of one suite that one process runs. */
export interface Batch {
  readonly suite: string;
  readonly pieces: readonly Piece[];
}

/** What a phase is to run, in this order. */
export interface PlannedPhase {
  readonly phase: Phase;
  readonly batches: readonly Batch[];
  /** When it is over, on the clock of all phases: what earlier ones leave is there for later ones. */
  readonly endMinutes: number;
}

/** How many processes run at a time: two cores are busy while a suite waits for a program or a clock. */
export const LANES = 2;
/** What the start of a process for a batch takes. */
export const START_SECONDS = 3;
/** Batches of many small files are about so long, so that the clock is looked at often. */
const BATCH_SECONDS = 40;
/** The part of a budget that is planned: there are the checks, too, and lanes end at different times. */
const PLANNED = 0.75;
/** The piece that stands for a suite is one of those below this, if there is one. */
const SHORT_SECONDS = 20;

/** How a piece is called in what is printed. */
export function nameOf({ suite, file, shard }: Piece): string {
  const where = file.startsWith(`test/${suite}/`) ? file : `${file} in ${suite}`;
  return shard === undefined ? where : `${where}, part ${shard}`;
}

/** What a batch usually takes. */
export function secondsOf({ pieces }: Batch): number {
  return pieces.reduce((sum, { seconds }) => sum + seconds, START_SECONDS);
}

/** `items` in an order that the seed repeats. */
function shuffled<T>(items: readonly T[], seed: number): T[] {
  const random = randomness(seed);
  const order = [...items];
  for (let last = order.length - 1; last > 0; last--) {
    const other = random(last + 1);
    [order[last], order[other]] = [order[other]!, order[last]!];
  }
  return order;
}

/** Cuts pieces of one suite into batches, keeping their order. A part of a file runs alone, by its variable. */
function batchesOf(suite: string, pieces: readonly Piece[]): Batch[] {
  const batches: Piece[][] = [];
  let room = 0;
  for (const piece of pieces) {
    const isAlone = piece.shard !== undefined;
    const last = batches[batches.length - 1];
    if (isAlone || last === undefined || piece.seconds > room) batches.push([piece]);
    else last.push(piece);
    room = isAlone ? 0 : (piece.seconds > room ? BATCH_SECONDS : room) - piece.seconds;
  }
  return batches.map((batch) => ({ suite, pieces: batch }));
}

/** What is not planned yet, by suite, and of which suites something is. */
class Pool {
  readonly #waiting = new Map<string, Piece[]>();
  readonly #touched = new Set<string>();

  constructor(pieces: readonly Piece[], seed: number) {
    for (const piece of shuffled(pieces, seed)) {
      const list = this.#waiting.get(piece.suite) ?? [];
      list.push(piece);
      this.#waiting.set(piece.suite, list);
    }
  }

  /** The pieces that a phase has room for, by suite. Shares what there is after each suite's own piece in turn. */
  take({ suites, minutes }: Phase): Map<string, Piece[]> {
    const taken = new Map<string, Piece[]>();
    let room = minutes * 60 * LANES * PLANNED;
    const take = (piece: Piece): void => {
      room -= piece.seconds;
      this.#remove(piece);
      taken.set(piece.suite, [...(taken.get(piece.suite) ?? []), piece]);
    };
    const own = suites.filter((suite) => this.#waiting.has(suite));
    for (const suite of own) if (!this.#touched.has(suite)) take(this.#first(suite));
    // In turn, so that every suite gets on, whatever the sizes of its pieces.
    for (let isMoving = true; isMoving;) {
      isMoving = false;
      for (const suite of own) {
        const next = this.#waiting.get(suite)?.find(({ seconds }) => seconds + START_SECONDS <= room);
        if (next === undefined) continue;
        take(next);
        isMoving = true;
      }
    }
    return taken;
  }

  /** The piece by which a suite is touched: the first short one, or the shortest. */
  #first(suite: string): Piece {
    const waiting = this.#waiting.get(suite)!;
    const shortest = waiting.reduce((best, piece) => (piece.seconds < best.seconds ? piece : best));
    return waiting.find(({ seconds }) => seconds <= SHORT_SECONDS) ?? shortest;
  }

  #remove(piece: Piece): void {
    this.#touched.add(piece.suite);
    const rest = this.#waiting.get(piece.suite)!.filter((other) => other !== piece);
    if (rest.length === 0) this.#waiting.delete(piece.suite);
    else this.#waiting.set(piece.suite, rest);
  }

  /** What nothing had room for. */
  left(): Piece[] {
    return [...this.#waiting.values()].flat();
  }
}

/** The minutes that a phase's batches leave of it. */
function spareMinutes({ phase, batches }: Omit<PlannedPhase, "endMinutes">): number {
  const used = batches.reduce((sum, batch) => sum + secondsOf(batch), 0);
  return Math.max(0, phase.minutes - used / LANES / PLANNED / 60);
}

/**
 * Plans the phases of a budget. The first batches of a phase touch each suite; the longest of the others come before the
 * shorter ones, so that the lanes end together. Minutes that phases leave go to a last one, of everything.
 */
export function plan(
  pieces: readonly Piece[],
  { seed, phases }: { seed: number; phases: readonly Phase[] },
): { planned: PlannedPhase[]; left: Piece[] } {
  const pool = new Pool(pieces, seed);
  let endMinutes = 0;
  const planned = phases.map((phase) => {
    endMinutes += phase.minutes;
    return { phase, batches: batchesFor(pool, phase), endMinutes };
  });
  if (planned.length > 1) {
    const minutes = planned.reduce((sum, one) => sum + spareMinutes(one), 0);
    const suites = [...new Set(pieces.map(({ suite }) => suite))];
    const phase = { name: "what is left", minutes, suites };
    planned.push({ phase, batches: batchesFor(pool, phase), endMinutes });
  }
  return { planned, left: pool.left() };
}

function batchesFor(pool: Pool, phase: Phase): Batch[] {
  const bySuite = [...pool.take(phase)].map(([suite, taken]) => batchesOf(suite, taken));
  const first = bySuite.flatMap((batches) => batches.slice(0, 1));
  const others = bySuite.flatMap((batches) => batches.slice(1));
  others.sort((one, other) => secondsOf(other) - secondsOf(one));
  return [...first, ...others];
}

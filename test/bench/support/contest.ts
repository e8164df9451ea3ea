/**
 * The one way in which the benchmarks time: two contestants in turn, whose first is now the one and now the other, so that neither has
 * the better half of the machine's time; and the harness's interval of how they compare.
 */
import { loadTwinKernels } from "../../../src/kernels/load.ts";
import { Draws, streamKey } from "../../../src/workload/random/noise.ts";
import { type RatioInterval, median, ratioInterval } from "../../../src/workload/stats/bootstrap.ts";

/** One run of one contestant. */
export interface Sample {
  /** In the row's unit. */
  readonly value: number;
  /** Seconds of processor, user and system. */
  readonly cpu?: number;
  readonly peakMiB?: number;
}

/** What came out: medians of both, and how many times better ours is, above 1 is better than the peer. */
export interface Row {
  readonly name: string;
  /** Whom ours is held against, where it is not the sheet's. */
  readonly peer?: string;
  readonly theirs: number;
  readonly ours: number;
  readonly better: RatioInterval;
  /** Seconds of processor. */
  readonly cpu?: { readonly theirs: number; readonly ours: number };
  /** The highest of ours. */
  readonly peakMiB?: number;
  /** The least that `better.ratio` should be. */
  readonly goal?: number;
}

/** One run; told which pair it belongs to. */
export type Contestant = (pair: number) => Promise<Sample> | Sample;

/** All runs of both. */
export interface Runs {
  readonly theirs: readonly Sample[];
  readonly ours: readonly Sample[];
}

/** Runs so many pairs, 1 or more. */
export async function inTurn(pairs: number, theirs: Contestant, ours: Contestant): Promise<Runs> {
  const [them, us]: [Sample[], Sample[]] = [[], []];
  for (let pair = 0; pair < pairs; pair++) {
    const theirTurn = async (): Promise<unknown> => them.push(await theirs(pair));
    const ourTurn = async (): Promise<unknown> => us.push(await ours(pair));
    for (const turn of pair % 2 === 0 ? [theirTurn, ourTurn] : [ourTurn, theirTurn]) await turn();
  }
  return { theirs: them, ours: us };
}

/** How a row is judged; `moreIsBetter` for rates. */
export interface Judged extends Pick<Row, "name" | "peer" | "goal"> {
  readonly moreIsBetter?: boolean;
}

/** Four significant digits: what a machine that is not quiet can tell. */
function rounded(value: number): number {
  return Number(value.toPrecision(4));
}

function medianOf(samples: readonly Sample[], key: "value" | "cpu"): number | undefined {
  const values = samples.map((sample) => sample[key]).filter((value) => value !== undefined);
  return values.length === 0 ? undefined : rounded(median(values));
}

/** The row of runs. */
export function rowOf({ moreIsBetter = false, ...row }: Judged, { theirs, ours }: Runs): Row {
  const [them, us] = [theirs, ours].map((samples) => samples.map(({ value }) => value));
  const draws = new Draws(loadTwinKernels({ arenaBytes: 65_536 }), streamKey(1, 0, "bootstrap"));
  const { ratio, low, high, pairs } = moreIsBetter
    ? ratioInterval(them!, us!, draws)
    : ratioInterval(us!, them!, draws);
  const [theirCpu, ourCpu] = [medianOf(theirs, "cpu"), medianOf(ours, "cpu")];
  const peaks = ours.flatMap(({ peakMiB }) => peakMiB ?? []);
  return {
    ...row,
    theirs: medianOf(theirs, "value")!,
    ours: medianOf(ours, "value")!,
    better: { ratio: rounded(ratio), low: rounded(low), high: rounded(high), pairs },
    ...(theirCpu === undefined || ourCpu === undefined ? {} : { cpu: { theirs: theirCpu, ours: ourCpu } }),
    ...(peaks.length === 0 ? {} : { peakMiB: Math.round(Math.max(...peaks)) }),
  };
}

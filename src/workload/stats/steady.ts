/**
 * Whether a run came to a steady state, and when: by SNIA's criteria (within five rounds the values lie within 20 % of their
 * mean, and the excursion of the linear fit within 10 %) and by fio's two (the largest deviation from the mean, the slope), each
 * with the window and the fit, so that a "no" is explained, too. Source: SNIA SSS PTS 2.0.1; fio's HOWTO, "steadystate".
 */

/** Rounds of the window. */
const ROUNDS = 5;
/** Rounds that a run is cut into, at most. */
const MOST_ROUNDS = 25;

/** One criterion on the last window, or the first that met it. */
export interface SteadyWindow {
  readonly met: boolean;
  /** The round with which the window ends, from 1 on. */
  readonly round: number;
  readonly mean: number;
  /** Largest less smallest value, percent of the mean. */
  readonly rangePercent: number;
  /** What the linear fit moves within the window, percent of the mean. */
  readonly slopePercent: number;
  /** Largest distance from the mean, percent of it. */
  readonly deviationPercent: number;
}

/** The state of a run. */
export interface SteadyState {
  /** What was looked at. */
  readonly metric: "requestsPerSecond";
  readonly roundNs: number;
  readonly windowRounds: number;
  readonly snia: SteadyWindow;
  readonly fioDeviation: SteadyWindow;
  readonly fioSlope: SteadyWindow;
}

function fit(values: readonly number[], round: number): SteadyWindow {
  const n = values.length;
  const mean = values.reduce((sum, value) => sum + value, 0) / n;
  const middle = (n - 1) / 2;
  let [products, squares] = [0, 0];
  for (const [i, value] of values.entries()) {
    products += (i - middle) * (value - mean);
    squares += (i - middle) * (i - middle);
  }
  const percent = (value: number): number => (mean === 0 ? 0 : (100 * Math.abs(value)) / mean);
  const distances = values.map((value) => Math.abs(value - mean));
  return {
    met: false,
    round,
    mean,
    rangePercent: percent(Math.max(...values) - Math.min(...values)),
    slopePercent: percent((products / squares) * (n - 1)),
    deviationPercent: percent(Math.max(...distances)),
  };
}

/** The first window that meets a criterion; the last one where none does. */
function first(windows: readonly SteadyWindow[], meets: (window: SteadyWindow) => boolean): SteadyWindow {
  const found = windows.find((window) => window.mean > 0 && meets(window));
  return found ? { ...found, met: true } : windows.at(-1)!;
}

/** Judges a timeline of requests; undefined where there are too few intervals to say anything. The last interval, which may be short, is left out. */
export function steadyState(requests: readonly number[], intervalNs: number): SteadyState | undefined {
  const whole = requests.slice(0, -1);
  const perRound = Math.max(1, Math.floor(whole.length / MOST_ROUNDS));
  const rounds: number[] = [];
  for (let i = 0; i + perRound <= whole.length; i += perRound) {
    const sum = whole.slice(i, i + perRound).reduce((total, value) => total + value, 0);
    rounds.push((sum * 1e9) / (perRound * intervalNs));
  }
  if (rounds.length < ROUNDS) return undefined;
  const windows: SteadyWindow[] = [];
  for (let end = ROUNDS; end <= rounds.length; end++) windows.push(fit(rounds.slice(end - ROUNDS, end), end));
  return {
    metric: "requestsPerSecond",
    roundNs: perRound * intervalNs,
    windowRounds: ROUNDS,
    snia: first(windows, ({ rangePercent, slopePercent }) => rangePercent <= 20 && slopePercent <= 10),
    fioDeviation: first(windows, ({ deviationPercent }) => deviationPercent <= 10),
    fioSlope: first(windows, ({ slopePercent }) => slopePercent <= 1),
  };
}

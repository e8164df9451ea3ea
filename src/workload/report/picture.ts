/** Line pictures as SVG, for pages without a script. */

/** One line. */
export interface Series {
  readonly name: string;
  readonly points: readonly { readonly x: number; readonly y: number }[];
}

/** How a picture looks. */
export interface PictureOptions {
  readonly title: string;
  readonly yLabel: string;
  readonly xLabel?: string;
  readonly logY?: boolean;
  readonly xTicks?: readonly { readonly at: number; readonly text: string }[];
}

/** Colours of the lines. */
export const lineColours = ["#0969da", "#cf222e", "#1a7f37", "#9a6700", "#8250df", "#bf3989"];

const [WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT] = [900, 260, 80, 36, 24, 16] as const;
/** Most points of a line; the largest of those that fall together is kept. */
const MOST_POINTS = 400;

/** A line of fewer points. */
export function thinned(points: Series["points"]): Series["points"] {
  if (points.length <= MOST_POINTS) return points;
  const step = points.length / MOST_POINTS;
  return Array.from({ length: MOST_POINTS }, (_, i) => {
    const part = points.slice(
      Math.floor(i * step),
      Math.max(Math.floor(i * step) + 1, Math.floor((i + 1) * step)),
    );
    return part.reduce((most, point) => (point.y > most.y ? point : most));
  });
}

/** Round steps of an axis. */
function steps(most: number): number[] {
  if (!(most > 0)) return [0];
  const rough = most / 4;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= rough) ?? rough;
  return Array.from({ length: Math.floor(most / step) + 1 }, (_, i) => i * step);
}

function text(value: number): string {
  return String(Number(value.toPrecision(3)));
}

interface Scale {
  readonly at: (value: number) => number;
  readonly ticks: readonly { readonly at: number; readonly text: string }[];
}

function yScale(values: readonly number[], isLog: boolean): Scale {
  const height = HEIGHT - TOP - BOTTOM;
  const most = Math.max(...values, 0);
  if (!isLog) {
    const top = most || 1;
    const ticks = steps(most).map((value) => ({ at: value, text: text(value) }));
    return { at: (value) => TOP + height * (1 - value / top), ticks };
  }
  const positive = values.filter((value) => value > 0);
  const low = Math.floor(Math.log10(Math.min(...positive, most || 1)));
  const high = Math.max(low + 1, Math.ceil(Math.log10(most || 1)));
  const ticks = Array.from({ length: high - low + 1 }, (_, i) => 10 ** (low + i)).map((value) => ({
    at: value,
    text: text(value),
  }));
  const at = (value: number): number =>
    TOP + height * (1 - (Math.log10(Math.max(value, 10 ** low)) - low) / (high - low));
  return { at, ticks };
}

/** The picture. */
export function linePicture(series: readonly Series[], options: PictureOptions): string {
  const lines = series.map(({ name, points }) => ({ name, points: thinned(points) }));
  const all = lines.flatMap(({ points }) => points);
  if (all.length === 0) return `<p>${options.title}: nothing was measured</p>`;
  const width = WIDTH - LEFT - RIGHT;
  const mostX = Math.max(...all.map(({ x }) => x), 1e-9);
  const x = (value: number): number => LEFT + (width * value) / mostX;
  const y = yScale(
    all.map((point) => point.y),
    options.logY ?? false,
  );
  const xTicks =
    options.xTicks?.filter(({ at }) => at <= mostX) ?? steps(mostX).map((at) => ({ at, text: text(at) }));
  const grid = [
    ...y.ticks.map(({ at, text: label }) => {
      const height = y.at(at).toFixed(1);
      return `<line x1="${LEFT}" x2="${WIDTH - RIGHT}" y1="${height}" y2="${height}" stroke="#8884"/><text x="${LEFT - 6}" y="${height}" text-anchor="end" dy=".3em">${label}</text>`;
    }),
    ...xTicks.map(
      ({ at, text: label }) =>
        `<text x="${x(at).toFixed(1)}" y="${HEIGHT - BOTTOM + 18}" text-anchor="middle">${label}</text>`,
    ),
  ];
  const paths = lines.map(({ points }, i) => {
    const path = points.map((point) => `${x(point.x).toFixed(1)},${y.at(point.y).toFixed(1)}`).join(" ");
    return `<polyline fill="none" stroke="${lineColours[i % lineColours.length]!}" stroke-width="1.5" points="${path}"/>`;
  });
  const names = lines.map(
    ({ name }, i) =>
      `<text x="${LEFT + 8 + i * 110}" y="${TOP - 8}" fill="${lineColours[i % lineColours.length]!}">${name}</text>`,
  );
  const labels = `<text x="8" y="${TOP - 8}">${options.yLabel}</text><text x="${WIDTH - RIGHT}" y="${HEIGHT - 4}" text-anchor="end">${options.xLabel ?? ""}</text>`;
  return `<svg viewBox="0 0 ${WIDTH} ${HEIGHT}" role="img" aria-label="${options.title}" font-size="12" fill="currentColor">${grid.join("")}${paths.join("")}${names.join("")}${labels}</svg>`;
}

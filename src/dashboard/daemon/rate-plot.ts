/**
 * The rates of the jobs over the last minutes, by uPlot where the daemon has it. Colours are the page's; what is plotted is also said in words.
 */
import uPlot from "uplot";
import { byId, bytesText, say } from "../dom.ts";

/** Samples that are kept: five minutes of seconds. */
const KEPT = 300;
const HEIGHT = 180;
const IS_THERE = typeof uPlot === "function";
const LINES = ["--flight", "--dirty", "--local", "--failed"];

/** What a job has done at some time. */
interface Done {
  readonly id: string;
  readonly offset: number;
}

/** Rates, bytes per second. */
export class RatePlot {
  readonly #holder = byId("rates");
  readonly #words = byId("rates-words");
  readonly #times: number[] = [];
  readonly #series = new Map<string, (number | null)[]>();
  #last: { at: number; offsets: Map<string, number> } | undefined;
  #plot: uPlot | undefined;
  #shown = "";

  constructor() {
    const layOut = (): void => this.#plot?.setSize({ width: this.#width(), height: HEIGHT });
    new ResizeObserver(layOut).observe(this.#holder);
    matchMedia("(prefers-color-scheme: light)").addEventListener("change", () => this.#make());
  }

  /** Takes a sample; the rates since the last one. */
  add(jobs: readonly Done[]): ReadonlyMap<string, number> {
    const at = performance.now() / 1000;
    const rates = new Map<string, number>();
    const last = this.#last;
    this.#last = { at, offsets: new Map(jobs.map(({ id, offset }) => [id, offset])) };
    if (!last || at <= last.at) return rates;
    for (const { id, offset } of jobs) {
      const before = last.offsets.get(id);
      if (before !== undefined) rates.set(id, Math.max(0, (offset - before) / (at - last.at)));
    }
    this.#keep(rates);
    return rates;
  }

  #keep(rates: ReadonlyMap<string, number>): void {
    this.#times.push((performance.timeOrigin + performance.now()) / 1000);
    for (const id of rates.keys())
      if (!this.#series.has(id))
        this.#series.set(
          id,
          Array.from({ length: this.#times.length - 1 }, () => null),
        );
    for (const [id, values] of this.#series) values.push(rates.get(id) ?? null);
    if (this.#times.length > KEPT) {
      this.#times.shift();
      for (const [id, values] of this.#series) {
        values.shift();
        if (values.every((value) => value === null)) this.#series.delete(id);
      }
    }
    const names = [...this.#series.keys()].join("\n");
    if (names !== this.#shown || !this.#plot) this.#make();
    else this.#plot.setData(this.#data());
    const now = [...rates].map(([id, rate]) => `${id} ${bytesText(rate)}/s`).join(", ");
    say(this.#words, now === "" ? "No job is running." : `Now: ${now}.`);
  }

  #data(): uPlot.AlignedData {
    return [this.#times, ...this.#series.values()] as uPlot.AlignedData;
  }

  #width(): number {
    return Math.max(200, this.#holder.clientWidth);
  }

  #make(): void {
    this.#plot?.destroy();
    this.#plot = undefined;
    const ids = [...this.#series.keys()];
    this.#shown = ids.join("\n");
    this.#holder.hidden = ids.length === 0 || !IS_THERE;
    if (this.#holder.hidden) return;
    const style = getComputedStyle(document.documentElement);
    const colour = (name: string): string => style.getPropertyValue(name).trim();
    const axis = { stroke: colour("--quiet"), grid: { stroke: colour("--line"), width: 1 } };
    const values = (_: uPlot, ticks: number[]): string[] => ticks.map((tick) => `${bytesText(tick)}/s`);
    this.#plot = new uPlot(
      {
        width: this.#width(),
        height: HEIGHT,
        cursor: { show: false },
        legend: { live: false },
        scales: { y: { range: (_, __, most) => [0, Math.max(most || 0, 1024)] } },
        axes: [axis, { ...axis, size: 92, values }],
        series: [
          {},
          ...ids.map((label, at) => ({ label, stroke: colour(LINES[at % LINES.length]!), width: 2 })),
        ],
      },
      this.#data(),
      this.#holder,
    );
  }
}

/**
 * Latency histograms of devices, for those who ask for them (block-latency-histogram-set). A file of its own, so that bundles without
 * that command have none. Source: behaviour of QEMU 7.2's block accounting.
 */

/** How often requests took how long: bins between ascending boundaries, ns. */
export class LatencyHistogram {
  readonly boundaries: readonly number[];
  readonly bins: number[];

  constructor(boundaries: readonly number[]) {
    this.boundaries = boundaries;
    this.bins = Array.from({ length: boundaries.length + 1 }, () => 0);
  }

  add(ns: number): void {
    const at = this.boundaries.findIndex((boundary) => ns < boundary);
    const bin = at < 0 ? this.boundaries.length : at;
    this.bins[bin]! += 1;
  }
}

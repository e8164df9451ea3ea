/**
 * What the map of the disk shows: one state for each cluster, out of what is known of it.
 *
 * Invariants: everything is in typed arrays, so 100 000 clusters cost a few bytes each; `changed` holds each cluster whose
 * shown state differs from what was painted, once. Knows no DOM.
 */

/** The states, as they are shown; the later ones hide the earlier ones. */
export const states = ["absent", "zero", "local", "dirty", "flight", "failed"] as const;

const [ABSENT, DIRTY, FLIGHT, FAILED] = [0, 3, 4, 5];

/** The layers of knowledge. */
export class MapModel {
  readonly clusters: number;
  readonly clusterBytes: number;
  /** Clusters in each state, in the order of `states`. */
  readonly counts = new Uint32Array(states.length);
  /** The state of each cluster. */
  readonly shown: Uint8Array;
  readonly #stored: Uint8Array;
  readonly #written: Uint8Array;
  readonly #failed: Uint8Array;
  readonly #underWay: Uint16Array;
  readonly #queue: Uint32Array;
  readonly #isQueued: Uint8Array;
  #queued = 0;
  #job: [first: number, last: number] = [0, -1];

  constructor(bytes: number, clusterBytes: number) {
    this.clusterBytes = clusterBytes;
    this.clusters = Math.ceil(bytes / clusterBytes);
    this.shown = new Uint8Array(this.clusters);
    this.#stored = new Uint8Array(this.clusters);
    this.#written = new Uint8Array(this.clusters);
    this.#failed = new Uint8Array(this.clusters);
    this.#underWay = new Uint16Array(this.clusters);
    this.#queue = new Uint32Array(this.clusters);
    this.#isQueued = new Uint8Array(this.clusters);
    this.counts[ABSENT] = this.clusters;
  }

  /** Takes over what the image says of a range: whole clusters of it. */
  store(offset: number, bytes: number, what: "absent" | "zero" | "local" | "dirty"): void {
    const value = states.indexOf(what);
    const [first, last] = this.#range(offset, bytes);
    for (let cluster = first; cluster <= last; cluster++) {
      if (this.#stored[cluster] === value) continue;
      this.#stored[cluster] = value;
      this.#update(cluster);
    }
  }

  /** A request begins; the function ends it. */
  begin(offset: number, bytes: number): (how: "read" | "written" | "failed") => void {
    const [first, last] = this.#range(offset, bytes);
    for (let cluster = first; cluster <= last; cluster++) {
      this.#underWay[cluster]! += 1;
      this.#update(cluster);
    }
    return (how) => {
      for (let cluster = first; cluster <= last; cluster++) {
        this.#underWay[cluster]! -= 1;
        if (how === "written") this.#written[cluster] = 1;
        this.#failed[cluster] = how === "failed" ? 1 : 0;
        this.#update(cluster);
      }
    };
  }

  /** Where a job works: what is absent there is under way, or failed while it is stopped by an error. */
  job(offset: number, bytes: number, how: "runs" | "failed" | "rests"): void {
    const [oldFirst, oldLast] = this.#job;
    const [first, last] = how === "rests" ? [0, -1] : this.#range(offset, bytes);
    this.#job = [first, last];
    for (let cluster = oldFirst; cluster <= oldLast; cluster++) {
      this.#failed[cluster] = 0;
      this.#update(cluster);
    }
    for (let cluster = first; cluster <= last; cluster++) {
      this.#failed[cluster] = how === "failed" && this.#stored[cluster] === ABSENT ? 1 : 0;
      this.#update(cluster);
    }
  }

  /** Gives each changed cluster to `paint` and forgets it. Returns how many there were. */
  takeChanges(paint: (cluster: number, state: number) => void): number {
    const count = this.#queued;
    for (let at = 0; at < count; at++) {
      const cluster = this.#queue[at]!;
      this.#isQueued[cluster] = 0;
      paint(cluster, this.shown[cluster]!);
    }
    this.#queued = 0;
    return count;
  }

  /** All clusters are to be painted again. */
  changeAll(): void {
    this.#queued = 0;
    for (let cluster = 0; cluster < this.clusters; cluster++) {
      this.#queue[this.#queued++] = cluster;
      this.#isQueued[cluster] = 1;
    }
  }

  /** Clusters that are not here yet, whatever is going on in them. */
  get missing(): number {
    let count = 0;
    for (const stored of this.#stored) if (stored === ABSENT) count += 1;
    return count;
  }

  /** In words, for those who do not see the map. */
  get summary(): string {
    const parts = states.map((state, at) => `${this.counts[at]} ${state === "flight" ? "in flight" : state}`);
    return `Map of the disk, ${this.clusters} clusters: ${parts.join(", ")}`;
  }

  #range(offset: number, bytes: number): [first: number, last: number] {
    const first = Math.floor(offset / this.clusterBytes);
    const last = Math.min(this.clusters, Math.ceil((offset + bytes) / this.clusterBytes)) - 1;
    return [first, last];
  }

  #update(cluster: number): void {
    const [first, last] = this.#job;
    const stored = this.#stored[cluster]!;
    const isJobs = stored === ABSENT && cluster >= first && cluster <= last;
    let state = this.#written[cluster] ? DIRTY : stored;
    if (this.#underWay[cluster]! > 0 || isJobs) state = FLIGHT;
    if (this.#failed[cluster]) state = FAILED;
    const before = this.shown[cluster]!;
    if (state === before) return;
    this.shown[cluster] = state;
    this.counts[before]! -= 1;
    this.counts[state]! += 1;
    if (this.#isQueued[cluster]) return;
    this.#isQueued[cluster] = 1;
    this.#queue[this.#queued++] = cluster;
  }
}

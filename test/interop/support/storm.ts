// A fleet under fire: many images, four workers that are killed in the middle of their transfers, one that is stopped and continued, a
// queue that forgets and is restarted; and what is to be true of every target in the end.
import type { ChildProcess } from "node:child_process";
import { randomFillSync } from "node:crypto";
import { closeSync, ftruncateSync, mkdirSync, openSync, readdirSync, readFileSync, statSync } from "node:fs";
import { writeSync } from "node:fs";
import { setTimeout } from "node:timers/promises";
import { randomness } from "../../support/random.ts";
import { tool } from "../../support/tools.ts";
import { FleetFolder, killed, type TestJob } from "./fleet.ts";

const MiB = 2 ** 20;
const PIECE = 4 * MiB;

/** How large a storm is. */
export interface StormSize {
  readonly images: number;
  /** How many of them are large, and of how many MiB. */
  readonly large: number;
  readonly largeMiB: readonly [number, number];
  /** Kills in mid-transfer. */
  readonly kills: number;
  /** How long a worker is stopped, ms. */
  readonly stopMs: number;
  /** At which each large disk is copied, bytes a second, so that there is a middle. */
  readonly speed: number;
}

/** The size for so many images. */
export function stormSize(images: number): StormSize {
  const isWhole = images >= 1000;
  return {
    images,
    large: isWhole ? Math.floor(images / 20) : 6,
    largeMiB: isWhole ? [64, 512] : [24, 40],
    kills: isWhole ? 50 : 4,
    stopMs: isWhole ? 60_000 : 2000,
    speed: (isWhole ? 8 : 12) * MiB,
  };
}

interface Sight {
  readonly ino: number;
  readonly size: number;
  readonly changedMs: number;
}

function sightOf(path: string): Sight | undefined {
  const info = statSync(path, { throwIfNoEntry: false });
  return info && { ino: info.ino, size: info.size, changedMs: info.mtimeMs };
}

/** A large disk whose copy is under way: who is at it, and how far. */
interface Under {
  readonly id: string;
  readonly pid: number;
  readonly position: number;
}

/** Processes of the fleet, in their places: who is killed is followed by another one. */
export type Crew = (ChildProcess | undefined)[];

/** The images, their jobs, and what is seen of the targets. */
export class Storm {
  readonly size: StormSize;
  readonly draw: (limit: number) => number;
  readonly folder = new FleetFolder();
  readonly targets = this.folder.in("targets");
  /** Workers that were killed in the middle of a copy. */
  hits = 0;
  readonly jobs: TestJob[] = [];
  /** Bytes of data in all images. */
  data = 0;
  readonly #large: { id: string; bytes: number }[] = [];
  readonly #seen = new Map<string, Sight>();

  constructor(size: StormSize, seed: number) {
    this.size = size;
    this.draw = randomness(seed);
    mkdirSync(this.targets);
    const [least, most] = size.largeMiB;
    for (let at = 0; at < size.images; at++) {
      // The large ones are spread over the list, most of them nearer to the least.
      const isLarge = at % Math.floor(size.images / size.large) === 0 && this.#large.length < size.large;
      const share = this.draw(1000) / 1000;
      const bytes = isLarge
        ? Math.round(least * (most / least) ** (share * share)) * MiB
        : (1 + this.draw(16)) * (MiB / 4);
      this.#addJob(at, bytes, isLarge);
    }
  }

  #addJob(at: number, bytes: number, isLarge: boolean): void {
    const id = `${isLarge ? "large" : "small"}-${at}`;
    const source = this.folder.in(`${id}.raw`);
    const fd = openSync(source, "w");
    const piece = new Uint8Array(PIECE);
    for (let from = 0; from < bytes; from += PIECE)
      writeSync(fd, randomFillSync(piece), 0, Math.min(PIECE, bytes - from), from);
    // A hole behind it, and an end that is none of a cluster.
    ftruncateSync(fd, bytes + MiB + 512);
    closeSync(fd);
    this.data += bytes;
    if (isLarge) this.#large.push({ id, bytes });
    const options = {
      ...{ sourceFormat: "raw", targetFormat: at % 3 === 0 ? "raw" : "qcow2" },
      ...(isLarge ? { speedBytesPerSecond: this.size.speed } : {}),
    };
    const kind = ["convert", "mirror", "backup"][at % 3 === 2 ? 2 : at % 2]!;
    this.jobs.push({ id, kind, source, target: this.#target(id), options });
  }

  #target(id: string): string {
    return `${this.targets}/${id}`;
  }

  /** Looks which targets are to be seen now. */
  look(): void {
    for (const name of readdirSync(this.targets)) {
      if (name.startsWith(".") || this.#seen.has(name)) continue;
      const sight = sightOf(this.#target(name));
      if (sight) this.#seen.set(name, sight);
    }
  }

  /** How many are to be seen. */
  get visible(): number {
    return this.#seen.size;
  }

  /** The large disks that are in the middle of their copy. */
  under(): Under[] {
    return this.#large.flatMap(({ id, bytes }) => {
      if (this.#seen.has(id)) return [];
      const under = this.#underOf(id);
      return under && under.position > 0 && under.position < bytes ? [under] : [];
    });
  }

  #underOf(id: string): Under | undefined {
    const fence = `${this.targets}/.${id}.fleet`;
    try {
      const names = readdirSync(fence).toSorted();
      const last = names
        .filter((name) => /^g\d+$/.test(name))
        .at(-1)
        ?.slice(1);
      if (last === undefined || names.includes(`e${last}`)) return undefined;
      const read = (name: string): { pid: number; position: number } =>
        JSON.parse(readFileSync(`${fence}/${name}`, "utf8")) as { pid: number; position: number };
      return { id, pid: read(`g${last}`).pid, position: read(`c${last}`).position };
    } catch {
      // It comes or goes at this moment.
      return undefined;
    }
  }

  /** Who of the crew is in the middle of a copy: one of them, drawn. */
  #victim(crew: Crew): ChildProcess | undefined {
    const pids = new Set(this.under().map(({ pid }) => pid));
    const busy = crew.filter((child) => child?.pid !== undefined && pids.has(child.pid));
    return busy[this.draw(busy.length)];
  }

  /** Kills one in the middle of a copy, if there is one; answers whether it was there still when it was gone. */
  async strike(crew: Crew): Promise<boolean> {
    const victim = this.#victim(crew);
    if (!victim) return false;
    await killed(victim);
    this.look();
    crew[crew.indexOf(victim)] = undefined;
    if (!this.under().some(({ pid }) => pid === victim.pid)) return false;
    this.hits += 1;
    return true;
  }

  /** Stops one in the middle of a copy, who is out of the crew until he goes on; resolves then, with whether there was one. */
  async pause(crew: Crew): Promise<boolean> {
    const victim = this.#victim(crew);
    if (!victim) return false;
    const place = crew.indexOf(victim);
    // Nobody takes his place: the others have to do.
    crew.splice(place, 1);
    victim.kill("SIGSTOP");
    await setTimeout(this.size.stopMs);
    victim.kill("SIGCONT");
    crew.push(victim);
    return true;
  }

  /** Bytes that all attempts have moved, as it is told beside the targets. */
  get moved(): number {
    return this.jobs.reduce((sum, { id }) => {
      const done = readFileSync(`${this.targets}/.${id}.fleet/done.json`, "utf8");
      return sum + (JSON.parse(done) as { bytes: number }).bytes;
    }, 0);
  }

  /** What is wrong with the targets: one that differs, was seen before it was whole, was made twice, or has left something. */
  async faults(): Promise<string[]> {
    const faults: string[] = [];
    const compare = async ({ id, source, options }: TestJob): Promise<void> => {
      const path = this.#target(id);
      const words = ["compare", "-f", "raw", "-F", String(options!["targetFormat"]), source, path];
      const { code, output } = await tool("qemu-img", ...words);
      if (code !== 0) faults.push(`${id}: ${output}`);
      if (JSON.stringify(sightOf(path)) !== JSON.stringify(this.#seen.get(id)))
        faults.push(`${id} was changed after it was to be seen`);
    };
    for (let at = 0; at < this.jobs.length; at += 2)
      await Promise.all(this.jobs.slice(at, at + 2).map(compare));
    const left = readdirSync(this.targets).filter((name) => name.includes(".part-"));
    return [...faults, ...left.map((name) => `${name} is left`)];
  }
}

/**
 * The fence beside a target: who may write it, how far it is, and whether it is done. A folder `.NAME.fleet` beside the target NAME
 * holds a file per generation, which is made exclusively: the store's own compare-and-set. The image grows in `.NAME.part-N` of the
 * generation N and takes the target's name last, whole.
 *
 * Invariants: a generation that is not the highest writes no further checkpoint and publishes nothing (its part is gone when a
 * higher one has begun); a part is taken over only from one that is known to have ended, since what was under way of another
 * would land in it; a checkpoint tells nothing that is not durable in the part.
 */
import {
  closeSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readFileSync,
  readdirSync,
  renameSync,
  rmSync,
} from "node:fs";
import { statSync, utimesSync, writeFileSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { FleetError } from "../../fleet/jobs.ts";
import { livenessOf, type Owner, thisOwner, touchedAt } from "../../platform/node/owner.ts";

/** How far a copy is. */
export interface Checkpoint {
  /** What the job says, and of what source: size and time of change. */
  readonly spec: string;
  readonly source: string;
  /** Bytes of the disk before which all is in the part, durable. */
  readonly position: number;
  /** Bytes that were copied by all attempts, what was lost included. */
  readonly bytes: number;
  /** Bytes that may have been copied beyond `position`. */
  readonly under: number;
  /** The whole disk is in the part, whose inode this is: only its name is missing. */
  readonly whole?: number;
}

/** A target that is done. */
export interface Done {
  readonly generation: number;
  readonly spec: string;
  readonly bytes: number;
  readonly length: number;
  readonly at: string;
}

interface Held {
  readonly generation: number;
  readonly owner: Owner | undefined;
}

/** Another worker has a higher generation. */
export class FencedError extends Error {
  override readonly name = "FencedError";
  constructor() {
    super("another worker has taken the job over");
  }
}

/** Another worker is at it, and getting on. */
export class ElsewhereError extends Error {
  override readonly name = "ElsewhereError";
  constructor() {
    super("another worker is at it");
  }
}

/** What this attempt has. */
export interface Claim {
  readonly generation: number;
  /** The file to write into; there already if `resume` is. */
  readonly part: string;
  /** From where another attempt got. */
  readonly resume: Checkpoint | undefined;
  /** Bytes that earlier attempts copied. */
  readonly before: number;
  /** It was done after it was looked for: nothing was taken. */
  readonly done: Done | undefined;
}

function readJson<T>(path: string): T | undefined {
  try {
    return JSON.parse(readFileSync(path, "utf8")) as T;
  } catch {
    return undefined;
  }
}

/** The fence of one target, which is a file. Calls are synchronous: each is a few small ones of the system. */
export class TargetPlace {
  readonly target: string;
  readonly #folder: string;
  readonly #beside: string;

  constructor(target: string) {
    this.target = target;
    const [parent, name] = [dirname(target), basename(target)];
    this.#folder = join(parent, `.${name}.fleet`);
    this.#beside = join(parent, `.${name}.part-`);
  }

  /** What is done, if the target is there still. */
  done(spec: string): Done | undefined {
    const done = readJson<Done>(join(this.#folder, "done.json"));
    if (done?.spec !== spec) return undefined;
    return statSync(this.target, { throwIfNoEntry: false }) ? done : undefined;
  }

  /**
   * Takes the next generation, unless it is done meanwhile. Whoever had the last one and goes on is waited for, `watchMs` if he is not on this machine.
   * Throws ElsewhereError where he gets on, FencedError where another one was faster.
   */
  async claim(spec: string, source: string, watchMs: number): Promise<Claim> {
    this.#makeFolder();
    const last = this.#held().at(-1);
    if (last) await this.#leaveAlone(last, watchMs);
    const generation = Math.max(last?.generation ?? 0, this.#doneGeneration()) + 1;
    try {
      writeFileSync(this.#file("g", generation), JSON.stringify(thisOwner()), { flag: "wx" });
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "EEXIST") throw new FencedError();
      throw error;
    }
    // Who was at it may have ended it since it was looked for: nobody makes what is to be seen a second time.
    const done = this.done(spec);
    if (done) rmSync(this.#file("g", generation), { force: true });
    if (done) return { generation, part: "", resume: undefined, before: 0, done };
    const claim = this.#takeOver({ generation, spec, source });
    this.check(generation);
    return claim;
  }

  #makeFolder(): void {
    // What a copy in shards has said of this target counts for no other.
    rmSync(join(this.#folder, "f"), { recursive: true, force: true });
    try {
      mkdirSync(this.#folder);
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code === "ENOENT")
        throw new FleetError(`there is no folder '${dirname(this.target)}' for the target`);
      if (code !== "EEXIST") throw error;
    }
  }

  /** Throws ElsewhereError where the last owner gets on. */
  async #leaveAlone(last: Held, watchMs: number): Promise<void> {
    if (this.#hasEnded(last)) return;
    const liveness = last.owner ? livenessOf(last.owner) : "unknown";
    if (liveness === "alive") throw new ElsewhereError();
    if (liveness === "stopped") return;
    const file = this.#file("g", last.generation);
    const before = touchedAt(file);
    await new Promise((resolve) => setTimeout(resolve, watchMs));
    if (touchedAt(file) !== before) throw new ElsewhereError();
  }

  /** Whether an owner can write no more: then his part may be gone on with. */
  #hasEnded({ generation, owner }: Held): boolean {
    if (statSync(this.#file("e", generation), { throwIfNoEntry: false })) return true;
    return owner !== undefined && livenessOf(owner) === "dead";
  }

  /** Takes over what earlier generations left, or removes it. */
  #takeOver({ generation, spec, source }: { generation: number; spec: string; source: string }): Claim {
    const part = `${this.#beside}${generation}`;
    const earlier = this.#held()
      .toReversed()
      .filter((held) => held.generation < generation)
      .map((held) => ({ held, checkpoint: readJson<Checkpoint>(this.#file("c", held.generation)) }));
    const isSame = (checkpoint: Checkpoint | undefined): checkpoint is Checkpoint =>
      checkpoint?.spec === spec && checkpoint.source === source;
    const before = Math.max(
      0,
      ...earlier.map(({ checkpoint: one }) => (isSame(one) ? one.bytes + one.under : 0)),
    );
    let resume: Checkpoint | undefined;
    for (const { held, checkpoint } of earlier) {
      const oldPart = `${this.#beside}${held.generation}`;
      const isOurs = isSame(checkpoint) && !resume;
      if (isOurs && this.#hasEnded(held) && this.#inherit(checkpoint, { oldPart, part, generation, before }))
        resume = checkpoint;
      else if (isOurs && this.#isPublished(checkpoint)) resume = checkpoint;
      else rmSync(oldPart, { force: true });
    }
    return { generation, part, resume, before, done: undefined };
  }

  /**
   * Takes a part over, whose checkpoint is there first: who ends before he has kept one of his own leaves as much as he found. False:
   * there is no such part.
   */
  #inherit(
    checkpoint: Checkpoint,
    {
      oldPart,
      part,
      generation,
      before,
    }: Pick<Claim, "part" | "generation" | "before"> & { oldPart: string },
  ): boolean {
    if (!statSync(oldPart, { throwIfNoEntry: false })) return false;
    this.#write(this.#file("c", generation), { ...checkpoint, bytes: before, under: 0 });
    if (this.#rename(oldPart, part)) return true;
    rmSync(this.#file("c", generation));
    return false;
  }

  /** It was named, and whoever did it ended before he could say so. */
  #isPublished({ whole }: Checkpoint): boolean {
    return whole !== undefined && statSync(this.target, { throwIfNoEntry: false })?.ino === whole;
  }

  #rename(from: string, to: string): boolean {
    try {
      renameSync(from, to);
      return true;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "ENOENT") return false;
      throw error;
    }
  }

  /** Throws FencedError unless `generation` is the highest. */
  check(generation: number): void {
    const highest = Math.max(this.#doneGeneration(), this.#held().at(-1)?.generation ?? 0);
    if (highest > generation) throw new FencedError();
  }

  /** Says that this one is alive, to those on other machines. */
  touch(generation: number): void {
    try {
      const now = new Date();
      utimesSync(this.#file("g", generation), now, now);
    } catch {
      // It is gone: the next check tells.
    }
  }

  /** Keeps how far it is. Throws FencedError. */
  save(generation: number, checkpoint: Checkpoint): void {
    this.check(generation);
    this.#write(this.#file("c", generation), checkpoint);
  }

  /** Says that this attempt has ended, whose part another may go on with. */
  release(generation: number): void {
    try {
      writeFileSync(this.#file("e", generation), "");
    } catch {
      // Nobody is told; the next one begins anew.
    }
  }

  /** Gives the part the target's name. Throws FencedError. */
  publish(generation: number, checkpoint: Checkpoint, length: number): Done {
    const part = `${this.#beside}${generation}`;
    const info = statSync(part, { throwIfNoEntry: false });
    if (info) {
      this.save(generation, { ...checkpoint, whole: info.ino });
      if (!this.#rename(part, this.target)) throw new FencedError();
      this.#sync(dirname(this.target));
    } else if (!this.#isPublished(checkpoint)) throw new FencedError();
    this.check(generation);
    const { spec, bytes } = checkpoint;
    const done: Done = { generation, spec, bytes, length, at: new Date().toISOString() };
    this.#write(join(this.#folder, "done.json"), done);
    for (const name of readdirSync(this.#folder)) {
      const number = Number(/^[gce](\d+)(?:\.|$)/.exec(name)?.[1] ?? Infinity);
      if (number <= generation) rmSync(join(this.#folder, name), { force: true });
    }
    return done;
  }

  /** Removes what this attempt wrote: the job can't be done, and nobody shall go on with it. */
  discard(generation: number): void {
    rmSync(`${this.#beside}${generation}`, { force: true });
    this.release(generation);
  }

  #file(letter: "g" | "c" | "e", generation: number): string {
    return join(this.#folder, `${letter}${String(generation).padStart(6, "0")}`);
  }

  #doneGeneration(): number {
    return readJson<Done>(join(this.#folder, "done.json"))?.generation ?? 0;
  }

  /** The generations that were taken, ascending. */
  #held(): Held[] {
    const numbers = readdirSync(this.#folder).flatMap((name) => /^g(\d+)$/.exec(name)?.[1] ?? []);
    return numbers
      .map(Number)
      .toSorted((a, b) => a - b)
      .map((generation) => ({ generation, owner: readJson<Owner>(this.#file("g", generation)) }));
  }

  #write(path: string, value: unknown): void {
    const draft = `${path}.${process.pid}.draft`;
    writeFileSync(draft, JSON.stringify(value));
    renameSync(draft, path);
  }

  #sync(folder: string): void {
    const fd = openSync(folder, "r");
    try {
      fsyncSync(fd);
    } finally {
      closeSync(fd);
    }
  }
}

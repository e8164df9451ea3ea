/**
 * The fence of a target whose parts several workers write: who may write which, how far each is, and whether it is all done. It is kept in
 * objects, of a directory beside a file or of an object store, of which one kind is made exclusively: the store's own compare-and-set.
 *
 *   p<plan>                      a plan: what is copied, in how many parts, into what; or that there is none any more
 *   g<plan>-<part>-<generation>  an owner of a part; the part after the last one is the publication
 *   c…, h…, e…                   of a generation: its checkpoint, its sign of life, its end
 *   d<plan>-<part>               a part that is whole, durable
 *   b<plan>-<random>             a draft that was about to be made for a plan of that number
 *   done                         the target is there
 *
 * Invariants: generations and plans are taken one after the other, each by one owner; who finds a next one stops; a checkpoint tells
 * nothing that is not durable.
 */
import { randomBytes } from "node:crypto";
import { errnoOf } from "../../base/errors.ts";
import type { ObjectInfo, ObjectPlace } from "../../base/objects.ts";
import { livenessOf, type Owner, thisOwner } from "../../platform/node/owner.ts";
import { inBatches } from "./batches.ts";
import { FencedError } from "./place.ts";

const ROOT = "f/";
/** Words that are read at once. */
const READ_AT_ONCE = 16;

/** What is copied and into what. */
export interface Plan {
  /** What the job says, and of what source. */
  readonly spec: string;
  readonly source: string;
  /** Of the disk, and of each part of it but the last, bytes. */
  readonly length: number;
  readonly partBytes: number;
  /** What is written into, as its medium knows it. */
  readonly token: string;
}

/** A plan that is in force. */
export interface ActivePlan extends Plan {
  readonly number: number;
}

/** How far a part is. */
export interface PartCheckpoint {
  /** Bytes of the disk before which all of the part is durable. */
  readonly position: number;
  /** Bytes that were copied by all attempts, what was lost included; and those that may have been copied beyond. */
  readonly bytes: number;
  readonly under: number;
}

/** Bytes that all have moved, and of the disk those that are durable. */
export interface PartsProgress {
  readonly bytes: number;
  readonly kept: number;
}

/** A target that is done. */
export interface PartsDone {
  readonly plan: number;
  readonly spec: string;
  readonly bytes: number;
  readonly length: number;
  readonly at: string;
}

/** A part that was taken. */
export interface Taken {
  readonly part: number;
  readonly generation: number;
  readonly checkpoint: PartCheckpoint | undefined;
}

/** How a part stands. */
export interface PartState {
  /** free: it may be taken. watched: nobody knows whether its owner lives. */
  readonly is: "done" | "free" | "watched" | "held";
  /** Its last generation; 0: nobody has had it. */
  readonly last: number;
}

interface Seen {
  readonly generations: number[];
  readonly ended: Set<number>;
  readonly beats: Map<number, string>;
  isDone: boolean;
}

/** What lies there at a moment. */
interface Listing {
  readonly plans: number[];
  parts(plan: number): ReadonlyMap<number, Seen>;
}

/** Of all else the name says everything. */
const isBeat = (name: string): boolean => name.startsWith(`${ROOT}h`);

const digits = (number: number): string => String(number).padStart(6, "0");

function readListing(infos: readonly ObjectInfo[]): Listing {
  const plans: number[] = [];
  const parts = new Map<number, Map<number, Seen>>();
  const seen = (plan: number, part: number): Seen => {
    const all = parts.get(plan) ?? new Map<number, Seen>();
    parts.set(plan, all);
    const one = all.get(part) ?? { generations: [], ended: new Set(), beats: new Map(), isDone: false };
    all.set(part, one);
    return one;
  };
  for (const { name, bytes, changedMs } of infos) {
    const [, kind, first, second, third] =
      /^f\/([pgched])(\d{6,})(?:-(\d{6,}))?(?:-(\d{6,}))?$/.exec(name) ?? [];
    const [plan, part, generation] = [Number(first), Number(second), Number(third)];
    if (kind === "p") plans.push(plan);
    else if (kind === "d") seen(plan, part).isDone = true;
    else if (kind === "g") seen(plan, part).generations.push(generation);
    else if (kind === "e") seen(plan, part).ended.add(generation);
    else if (kind === "h") seen(plan, part).beats.set(generation, `${bytes} ${changedMs}`);
  }
  return {
    plans: plans.toSorted((a, b) => a - b),
    parts: (plan) => parts.get(plan) ?? new Map(),
  };
}

/** What there is to know before a plan is made: the one in force, and the number that the next one has. */
export interface Outlook {
  readonly plan: ActivePlan | undefined;
  readonly next: number;
}

/** What is removed: words of plans up to a number, and of drafts that were begun for plans up to another, but not the draft that is `kept`. */
interface Removal {
  readonly upTo: number;
  readonly begun: number;
  readonly kept?: string | undefined;
}

/** The fence. Errors are those of its objects, and of `discard`. */
export class Fence {
  readonly #objects: ObjectPlace;
  readonly #watchMs: number;
  readonly #discard: (token: string) => Promise<void>;
  readonly #owners = new Map<string, Owner | undefined>();
  /** Signs of life of owners elsewhere, and since when each has been the last. */
  readonly #watched = new Map<string, { beat: string; sinceMs: number }>();
  /** Bytes that parts have come to that are done. */
  readonly #moved = new Map<string, number>();
  #beats = 0;

  /** `watchMs`: an owner of whom nothing else is known is given up when he is silent for so long. `discard` removes what was written into. */
  constructor(objects: ObjectPlace, watchMs: number, discard: (token: string) => Promise<void>) {
    this.#objects = objects;
    this.#watchMs = watchMs;
    this.#discard = discard;
  }

  async #list(): Promise<Listing> {
    return readListing(await this.#objects.list(ROOT, isBeat));
  }

  async #get<T>(name: string): Promise<T | undefined> {
    try {
      return JSON.parse(new TextDecoder().decode(await this.#objects.get(`${ROOT}${name}`))) as T;
    } catch (error) {
      if (error instanceof SyntaxError || errnoOf(error) === "ENOENT") return undefined;
      throw error;
    }
  }

  #put(name: string, value: unknown): Promise<void> {
    return this.#objects.put(`${ROOT}${name}`, new TextEncoder().encode(JSON.stringify(value)));
  }

  #make(name: string, value: unknown): Promise<boolean> {
    return this.#objects.putIfAbsent(`${ROOT}${name}`, new TextEncoder().encode(JSON.stringify(value)));
  }

  /** What is done. */
  done(): Promise<PartsDone | undefined> {
    return this.#get<PartsDone>("done");
  }

  /** The plan in force. */
  async plan(): Promise<ActivePlan | undefined> {
    return this.#planOf((await this.#list()).plans.at(-1));
  }

  async #planOf(number: number | undefined): Promise<ActivePlan | undefined> {
    if (number === undefined) return undefined;
    const plan = await this.#get<Partial<Plan>>(`p${digits(number)}`);
    return plan?.token === undefined ? undefined : { ...(plan as Plan), number };
  }

  /** The plan in force, and what comes after it. */
  async look(): Promise<Outlook> {
    const last = (await this.#list()).plans.at(-1);
    return { plan: await this.#planOf(last), next: await this.#after(last) };
  }

  async #after(last: number | undefined): Promise<number> {
    return Math.max(last ?? 0, (await this.done())?.plan ?? 0) + 1;
  }

  /** Says of a draft for the plan of that number that it is about to be made, so that it is found if it never gets there. */
  async announce(number: number, token: string): Promise<string> {
    const name = `b${digits(number)}-${randomBytes(8).toString("hex")}`;
    // Made as what needs a store's conditions is: one that has none is told of before anything lies there.
    await this.#make(name, { token });
    return name;
  }

  /** Removes a draft that did not get there, and what was said of it. */
  async withdraw(token: string, name: string | undefined): Promise<void> {
    await this.#discard(token);
    if (name !== undefined) await this.#objects.remove(`${ROOT}${name}`);
  }

  /**
   * Puts a plan in force as the one of that number, or (undefined) none; whoever is at the one before stops, and what that was written into goes.
   * Answers whether it is in force; if not, another one was faster.
   */
  async replace(number: number, plan: Plan | undefined): Promise<boolean> {
    if ((await this.#after((await this.#list()).plans.at(-1))) !== number) return false;
    if (!(await this.#make(`p${digits(number)}`, { ...plan, by: thisOwner() }))) return false;
    await this.#remove({ upTo: number - 1, begun: number, kept: plan?.token });
    return true;
  }

  /** How the parts stand, by their number. */
  async states(plan: ActivePlan, count: number): Promise<PartState[]> {
    const seen = (await this.#list()).parts(plan.number);
    return Promise.all(
      Array.from({ length: count }, (_none, part) => this.#stateOf(plan, part, seen.get(part))),
    );
  }

  async #stateOf(plan: ActivePlan, part: number, seen: Seen | undefined): Promise<PartState> {
    const last = seen ? Math.max(0, ...seen.generations) : 0;
    if (seen?.isDone) return { is: "done", last };
    if (!seen || last === 0 || seen.ended.has(last)) return { is: "free", last };
    const name = `${digits(plan.number)}-${digits(part)}-${digits(last)}`;
    const owner = await this.#ownerOf(name);
    const liveness = owner ? livenessOf(owner) : "unknown";
    if (liveness === "dead" || liveness === "stopped") return { is: "free", last };
    // Of a thread of a process that lives nothing is known but its signs.
    return { is: this.#watch(name, seen.beats.get(last) ?? ""), last };
  }

  async #ownerOf(name: string): Promise<Owner | undefined> {
    if (!this.#owners.has(name)) {
      const owner = await this.#get<Partial<Owner>>(`g${name}`);
      this.#owners.set(name, owner?.machine === undefined ? undefined : (owner as Owner));
    }
    return this.#owners.get(name);
  }

  #watch(name: string, beat: string): PartState["is"] {
    const before = this.#watched.get(name);
    const now = performance.now();
    if (before?.beat !== beat) this.#watched.set(name, { beat, sinceMs: now });
    if (!before) return "watched";
    if (before.beat !== beat) return "held";
    return now - before.sinceMs >= this.#watchMs ? "free" : "watched";
  }

  /** Takes a part that was free after that generation. Undefined: another one was faster, or the plan is not in force any more. */
  async take(plan: ActivePlan, part: number, last: number): Promise<Taken | undefined> {
    const generation = last + 1;
    const name = `${digits(plan.number)}-${digits(part)}`;
    if (!(await this.#make(`g${name}-${digits(generation)}`, thisOwner()))) return undefined;
    const taken = { part, generation, checkpoint: undefined };
    const listing = await this.#list();
    const seen = listing.parts(plan.number).get(part);
    // The former owner may have ended it after it was looked at.
    if (listing.plans.at(-1) !== plan.number) {
      await this.#objects.remove(`${ROOT}g${name}-${digits(generation)}`);
      return undefined;
    }
    if (seen?.isDone) {
      await this.release(plan, taken);
      return undefined;
    }
    let checkpoint: PartCheckpoint | undefined;
    for (const old of seen?.generations ?? []) {
      const one = old < generation ? await this.#get<PartCheckpoint>(`c${name}-${digits(old)}`) : undefined;
      if (one && one.position >= (checkpoint?.position ?? 0)) checkpoint = one;
    }
    return { ...taken, checkpoint };
  }

  #nameOf(plan: ActivePlan, { part, generation }: Taken): string {
    return `${digits(plan.number)}-${digits(part)}-${digits(generation)}`;
  }

  /** Throws FencedError where another one has taken the part, or the plan is in force no more. */
  async check(plan: ActivePlan, taken: Taken): Promise<void> {
    const next = this.#nameOf(plan, { ...taken, generation: taken.generation + 1 });
    const [other, mine] = await Promise.all([
      this.#get(`g${next}`),
      this.#get(`g${this.#nameOf(plan, taken)}`),
    ]);
    if (other !== undefined || mine === undefined) throw new FencedError();
  }

  /** Keeps how far a part is. Throws FencedError. */
  async save(plan: ActivePlan, taken: Taken, checkpoint: PartCheckpoint): Promise<void> {
    await this.check(plan, taken);
    await this.#put(`c${this.#nameOf(plan, taken)}`, checkpoint);
  }

  /** Says that its owner lives. */
  async beat(plan: ActivePlan, taken: Taken): Promise<void> {
    this.#beats += 1;
    // Longer or shorter each time, for stores whose clocks are coarse.
    await this.#put(`h${this.#nameOf(plan, taken)}`, "-".repeat(this.#beats % 64)).catch(() => undefined);
  }

  /** Says that the owner has ended; with bytes: the part is whole. */
  async release(plan: ActivePlan, taken: Taken, whole?: { readonly bytes: number }): Promise<void> {
    if (whole) {
      await this.check(plan, taken);
      await this.#put(`d${digits(plan.number)}-${digits(taken.part)}`, whole);
    }
    await this.#put(`e${this.#nameOf(plan, taken)}`, {}).catch(() => undefined);
    await this.#objects.remove(`${ROOT}h${this.#nameOf(plan, taken)}`).catch(() => undefined);
  }

  /** Whether all who had parts of a plan are known to write no more, save the owner of the publication. */
  async haveAllEnded(plan: ActivePlan, count: number): Promise<boolean> {
    const seen = (await this.#list()).parts(plan.number);
    for (const [part, { generations, ended }] of seen) {
      if (part >= count) continue;
      for (const generation of generations) {
        if (ended.has(generation)) continue;
        const owner = await this.#ownerOf(this.#nameOf(plan, { part, generation, checkpoint: undefined }));
        if (!owner || livenessOf(owner) !== "dead") return false;
      }
    }
    return true;
  }

  /** Bytes that all have moved for a plan, and bytes of the disk that are kept. */
  async progressOf(plan: ActivePlan, count: number): Promise<PartsProgress> {
    const seen = (await this.#list()).parts(plan.number);
    const parts = [...seen].filter(([part]) => part < count);
    const all = await inBatches(READ_AT_ONCE, parts, ([part, one]) => this.#progressOfPart(plan, part, one));
    const sum = (what: keyof PartsProgress): number => all.reduce((total, one) => total + one[what], 0);
    return { bytes: sum("bytes"), kept: sum("kept") };
  }

  async #progressOfPart(
    plan: ActivePlan,
    part: number,
    { generations, isDone }: Pick<Seen, "generations" | "isDone">,
  ): Promise<PartsProgress> {
    const name = `${digits(plan.number)}-${digits(part)}`;
    if (isDone) {
      const moved = this.#moved.get(name) ?? (await this.#get<{ bytes: number }>(`d${name}`))?.bytes ?? 0;
      this.#moved.set(name, moved);
      return { bytes: moved, kept: plan.partBytes };
    }
    const most = { bytes: 0, kept: 0 };
    for (const generation of generations) {
      const one = await this.#get<PartCheckpoint>(`c${name}-${digits(generation)}`);
      most.bytes = Math.max(most.bytes, one?.bytes ?? 0);
      most.kept = Math.max(most.kept, (one?.position ?? 0) - part * plan.partBytes);
    }
    return most;
  }

  /** Says that the target is there, and forgets how it came to be. Throws FencedError. */
  async finish(plan: ActivePlan, taken: Taken, bytes: number): Promise<void> {
    await this.check(plan, taken);
    const { number, spec, length } = plan;
    const done: PartsDone = { plan: number, spec, bytes, length, at: new Date().toISOString() };
    await this.#put("done", done);
    await this.#remove({ upTo: number, begun: number, kept: plan.token });
    await this.#objects.sweep();
  }

  /** Removes what is left of plans up to a number. */
  async sweep(upTo: number): Promise<void> {
    await this.#remove({ upTo, begun: upTo });
  }

  /** The plans first, so that nobody takes a part of which nothing is known any more; before each, what was written into for it. */
  async #remove({ upTo, begun, kept }: Removal): Promise<void> {
    const old = (await this.#objects.list(ROOT, isBeat)).flatMap(({ name }) => {
      const [, kind, number] = /^f\/([pgchedb])(\d+)/.exec(name) ?? [];
      return Number(number ?? Infinity) <= (kind === "b" ? begun : upTo) ? [name.slice(ROOT.length)] : [];
    });
    const isTelling = (name: string): boolean => /^[pb]/.test(name);
    for (const name of old.filter(isTelling)) {
      const token = (await this.#get<Partial<Plan>>(name))?.token;
      if (token !== undefined && token !== kept) await this.#discard(token);
      await this.#objects.remove(`${ROOT}${name}`);
    }
    for (const name of old) if (!isTelling(name)) await this.#objects.remove(`${ROOT}${name}`);
  }
}

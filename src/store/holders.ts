/**
 * Who is at work in a repository: everybody who makes or reads backups leaves an object here while they do, so that nothing that
 * they use is removed.
 *
 * Invariants: it is there before its owner looks at the first pack, and goes when the owner needs nothing more; a process of this machine
 * holds its place as long as it lives, whatever clocks say, and one of elsewhere until it was silent for a day, by the clock of whoever keeps
 * the objects; whose place was taken away publishes nothing.
 */
import { blockError, errnoOf } from "../base/errors.ts";
import type { ObjectInfo } from "../base/objects.ts";
import { Lease } from "../base/lease.ts";
import { newName, type StoreTools, type Worker } from "./tools.ts";

const PREFIX = "holders/";
/** How often a holder says that it lives, and after what silence it does not, ms. */
const RENEW_MS = 60_000;
const SILENCE_MS = 24 * 3600_000;
/** Of another boot of this host, or another container there. */
const SILENCE_HERE_MS = 3600_000;
/** Of objects that can only be read. */
const UNWRITABLE = new Set(["EROFS", "EACCES", "EPERM"]);

/** What a holder says of itself. */
interface Told extends Worker {
  readonly what: string;
}

/** A place among those who are at work; end() or `await using` gives it up. */
export class Holder extends Lease {
  /** Its name; packs that it makes begin with it. */
  readonly id: string;

  readonly #tools: StoreTools;

  private constructor(id: string, tools: StoreTools, end: () => Promise<void>) {
    super(end);
    this.id = id;
    this.#tools = tools;
  }

  /** Takes a place. `what`: what is done, for people. Who only reads (`reads`) may do without one where nothing can be put. */
  static async take(tools: StoreTools, what: string, { reads = false } = {}): Promise<Holder> {
    const id = newName(tools);
    const told: Told = { ...tools.self, what };
    const bytes = new TextEncoder().encode(`${JSON.stringify(told)}\n`);
    const name = `${PREFIX}${id}`;
    await tools.objects.put(name, bytes).catch((error: unknown) => {
      if (!reads || !UNWRITABLE.has(errnoOf(error))) throw error;
    });
    let cancel: () => void;
    let isOver = false;
    const renew = async (): Promise<void> => {
      // A place that was taken away is not taken again: what it kept may be gone.
      if (await isGone(tools, name)) return;
      // A day may pass before it matters that one of these failed.
      if (!isOver) await tools.objects.put(name, bytes).catch(() => undefined);
      if (!isOver) wait();
    };
    const wait = (): void => void (cancel = tools.clock.timer(RENEW_MS, () => void renew()));
    wait();
    return new Holder(id, tools, async () => {
      isOver = true;
      cancel();
      // The next prune does it: the process is gone by then.
      await tools.objects.remove(name).catch(() => undefined);
    });
  }

  /** Throws ESTALE where others have taken the owner for dead, and may have removed what it needs. */
  async check(): Promise<void> {
    if (await isGone(this.#tools, `${PREFIX}${this.id}`))
      throw blockError(
        "ESTALE",
        "repository",
        "others have taken this run for one that died, and may have removed what it needs: nothing is published; run it again",
      );
  }
}

async function isGone({ objects }: StoreTools, name: string): Promise<boolean> {
  return objects.get(name).then(
    () => false,
    (error: unknown) => errnoOf(error) === "ENOENT",
  );
}

/** The holders that live, but for one's own, and who each is, for people. Those of the dead are removed. */
export async function livingHolders(tools: StoreTools, own: string): Promise<Map<string, string>> {
  const living = new Map<string, string>();
  const all = await tools.objects.list(PREFIX);
  // One's own was touched a moment ago, by the clock that touched the others.
  const now = all.find(({ name }) => name === `${PREFIX}${own}`)?.changedMs;
  for (const info of all) {
    const id = info.name.slice(PREFIX.length);
    if (id === own) continue;
    const who = await whoLives(tools, info, now ?? tools.clock.wallMicroseconds() / 1000);
    if (who === undefined) await tools.objects.remove(info.name).catch(() => undefined);
    else living.set(id, who);
  }
  return living;
}

/** Undefined: it is dead. */
async function whoLives(
  { objects, self, isAlive }: StoreTools,
  { name, changedMs }: ObjectInfo,
  now: number,
): Promise<string | undefined> {
  const bytes = await objects.get(name).catch(() => undefined);
  // It has gone meanwhile.
  if (!bytes) return "somebody who is gone by now";
  const told = parse(bytes);
  const who = told ? `${told.what}, process ${told.pid} of ${told.host}` : `'${name}'`;
  const isHere = told?.host === self.host;
  const isKnown = (told?.machine ?? "") !== "" && (self.machine ?? "") !== "";
  if (told && isHere && (!isKnown || told.machine === self.machine)) {
    if (!isAlive(told)) return undefined;
    if (isKnown) return who;
  }
  return now - changedMs < (isHere && isKnown ? SILENCE_HERE_MS : SILENCE_MS) ? who : undefined;
}

function parse(bytes: Uint8Array): Told | undefined {
  try {
    return JSON.parse(new TextDecoder().decode(bytes)) as Told;
  } catch {
    return undefined;
  }
}

/**
 * Who is at work in a repository: everybody who makes or reads backups leaves an object here while they do, so that nothing that
 * they use is removed.
 *
 * Invariants: it is there before its owner looks at the first pack, and goes when the owner needs nothing more; one whose process
 * is gone, or that was not renewed for a day by another host, holds nothing.
 */
import { Lease } from "../base/lease.ts";
import { newName, type StoreTools } from "./tools.ts";

const PREFIX = "holders/";
/** How often a holder says that it lives, and after what silence it does not, ms. */
const RENEW_MS = 60_000;
const SILENCE_MS = 24 * 3600_000;

/** What a holder says of itself. */
interface Told {
  readonly host: string;
  readonly pid: number;
  readonly what: string;
}

/** A place among those who are at work; end() or `await using` gives it up. */
export class Holder extends Lease {
  /** Its name; packs that it makes begin with it. */
  readonly id: string;

  private constructor(id: string, end: () => Promise<void>) {
    super(end);
    this.id = id;
  }

  /** Takes a place. `what`: what is done, for people. */
  static async take(tools: StoreTools, what: string): Promise<Holder> {
    const id = newName(tools);
    const told: Told = { ...tools.self, what };
    const bytes = new TextEncoder().encode(`${JSON.stringify(told)}\n`);
    const name = `${PREFIX}${id}`;
    await tools.objects.put(name, bytes);
    let cancel: () => void;
    let isOver = false;
    const renew = (): void => {
      cancel = tools.clock.timer(RENEW_MS, () => {
        // A day may pass before it matters that one of these failed.
        void tools.objects.put(name, bytes).catch(() => undefined);
        if (!isOver) renew();
      });
    };
    renew();
    return new Holder(id, async () => {
      isOver = true;
      cancel();
      await tools.objects.remove(name);
    });
  }
}

/** The holders that live, but for one's own. Those of the dead are removed. */
export async function livingHolders(tools: StoreTools, own: string): Promise<Set<string>> {
  const living = new Set<string>();
  for (const info of await tools.objects.list(PREFIX)) {
    const id = info.name.slice(PREFIX.length);
    if (id === own) continue;
    if (await lives(tools, info.name, info.changedMs)) living.add(id);
    else await tools.objects.remove(info.name);
  }
  return living;
}

async function lives(tools: StoreTools, name: string, changedMs: number): Promise<boolean> {
  const bytes = await tools.objects.get(name).catch(() => undefined);
  // It has gone meanwhile.
  if (!bytes) return true;
  const told = parse(bytes);
  if (told?.host === tools.self.host && !tools.isAlive(told.pid)) return false;
  return tools.clock.wallMicroseconds() / 1000 - changedMs < SILENCE_MS;
}

function parse(bytes: Uint8Array): Told | undefined {
  try {
    return JSON.parse(new TextDecoder().decode(bytes)) as Told;
  } catch {
    return undefined;
  }
}

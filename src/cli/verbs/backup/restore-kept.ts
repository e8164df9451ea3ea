/**
 * `backup restore`: into a file that takes its place when it is whole, or that is served while it is filled. The exit status is 1 where it
 * fails.
 */
import { readAddress } from "../../../base/address.ts";
import { closing } from "../../../base/lease.ts";
import type { Node } from "../../../node.ts";
import type { Backup } from "../../../store/description.ts";
import { openImage } from "../../images.ts";
import { Refusal } from "../../refusal.ts";
import { Run } from "../../run.ts";
import { misuse } from "../../usage.ts";
import { type BackupPlace, openPlace } from "./place.ts";
import type { RepoFlags } from "./repo.ts";
import { asJson, toldBytes } from "./report.ts";
import { doing, type Restored, restoreInto } from "./restore.ts";

/** Options of restore. */
export interface RestoreFlags extends RepoFlags {
  /** Where the disk is served meanwhile. */
  live?: string;
  /** Of a live restore, bytes per second. */
  speed?: number;
  targetFormat: string;
  force?: boolean;
  /** Images that may have some of it. */
  seed?: string[];
}

/** `backup restore`. */
export function restoreKept(words: { id: string; out: string }, flags: RestoreFlags): Promise<number> {
  return new Run(flags, { io: "pool" }).carryOut(async (verb) => {
    if (flags.live !== undefined && flags.seed) throw misuse("--seed does not go with --live", 1);
    const place = await openPlace(verb, flags.repo);
    const backup = await place.find(words.id);
    verb.progress.start();
    const { targetFormat: format, force = false, live, seed = [] } = flags;
    const restored = { out: words.out, format, size: backup.size, force };
    let seedBytes: number | undefined;
    await doing(verb, `Could not restore '${words.out}'`, async () => {
      if (live !== undefined) return restoreLive(verb, { place, backup, live, flags }, restored);
      return restoreInto(verb, restored, async (target) => {
        const seeds: Node[] = [];
        for (const name of seed) seeds.push(await openImage(verb, name));
        const had = await closing(
          () => place.restore(backup, target, seeds),
          ...seeds.map((one) => () => one.close()),
        );
        if (seeds.length > 0) seedBytes = had;
      });
    });
    verb.progress.end(true);
    const ofSeeds = seedBytes === undefined ? "" : `, ${toldBytes(seedBytes)} of it out of seeds`;
    if (flags.json) verb.print(`${asJson({ ...backup, restored: words.out, seedBytes })}\n`);
    else verb.say(`${words.out}: ${backup.name} as of ${backup.time}${ofSeeds}`);
    return 0;
  });
}

/** Serves the disk from the first moment on, while it is restored. */
async function restoreLive(
  verb: Run,
  { place, backup, live, flags }: { place: BackupPlace; backup: Backup; live: string; flags: RestoreFlags },
  restored: Restored,
): Promise<void> {
  if (!readAddress(live)) throw new Refusal(`'${live}' is no address: unix:PATH or HOST:PORT`);
  const { fillServed } = await import("./live.ts");
  const { restoreLiveInto } = await import("./live-draft.ts");
  await using from = await place.open(backup);
  await restoreLiveInto(verb, { ...restored, id: backup.id }, ({ keep, ...image }) =>
    fillServed(verb, {
      ...image,
      from: from.node,
      address: live,
      speed: flags.speed,
      onServed: (url) => {
        keep();
        if (flags.json) verb.print(`${asJson({ serving: url })}\n`);
        else verb.say(`serving ${url}`);
      },
    }),
  );
}

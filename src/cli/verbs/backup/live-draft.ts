/**
 * A live restore until OUT has its name: `.OUT.ID.FORMAT.live` is the image, and `….live.map` says what of it counts, so that the
 * same command goes on after a kill.
 *
 * Invariants: an image of that name is whole, empty at least; whoever works on it has the map locked; without a map nothing of it counts; a map
 * goes before its image does. One that is OUT by now, too, was left by a process that was killed as it ended.
 */
import { open, readdir, rename, rm, link, stat } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { randomBytes } from "node:crypto";
import { checkIn } from "../../../api/check.ts";
import { createImageIn } from "../../../api/open.ts";
import { errnoOf } from "../../../base/errors.ts";
import { closing } from "../../../base/lease.ts";
import { Perm } from "../../../block/model/permissions.ts";
import { plainFormat } from "../../../drivers/format/defaults.ts";
import type { CreateImageSpec, Node, OpenSpec } from "../../../node.ts";
import { syncPath } from "../../../platform/node/sync.ts";
import { holdImage, openImage } from "../../images.ts";
import { Refusal } from "../../refusal.ts";
import type { Run } from "../../run.ts";
import { checkOut, nameIt, type Restored } from "./restore.ts";

/** What is restored, and of which backup. */
export interface LiveRestored extends Restored {
  readonly id: string;
}

/** What is filled; the map says what of it is. */
export interface LiveImage {
  readonly target: Node;
  readonly map: Node;
  /** Somebody may write to it from now on: it stays where the verb fails. */
  readonly keep: () => void;
  /** It holds the whole disk: it gets its name. */
  readonly publish: () => Promise<void>;
}

/** Makes the image, or opens what is there of it, and lets `fill` work on it. Throws Refusal, BlockError. */
export async function restoreLiveInto(
  verb: Run,
  wanted: LiveRestored,
  fill: (image: LiveImage) => Promise<void>,
): Promise<void> {
  const there = await checkOut(verb, wanted);
  const draft = draftOf(wanted);
  await removeOthers(verb, wanted, draft);
  const found = await stat(draft).catch(() => undefined);
  const isOut = found !== undefined && found.ino === there?.ino && found.dev === there.dev;
  if (isOut) await remove(draft);
  const isNew = !found || isOut;
  let stage: "begun" | "served" | "published" = "begun";
  verb.onFailure(async () => {
    if (stage === "served")
      verb.warn(`what is restored and written stays in '${draft}': the same command goes on`);
    else if (stage === "begun" && isNew) await remove(draft);
  });
  if (isNew) await make(verb, wanted, draft);
  else await mend(verb, wanted, draft);
  const target = await openImage(verb, draft, { format: wanted.format, write: true, unmap: true });
  const close = (): Promise<void> => target.close();
  const publish = async (): Promise<void> => {
    await target.flush();
    await syncPath(draft);
    await nameIt({ draft, out: wanted.out, replaces: there !== undefined });
    stage = "published";
    await remove(draft);
  };
  await closing(async () => {
    await (await open(mapOf(draft), "a")).close();
    await using map = await openImage(verb, mapOf(draft), { format: plainFormat, write: true });
    await fill({ target, map, keep: () => void (stage = "served"), publish });
  }, close);
}

function draftOf({ out, id, format }: LiveRestored): string {
  return join(dirname(out), `.${shortName(out)}.${id}.${format}.live`);
}

function shortName(out: string): string {
  return basename(out).slice(0, 150);
}

function mapOf(draft: string): string {
  return `${draft}.map`;
}

async function remove(draft: string): Promise<void> {
  for (const file of [mapOf(draft), draft]) await rm(file, { force: true });
}

/** Refuses where another backup was being restored into OUT, or gives that up. */
async function removeOthers(verb: Run, { out, force }: LiveRestored, own: string): Promise<void> {
  const start = `.${shortName(out)}.`;
  for (const name of await readdir(dirname(out))) {
    const draft = join(dirname(out), name);
    const [, id, format] = /^(\d{8}T\d{6}Z-[0-9a-f]{8})\.(\w+)\.live$/.exec(name.slice(start.length)) ?? [];
    if (!name.startsWith(start) || id === undefined || draft === own) continue;
    if (!force)
      throw new Refusal(
        `'${draft}' is what is there of backup ${id} as ${format}: restore that one to go on, or give that up by --force`,
      );
    // Whoever works on it has its map locked.
    if (await stat(mapOf(draft)).catch(() => undefined)) {
      await using map = await openImage(verb, mapOf(draft), { format: plainFormat, write: true });
      await (await holdImage(mapOf(draft), map, { perm: Perm.write, shared: 0 })).close();
    }
    await remove(draft);
  }
}

async function make(verb: Run, { format, size }: LiveRestored, draft: string): Promise<void> {
  await rm(mapOf(draft), { force: true });
  const filename = `${draft.slice(0, -".live".length)}.${randomBytes(4).toString("hex")}.new`;
  verb.onFailure(() => rm(filename, { force: true }));
  const file = { driver: "file", filename };
  await createImageIn(verb.engine, { driver: format, file, size } as unknown as CreateImageSpec);
  await link(filename, draft).catch(async (error: unknown) => {
    // Another process was faster: it has it locked.
    if (errnoOf(error) !== "EEXIST") await rename(filename, draft);
  });
  await rm(filename, { force: true });
  await syncPath(dirname(draft));
}

/** After a kill an image has lost clusters. */
async function mend({ engine, signal }: Run, { format }: LiveRestored, filename: string): Promise<void> {
  if (!engine.graph.driver(format).check) return;
  const spec = { driver: format, file: { driver: "file", filename } } as unknown as OpenSpec;
  await checkIn(engine, spec, { repair: "leaks", signal });
}

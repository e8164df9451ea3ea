/**
 * Restoring into a file: it is made beside the place that it takes, and takes it when it is whole and durable.
 */
import { randomBytes } from "node:crypto";
import type { Stats } from "node:fs";
import { link, rename, rm, stat } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { AssertionError } from "../../../base/assert.ts";
import { firstFailure, messageOf } from "../../../base/errors.ts";
import { createImageIn } from "../../../api/open.ts";
import { stillPermissions } from "../../../block/graph/backend.ts";
import { findDriver } from "../../../block/model/options.ts";
import { plainFormat } from "../../../drivers/format/defaults.ts";
import type { CreateImageSpec, Node } from "../../../node.ts";
import { syncPath } from "../../../platform/node/sync.ts";
import { holdImage, openDescribed } from "../../images.ts";
import { Refusal } from "../../refusal.ts";
import type { Run } from "../../run.ts";

/** What is made. */
export interface Restored {
  readonly out: string;
  readonly format: string;
  readonly size: number;
  /** A file that is there is replaced. */
  readonly force: boolean;
}

/** Throws Refusal where it can't be; answers the file that is there, and is going to be replaced. */
export async function checkOut(verb: Run, { out, format, force }: Restored): Promise<Stats | undefined> {
  const { engine } = verb;
  if (/^[\w+.-]+:\/\//.test(out)) throw new Refusal(`'${out}' is no file, and backups are restored into one`);
  const type = findDriver(engine.graph, format);
  if (type?.kind !== "format" || !type.createOptions) throw new Refusal(`Unknown file format '${format}'`);
  const there = await stat(out).catch(() => undefined);
  if (there && !there.isFile()) throw new Refusal(`'${out}' is no regular file`);
  if (there && there.size > 0 && !force) throw new Refusal(`'${out}' exists; --force replaces it`);
  if (there) await refuseUsed(verb, out);
  return there;
}

/** Throws Refusal where somebody writes to a file: they would go on with what has no name any more. */
async function refuseUsed(verb: Run, out: string): Promise<void> {
  const file = { driver: "file", filename: out };
  await using node = await openDescribed(verb, { driver: plainFormat, file, "read-only": true });
  await (await holdImage(out, node, stillPermissions)).close();
}

/** Carries out `body`; what fails is told with what it was about. */
export async function doing<T>(verb: Run, what: string, body: () => Promise<T>): Promise<T> {
  try {
    return await body();
  } catch (error) {
    const cause = firstFailure(error);
    if (verb.signal.aborted || cause instanceof Refusal || cause instanceof AssertionError) throw error;
    throw new Refusal(`${what}: ${messageOf(cause)}`);
  }
}

/** Makes the image, lets `fill` write the disk into it, and gives it its name. Throws Refusal, BlockError. */
export async function restoreInto(
  verb: Run,
  restored: Restored,
  fill: (target: Node) => Promise<void>,
): Promise<void> {
  const { engine } = verb;
  const { out, format, size } = restored;
  const there = await checkOut(verb, restored);
  const draft = join(dirname(out), `.${basename(out).slice(0, 200)}.${randomBytes(4).toString("hex")}.new`);
  const remove = (): Promise<void> => rm(draft, { force: true });
  verb.onFailure(remove);
  const file = { driver: "file", filename: draft } as const;
  await createImageIn(engine, { driver: format, file, size } as unknown as CreateImageSpec);
  const target = await openDescribed(verb, { driver: format, file: { ...file }, discard: "unmap" });
  try {
    await fill(target);
  } finally {
    await target.close();
  }
  await syncPath(draft);
  await nameIt({ draft, out, replaces: there !== undefined });
  await remove();
}

/** Gives a file that is whole another name, durably; the old one stays until it is removed. */
export async function nameIt({
  draft,
  out,
  replaces,
}: {
  draft: string;
  out: string;
  replaces: boolean;
}): Promise<void> {
  if (replaces) {
    const second = `${draft.slice(0, -".new".length)}.whole.new`;
    await link(draft, second).then(
      () => rename(second, out),
      () => rename(draft, out),
    );
  } else {
    // Whoever has made it meanwhile keeps it.
    await link(draft, out).catch(async (error: NodeJS.ErrnoException) => {
      if (error.code === "EEXIST") throw new Refusal(`'${out}' exists by now; --force replaces it`);
      await rename(draft, out);
    });
  }
  await syncPath(dirname(out));
}

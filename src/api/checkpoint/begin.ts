/**
 * Beginning a job that keeps a checkpoint, or going on with one: what the checkpoint says must be of this work and these disks, what is
 * read must not have changed since, and what was copied must still be in the target, byte by byte.
 *
 * Invariant: nothing is written before all of that is known to be so.
 */
import { failed } from "../../base/lease.ts";
import { BlockError, CommandError } from "../../base/errors.ts";
import { KiB } from "../../base/limits.ts";
import { readerPermissions } from "../../block/graph/backend.ts";
import { nodeDescription } from "../../block/model/filename.ts";
import type { BlockNode } from "../../block/model/node.ts";
import type { Engine } from "../../machine/engine.ts";
import { Digester, regionBytes } from "./digests.ts";
import { CheckpointFile, type CheckpointRef } from "./file.ts";
import { checkSources, isVersioned, type Roots, sourceIdentities, targetNames } from "./identity.ts";
import { Keeper } from "./keeper.ts";
import { type CheckpointKind, type CheckpointState, type CheckpointWork, freshState } from "./state.ts";

/** Of a state in which nothing is known yet. */
const GRANULARITY = 64 * KiB;

/** What begins. */
export interface Beginning {
  readonly engine: Pick<Engine, "graph">;
  /** Where the checkpoint is kept, or it itself, open. */
  readonly checkpoint: CheckpointRef | CheckpointFile;
  readonly kind: CheckpointKind;
  /** What the copying is, as far as it decides what the target will hold. */
  readonly work: CheckpointWork;
  readonly roots: Roots;
  /** What shows the bytes that the target gets; absent: nothing does. */
  readonly shows: BlockNode | undefined;
  /** Source and target, as they are to be opened again. */
  readonly disks: readonly BlockNode[];
  /** Bytes; default: the source's length. */
  readonly length?: number | undefined;
}

/**
 * Takes the checkpoint, or makes it. EBUSY while another process works on it; EINVAL where it is of other work; ESTALE where the source
 * or the target is not what it was. The keeper is to be finished by its job, or by the caller where none begins.
 */
export async function beginCheckpoint(beginning: Beginning): Promise<Keeper> {
  const { engine, checkpoint } = beginning;
  const file =
    checkpoint instanceof CheckpointFile
      ? checkpoint
      : await CheckpointFile.open(engine, checkpoint, { create: true });
  try {
    const state = await stateOf(beginning, file);
    await file.save(state);
    return new Keeper({ engine, file, state, roots: beginning.roots });
  } catch (error) {
    return failed(error, () => file.close());
  }
}

async function stateOf(beginning: Beginning, file: CheckpointFile): Promise<CheckpointState> {
  const { found } = file;
  const fresh = await freshOf(beginning, found?.note ?? file.note);
  if (!found) return fresh;
  // Before its disks were open there was nothing to say of them.
  if (found.targets.length > 0) checkWork(found, fresh, file.name);
  const attempts = found.attempts + 1;
  if (found.stage === "begun") {
    // Something may have been under way.
    if (found.targets.length > 0) checkSources(found.sources, fresh.sources, file.name);
    return { ...fresh, attempts };
  }
  await checkContent(beginning, { found, fresh, name: file.name });
  return { ...found, attempts, sources: fresh.sources, disks: fresh.disks };
}

async function freshOf(beginning: Beginning, note: unknown): Promise<CheckpointState> {
  const { kind, work, roots, disks, length = disks[0]!.length } = beginning;
  return freshState({
    kind,
    work,
    sources: await sourceIdentities(roots),
    targets: await targetNames(roots),
    length,
    granularity: GRANULARITY,
    region: regionBytes(length, GRANULARITY),
    disks: disks.map(nodeDescription),
    ...(note === undefined ? {} : { note }),
  });
}

/** Throws EINVAL where a checkpoint is one of other work. */
function checkWork(found: CheckpointState, now: CheckpointState, name: string): void {
  const no = (what: string): never => {
    throw new CommandError(`the checkpoint '${name}' is of other work: ${what}`, { code: "EINVAL" });
  };
  if (found.kind !== now.kind) no(`of a ${found.kind} job`);
  if (!sameList(found.targets, now.targets))
    no(`it writes ${found.targets.map((one) => `'${one}'`).join(", ")}`);
  const names = (state: CheckpointState): string[] => state.sources.map((source) => source.name);
  if (found.stage !== "ending" && !sameList(names(found), names(now)))
    no(
      `it reads ${names(found)
        .map((one) => `'${one}'`)
        .join(", ")}`,
    );
  if (found.length !== now.length) no(`its disk has ${found.length} bytes, and not ${now.length}`);
  const options = (work: CheckpointWork): string[] =>
    Object.entries(work).map(([option, value]) => `${option}=${String(value)}`);
  if (!sameList(options(found.work), options(now.work)))
    no(`with ${options(found.work).join(",") || "no options"}`);
}

function sameList(one: readonly string[], other: readonly string[]): boolean {
  return one.length === other.length && one.every((item) => other.includes(item));
}

interface Compared {
  readonly found: CheckpointState;
  readonly fresh: CheckpointState;
  readonly name: string;
}

/** Throws ESTALE where source or target is not what it was. */
async function checkContent(
  { engine, kind, roots, shows }: Beginning,
  { found, fresh, name }: Compared,
): Promise<void> {
  const isEnding = found.stage === "ending";
  // All that it took is its own by now, whatever has become of what lay below.
  if (isEnding && kind === "stream") return;
  const verify = (node: BlockNode, what: string): Promise<void> =>
    checkDigests(engine, { node, found, what, name });
  try {
    checkSources(found.sources, fresh.sources, name);
    if (shows && !isVersioned(found.sources)) await verify(shows, "source");
  } catch (error) {
    // A commit that ends changes headers, and empties the image, itself: it may go on if that shows what it showed.
    if (!isEnding || kind !== "commit" || !shows) throw error;
    await verify(shows, "source");
  }
  await verify(roots.writes, "target");
}

interface Verified {
  readonly node: BlockNode;
  readonly found: CheckpointState;
  readonly what: string;
  readonly name: string;
}

async function checkDigests(
  { graph }: Pick<Engine, "graph">,
  { node, found, what, name }: Verified,
): Promise<void> {
  const { length, granularity, region, digests, outstanding } = found;
  if (node.length < length) throw stale(`the ${what} is shorter`, name);
  await graph.withRoot(node, readerPermissions, async (edge) => {
    const digester = new Digester({ edge, kernels: graph.kernels, length, granularity, region });
    for (let at = 0; at < digester.regions; at++) {
      if (digests[at] === 0n || (await digester.digest(at, outstanding)) === digests[at]) continue;
      throw stale(`the ${what} was changed at offset ${at * region}`, name);
    }
  });
}

function stale(what: string, name: string): BlockError {
  const message = `${what} since the checkpoint '${name}' was written: the work must be begun anew`;
  return new BlockError({ code: "ESTALE", op: "checkpoint", message });
}

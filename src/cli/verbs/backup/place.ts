/**
 * Where backups are kept, and what the verbs ask of such a place: a repository of chunks in a directory (`--repo DIR`) or in a store
 * of objects (`--repo s3://BUCKET/KEY`), or a chain of plain images (`--repo chain:DIR`).
 */
import { hostname } from "node:os";
import type { Node } from "../../../node.ts";
import type { BackupSource } from "../../../api/backups.ts";
import { messageOf } from "../../../base/errors.ts";
import type { ObjectPlace } from "../../../base/objects.ts";
import { typeOfName } from "../../../block/graph/storage-name.ts";
import { nodeCrypto } from "../../../platform/node/crypto.ts";
import { thisMachine } from "../../../platform/node/owner.ts";
import { startOf } from "../../../platform/node/process-start.ts";
import { ObjectDirectory } from "../../../platform/node/object-directory.ts";
import type { Backup } from "../../../store/description.ts";
import type { Keep } from "../../../store/retention.ts";
import type { Damage } from "../../../store/repository.ts";
import type { StoreTools } from "../../../store/tools.ts";
import type { Verdict } from "../../../store/verify.ts";
import { Refusal } from "../../refusal.ts";
import type { Run } from "../../run.ts";

/** What a prune does, or would do. */
export interface Pruned {
  readonly kept: readonly { readonly backup: Backup; readonly why: readonly string[] }[];
  readonly removed: readonly Backup[];
  /** Bytes that are free now. */
  readonly freedBytes: number;
  /** Bytes that others at work may still need are freed by the next prune. */
  readonly isWaiting: boolean;
}

/** A backup as a disk to be read, for as long as somebody does. */
export interface OpenBackup extends AsyncDisposable {
  readonly node: Node;
}

/** A place for backups. */
export interface BackupPlace {
  backups(): Promise<Backup[]>;
  /** The backup that a word means; see Repository.find(). */
  find(word: string): Promise<Backup>;
  create(source: BackupSource): Promise<Backup>;
  /** A name for a backup that is not made yet. */
  newId(): string;
  /** Writes a backup into a disk of zeroes; answers the bytes that the seeds had. Throws Refusal where seeds are of no use. */
  restore(backup: Backup, target: Node, seeds: readonly Node[]): Promise<number>;
  /** Opens a backup as a disk, without looking at all of it first. */
  open(backup: Backup): Promise<OpenBackup>;
  /** Gives the bytes of a range, in pieces, to `take`. */
  read(
    backup: Backup,
    range: { offset: number; end: number },
    take: (piece: Uint8Array) => Promise<void>,
  ): Promise<void>;
  verify(wanted: (backup: Backup) => boolean): Promise<Verdict>;
  prune(keep: Keep | undefined, options: { dryRun: boolean }): Promise<Pruned>;
}

/** What a place reports to while it works. */
export interface Watcher {
  readonly signal: AbortSignal;
  readonly onProgress: (done: number, total: number) => void;
  readonly onDamage: (damage: Damage) => void;
}

/** How a place is opened. */
export interface Opening {
  readonly verb: Run;
  readonly objects: ObjectPlace;
  readonly tools: StoreTools;
  readonly watcher: Watcher;
  /** As its user named it. */
  readonly directory: string;
  /** Made where it is not there. */
  readonly create: boolean;
}

const CHAIN = "chain:";

/** Opens the place that `--repo` names. Throws Refusal. */
export async function openPlace(
  verb: Run,
  repo: string | undefined,
  { create = false } = {},
): Promise<BackupPlace> {
  if (repo === undefined)
    throw new Refusal("--repo is required: a directory, s3://BUCKET/KEY, or chain:DIRECTORY");
  const isChain = repo.startsWith(CHAIN);
  const directory = isChain ? repo.slice(CHAIN.length) : repo;
  if (directory === "") throw new Refusal("--repo names no directory");
  try {
    const objects = isChain
      ? new ObjectDirectory(directory, { stays: true })
      : await objectsAt(verb, directory);
    const opening = {
      ...{ verb, directory, create, objects },
      ...{ tools: toolsOf(verb, objects), watcher: watcherOf(verb) },
    };
    if (isChain) return await (await import("./chain.ts")).openChain(opening);
    return await (await import("./chunks.ts")).openChunks(opening);
  } catch (error) {
    throw new Refusal(`Could not open repository '${directory}': ${messageOf(error)}`);
  }
}

/** The objects of a store, where the name says one, or of a directory. */
async function objectsAt({ engine: { graph } }: Run, repo: string): Promise<ObjectPlace> {
  if (!/^[\w+.-]+:\/\//.test(repo)) return new ObjectDirectory(repo, { stays: true });
  const { name, parseName, store } = typeOfName(graph, repo);
  if (!store?.objects || !parseName) throw new Refusal(`Protocol driver '${name}' keeps no repositories`);
  return store.objects(graph, { ...parseName(repo).options, driver: name });
}

function toolsOf({ engine }: Run, objects: ObjectPlace): StoreTools {
  const { host, kernels } = engine.graph;
  return {
    objects,
    clock: host.clock,
    random: host.random,
    codecs: host.codecs,
    sha256: (bytes) => nodeCrypto.hash("sha256", bytes),
    xxh3: (bytes) => kernels.xxh3(bytes),
    self: { host: hostname(), machine: thisMachine(), pid: process.pid, start: startOf(process.pid) ?? "" },
    isAlive: ({ pid, start }) => {
      const now = startOf(pid);
      return now !== undefined && now === (start ?? now);
    },
  };
}

function watcherOf(verb: Run): Watcher {
  return {
    signal: verb.signal,
    onProgress: verb.progress.show,
    onDamage: ({ problem }) => verb.warn(problem),
  };
}

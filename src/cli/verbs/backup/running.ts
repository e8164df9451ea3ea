/**
 * Backups of disks that a running program writes to, QEMU's or ours, by its QMP socket: at one moment every disk gets a scratch
 * image that keeps what is overwritten from then on (fleecing), and its bitmap records anew; then the disks as they were are read
 * over NBD, at the repository's own pace.
 *
 * Invariants: what the bitmap recorded before that moment is kept frozen beside it (`blockwright:frozen:NAME:ID`) until backup ID
 * is published, and merged back if it never is, by us or by the next run; everything that we make over there begins with
 * `bwb-PID-`, so that the next run finds what one that was killed has left.
 */
import { createHash, randomInt } from "node:crypto";
import { chmod, mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { mapExtents } from "../../../api/map.ts";
import { createImageIn } from "../../../api/open.ts";
import { bitmapSince } from "../../../api/turn-bitmap.ts";
import { readAddress } from "../../../base/address.ts";
import { messageOf } from "../../../base/errors.ts";
import type { ByteRange } from "../../../base/ranges.ts";
import { overlayFormat } from "../../../drivers/format/defaults.ts";
import { type CreateImageSpec, type Node, QmpClient } from "../../../node.ts";
import { thisMachine } from "../../../platform/node/owner.ts";
import { startOf } from "../../../platform/node/process-start.ts";
import type { Backup } from "../../../store/description.ts";
import type { TypeOf } from "../../../wire/qapi/index.ts";
import { openDescribed } from "../../images.ts";
import { Refusal } from "../../refusal.ts";
import type { Run } from "../../run.ts";
import type { BackupPlace } from "./place.ts";
import {
  type Action,
  frozenIn,
  givenBack,
  type RecordedDisk,
  type RunningBitmap,
  thawing,
  turned,
  turning,
} from "./running-bitmaps.ts";

/** Which disks, and how. */
export interface RunningDisks {
  readonly socket: string;
  readonly nodes: readonly string[];
  readonly bitmap: string | undefined;
  readonly level: number | undefined;
  /** Where its NBD server listens, if it runs already: `unix:PATH` or `HOST:PORT`. */
  readonly nbd: string | undefined;
  /** What a node's disk is called in the repository. */
  nameOf(node: string): string;
}

/** A disk over there. */
interface Disk extends RecordedDisk {
  readonly size: number;
  /** Of its scratch image, its job and its export. */
  readonly tag: string;
}

interface NamedNode {
  readonly "node-name": string;
  readonly image: { readonly "virtual-size": number };
  readonly "dirty-bitmaps"?: readonly (Omit<RunningBitmap, "name" | "inconsistent"> & {
    readonly name?: string;
    readonly inconsistent?: boolean;
  })[];
}

const PREFIX = "bwb-";
/** At the end of a tag: the NBD server is not to be stopped. */
const USES_THEIR_SERVER = "n";
/** The tag that the names over there begin with: the process, and digits that tell it from another one of that number. */
const TAG = new RegExp(`^(${PREFIX}(\\d+)-([0-9a-f]{4})(${USES_THEIR_SERVER}?))-`);
const POLL_MS = 20;
/** How long two tools that came at once stay away at most, ms. */
const MOST_APART_MS = 300;
/** How long a job may take to end, or a node to go, ms. */
const PATIENCE_MS = 30_000;

/** What became of the disks. */
export interface BackedUp {
  readonly made: readonly Backup[];
  /** Why others have no backup, a line each. */
  readonly failures: readonly string[];
}

/** Backs them all up as of one moment, those that can be. Throws Refusal where none can be begun with. */
export async function backupRunning(verb: Run, place: BackupPlace, disks: RunningDisks): Promise<BackedUp> {
  const client = await QmpClient.connect(`unix:${disks.socket}`, { signal: verb.signal }).catch(
    (error: unknown) => {
      throw new Refusal(`Could not connect to '${disks.socket}': ${messageOf(error)}`);
    },
  );
  try {
    return await new Fleecing({ verb, place, client, disks }).run();
  } finally {
    await client.close();
  }
}

class Fleecing {
  readonly #verb: Run;
  readonly #place: BackupPlace;
  readonly #client: QmpClient;
  readonly #wanted: RunningDisks;
  readonly #tag: string;
  readonly #server: TypeOf<"SocketAddress"> | undefined;
  /** As of when the disks are. */
  #time = "";
  #folder = "";
  #isServing = false;

  constructor(init: { verb: Run; place: BackupPlace; client: QmpClient; disks: RunningDisks }) {
    this.#verb = init.verb;
    this.#place = init.place;
    this.#client = init.client;
    this.#wanted = init.disks;
    const { nbd } = init.disks;
    this.#tag = `${PREFIX}${process.pid}-${startDigits(process.pid)}${nbd === undefined ? "" : USES_THEIR_SERVER}`;
    this.#server = nbd === undefined ? undefined : serverAt(nbd);
  }

  async run(): Promise<BackedUp> {
    const made: Backup[] = [];
    const failures: string[] = [];
    let disks: Disk[] = [];
    let hasBegun = false;
    try {
      while (!(await this.#come())) await sleep(randomInt(MOST_APART_MS));
      // What is there of bitmaps and backups is looked at by one tool at a time.
      const known = await this.#place.backups();
      await this.#thaw(known);
      disks = await this.#disks();
      await this.#transaction(disks.flatMap((disk) => this.#beginning(disk)));
      this.#time = new Date().toISOString();
      hasBegun = true;
      await this.#serve(disks);
      for (const disk of disks) {
        try {
          made.push(await this.#backUp(disk, known));
          await this.#turned(disk);
        } catch (error) {
          this.#verb.signal.throwIfAborted();
          failures.push(`'${disk.node}': ${messageOf(error)}`);
        }
      }
      return { made, failures };
    } finally {
      if (hasBegun) {
        const failed = disks.filter(({ id }) => !made.some((backup) => backup.id === id));
        for (const disk of failed)
          await this.#giveBack(disk).catch((error: unknown) => this.#verb.warn(messageOf(error)));
      }
      await this.#leave().catch((error: unknown) => this.#verb.warn(messageOf(error)));
    }
  }

  /**
   * Makes the scratch images, by which other tools see us. False: one came at the same moment, and saw us, too: ours are gone again. Throws where
   * one was here before.
   */
  async #come(): Promise<boolean> {
    await this.#removeLeftovers();
    const disks = await this.#disks();
    this.#folder = await mkdtemp(join(tmpdir(), `${this.#tag}-`));
    // The other program may be somebody else's.
    await chmod(this.#folder, 0o711);
    for (const disk of disks) await this.#addScratch(disk);
    if (workerOf(await this.#tags()) === undefined) return true;
    await this.#leave();
    return false;
  }

  /** Takes away all that we made over there, and here. */
  async #leave(): Promise<void> {
    await this.#takeDown(this.#tag);
    if (this.#folder !== "") await rm(this.#folder, { recursive: true, force: true });
  }

  /** Runs a command of QEMU's, which the types of ours need not know. */
  #qmp(command: string, args?: object): Promise<unknown> {
    return this.#client.executeRaw(command, args);
  }

  async #transaction(actions: readonly Action[]): Promise<void> {
    if (actions.length > 0) await this.#qmp("transaction", { actions });
  }

  /** The disks as they are now. */
  async #disks(): Promise<Disk[]> {
    const all = (await this.#qmp("query-named-block-nodes", { flat: true })) as NamedNode[];
    return this.#wanted.nodes.map((node, index) => {
      const found = all.find((one) => one["node-name"] === node);
      if (!found) throw new Refusal(`'${this.#wanted.socket}' has no node '${node}'`);
      const tag = `${this.#tag}-${index}`;
      const bitmaps = (found["dirty-bitmaps"] ?? []).flatMap((one) => {
        const { name, inconsistent = false } = one;
        // Those of jobs have no names.
        return name === undefined ? [] : [{ ...one, name, inconsistent }];
      });
      return { node, size: found.image["virtual-size"], bitmaps, tag, id: this.#place.newId() };
    });
  }

  /** Ends what runs that were killed have begun with the disks' bitmaps. */
  async #thaw(known: readonly Backup[]): Promise<void> {
    const { bitmap } = this.#wanted;
    const isPublished = (id: string): boolean => known.some((one) => one.id === id);
    for (let isDone = bitmap === undefined; !isDone;) {
      const disks = await this.#disks();
      for (const { node, bitmaps } of disks)
        if (bitmaps.some(({ name, inconsistent }) => inconsistent && name === bitmap))
          this.#verb.warn(`'${node}': bitmap '${bitmap}' is inconsistent: the image was not closed well`);
      const actions = disks.flatMap((disk) => thawing(disk, bitmap!, isPublished) ?? []);
      await this.#transaction(actions);
      isDone = actions.length === 0;
    }
  }

  async #addScratch({ node, size, tag }: Disk): Promise<void> {
    const filename = join(this.#folder, `${tag}.${overlayFormat}`);
    const file = { driver: "file", filename } as const;
    await createImageIn(this.#verb.engine, {
      driver: overlayFormat,
      file,
      size,
    } as unknown as CreateImageSpec);
    await chmod(filename, 0o666);
    await this.#qmp("blockdev-add", { driver: "file", "node-name": `${tag}-f`, filename });
    await this.#qmp("blockdev-add", {
      driver: overlayFormat,
      "node-name": tag,
      file: `${tag}-f`,
      backing: node,
    });
  }

  /** What happens to one disk at the moment that counts. */
  #beginning(disk: Disk): Action[] {
    const { node, tag } = disk;
    const fleecing = {
      type: "blockdev-backup",
      data: { "job-id": tag, device: node, target: tag, sync: "none" },
    };
    const { bitmap } = this.#wanted;
    return bitmap === undefined ? [fleecing] : [...turning(disk, bitmap), fleecing];
  }

  async #serve(disks: readonly Disk[]): Promise<void> {
    if (!this.#server) {
      const path = this.#socket;
      await this.#qmp("nbd-server-start", { addr: { type: "unix", data: { path } } }).catch(
        (error: unknown) => {
          const words = messageOf(error);
          throw new Refusal(
            words.includes("already running") ? `${words}; say where it listens with --nbd` : words,
          );
        },
      );
      this.#isServing = true;
    }
    for (const disk of disks) {
      const frozen = this.#frozenIn(disk);
      await this.#qmp("block-export-add", {
        id: disk.tag,
        type: "nbd",
        "node-name": disk.tag,
        name: disk.tag,
        ...(frozen === undefined ? {} : { bitmaps: [frozen] }),
      });
    }
  }

  get #socket(): string {
    return join(this.#folder, "nbd.sock");
  }

  /** The bitmap of what changed before, where that is known. */
  #frozenIn(disk: Disk): string | undefined {
    const { bitmap } = this.#wanted;
    return bitmap === undefined ? undefined : frozenIn(disk, bitmap);
  }

  async #backUp(disk: Disk, known: readonly Backup[]): Promise<Backup> {
    await using node = await this.#open(disk);
    const { bitmap, level } = this.#wanted;
    const name = this.#wanted.nameOf(disk.node);
    const since = bitmap === undefined ? undefined : this.#sinceWhich(disk, known, bitmap);
    const frozen = this.#frozenIn(disk);
    await using dirty = since && frozen !== undefined ? await this.#open(disk, frozen) : undefined;
    const compared = since && dirty ? { backup: since, changed: () => dirtyOf(dirty) } : undefined;
    const { id } = disk;
    return await this.#place.create({
      id,
      time: this.#time,
      node,
      name,
      image: disk.node,
      since: compared,
      bitmap,
      level,
    });
  }

  #sinceWhich({ node, bitmaps }: Disk, known: readonly Backup[], bitmap: string): Backup | undefined {
    const since = bitmapSince(bitmaps, bitmap, () => false);
    const name = this.#wanted.nameOf(node);
    if ("backup" in since) {
      const backup = known.find(({ id }) => id === since.backup);
      if (!backup)
        this.#verb.warn(
          `bitmap '${bitmap}' of '${node}' counts from backup ${since.backup}, which is not here: this is a full backup`,
        );
      return backup;
    }
    if (known.some((one) => one.name === name))
      this.#verb.warn(`'${node}': ${since.unknown}: this is a full backup`);
    return undefined;
  }

  /** The disk as it was; or, by its bitmap, what of it has changed: that shows as no data. */
  #open({ tag }: Disk, bitmap?: string): Promise<Node> {
    const server = this.#server ?? { type: "unix", path: this.#socket };
    const shown = bitmap === undefined ? {} : { "x-dirty-bitmap": `qemu:dirty-bitmap:${bitmap}` };
    return openDescribed(this.#verb, { driver: "nbd", server, export: tag, "read-only": true, ...shown });
  }

  /** The backup is there: its bitmap counts from it. */
  async #turned(disk: Disk): Promise<void> {
    const { bitmap } = this.#wanted;
    if (bitmap === undefined) return;
    // An export holds the bitmap that it shows.
    await this.#removeExport(disk.tag);
    await this.#transaction(turned(disk, bitmap));
  }

  /** There is no backup: what the bitmap had recorded before is its own again. */
  async #giveBack(disk: Disk): Promise<void> {
    const { bitmap } = this.#wanted;
    if (bitmap === undefined) return;
    await this.#removeExport(disk.tag);
    await this.#transaction(givenBack(disk, bitmap));
  }

  /** The tags of what is over there, our own apart. */
  async #tags(): Promise<Map<string, RegExpExecArray>> {
    const jobs = (await this.#qmp("query-jobs")) as { id: string }[];
    const nodes = (await this.#qmp("query-named-block-nodes", { flat: true })) as NamedNode[];
    const names = [...jobs.map(({ id }) => id), ...nodes.map((node) => node["node-name"])];
    const found = new Map<string, RegExpExecArray>();
    for (const name of names) {
      const tag = TAG.exec(name);
      if (tag && tag[1] !== this.#tag) found.set(tag[1]!, tag);
    }
    return found;
  }

  /** Removes what runs that were killed have left over there. Throws where one lives. */
  async #removeLeftovers(): Promise<void> {
    const found = await this.#tags();
    const worker = workerOf(found);
    if (worker !== undefined) throw new Refusal(`a backup by process ${worker} is under way there`);
    for (const [tag, [, , , , theirs]] of found) {
      this.#isServing = theirs === "";
      await this.#takeDown(tag);
    }
    this.#isServing = false;
    for (const folder of await readdir(tmpdir())) {
      const [, , pid, digits] = TAG.exec(folder) ?? [];
      if (pid !== undefined && !isAtWork(pid, digits))
        await rm(join(tmpdir(), folder), { recursive: true, force: true });
    }
  }

  /** Removes everything over there that begins with `tag`. */
  async #takeDown(tag: string): Promise<void> {
    const isOurs = (name: string): boolean => name.startsWith(`${tag}-`);
    const exports = (await this.#qmp("query-block-exports")) as { id: string }[];
    for (const { id } of exports.filter((one) => isOurs(one.id))) await this.#removeExport(id);
    if (this.#isServing && exports.every(({ id }) => isOurs(id)))
      await this.#qmp("nbd-server-stop").catch(() => undefined);
    const jobsOf = async (): Promise<{ id: string }[]> =>
      ((await this.#qmp("query-jobs")) as { id: string }[]).filter(({ id }) => isOurs(id));
    for (const { id } of await jobsOf()) await this.#qmp("block-job-cancel", { device: id, force: true });
    await this.#until(async () => (await jobsOf()).length === 0);
    const nodes = (await this.#qmp("query-named-block-nodes", { flat: true })) as NamedNode[];
    const ours = nodes.map((node) => node["node-name"]).filter(isOurs);
    // Files below what is in them.
    for (const name of ours.toSorted((a, b) => a.length - b.length))
      await this.#until(() =>
        this.#qmp("blockdev-del", { "node-name": name }).then(
          () => true,
          () => false,
        ),
      );
  }

  async #removeExport(id: string): Promise<void> {
    const isThere = async (): Promise<boolean> =>
      ((await this.#qmp("query-block-exports")) as { id: string }[]).some((one) => one.id === id);
    if (!(await isThere())) return;
    await this.#qmp("block-export-del", { id, mode: "hard" });
    await this.#until(async () => !(await isThere()));
  }

  async #until(isSo: () => Promise<boolean>): Promise<void> {
    const end = performance.now() + PATIENCE_MS;
    while (!(await isSo())) {
      if (performance.now() > end)
        throw new Refusal(`'${this.#wanted.socket}' does not end what was begun there`);
      await sleep(POLL_MS);
    }
  }
}

/** Digits by which a process is told from another one of its number; undefined: there is none. */
function startDigits(pid: number): string | undefined {
  const start = startOf(pid);
  if (start === undefined) return undefined;
  return createHash("sha256").update(`${thisMachine()} ${start}`).digest("hex").slice(0, 4);
}

function isAtWork(pid: string | undefined, digits: string | undefined): boolean {
  return digits !== undefined && startDigits(Number(pid)) === digits;
}

/** The process of a tool that lives, of those whose tags these are. */
function workerOf(tags: ReadonlyMap<string, RegExpExecArray>): string | undefined {
  for (const [, , pid, digits] of tags.values()) if (isAtWork(pid, digits)) return pid;
  return undefined;
}

/** An address as QAPI has it. */
function serverAt(text: string): TypeOf<"SocketAddress"> {
  const address = readAddress(text);
  if (!address) throw new Refusal(`'${text}' is no address: unix:PATH or HOST:PORT`);
  return address.type === "inet" ? { ...address, port: String(address.port) } : address;
}

/** What a disk by its dirty bitmap shows as no data has changed. */
async function* dirtyOf(node: Node): AsyncGenerator<ByteRange> {
  for await (const { offset, bytes, data } of mapExtents(node.blockNode)) if (!data) yield { offset, bytes };
}

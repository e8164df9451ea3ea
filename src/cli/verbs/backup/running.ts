/**
 * Backups of disks that a running program writes to, QEMU's or ours, by its QMP socket: at one moment every disk gets a scratch
 * image that keeps what is overwritten from then on (fleecing), and its bitmap records anew; then the disks as they were are read
 * over NBD, at the repository's own pace.
 *
 * Invariants: what the bitmap recorded before that moment is kept frozen beside it (`blockwright:frozen:NAME:ID`) until backup ID
 * is published, and merged back if it never is, by us or by the next run; everything that we make over there begins with
 * `bwb-PID-`, so that the next run finds what one that was killed has left.
 */
import { randomBytes } from "node:crypto";
import { chmod, mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { mapExtents } from "../../../api/map.ts";
import { createImageIn } from "../../../api/open.ts";
import { bitmapSince, type BitmapState, markOf, marksOf } from "../../../api/turn-bitmap.ts";
import { readAddress } from "../../../base/address.ts";
import { messageOf } from "../../../base/errors.ts";
import type { ByteRange } from "../../../base/ranges.ts";
import { overlayFormat } from "../../../drivers/format/defaults.ts";
import { type CreateImageSpec, type Node, QmpClient } from "../../../node.ts";
import type { Backup } from "../../../store/description.ts";
import type { TypeOf } from "../../../wire/qapi/index.ts";
import { openDescribed } from "../../images.ts";
import { Refusal } from "../../refusal.ts";
import type { Run } from "../../run.ts";
import { isAlive, type BackupPlace } from "./place.ts";

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

interface Bitmap extends BitmapState {
  readonly persistent: boolean;
  readonly granularity: number;
}

/** A disk over there. */
interface Disk {
  readonly node: string;
  readonly size: number;
  readonly bitmaps: readonly Bitmap[];
  /** Of its scratch image, its job and its export. */
  readonly tag: string;
  /** What its backup will be called. */
  readonly id: string;
}

interface NamedNode {
  readonly "node-name": string;
  readonly image: { readonly "virtual-size": number };
  readonly "dirty-bitmaps"?: readonly (Omit<Bitmap, "name" | "inconsistent"> & {
    readonly name?: string;
    readonly inconsistent?: boolean;
  })[];
}

type Action = { readonly type: string; readonly data: object };

const PREFIX = "bwb-";
const FROZEN = "blockwright:frozen:";
const POLL_MS = 20;
/** How long a job may take to end, or a node to go, ms. */
const PATIENCE_MS = 30_000;

/** Backs them all up as of one moment. Throws Refusal; what was published by then stays. */
export async function backupRunning(verb: Run, place: BackupPlace, disks: RunningDisks): Promise<Backup[]> {
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
  readonly #tag = `${PREFIX}${process.pid}-${randomBytes(2).toString("hex")}`;
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
    this.#server = nbd === undefined ? undefined : serverAt(nbd);
  }

  async run(): Promise<Backup[]> {
    await this.#removeLeftovers();
    const known = await this.#place.backups();
    for (const disk of await this.#disks())
      await this.#thaw(disk, (id) => known.some((one) => one.id === id));
    const disks = await this.#disks();
    this.#folder = await mkdtemp(join(tmpdir(), `${this.#tag}-`));
    const made: Backup[] = [];
    let hasBegun = false;
    try {
      // The other program may be somebody else's.
      await chmod(this.#folder, 0o711);
      for (const disk of disks) await this.#addScratch(disk);
      await this.#transaction(disks.flatMap((disk) => this.#beginning(disk)));
      this.#time = new Date().toISOString();
      hasBegun = true;
      await this.#serve(disks);
      for (const disk of disks) {
        made.push(await this.#backUp(disk, known));
        await this.#turned(disk);
      }
      return made;
    } finally {
      if (hasBegun) {
        const failed = disks.filter(({ id }) => !made.some((backup) => backup.id === id));
        for (const disk of failed)
          await this.#giveBack(disk).catch((error: unknown) => this.#verb.warn(messageOf(error)));
      }
      await this.#takeDown(this.#tag).catch((error: unknown) => this.#verb.warn(messageOf(error)));
      await rm(this.#folder, { recursive: true, force: true });
    }
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

  /** Ends what a run that was killed has begun with a disk's bitmap. */
  async #thaw({ node, bitmaps }: Disk, isPublished: (id: string) => boolean): Promise<void> {
    const { bitmap } = this.#wanted;
    if (bitmap === undefined) return;
    for (const frozen of bitmaps.filter(({ name }) => name.startsWith(frozenOf(bitmap, "")))) {
      const id = frozen.name.slice(frozenOf(bitmap, "").length);
      const marks = marksOf(bitmaps, bitmap).map(({ name }) => remove(node, name));
      const ending = isPublished(id)
        ? [...marks, add(node, markOf(bitmap, id), { disabled: true, persistent: frozen.persistent })]
        : [merge(node, bitmap, frozen.name)];
      await this.#transaction([...ending, remove(node, frozen.name)]);
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
  #beginning({ node, bitmaps, tag, id }: Disk): Action[] {
    const fleecing = {
      type: "blockdev-backup",
      data: { "job-id": tag, device: node, target: tag, sync: "none" },
    };
    const { bitmap: name } = this.#wanted;
    if (name === undefined) return [fleecing];
    const bitmap = bitmaps.find((one) => one.name === name);
    if (!bitmap) return [fleecing, add(node, name, { persistent: true })];
    if (bitmap.inconsistent) return [remove(node, name), add(node, name, { persistent: true }), fleecing];
    const { persistent, granularity } = bitmap;
    const frozen = frozenOf(name, id);
    return [
      add(node, frozen, { persistent, granularity, disabled: true }),
      merge(node, frozen, name),
      { type: "block-dirty-bitmap-clear", data: { node, name } },
      fleecing,
    ];
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

  /** The name under which what changed before is kept, where there was a bitmap. */
  #frozenIn({ bitmaps, id }: Disk): string | undefined {
    const { bitmap } = this.#wanted;
    const has =
      bitmap !== undefined && bitmaps.some(({ name, inconsistent }) => name === bitmap && !inconsistent);
    return has ? frozenOf(bitmap, id) : undefined;
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
    const since = bitmapSince(bitmaps, bitmap);
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
    const { node, bitmaps, id, tag } = disk;
    // An export holds the bitmap that it shows.
    await this.#removeExport(tag);
    const frozen = this.#frozenIn(disk);
    await this.#transaction([
      ...(frozen === undefined ? [] : [remove(node, frozen)]),
      ...marksOf(bitmaps, bitmap).map(({ name }) => remove(node, name)),
      add(node, markOf(bitmap, id), { persistent: true, disabled: true }),
    ]);
  }

  /** There is no backup: what the bitmap had recorded before is its own again. */
  async #giveBack(disk: Disk): Promise<void> {
    const { bitmap } = this.#wanted;
    const frozen = this.#frozenIn(disk);
    if (bitmap === undefined || frozen === undefined) return;
    await this.#removeExport(disk.tag);
    await this.#transaction([merge(disk.node, bitmap, frozen), remove(disk.node, frozen)]);
  }

  /** Removes what runs that were killed have left over there. Throws where one lives. */
  async #removeLeftovers(): Promise<void> {
    const jobs = (await this.#qmp("query-jobs")) as { id: string }[];
    const nodes = (await this.#qmp("query-named-block-nodes", { flat: true })) as NamedNode[];
    const names = [...jobs.map(({ id }) => id), ...nodes.map((node) => node["node-name"])];
    const found = new Map<string, number>();
    for (const name of names) {
      const [, tag, pid] = /^(bwb-(\d+)-[0-9a-f]{4})-/.exec(name) ?? [];
      if (tag !== undefined) found.set(tag, Number(pid));
    }
    for (const [tag, pid] of found) {
      if (isAlive(pid)) throw new Refusal(`a backup by process ${pid} is under way there`);
      this.#isServing = true;
      await this.#takeDown(tag);
    }
    this.#isServing = false;
    for (const folder of await readdir(tmpdir())) {
      const [, pid] = /^bwb-(\d+)-[0-9a-f]{4}-/.exec(folder) ?? [];
      if (pid !== undefined && !isAlive(Number(pid)))
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
      await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    }
  }
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

function frozenOf(bitmap: string, id: string): string {
  return `${FROZEN}${bitmap}:${id}`;
}

function add(
  node: string,
  name: string,
  options: { persistent?: boolean; disabled?: boolean; granularity?: number },
): Action {
  return { type: "block-dirty-bitmap-add", data: { node, name, ...options } };
}

function merge(node: string, target: string, source: string): Action {
  return { type: "block-dirty-bitmap-merge", data: { node, target, bitmaps: [source] } };
}

function remove(node: string, name: string): Action {
  return { type: "block-dirty-bitmap-remove", data: { node, name } };
}

/**
 * The files of Node. Nothing here may block on what a path happens to name (a FIFO, a dead terminal), so files are opened
 * without waiting. Creating a file takes the image locks first, and looks into the register of what this process has open, so
 * that an image in use is never emptied; a file that could not be made whole and was not there before is removed again, by
 * the one who made it.
 */
import * as fs from "node:fs";
import * as path from "node:path";
import type { Answer } from "../../base/answer.ts";
import { SECTOR_SIZE } from "../../base/limits.ts";
import { type BlockError, blockError } from "../../base/errors.ts";
import type {
  CreatedFile,
  FileDraft,
  FileInfo,
  FileOpenOptions,
  HostFile,
  HostFiles,
  NewFileOptions,
} from "../../base/host.ts";
import type { FileFacts } from "./calls.ts";
import { openDescriptor, openFlags, NodeFile } from "./file.ts";
import { isReplaceable, makeDraft } from "./draft.ts";
import { expectJobs } from "./file-thread.ts";
import { fdSets, isFdSetName } from "./fd-sets.ts";
import { fileInfo, isSymlink } from "./info.ts";
import { pooledOrAtHand } from "./at-hand.ts";
import { Lane, inTurnTransfers, pooledTransfers, type Transfers } from "./lanes.ts";
import { isOn, servedDevices } from "./mounts.ts";
import type { NativeCalls } from "./native.ts";
import { identityOf, isOpenHere } from "./open-files.ts";

/** Alignments to try for O_DIRECT, smallest first; the last one is taken untried. */
const ALIGNMENTS = [512, 4096] as const;
const MAX_ALIGNMENT = 4096;
const PAGE = 65536;

/** What a new image is created under: write and resize taken, all but resize shared (as QEMU). */
const creationLock = { perm: 2 | 8, shared: 15 & ~8 };

/** How files are used. */
export interface NodeFilesInit {
  /** Gives the calls that Node lacks; asked on the first use of a file. */
  native: () => NativeCalls | undefined;
  /**
   * Moves the data of buffered files in the caller's turn, see lanes.ts, but of those that somebody serves, see mounts.ts; else it does so where no
   * disk is waited for, see at-hand.ts.
   */
  inTurn: boolean;
  /** See HostFiles. */
  copyLeastBytes: number;
}

/** HostFiles over node:fs. */
export class NodeFiles implements HostFiles {
  readonly inTurn: boolean;
  readonly copyLeastBytes: number;
  readonly #native: () => NativeCalls | undefined;
  #served: ReadonlySet<string> | undefined;

  constructor({ native, inTurn, copyLeastBytes }: NodeFilesInit) {
    this.#native = native;
    this.inTurn = inTurn;
    this.copyLeastBytes = copyLeastBytes;
  }

  expectCopies(): void {
    expectJobs();
  }

  async open(name: string, options: FileOpenOptions): Promise<HostFile> {
    const direct = options.direct ?? false;
    const flags = openFlags({ write: options.write, direct });
    const fd = await openDescriptor(name, flags, "open", this.#lane()).catch((error: BlockError) => {
      const refusesDirect = direct && error.code === "EINVAL" && !isFdSetName(name);
      throw refusesDirect ? blockError("EINVAL", "open", "filesystem does not support O_DIRECT") : error;
    });
    return this.#file(name, fd, { write: options.write, direct });
  }

  async create(name: string, options: NewFileOptions): Promise<CreatedFile> {
    const { fd, made } = await openNew(name, options.exclusive ?? false, this.#lane());
    const file = await this.#file(name, fd, { write: true, direct: false });
    try {
      // Whoever loses here has lost the file to another, who may have it by now: it stays, also if it was not there before.
      await lockForCreation(file, name);
      if (!made) await checkRoom(name, options, this.#lane());
    } catch (error) {
      await file.close().catch(() => undefined);
      throw error;
    }
    const { identity, kind } = await file.info();
    try {
      if (kind === "block-device" || kind === "character-device") {
        await useDevice(file, options);
        return { made: false, identity };
      }
      await file.truncate(0);
      await file.truncate(options.size, options.preallocation ?? "off");
    } catch (error) {
      if (made) await this.remove(name, { identity, openHere: true }).catch(() => undefined);
      throw error;
    } finally {
      await file.close();
    }
    return { made, identity };
  }

  async draft(name: string): Promise<FileDraft | undefined> {
    if (isFdSetName(name)) return undefined;
    const there = await this.#stat("stat", name).catch(() => undefined);
    if (!there || !isReplaceable(there)) return undefined;
    const path = await this.realPath(name);
    const flags = openFlags({ write: true, direct: false });
    const fd = await openDescriptor(name, flags, "create").catch(() => undefined);
    // Who makes it says why it can't be opened.
    if (fd === undefined) return undefined;
    const file = await this.#file(name, fd, { write: true, direct: false });
    let draft: FileDraft | undefined;
    try {
      await lockForCreation(file, name);
      draft = await makeDraft({ path, facts: there, file });
    } finally {
      if (!draft) await file.close().catch(() => undefined);
    }
    return draft;
  }

  async info(name: string, { link = false } = {}): Promise<FileInfo> {
    const facts = isFdSetName(name) ? fdSets.facts(name) : undefined;
    if (facts) return fileInfo(facts, () => name);
    const own = link ? await this.#stat("lstat", name) : undefined;
    const symlink = own !== undefined && isSymlink(own);
    const leadsTo = own && !symlink ? own : await this.#stat("stat", name);
    const info = fileInfo(leadsTo, () => fs.realpathSync(name));
    return link ? { ...info, symlink } : info;
  }

  async realPath(name: string): Promise<string> {
    const path = name === "" ? "." : name;
    return (await this.#lane().make({ call: "realpath", path }, "realpath")) as string;
  }

  async remove(name: string, only?: { identity: string; openHere?: boolean }): Promise<void> {
    if (only) {
      const { identity } = await this.info(name);
      if (identity !== only.identity || (!only.openHere && isOpenHere(identity)))
        throw blockError("EBUSY", "remove", `'${name}' belongs to someone else by now`);
    }
    await new Lane().make({ call: "unlink", path: name }, "remove");
  }

  /** As QEMU: the directory part of `base` before `name`, unchanged, so that messages show it as the user wrote it. */
  resolve(base: string, name: string): string {
    if (path.isAbsolute(name)) return name;
    const slash = Math.max(base.lastIndexOf("/"), path.sep === "/" ? -1 : base.lastIndexOf(path.sep));
    return base.slice(0, slash + 1) + name;
  }

  /** Devices on which no call may be made in turn. */
  get #servedDevices(): ReadonlySet<string> {
    return (this.#served ??= servedDevices());
  }

  /** For calls by a name, which may lead anywhere. */
  #lane(): Lane {
    return new Lane({ inTurn: this.inTurn && this.#servedDevices.size === 0 });
  }

  async #stat(call: "stat" | "lstat", path: string): Promise<FileFacts> {
    return (await this.#lane().make({ call, path }, "stat")) as FileFacts;
  }

  /** On the pool no call here waits for a disk in the caller's turn: the disk may not answer. */
  async #file(
    name: string,
    fd: number,
    { write, direct }: { write: boolean; direct: boolean },
  ): Promise<NodeFile> {
    const lane = this.#lane();
    const facts = (await lane.make({ call: "fstat", fd }, "open")) as FileFacts;
    const alignment = direct ? await directAlignment(lane, fd, facts) : 1;
    const native = this.#native();
    const isServed = this.inTurn && isOn(this.#servedDevices, facts);
    const transfers = await this.#transfers(lane, { fd, facts, native, isPooled: direct || isServed });
    const identity = identityOf(facts, () => (isFdSetName(name) ? name : fs.realpathSync(name)));
    return new NodeFile({
      fd,
      path: name,
      identity,
      alignment,
      direct,
      write,
      transfers,
      inTurn: this.inTurn && !isServed,
      native,
    });
  }

  #transfers(
    lane: Lane,
    {
      isPooled,
      ...file
    }: { fd: number; facts: FileFacts; native: NativeCalls | undefined; isPooled: boolean },
  ): Answer<Transfers> {
    // What goes to a disk itself takes long, and gains by several requests under way.
    if (isPooled) return pooledTransfers;
    return this.inTurn ? inTurnTransfers : pooledOrAtHand(lane, file);
  }
}

/** A device is what it is: as QEMU, only what says which format lies on it is taken away. */
async function useDevice(file: NodeFile, { size, preallocation = "off" }: NewFileOptions): Promise<void> {
  if (preallocation !== "off")
    throw blockError("ENOTSUP", "truncate", `Unsupported preallocation mode '${preallocation}'`);
  const length = await file.size();
  if (size > length) throw blockError("EINVAL", "truncate", "Cannot grow device files");
  if (length > 0) await file.write(new Uint8Array(SECTOR_SIZE), 0);
}

/** Takes the locks under which a file is made anew. Errors: EAGAIN, and EBUSY for a file that this process has open, too. */
async function lockForCreation(file: NodeFile, name: string): Promise<void> {
  await file.lock(creationLock);
  if (file.isOpenElsewhere) throw blockError("EBUSY", "lock", `'${name}' is in use by this program`);
}

/** Opens for creation; `made` tells that the file was not there before. */
async function openNew(name: string, exclusive: boolean, lane: Lane): Promise<{ fd: number; made: boolean }> {
  const flags = openFlags({ write: true, direct: false });
  if (isFdSetName(name)) return { fd: await openDescriptor(name, flags, "create", lane), made: false };
  const { O_CREAT, O_EXCL } = fs.constants;
  try {
    return { fd: await openDescriptor(name, flags | O_CREAT | O_EXCL, "create", lane), made: true };
  } catch (error) {
    if (exclusive || (error as BlockError).code !== "EEXIST") throw error;
  }
  // O_CREAT again: the name may be a symbolic link to a file that is not there yet.
  return { fd: await openDescriptor(name, flags | O_CREAT, "create", lane), made: false };
}

/**
 * Throws ENOSPC where a file that is there can't hold what is to take its place, even once it is emptied. What can't be told (a
 * quota, a file system that compresses or has no count of its room) is not refused.
 */
async function checkRoom(name: string, options: NewFileOptions, lane: Lane): Promise<void> {
  const { size, preallocation = "off", neededBytes = preallocation === "off" ? 0 : size } = options;
  const { mode, blocks } = (await lane.make({ call: "stat", path: name }, "stat")) as FileFacts;
  if ((Number(mode) & fs.constants.S_IFMT) !== fs.constants.S_IFREG) return;
  const free = async (): Promise<number> => {
    const { bsize, bavail, bfree, blocks: all } = await fs.promises.statfs(name);
    return all === 0 ? Number.POSITIVE_INFINITY : bsize * (process.geteuid?.() === 0 ? bfree : bavail);
  };
  // Nor is it while the pool is jammed.
  const asked = lane.make({ call: "native", run: free }, "create");
  const room = await asked.catch(() => Number.POSITIVE_INFINITY);
  if (neededBytes > Number(room) + Number(blocks) * 512) throw blockError("ENOSPC", "create");
}

/** The smallest alignment at which an O_DIRECT read of the file's start works; an empty file can't tell and gets the largest. */
async function directAlignment(lane: Lane, fd: number, { size }: FileFacts): Promise<number> {
  if (size === 0n) return MAX_ALIGNMENT;
  const buffer = new Uint8Array(new WebAssembly.Memory({ initial: 1 }).buffer, 0, PAGE);
  for (const alignment of ALIGNMENTS) {
    try {
      const range = { buffer, at: alignment, bytes: alignment, position: 0 };
      await lane.make({ call: "read", fd, ...range }, "open");
      return alignment;
    } catch {
      // Too small for this device: try the next one.
    }
  }
  return MAX_ALIGNMENT;
}

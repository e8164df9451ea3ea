/**
 * The files of Node. Nothing here may block on what a path happens to name (a FIFO, a dead terminal), so files are opened
 * without waiting. Creating a file takes the image locks first, so that an image in use is never emptied; a file that
 * could not be made whole and was not there before is removed again.
 */
import * as fs from "node:fs";
import * as path from "node:path";
import { type BlockError, blockError } from "../../base/errors.ts";
import type { FileInfo, FileOpenOptions, HostFile, HostFiles } from "../../base/host.ts";
import { openDescriptor, openFlags } from "./descriptor.ts";
import { nodeError, settle } from "./errors.ts";
import { NodeFile } from "./file.ts";
import type { NativeCalls } from "./native.ts";
import { inTurnTransfers, pooledTransfers } from "./transfer.ts";

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
  /** Moves the data of buffered files in the caller's turn; see transfer.ts. */
  inTurn: boolean;
}

/** HostFiles over node:fs. */
export class NodeFiles implements HostFiles {
  readonly inTurn: boolean;
  readonly #native: () => NativeCalls | undefined;

  constructor({ native, inTurn }: NodeFilesInit) {
    this.#native = native;
    this.inTurn = inTurn;
  }

  async open(name: string, options: FileOpenOptions): Promise<HostFile> {
    const direct = options.direct ?? false;
    const fd = await openDescriptor(name, openFlags({ write: options.write, direct }), "open").catch(
      (error: BlockError) => {
        const refusesDirect = direct && error.code === "EINVAL";
        throw refusesDirect ? blockError("EINVAL", "open", "filesystem does not support O_DIRECT") : error;
      },
    );
    return this.#file(name, fd, { write: options.write, direct });
  }

  async create(
    name: string,
    options: { size: number; preallocation?: "off" | "falloc" | "full"; exclusive?: boolean },
  ): Promise<void> {
    const { fd, made } = await openNew(name, options.exclusive ?? false);
    const file = this.#file(name, fd, { write: true, direct: false });
    try {
      await file.lock(creationLock);
      await file.truncate(0);
      await file.truncate(options.size, options.preallocation ?? "off");
      await file.close();
    } catch (error) {
      await file.close().catch(() => undefined);
      if (made) await this.remove(name).catch(() => undefined);
      throw error;
    }
  }

  info(name: string): Promise<FileInfo> {
    return new Promise((resolve, reject) => {
      fs.stat(name, { bigint: true }, (error, stats) => {
        if (error) reject(nodeError(error, "stat"));
        else
          resolve({ kind: kindOf(stats), size: Number(stats.size), identity: `${stats.dev}:${stats.ino}` });
      });
    });
  }

  remove(name: string): Promise<void> {
    return new Promise((resolve, reject) => fs.unlink(name, settle("remove", resolve, reject)));
  }

  /** As QEMU: the directory part of `base` before `name`, unchanged, so that messages show it as the user wrote it. */
  resolve(base: string, name: string): string {
    if (path.isAbsolute(name)) return name;
    const slash = Math.max(base.lastIndexOf("/"), path.sep === "/" ? -1 : base.lastIndexOf(path.sep));
    return base.slice(0, slash + 1) + name;
  }

  #file(name: string, fd: number, { write, direct }: { write: boolean; direct: boolean }): NodeFile {
    const alignment = direct ? directAlignment(fd) : 1;
    // What goes to a disk itself takes long, and gains by several requests under way.
    const transfers = this.inTurn && !direct ? inTurnTransfers : pooledTransfers;
    return new NodeFile({ fd, path: name, alignment, direct, write, transfers, native: this.#native() });
  }
}

/** Opens for creation; `made` tells that the file was not there before. */
async function openNew(name: string, exclusive: boolean): Promise<{ fd: number; made: boolean }> {
  const flags = openFlags({ write: true, direct: false });
  const { O_CREAT, O_EXCL } = fs.constants;
  try {
    return { fd: await openDescriptor(name, flags | O_CREAT | O_EXCL, "create"), made: true };
  } catch (error) {
    if (exclusive || (error as BlockError).code !== "EEXIST") throw error;
  }
  // O_CREAT again: the name may be a symbolic link to a file that is not there yet.
  return { fd: await openDescriptor(name, flags | O_CREAT, "create"), made: false };
}

/** The smallest alignment at which an O_DIRECT read of the file's start works; a file too short to tell gets the largest. */
function directAlignment(fd: number): number {
  if (fs.fstatSync(fd).size < MAX_ALIGNMENT) return MAX_ALIGNMENT;
  const page = new Uint8Array(new WebAssembly.Memory({ initial: 1 }).buffer, 0, PAGE);
  for (const alignment of ALIGNMENTS) {
    try {
      fs.readSync(fd, page, alignment, alignment, 0);
      return alignment;
    } catch {
      // Too small for this device: try the next one.
    }
  }
  return MAX_ALIGNMENT;
}

function kindOf(stats: fs.BigIntStats): FileInfo["kind"] {
  if (stats.isFile()) return "file";
  if (stats.isDirectory()) return "directory";
  if (stats.isBlockDevice()) return "block-device";
  return stats.isCharacterDevice() ? "character-device" : "other";
}

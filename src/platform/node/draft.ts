/**
 * Files that are made beside those whose place they take, so that one that can't be made whole leaves what was there. The name
 * says what it is, for who finds one that a killed program has left: `.NAME.XXXXXXXX.new`.
 *
 * Invariants: the old file stays locked until the new one has its place; the new one has its owner and its permission bits.
 */
import { randomBytes } from "node:crypto";
import * as fs from "node:fs";
import * as path from "node:path";
import { type BlockError, blockError } from "../../base/errors.ts";
import type { FileDraft, HostFile } from "../../base/host.ts";
import type { FileFacts } from "./calls.ts";
import { Descriptor, openDescriptor, openFlags } from "./file.ts";
import { identityOf } from "./open-files.ts";
import { Lane } from "./lanes.ts";

const PERMISSIONS = 0o7777;
/** Bytes of a file's name that go into its draft's, which has more and may have 255. */
const NAME_BYTES = 200;

/** What is there, open and locked. */
interface Old {
  /** Its canonical path. */
  readonly path: string;
  readonly facts: FileFacts;
  readonly file: HostFile;
}

/** Whether a file of these facts can be replaced, and would lose something by being written in place. */
export function isReplaceable({ mode, size, blocks, nlink }: FileFacts): boolean {
  const regular = (Number(mode) & fs.constants.S_IFMT) === fs.constants.S_IFREG;
  return regular && nlink === 1n && (size > 0n || blocks > 0n);
}

/** Makes the empty draft; undefined where it can't have its place or its owner. Errors: ENOSPC and EIO of the file system. */
export async function makeDraft(old: Old): Promise<FileDraft | undefined> {
  const { base, dir } = path.parse(old.path);
  const short = Buffer.from(base)
    .subarray(0, NAME_BYTES)
    .toString()
    .replace(/\uFFFD$/, "");
  const name = path.join(dir, `.${short}.${randomBytes(4).toString("hex")}.new`);
  const lane = new Lane();
  try {
    const flags = openFlags({ write: true, direct: false }) | fs.constants.O_CREAT | fs.constants.O_EXCL;
    await new Descriptor(await openDescriptor(name, flags, "create"), lane).close();
  } catch (error) {
    if (isRefusal(error as BlockError)) return undefined;
    throw error;
  }
  try {
    await takeOver(lane, name, old.facts);
  } catch (error) {
    await lane.make({ call: "unlink", path: name }, "remove").catch(() => undefined);
    if (isRefusal(error as BlockError)) return undefined;
    throw error;
  }
  return new Draft(name, old, lane);
}

function isRefusal({ code }: BlockError): boolean {
  return ["EACCES", "EPERM", "EROFS", "ENOTSUP", "ENAMETOOLONG"].includes(code);
}

/** Gives the new file the other's owner and mode. */
async function takeOver(lane: Lane, name: string, { uid, gid, mode }: FileFacts): Promise<void> {
  const mine = (await lane.make({ call: "stat", path: name }, "create")) as FileFacts;
  if (mine.uid !== uid || mine.gid !== gid)
    await lane.make({ call: "chown", path: name, uid: Number(uid), gid: Number(gid) }, "create");
  await lane.make({ call: "chmod", path: name, mode: Number(mode) & PERMISSIONS }, "create");
}

class Draft implements FileDraft {
  readonly path: string;
  readonly #old: Old;
  readonly #lane: Lane;

  constructor(name: string, old: Old, lane: Lane) {
    this.path = name;
    this.#old = old;
    this.#lane = lane;
  }

  async publish({ durable }: { durable: boolean }): Promise<void> {
    const { path: to, facts, file } = this.#old;
    if (durable) await this.#sync();
    const now = (await this.#lane.make({ call: "stat", path: to }, "create")) as FileFacts;
    const identity = (of: FileFacts): string => identityOf(of, () => to);
    if (identity(now) !== identity(facts))
      throw blockError("EBUSY", "create", `'${to}' is another file by now`);
    await this.#lane.make({ call: "rename", path: this.path, to }, "create");
    await file.close().catch(() => undefined);
  }

  async discard(): Promise<void> {
    await this.#lane.make({ call: "unlink", path: this.path }, "remove").catch(() => undefined);
    await this.#old.file.close().catch(() => undefined);
  }

  /** What the name leads to after a power cut is whole. */
  async #sync(): Promise<void> {
    const flags = openFlags({ write: false, direct: false });
    const descriptor = new Descriptor(await openDescriptor(this.path, flags, "create"), this.#lane);
    try {
      await this.#lane.make({ call: "fsync", fd: descriptor.fd }, "create");
    } finally {
      await descriptor.close();
    }
  }
}

/**
 * Objects in a directory of the file system, a file for each. A new one is written beside the others under `tmp/`, made durable,
 * and linked to its name, which fails if somebody has it: so it is there whole or not at all, also after a power cut. What a
 * killed program has left under `tmp/` is nobody's: a draft's name tells whose it is.
 */
import { createHash, randomBytes } from "node:crypto";
import * as fs from "node:fs/promises";
import * as path from "node:path";
import { blockError, errnoOf } from "../../base/errors.ts";
import type { ObjectInfo, ObjectPlace } from "../../base/objects.ts";
import { nodeError } from "./errors.ts";
import { livenessOf, thisMachine, thisOwner } from "./owner.ts";

const NAME = /^[a-z][\w.-]*(?:\/\w[\w.-]*)*$/i;
const TEMPORARY = "tmp";
/** What a file system that was just made holds. */
const NEW_FILE_SYSTEM = "lost+found";
/** A draft of a process of which nothing is known belongs to nobody who lives after so long, ms. */
const LEFTOVER_MS = 24 * 3600_000;

/** A machine in a file's name. */
function shortened(machine: string): string {
  return createHash("sha256").update(machine).digest("hex").slice(0, 12);
}

/** A draft's name: the machine, the process and its start, and what no other draft has. */
function draftName(): string {
  const { machine, pid, start } = thisOwner();
  return [shortened(machine), pid, start, randomBytes(8).toString("hex")].join("-");
}

function isDraft(name: string): boolean {
  return /^[0-9a-f]{12}-\d+-\d*-[0-9a-f]{16}$/.test(name);
}

/** Whether nobody will finish a draft that was written to last at that time. */
function isLeftover(name: string, changedMs: number): boolean {
  if (Date.now() - changedMs > LEFTOVER_MS) return true;
  const [machine, pid, start = ""] = name.split("-");
  if (machine !== shortened(thisMachine())) return false;
  return livenessOf({ machine: thisMachine(), pid: Number(pid), start, turn: "" }) === "dead";
}

/** A directory of objects. It is made when the first object is put. */
export class ObjectDirectory implements ObjectPlace {
  readonly #root: string;
  readonly #stays: boolean;
  /** Folders that were seen. */
  readonly #seen = new Set<string>();

  /**
   * `stays`: what was seen of it is made no second time, and missed by nobody, but ESTALE: its file system may have gone, and what lies below
   * the place of mounting is no empty directory of objects.
   */
  constructor(root: string, { stays = false } = {}) {
    this.#root = root;
    this.#stays = stays;
  }

  async putIfAbsent(name: string, bytes: Uint8Array): Promise<boolean> {
    return this.#written(name, bytes, async (draft, target) => {
      try {
        await fs.link(draft, target);
        return true;
      } catch (error) {
        if (hasCode(error, "EEXIST")) return false;
        // A file system without links: whoever is between the look and the move makes the same object, or is not there.
        if (!hasCode(error, "EPERM", "ENOTSUP", "EOPNOTSUPP", "ENOSYS")) throw error;
        if (await exists(target)) return false;
        await fs.rename(draft, target);
        return true;
      }
    });
  }

  async put(name: string, bytes: Uint8Array): Promise<void> {
    await this.#written(name, bytes, (draft, target) => fs.rename(draft, target));
  }

  async get(name: string, range?: { offset: number; bytes: number }): Promise<Uint8Array> {
    return named(name, "get", async () => {
      const target = this.#path(name);
      const file = await this.#within(path.dirname(target), () => fs.open(target, "r"));
      try {
        if (!range) return await file.readFile();
        const buffer = new Uint8Array(range.bytes);
        let done = 0;
        while (done < range.bytes) {
          const { bytesRead } = await file.read(buffer, done, range.bytes - done, range.offset + done);
          if (bytesRead === 0) break;
          done += bytesRead;
        }
        return buffer.subarray(0, done);
      } finally {
        await file.close();
      }
    });
  }

  async list(prefix: string, isAsked = (_name: string): boolean => true): Promise<ObjectInfo[]> {
    return named(prefix, "list", async () => {
      const folder = this.#path(prefix.replace(/\/$/, ""));
      const files = await ifThere(this.#within(folder, () => fs.readdir(folder, { withFileTypes: true })));
      const found = files
        .toSorted((a, b) => (a.name < b.name ? -1 : 1))
        .map(async (file): Promise<ObjectInfo[]> => {
          const name = `${prefix}${file.name}`;
          if (file.isFile() && !isAsked(name)) return [{ name, bytes: 0, changedMs: 0 }];
          // It may have been removed meanwhile.
          const facts = await fs.stat(path.join(folder, file.name)).catch(() => undefined);
          return facts?.isFile() ? [{ name, bytes: facts.size, changedMs: facts.mtimeMs }] : [];
        });
      return (await Promise.all(found)).flat();
    });
  }

  async remove(name: string): Promise<void> {
    await named(name, "remove", () => fs.rm(this.#path(name), { force: true }));
  }

  async isEmpty(): Promise<boolean> {
    return named(this.#root, "list", async () => {
      const files = await namesIn(this.#root);
      if (files.some((file) => file !== TEMPORARY && file !== NEW_FILE_SYSTEM)) return false;
      // Drafts of objects that were never there are nothing.
      return !files.includes(TEMPORARY) || (await namesIn(path.join(this.#root, TEMPORARY))).every(isDraft);
    });
  }

  async sweep(): Promise<void> {
    const folder = path.join(this.#root, TEMPORARY);
    for (const file of await fs.readdir(folder).catch(() => [])) {
      const facts = await fs.stat(path.join(folder, file)).catch(() => undefined);
      if (facts && isLeftover(file, facts.mtimeMs))
        await fs.rm(path.join(folder, file), { force: true }).catch(() => undefined);
    }
  }

  #path(name: string): string {
    if (!NAME.test(name)) throw blockError("EINVAL", "object", `'${name}' is no object's name`);
    return path.join(this.#root, name);
  }

  /** Does something in a folder, which is seen by that. Throws ESTALE where what was seen is there no more. */
  async #within<T>(folder: string, body: () => Promise<T>): Promise<T> {
    try {
      const done = await body();
      this.#seen.add(folder).add(this.#root);
      return done;
    } catch (error) {
      if (!this.#stays || !hasCode(error, "ENOENT")) throw error;
      for (const one of this.#seen)
        if (!(await exists(one)))
          throw blockError("ESTALE", "object", `the directory '${this.#root}', or its file system, has gone`);
      throw error;
    }
  }

  #isKept(folder: string): boolean {
    return this.#stays && this.#seen.has(folder);
  }

  /** Writes a draft, and lets `place` give it its name. */
  async #written<T>(
    name: string,
    bytes: Uint8Array,
    place: (draft: string, target: string) => Promise<T>,
  ): Promise<T> {
    const target = this.#path(name);
    return named(name, "put", async () => {
      const folder = path.join(this.#root, TEMPORARY);
      const last = path.dirname(target);
      if (!this.#isKept(this.#root)) await makeFolder(this.#root);
      if (!this.#isKept(folder)) await this.#within(this.#root, () => makeFolder(folder));
      const draft = path.join(folder, draftName());
      try {
        const file = await this.#within(folder, () => fs.open(draft, "wx", 0o600));
        try {
          await file.writeFile(bytes);
          await file.sync();
        } finally {
          await file.close();
        }
        const placed = await this.#within(last, async () => {
          if (!this.#isKept(last)) await makeFolder(last);
          return place(draft, target);
        });
        await syncFolder(last);
        return placed;
      } finally {
        await fs.rm(draft, { force: true }).catch(() => undefined);
      }
    });
  }
}

/** Makes a folder in one that is there. Node's own way to make all of a path never ends in some places (/proc). */
async function makeFolder(folder: string): Promise<void> {
  await fs.mkdir(folder).catch((error: unknown) => {
    if (!hasCode(error, "EEXIST")) throw error;
  });
}

/** What a folder holds; nothing where it is not there. */
function namesIn(folder: string): Promise<string[]> {
  return ifThere(fs.readdir(folder));
}

/** What was read of a folder; nothing where it is not there. */
async function ifThere<T>(reading: Promise<T[]>): Promise<T[]> {
  return reading.catch((error: unknown) => {
    if (hasCode(error, "ENOENT")) return [];
    throw error;
  });
}

function hasCode(error: unknown, ...codes: readonly string[]): boolean {
  return error instanceof Error && "code" in error && codes.includes(String(error.code));
}

async function exists(file: string): Promise<boolean> {
  return fs.stat(file).then(
    () => true,
    () => false,
  );
}

/** What was named in a folder is there after a power cut. Where folders can't be synced the system does it by itself. */
async function syncFolder(folder: string): Promise<void> {
  const handle = await fs.open(folder, "r").catch(() => undefined);
  try {
    await handle?.sync().catch(() => undefined);
  } finally {
    await handle?.close();
  }
}

/** Errors say which object it was. */
async function named<T>(name: string, op: string, body: () => Promise<T>): Promise<T> {
  try {
    return await body();
  } catch (error) {
    const told = nodeError(error, op);
    throw blockError(errnoOf(told), op, `'${name}': ${told.message}`);
  }
}

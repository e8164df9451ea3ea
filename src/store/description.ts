/**
 * What a backup is: the description that is published last, by which its disk is found and its origin told. JSON, with the
 * SHA-256 of itself, so that a torn or edited one is never believed.
 */
import { blockError } from "../base/errors.ts";
import { limits } from "../base/limits.ts";
import { fromHex, HASH_BYTES, hex, type StoreTools } from "./tools.ts";
import { depthOf, type Root } from "./tree.ts";

const VERSION = 1;

/** A backup of one disk at one time. */
export interface Backup {
  /** Its name in the repository: the time it was begun, and random digits. */
  readonly id: string;
  /** When the disk was as it is here, as ISO 8601. */
  readonly time: string;
  /** Its place in the order in which the backups of the repository were made, whatever the clock said; absent: before all that have one. */
  readonly number?: number;
  /** What the disk is called; backups of one name are versions of one disk. */
  readonly name: string;
  /** Bytes of the disk. */
  readonly size: number;
  /** The image it was read from. */
  readonly image: string;
  readonly kind: "full" | "incremental";
  /** The backup that an incremental one was compared with. */
  readonly parent?: string;
  /** The dirty bitmap that said what has changed. */
  readonly bitmap?: string;
  /** Bytes that were read of the disk, and that were added to the repository: content, and as it is stored. */
  readonly readBytes: number;
  readonly newBytes: number;
  readonly storedBytes: number;
  /** SHA-256 of the root of its tree; null: nothing but zeroes. */
  readonly root: string | null;
}

/** The object that describes a backup. */
export function descriptionName(id: string): string {
  return `backups/${id}.json`;
}

/** The root of a backup's tree. */
export function rootOf({ root, size }: Backup): Root {
  return { hash: root === null ? undefined : fromHex(root, HASH_BYTES), depth: depthOf(size) };
}

/** A description as it is kept. */
export function encodeDescription(backup: Backup, sha256: StoreTools["sha256"]): Uint8Array {
  const text = JSON.stringify({ version: VERSION, ...backup });
  const digest = hex(sha256(new TextEncoder().encode(text)));
  return new TextEncoder().encode(`${text}\n${digest}\n`);
}

/** Reads a description. Throws EIO for what is none, and ENOTSUP for one of a later version. */
export function parseDescription(name: string, bytes: Uint8Array, sha256: StoreTools["sha256"]): Backup {
  const refuse = (why: string, code: "EIO" | "ENOTSUP" = "EIO"): never => {
    throw blockError(code, "backup", `'${name}' ${why}`);
  };
  if (bytes.byteLength > limits.storeMaxDescriptionBytes) refuse("is too long for a backup's description");
  const [text = "", digest] = new TextDecoder().decode(bytes).split("\n");
  if (digest !== hex(sha256(new TextEncoder().encode(text))))
    refuse("is damaged: it is not what was written");
  const { version, ...backup } = JSON.parse(text) as Backup & { version: number };
  if (version !== VERSION) refuse(`has version ${version}, which is not known here`, "ENOTSUP");
  if (name !== descriptionName(backup.id) || !isSound(backup)) refuse("describes no backup");
  return backup;
}

function isSound({ id, time, name, size, root, number = 0 }: Backup): boolean {
  if (!Number.isSafeInteger(number) || number < 0) return false;
  const isRoot = root === null || fromHex(root, HASH_BYTES) !== undefined;
  const isSize = Number.isSafeInteger(size) && size >= 0 && size <= limits.maxImageBytes;
  return [id, time, name].every((word) => typeof word === "string" && word !== "") && isSize && isRoot;
}

/** Backups in the order in which they were made, the oldest first. */
export function inOrder<B extends Backup>(backups: readonly B[]): B[] {
  const key = ({ time, id }: Backup): string => `${time} ${id}`;
  return backups.toSorted((a, b) => (a.number ?? 0) - (b.number ?? 0) || (key(a) < key(b) ? -1 : 1));
}

/** The number of the next backup. */
export function nextNumber(all: readonly Backup[]): number {
  return 1 + all.reduce((most, { number = 0 }) => Math.max(most, number), 0);
}

/**
 * The backup that a user means: its id, the beginning of one, `latest`, or a disk's name with `@latest`. Throws ENOENT, and
 * EINVAL where several begin like that.
 */
export function findBackup<B extends Backup>(all: readonly B[], word: string): B {
  const [, disk, latest] = /^(?:(.*)@)?(latest)$/s.exec(word) ?? [];
  const fits = latest
    ? all.filter(({ name }) => disk === undefined || name === disk).slice(-1)
    : all.filter(({ id }) => word !== "" && id.startsWith(word));
  const exact = fits.find(({ id }) => id === word);
  if (exact) return exact;
  if (fits.length > 1)
    throw blockError("EINVAL", "backup", `'${word}' is the beginning of ${fits.length} backups`);
  const [only] = fits;
  if (!only) {
    const isDisk = all.some(({ name }) => name === word);
    const hint = isDisk ? `: '${word}@latest' is the newest of the disk '${word}'` : "";
    throw blockError("ENOENT", "backup", `there is no backup '${word}'${hint}`);
  }
  return only;
}

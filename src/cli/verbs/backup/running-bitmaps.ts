/**
 * What a backup of a running program's disk does to its bitmaps, as actions of a transaction over there.
 *
 * Invariant: at each moment what the bitmaps of the disk say is since a backup that they name, or they say that nothing is known: whoever
 * dies, the next run reads all that has changed.
 */
import { type BitmapState, frozenFor, frozenOf, markOf, marksOf } from "../../../api/turn-bitmap.ts";

/** A bitmap over there. */
export interface RunningBitmap extends BitmapState {
  readonly persistent: boolean;
  readonly granularity: number;
}

/** A disk over there, and the bitmap that records for its backups. */
export interface RecordedDisk {
  readonly node: string;
  readonly bitmaps: readonly RunningBitmap[];
  /** What its backup will be called. */
  readonly id: string;
}

/** Of a transaction. */
export type Action = { readonly type: string; readonly data: object };

/**
 * The next transaction that ends what a run that was killed has begun with a disk's bitmap, and takes away a bitmap that nobody can use;
 * undefined: there is nothing of the kind. (In one transaction QEMU does not give the name of a bitmap that goes to another one.)
 */
export function thawing(
  { node, bitmaps }: Omit<RecordedDisk, "id">,
  name: string,
  isPublished: (id: string) => boolean,
): Action[] | undefined {
  const bitmap = bitmaps.find((one) => one.name === name);
  const [frozen] = frozenFor(bitmaps, name);
  const marks = withoutMarks({ node, bitmaps }, name);
  if (bitmap?.inconsistent) return [...marks, remove(node, name)];
  if (!frozen) return undefined;
  const gone = remove(node, frozen.name);
  const { backup, persistent } = frozen;
  // With a part of what changed lost, the rest is since no backup.
  if (!bitmap) return [...marks, gone];
  if (isPublished(backup))
    return [...marks, add(node, markOf(name, backup), { disabled: true, persistent }), gone];
  return frozen.inconsistent ? [...marks, gone] : [merge(node, name, frozen.name), gone];
}

/** The name under which what changed before the backup is kept; undefined: that is not known. */
export function frozenIn({ bitmaps, id }: RecordedDisk, name: string): string | undefined {
  return bitmaps.some((one) => one.name === name) ? frozenOf(name, id) : undefined;
}

/** At the moment of the backup, after thawing: the bitmap records anew. */
export function turning({ node, bitmaps, id }: RecordedDisk, name: string): Action[] {
  const bitmap = bitmaps.find((one) => one.name === name);
  const marks = withoutMarks({ node, bitmaps }, name);
  // A mark without its bitmap was left by somebody else.
  if (!bitmap) return [...marks, add(node, name, { persistent: true })];
  const { persistent, granularity } = bitmap;
  const frozen = frozenOf(name, id);
  return [
    add(node, frozen, { persistent, granularity, disabled: true }),
    merge(node, frozen, name),
    on("clear", node, name),
    // One that was off has missed changes: no mark says since when it records.
    ...(bitmap.recording ? [] : [...marks, on("enable", node, name)]),
  ];
}

/** The backup is there: the bitmap, as it was found before, counts from it. */
export function turned(disk: RecordedDisk, name: string): Action[] {
  const { node, bitmaps, id } = disk;
  const frozen = frozenIn(disk, name);
  const hasMarks = bitmaps.some((one) => one.name === name && one.recording);
  return [
    ...(frozen === undefined ? [] : [remove(node, frozen)]),
    ...(hasMarks ? withoutMarks(disk, name) : []),
    add(node, markOf(name, id), { persistent: true, disabled: true }),
  ];
}

/** There is no backup: what the bitmap had recorded before is its own again. */
export function givenBack(disk: RecordedDisk, name: string): Action[] {
  const frozen = frozenIn(disk, name);
  return frozen === undefined ? [] : [merge(disk.node, name, frozen), remove(disk.node, frozen)];
}

function withoutMarks({ node, bitmaps }: Omit<RecordedDisk, "id">, name: string): Action[] {
  return marksOf(bitmaps, name).map((mark) => remove(node, mark.name));
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
  return on("remove", node, name);
}

function on(what: "remove" | "clear" | "enable", node: string, name: string): Action {
  return { type: `block-dirty-bitmap-${what}`, data: { node, name } };
}

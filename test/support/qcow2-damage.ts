// Damages a good qcow2 image in ways that its structure suggests, or by random bytes in its metadata. One seed, one damage.
import type { Places } from "./qcow2-structure.ts";

/** Draws 0 <= n < limit. */
type Random = (limit: number) => number;

/** An image to be damaged. */
interface Patient {
  /** May be replaced by a shorter one. */
  image: Buffer;
  readonly places: Places;
  readonly random: Random;
}

/** A way to damage an image; false: there is nothing of this kind in it. */
type Damage = (patient: Patient) => boolean;

const COPIED = 1n << 63n;
const COMPRESSED = 1n << 62n;
const OFFSET_MASK = 0x00fffffffffffe00n;

function pick<T>(random: Random, items: readonly T[]): T | undefined {
  return items[random(items.length)];
}

function change(image: Buffer, at: number, edit: (value: bigint) => bigint): boolean {
  if (at + 8 > image.length) return false;
  image.writeBigUInt64BE(BigInt.asUintN(64, edit(image.readBigUInt64BE(at))), at);
  return true;
}

/** An offset that an entry should not have: another cluster's, unaligned, at the end, beyond it, far beyond it. */
function badOffset({ image, places, random }: Patient): bigint {
  const { clusterSize } = places;
  const clusters = Math.ceil(image.length / clusterSize);
  const somewhere = random(clusters) * clusterSize;
  switch (random(8)) {
    case 0:
      return BigInt(somewhere + 512 * random(Math.max(1, clusterSize / 512)));
    case 1:
      return BigInt(clusters * clusterSize);
    case 2:
      return BigInt((clusters + 1 + random(5)) * clusterSize);
    case 3:
      return BigInt((clusters + random(2 ** 20)) * clusterSize);
    case 4:
      return (BigInt(random(2 ** 20)) << 32n) & OFFSET_MASK;
    case 5:
      return BigInt(random(3) * clusterSize);
    default:
      return BigInt(somewhere);
  }
}

/** A damage to one 64-bit entry out of a list. */
function entry(
  list: (places: Places) => readonly number[],
  edit: (value: bigint, patient: Patient) => bigint,
): Damage {
  return (patient) => {
    const at = pick(patient.random, list(patient.places));
    return at !== undefined && change(patient.image, at, (value) => edit(value, patient));
  };
}

const newOffset = (value: bigint, patient: Patient): bigint => (value & ~OFFSET_MASK) | badOffset(patient);
const flipCopied = (value: bigint): bigint => value ^ COPIED;

/** A refcount, of any width, becomes another. */
function refcount({ image, places, random }: Patient): boolean {
  const { refcountBits, clusterSize } = places;
  const block = pick(random, places.refcountBlocks);
  if (block === undefined) return false;
  const inUse = Math.min(Math.ceil(image.length / clusterSize) + 3, (clusterSize * 8) / refcountBits);
  const index = random(inUse);
  const at = block + Math.floor((index * refcountBits) / 8);
  if (at + refcountBits / 8 > image.length) return false;
  if (refcountBits < 8) {
    image.writeUInt8(image.readUInt8(at) ^ (1 << random(8)), at);
    return true;
  }
  const low = at + refcountBits / 8 - 1;
  const value = image.readUInt8(low);
  image.writeUInt8([0, 1, 2, value + 1, Math.max(0, value - 1), random(256)][random(6)]! & 255, low);
  return true;
}

/** A number in the header becomes another. */
function headerField({ image, random }: Patient): boolean {
  const fields = [24, 36, 40, 48, 56, 60, 64, 72, 76, 80, 88, 92, 96, 100, 104];
  const at = pick(random, fields)! + random(8);
  image.writeUInt8([0, 1, 2, 0x80, 0xff, random(256)][random(6)]!, at);
  return true;
}

function incompatibleBit(bit: number): Damage {
  return ({ image, places }) => {
    if (places.version < 3) return false;
    image.writeUInt8(image.readUInt8(79) | bit, 79);
    return true;
  };
}

function truncated(patient: Patient): boolean {
  const { image, random, places } = patient;
  const least = Math.min(places.clusterSize, image.length);
  const length = least + random(image.length - least + 1);
  patient.image = image.subarray(0, random(2) ? length - (length % places.clusterSize) : length);
  return true;
}

/** Fields of a snapshot's entry: L1 offset and size, lengths of id, name and extra data. */
function snapshotField({ image, places, random }: Patient): boolean {
  const snapshot = pick(random, places.snapshots);
  if (!snapshot) return false;
  const at = snapshot.at + pick(random, [0, 4, 6, 7, 8, 10, 11, 12, 13, 14, 15, 36, 38, 39, 40, 47, 55])!;
  if (at >= image.length) return false;
  image.writeUInt8([0, 1, 8, 16, 0x80, random(256)][random(6)]!, at);
  return true;
}

/** Fields of a bitmap's entry, or of the header's extension for bitmaps. */
function bitmapField({ image, places, random }: Patient): boolean {
  const bitmap = pick(random, places.bitmaps);
  if (bitmap === undefined) return false;
  const place = random(3) === 0 ? places.bitmapExtension + random(24) : bitmap + random(32);
  if (place >= image.length) return false;
  image.writeUInt8([0, 1, 2, 0x80, 0xff, random(256)][random(6)]!, place);
  return true;
}

/** A compressed cluster's place or length. */
const compressedEntry = entry(
  ({ compressed }) => compressed,
  (value, { random, image, places }) => {
    const bits = BigInt(62 - (Math.log2(places.clusterSize) - 8));
    const offsetMask = (1n << bits) - 1n;
    if (random(4) === 0) return value ^ COPIED;
    if (random(3) === 0) return value | (((1n << (62n - bits)) - 1n) << bits);
    const offset = random(2)
      ? BigInt(image.length + random(4) * places.clusterSize)
      : BigInt(random(image.length));
    return (value & ~offsetMask) | (offset & offsetMask);
  },
);

const subclusters: Damage = (patient) => {
  const { places, random, image } = patient;
  if (places.entryBytes === 8) return false;
  const at = pick(random, [...places.normal, ...places.zero, ...places.unallocated.slice(0, 40)]);
  if (at === undefined) return false;
  return change(
    image,
    at + 8,
    (value) => value ^ (1n << BigInt(random(64))) ^ (random(2) ? 1n << BigInt(random(64)) : 0n),
  );
};

/** Random bytes somewhere in tables that are in use. */
function randomBytes({ image, places, random }: Patient): boolean {
  const table = pick(random, [
    ...places.l2Tables,
    ...places.refcountBlocks,
    places.l1[0]!,
    places.refcountTable[0]!,
    ...places.snapshots.map(({ at }) => at),
    ...places.bitmaps,
  ])!;
  for (let left = 1 + random(4); left > 0; left--) {
    const at = table + random(Math.min(places.clusterSize, 400));
    if (at < image.length) image.writeUInt8(random(256), at);
  }
  return true;
}

const inTables = ({ normal, zero }: Places): readonly number[] => [...normal, ...zero];

/** All ways, those that are likelier more than once. */
const damages: Record<string, Damage> = {
  "a refcount": refcount,
  "another refcount": refcount,
  "a third refcount": refcount,
  "an L1 entry's offset": entry(({ l1 }) => l1, newOffset),
  "an L1 entry's COPIED flag": entry(({ l1 }) => l1, flipCopied),
  "reserved bits of an L1 entry": entry(
    ({ l1 }) => l1,
    (value, { random }) => value | (1n << BigInt(56 + random(7))),
  ),
  "an L2 entry's offset": entry(({ normal }) => normal, newOffset),
  "another L2 entry's offset": entry(({ normal }) => normal, newOffset),
  "an L2 entry's COPIED flag": entry(inTables, flipCopied),
  "reserved bits of an L2 entry": entry(
    inTables,
    (value, { random }) => value | (1n << BigInt(56 + random(6))),
  ),
  "low bits of an L2 entry": entry(inTables, (value, { random }) => value | BigInt(2 << random(8))),
  "an L2 entry dropped": entry(
    ({ normal }) => normal,
    () => 0n,
  ),
  "an L2 entry twice": (patient) => {
    const from = pick(patient.random, inTables(patient.places));
    const to = pick(patient.random, inTables(patient.places));
    if (from === undefined || to === undefined || from + 8 > patient.image.length) return false;
    const value = patient.image.readBigUInt64BE(from);
    return change(patient.image, to, () => value);
  },
  "a zero cluster with a place": entry(
    ({ zero }) => zero,
    (_value, patient) => badOffset(patient) | 1n,
  ),
  "a zero flag": entry(
    ({ normal }) => normal,
    (value) => value ^ 1n,
  ),
  "an unallocated entry with something": entry(
    ({ unallocated }) => unallocated.slice(0, 64),
    (_value, patient) => badOffset(patient) | (patient.random(2) ? COPIED : 0n),
  ),
  "a compressed entry": compressedEntry,
  "a cluster said to be compressed": entry(
    ({ normal }) => normal,
    (value) => value | COMPRESSED,
  ),
  "a subcluster bitmap": subclusters,
  "a refcount block's place": entry(
    ({ refcountTable }) => refcountTable.slice(0, 4),
    (_value, patient) => badOffset(patient),
  ),
  "a hole in the refcount table": entry(
    ({ refcountTable }) => refcountTable.slice(0, 4),
    () => 0n,
  ),
  "a refcount block shared": (patient) => {
    const { places, image } = patient;
    const first = image.readBigUInt64BE(places.refcountTable[0]);
    return change(image, places.refcountTable[1 + patient.random(2)]!, () => first);
  },
  "reserved bits in the refcount table": entry(
    ({ refcountTable }) => refcountTable.slice(0, 4),
    (value, { random }) => value | BigInt(1 << random(9)),
  ),
  "a snapshot's entry": snapshotField,
  "a snapshot's L1 entry": (patient) => {
    const snapshot = pick(patient.random, patient.places.snapshots);
    const at = snapshot && pick(patient.random, snapshot.l1);
    return at !== undefined && change(patient.image, at, (value) => newOffset(value, patient));
  },
  "a bitmap's entry": bitmapField,
  "a bitmap table's entry": entry(
    ({ bitmapTables }) => bitmapTables,
    (_value, patient) => badOffset(patient),
  ),
  "a shorter file": truncated,
  "the dirty bit": incompatibleBit(1),
  "the corrupt bit": incompatibleBit(2),
  "random bytes": randomBytes,
  "more random bytes": randomBytes,
  "the header": headerField,
};

/** A damaged copy, and what was done to it. */
export function damagedCopy(
  original: Buffer,
  places: Places,
  random: Random,
): { image: Buffer; what: string[] } {
  const patient: Patient = { image: Buffer.from(original), places, random };
  const names = Object.keys(damages);
  const what: string[] = [];
  // One image in twelve stays good.
  for (let left = random(12) === 0 ? 0 : 1 + random(2) * random(3); left > 0;) {
    const name = pick(random, names)!;
    if (!damages[name]!(patient)) continue;
    what.push(name);
    left -= 1;
  }
  return { image: patient.image, what };
}

/**
 * Header extensions of qcow2: the records between the header and the backing file name. Records that we do not know are
 * kept byte for byte and written back. Source: qcow2.txt, "Header extensions", "Feature name table".
 */
import { decodeName, encodeName } from "../../../../base/names.ts";
import { ImageError } from "../../../../base/errors.ts";

/** Extension types. */
export const Extension = {
  end: 0,
  backingFormat: 0xe2792aca,
  featureNames: 0x6803f857,
  bitmaps: 0x23852875,
  encryption: 0x0537be77,
  dataFile: 0x44415441,
  /** Ours ("bwOv"): what an overlay was made over (metadata/write-back.ts). QEMU keeps what it doesn't know. */
  madeOver: 0x62774f76,
} as const;

/** Values of the header's crypt_method. */
export const CryptMethod = { none: 0, aes: 1, luks: 2 } as const;

/** One record. */
export interface HeaderExtension {
  readonly type: number;
  readonly data: Uint8Array;
}

/** An entry of the feature name table. */
export interface FeatureName {
  /** 0 incompatible, 1 compatible, 2 autoclear. */
  readonly type: number;
  readonly bit: number;
  readonly name: string;
}

const FEATURE_BYTES = 48;
const MAX_FORMAT_NAME = 15;

/** Throws for the name of a backing format of more bytes than a header may have: nobody would open the image. */
export function checkFormatName(bytes: number): void {
  if (bytes <= MAX_FORMAT_NAME) return;
  const message = `ERROR: ext_backing_format: len=${bytes} too large (>=16)`;
  throw new ImageError({ structure: "header extension", field: "backing format", message });
}

/** The names that we write into new images, as QEMU 7.2 does. */
export const knownFeatures: readonly FeatureName[] = [
  { type: 0, bit: 0, name: "dirty bit" },
  { type: 0, bit: 1, name: "corrupt bit" },
  { type: 0, bit: 2, name: "external data file" },
  { type: 0, bit: 3, name: "compression type" },
  { type: 0, bit: 4, name: "extended L2 entries" },
  { type: 1, bit: 0, name: "lazy refcounts" },
  { type: 2, bit: 0, name: "bitmaps" },
  { type: 2, bit: 1, name: "raw external data" },
];

/** What is read once: of two such records the later one counts. */
const KNOWN: ReadonlySet<number> = new Set(Object.values(Extension));

function tooLarge(): never {
  const message = "Header extension too large";
  throw new ImageError({ structure: "header extension", field: "length", message });
}

/**
 * Parses the records of a first cluster between `from` (the header's end) and `to` (the backing name or the cluster's end).
 * Throws ImageError for a record that does not end there, its own head included.
 */
export function parseExtensions(
  cluster: Uint8Array,
  { from, to }: { from: number; to: number },
): HeaderExtension[] {
  const view = new DataView(cluster.buffer, cluster.byteOffset, cluster.byteLength);
  let extensions: HeaderExtension[] = [];
  let at = from;
  while (at < to) {
    if (at + 8 > to) tooLarge();
    const type = view.getUint32(at);
    const bytes = view.getUint32(at + 4);
    at += 8;
    if (bytes > to - at) tooLarge();
    if (type === Extension.end) break;
    if (type === Extension.backingFormat) checkFormatName(bytes);
    if (KNOWN.has(type)) extensions = extensions.filter((earlier) => earlier.type !== type);
    extensions.push({ type, data: cluster.slice(at, at + bytes) });
    at += Math.ceil(bytes / 8) * 8;
  }
  return extensions;
}

/** The records with their end mark, each padded to 8 bytes. */
export function serializeExtensions(extensions: readonly HeaderExtension[]): Uint8Array {
  const total = extensions.reduce((sum, { data }) => sum + 8 + Math.ceil(data.byteLength / 8) * 8, 8);
  const out = new Uint8Array(total);
  const view = new DataView(out.buffer);
  let at = 0;
  for (const { type, data } of extensions) {
    view.setUint32(at, type);
    view.setUint32(at + 4, data.byteLength);
    out.set(data, at + 8);
    at += 8 + Math.ceil(data.byteLength / 8) * 8;
  }
  return out;
}

/** The feature name table in `data`: up to the first entry without a name; what the last one lacks are zeroes. */
export function parseFeatureNames(data: Uint8Array): FeatureName[] {
  const names: FeatureName[] = [];
  for (let at = 0; at + 2 < data.byteLength; at += FEATURE_BYTES) {
    const text = data.subarray(at + 2, at + FEATURE_BYTES);
    const end = text.indexOf(0);
    const name = decodeName(end < 0 ? text : text.subarray(0, end));
    if (name === "") break;
    names.push({ type: data[at] as number, bit: data[at + 1] as number, name });
  }
  return names;
}

/** Puts the names of the features that we know among the records, in the place of those that there are, or takes them out. */
export function withFeatureNames(
  extensions: readonly HeaderExtension[],
  present: boolean,
): HeaderExtension[] {
  const others = extensions.filter(({ type }) => type !== Extension.featureNames);
  if (!present) return others;
  return [...others, { type: Extension.featureNames, data: serializeFeatureNames(knownFeatures) }];
}

/** The table as a record's data. */
export function serializeFeatureNames(names: readonly FeatureName[]): Uint8Array {
  const out = new Uint8Array(names.length * FEATURE_BYTES);
  names.forEach(({ type, bit, name }, index) => {
    const at = index * FEATURE_BYTES;
    out[at] = type;
    out[at + 1] = bit;
    out.set(encodeName(name).subarray(0, FEATURE_BYTES - 2), at + 2);
  });
  return out;
}

/** QEMU's words for incompatible bits that are set but not known: their names out of the image, or the mask in hex. */
export function unsupportedFeatures(bits: bigint, names: readonly FeatureName[]): string {
  const words: string[] = [];
  let rest = bits;
  for (const { type, bit, name } of names) {
    if (type !== 0 || !(rest & (1n << BigInt(bit)))) continue;
    words.push(name);
    rest &= ~(1n << BigInt(bit));
  }
  if (rest) words.push(`Unknown incompatible feature: ${rest.toString(16)}`);
  return `Unsupported qcow2 feature(s): ${words.join(", ")}`;
}

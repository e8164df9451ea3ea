/**
 * The qcow2 header: parsing with every check that needs no other I/O, and the bytes of the first cluster for writing.
 * Limits are checked here, before anything is allocated. Source: qcow2.txt, "Header"; messages as QEMU 7.2.
 */
import { decodeName, encodeName } from "../../../../base/names.ts";
import { type Errno } from "../../../../base/errno.ts";
import { ImageError } from "../../../../base/errors.ts";
import { limits, SECTOR_SIZE } from "../../../../base/limits.ts";
import {
  CryptMethod,
  checkFormatName,
  Extension,
  type HeaderExtension,
  parseExtensions,
  parseFeatureNames,
  serializeExtensions,
  unsupportedFeatures,
} from "./header-extensions.ts";
import {
  HEADER_BYTES_V2,
  HEADER_BYTES_V3,
  HEADER_BYTES_WRITTEN,
  Incompatible,
  MAGIC,
  readU64,
  writeU64,
} from "./layout.ts";

/** The header in memory. Offsets and sizes in bytes. */
export interface Header {
  version: 2 | 3;
  backingFile: string | undefined;
  backingFormat: string | undefined;
  /** Where the backing name lies in the first cluster; 0 = none. */
  backingOffset: number;
  clusterBits: number;
  /** Virtual size as stored. */
  size: number;
  /** See CryptMethod. */
  cryptMethod: number;
  l1Size: number;
  l1Offset: number;
  refcountTableOffset: number;
  refcountTableClusters: number;
  snapshotCount: number;
  snapshotsOffset: number;
  incompatible: bigint;
  compatible: bigint;
  autoclear: bigint;
  refcountOrder: number;
  /** 0 zlib, 1 zstd. */
  compressionType: number;
  headerLength: number;
  /** Header bytes after those that we know, kept. */
  readonly unknownFields: Uint8Array;
  extensions: HeaderExtension[];
}

function fail(field: string, message: string, code: Errno = "EINVAL"): never {
  throw new ImageError({ structure: "header", field, message, code });
}

/** Cluster bits of the header in `head` (>= 72 bytes), checked; enough to know how much to read for `parseHeader`. */
export function headerClusterBits(head: Uint8Array): number {
  const view = new DataView(head.buffer, head.byteOffset, head.byteLength);
  if (view.getUint32(0) !== MAGIC) {
    fail("magic", "Image is not in qcow2 format");
  }
  const version = view.getUint32(4);
  if (version !== 2 && version !== 3) fail("version", `Unsupported qcow2 version ${version}`, "ENOTSUP");
  const clusterBits = view.getUint32(20);
  if (clusterBits < limits.qcow2MinClusterBits || clusterBits > limits.qcow2MaxClusterBits) {
    fail("cluster_bits", `Unsupported cluster size: 2^${clusterBits}`);
  }
  return clusterBits;
}

/** Parses the first cluster of an image, zero-filled beyond a shorter file. Throws ImageError in QEMU's words. */
export function parseHeader(cluster: Uint8Array): Header {
  const clusterBits = headerClusterBits(cluster);
  const view = new DataView(cluster.buffer, cluster.byteOffset, cluster.byteLength);
  const version = view.getUint32(4) as 2 | 3;
  const v3 = version === 3 ? parseVersion3(view, clusterBits) : version2Fields;
  const header: Header = {
    version,
    backingFile: undefined,
    backingFormat: undefined,
    backingOffset: readU64(view, 8),
    clusterBits,
    size: readU64(view, 24),
    cryptMethod: view.getUint32(32),
    l1Size: view.getUint32(36),
    l1Offset: readU64(view, 40),
    refcountTableOffset: readU64(view, 48),
    refcountTableClusters: view.getUint32(56),
    snapshotCount: view.getUint32(60),
    snapshotsOffset: readU64(view, 64),
    ...v3,
    compressionType: v3.headerLength > HEADER_BYTES_V3 ? view.getUint8(HEADER_BYTES_V3) : 0,
    unknownFields: cluster.slice(HEADER_BYTES_WRITTEN, Math.max(v3.headerLength, HEADER_BYTES_WRITTEN)),
    extensions: [],
  };
  readVariablePart(header, cluster);
  checkFeatures(header);
  checkEncryption(header);
  checkTables(header);
  return header;
}

type VersionFields = Pick<
  Header,
  "incompatible" | "compatible" | "autoclear" | "refcountOrder" | "headerLength"
>;

const version2Fields: VersionFields = {
  incompatible: 0n,
  compatible: 0n,
  autoclear: 0n,
  refcountOrder: 4,
  headerLength: HEADER_BYTES_V2,
};

function parseVersion3(view: DataView, clusterBits: number): VersionFields {
  const headerLength = view.getUint32(100);
  if (headerLength < HEADER_BYTES_V3) fail("header_length", "qcow2 header too short");
  if (headerLength > 2 ** clusterBits) fail("header_length", "qcow2 header exceeds cluster size");
  return {
    incompatible: view.getBigUint64(72),
    compatible: view.getBigUint64(80),
    autoclear: view.getBigUint64(88),
    refcountOrder: view.getUint32(96),
    headerLength,
  };
}

function readVariablePart(header: Header, cluster: Uint8Array): void {
  const clusterSize = 2 ** header.clusterBits;
  const { backingOffset, headerLength } = header;
  if (backingOffset > clusterSize) fail("backing_file_offset", "Invalid backing file offset");
  const areaEnd = Math.min(backingOffset || clusterSize, cluster.byteLength);
  header.extensions = parseExtensions(cluster, { from: headerLength, to: areaEnd });
  const format = header.extensions.find(({ type }) => type === Extension.backingFormat);
  if (format) header.backingFormat = text(format.data);
  if (backingOffset === 0) return;
  const view = new DataView(cluster.buffer, cluster.byteOffset, cluster.byteLength);
  const bytes = view.getUint32(16);
  if (bytes > Math.min(limits.maxBackingNameBytes, clusterSize - backingOffset)) {
    fail("backing_file_size", "Backing file name too long");
  }
  const name = text(cluster.subarray(backingOffset, backingOffset + bytes));
  if (name !== "") header.backingFile = name;
}

/** A name as QEMU takes it: up to the first NUL. */
function text(bytes: Uint8Array): string {
  const end = bytes.indexOf(0);
  return decodeName(end < 0 ? bytes : bytes.subarray(0, end));
}

const KNOWN_INCOMPATIBLE = BigInt(
  Incompatible.dirty |
    Incompatible.corrupt |
    Incompatible.dataFile |
    Incompatible.compressionType |
    Incompatible.extendedL2,
);

function checkFeatures(header: Header): void {
  checkCompression(header);
  const unknown = header.incompatible & ~KNOWN_INCOMPATIBLE;
  if (unknown) {
    const table = header.extensions.find(({ type }) => type === Extension.featureNames);
    const names = table ? parseFeatureNames(table.data) : [];
    fail("incompatible_features", unsupportedFeatures(unknown, names), "ENOTSUP");
  }
  if (hasSubclusters(header) && header.clusterBits < limits.qcow2MinExtendedClusterBits) {
    fail("cluster_bits", `Unsupported subcluster size: ${2 ** header.clusterBits / 32}`);
  }
  if (header.refcountOrder > 6) {
    fail("refcount_order", "Reference count entry width too large; may not exceed 64 bits");
  }
}

function checkCompression({ compressionType: compression, incompatible }: Header): void {
  const bits = Number(incompatible);
  if (compression > 1)
    fail("compression_type", "qcow2: unknown compression type: " + String(compression), "ENOTSUP");
  if (compression === 1 && !(bits & Incompatible.compressionType)) {
    fail("compression_type", "qcow2: Compression type incompatible feature bit must be set");
  }
  if (compression === 0 && bits & Incompatible.compressionType) {
    fail("compression_type", "qcow2: Compression type incompatible feature bit must not be set");
  }
}

function checkEncryption(header: Header): void {
  const { cryptMethod } = header;
  if (cryptMethod > CryptMethod.luks)
    fail("crypt_method", `Unsupported encryption method ${cryptMethod | 0}`);
  const place = header.extensions.some(({ type }) => type === Extension.encryption);
  if (place && cryptMethod !== CryptMethod.luks) {
    fail("crypt_method", "CRYPTO header extension only expected with LUKS encryption method");
  }
  if (!place && cryptMethod === CryptMethod.luks) {
    fail("crypt_method", `Missing CRYPTO header for crypt method ${cryptMethod}`);
  }
}

function checkTables(header: Header): void {
  const clusterSize = 2 ** header.clusterBits;
  if (header.size > limits.maxImageBytes) fail("size", "Image is too big", "EFBIG");
  if (header.refcountTableClusters === 0) {
    fail("refcount_table_clusters", "Image does not contain a reference count table");
  }
  const refcountTableBytes = header.refcountTableClusters * clusterSize;
  checkTable(header, "Reference count table", {
    field: "refcount_table_offset",
    offset: header.refcountTableOffset,
    bytes: refcountTableBytes,
    limit: limits.qcow2MaxRefcountTableBytes,
  });
  checkTable(header, "Active L1 table", {
    field: "l1_table_offset",
    offset: header.l1Offset,
    bytes: header.l1Size * 8,
    limit: limits.qcow2MaxL1Bytes,
  });
  const entryBytes = hasSubclusters(header) ? 16 : 8;
  const needed = Math.ceil(header.size / (clusterSize * (clusterSize / entryBytes)));
  if (needed > 2 ** 31 - 1) fail("size", "Image is too big", "EFBIG");
  if (header.l1Size < needed) fail("l1_size", "L1 table is too small");
  checkDistinct(header, refcountTableBytes, clusterSize);
}

/** Throws ImageError unless the snapshot table is where one may be. A check wants to see the image even so. */
export function checkSnapshotPlace(header: Header): void {
  const { snapshotCount, snapshotsOffset: offset } = header;
  const structure = "snapshot table";
  if (snapshotCount > limits.qcow2MaxSnapshots)
    throw new ImageError({
      structure,
      field: "nb_snapshots",
      code: "EFBIG",
      message: "Snapshot table too large",
    });
  checkTable(header, "Snapshot table", {
    structure,
    field: "snapshots_offset",
    offset,
    bytes: snapshotCount * 40,
    limit: limits.qcow2MaxSnapshots * 40,
  });
}

interface TableCheck {
  structure?: string;
  field: string;
  offset: number;
  bytes: number;
  limit: number;
}

/** Throws ImageError unless a table may be this long and lie there. */
function checkTable(
  { clusterBits }: Header,
  name: string,
  { structure = "header", field, offset, bytes, limit }: TableCheck,
): void {
  const clusterSize = 2 ** clusterBits;
  if (bytes > limit) throw new ImageError({ structure, field, message: `${name} too large`, code: "EFBIG" });
  const aligned = offset % clusterSize === 0;
  const inRange = offset + bytes <= limits.maxImageBytes;
  const present = bytes === 0 || offset >= clusterSize;
  if (!aligned || !inRange || !present)
    throw new ImageError({ structure, field, message: `${name} offset invalid` });
}

/** The L1 table and the refcount table may not share a byte: updating one would destroy the other. */
function checkDistinct(header: Header, refcountTableBytes: number, clusterSize: number): void {
  const l1End = header.l1Offset + Math.ceil((header.l1Size * 8) / clusterSize) * clusterSize;
  const tableEnd = header.refcountTableOffset + refcountTableBytes;
  if (header.l1Size > 0 && header.l1Offset < tableEnd && header.refcountTableOffset < l1End) {
    fail("l1_table_offset", "Active L1 table overlaps with the reference count table");
  }
}

/** Whether L2 entries are extended. */
export function hasSubclusters(header: Header): boolean {
  return (Number(header.incompatible) & Incompatible.extendedL2) !== 0;
}

/** The virtual size in whole sectors, bytes. */
export function virtualSize(header: Header): number {
  return header.size - (header.size % SECTOR_SIZE);
}

/** Sets, replaces or (undefined) removes the backing format, in the header and among its extensions. Throws ImageError for more than 15 bytes. */
export function setBackingFormat(header: Header, format: string | undefined): void {
  const data = encodeName(format ?? "");
  checkFormatName(data.byteLength);
  header.backingFormat = format;
  const others = header.extensions.filter(({ type }) => type !== Extension.backingFormat);
  const own = { type: Extension.backingFormat, data };
  header.extensions = format === undefined ? others : [own, ...others];
}

/** What the variable part of a header takes; throws ENOSPC if the cluster can't hold it. */
export interface HeaderImage {
  /** From offset 0 of the file, up to the end of the variable part. */
  readonly bytes: Uint8Array;
  /** Where the backing name lies in them; 0 = none. */
  readonly backingOffset: number;
}

/** Whether the header, with what is variable in it, fits the first cluster. */
export function fitsFirstCluster(header: Header): boolean {
  const name = encodeName(header.backingFile ?? "").byteLength;
  const fixed =
    header.version === 2 ? HEADER_BYTES_V2 : HEADER_BYTES_WRITTEN + header.unknownFields.byteLength;
  return fixed + serializeExtensions(header.extensions).byteLength + name <= 2 ** header.clusterBits;
}

/** The header as it is to be written. `backingAt` puts the backing name there rather than right after the extensions. */
export function serializeHeader(header: Header, backingAt = 0): HeaderImage {
  const clusterSize = 2 ** header.clusterBits;
  const headerBytes =
    header.version === 2 ? HEADER_BYTES_V2 : HEADER_BYTES_WRITTEN + header.unknownFields.byteLength;
  const extensions = serializeExtensions(header.extensions);
  const name = encodeName(header.backingFile ?? "");
  const nameAt = name.byteLength === 0 ? 0 : Math.max(backingAt, headerBytes + extensions.byteLength);
  const total = name.byteLength === 0 ? headerBytes + extensions.byteLength : nameAt + name.byteLength;
  if (total > clusterSize || name.byteLength > limits.maxBackingNameBytes) {
    throw new ImageError({ structure: "header", field: "backing_file", code: "ENOSPC", op: "write" });
  }
  const bytes = new Uint8Array(total);
  writeFixedPart(header, new DataView(bytes.buffer), { nameAt, nameBytes: name.byteLength, headerBytes });
  bytes.set(extensions, headerBytes);
  if (nameAt > 0) bytes.set(name, nameAt);
  return { bytes, backingOffset: nameAt };
}

function writeFixedPart(
  header: Header,
  view: DataView,
  { nameAt, nameBytes, headerBytes }: { nameAt: number; nameBytes: number; headerBytes: number },
): void {
  view.setUint32(0, MAGIC);
  view.setUint32(4, header.version);
  writeU64(view, 8, nameAt);
  view.setUint32(16, nameBytes);
  view.setUint32(20, header.clusterBits);
  writeU64(view, 24, header.size);
  view.setUint32(32, header.cryptMethod);
  view.setUint32(36, header.l1Size);
  writeU64(view, 40, header.l1Offset);
  writeU64(view, 48, header.refcountTableOffset);
  view.setUint32(56, header.refcountTableClusters);
  view.setUint32(60, header.snapshotCount);
  writeU64(view, 64, header.snapshotsOffset);
  if (header.version === 2) return;
  view.setBigUint64(72, header.incompatible);
  view.setBigUint64(80, header.compatible);
  view.setBigUint64(88, header.autoclear);
  view.setUint32(96, header.refcountOrder);
  view.setUint32(100, headerBytes);
  view.setUint8(HEADER_BYTES_V3, header.compressionType);
  new Uint8Array(view.buffer, HEADER_BYTES_WRITTEN).set(header.unknownFields);
}

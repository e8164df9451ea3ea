/**
 * Creating an image: options as QAPI's BlockdevCreateOptionsQcow2, checked in QEMU's words before the file is touched.
 * The smallest valid image is written first (header, refcount table, one refcount block); then it is opened and grown to
 * its size by the ordinary code. Source: qcow2.txt; messages of QEMU 7.2.
 */
import { encodeName } from "../../../base/names.ts";
import { BlockError, errnoOf, messageOf, blockError } from "../../../base/errors.ts";
import { strerror } from "../../../base/errno.ts";
import { KiB, limits, SECTOR_SIZE } from "../../../base/limits.ts";
import type {
  BlockDriver,
  ChildRef,
  CreateContext,
  Edge,
  NodeSpec,
  NodeView,
  Preallocation,
} from "../../../block/model/contract.ts";
import { Perm } from "../../../block/model/permissions.ts";
import { imageFilename } from "../../../block/model/filename.ts";
import {
  type Encryptable,
  type EncryptionSupport,
  type EncryptOptions,
  supported,
} from "./data/encryption.ts";
import { type Header, serializeHeader, setBackingFormat } from "./disk/header.ts";
import { CryptMethod, Extension, knownFeatures, serializeFeatureNames } from "./disk/header-extensions.ts";
import {
  l1EntriesFor,
  makeGeometry,
  Autoclear,
  Compatible,
  HEADER_BYTES_V2,
  HEADER_BYTES_WRITTEN,
  Incompatible,
  isPowerOfTwoBetween,
  writeU64,
  writeRefcount,
} from "./disk/layout.ts";

/** The options, complete and checked. */
interface CreateOptions {
  readonly file: ChildRef;
  readonly size: number;
  readonly version: 2 | 3;
  readonly clusterBits: number;
  readonly refcountOrder: number;
  readonly lazyRefcounts: boolean;
  readonly preallocation: Preallocation;
  readonly backingFile: string | undefined;
  readonly backingFormat: string | undefined;
  readonly dataFile: ChildRef | undefined;
  readonly dataFileRaw: boolean;
  readonly compression: "zlib" | "zstd";
  readonly extended: boolean;
  readonly encrypt: EncryptOptions | undefined;
}

const DEFAULT_CLUSTER_SIZE = 64 * KiB;
const MIN_CLUSTER_SIZE = 2 ** limits.qcow2MinClusterBits;
const MAX_CLUSTER_SIZE = 2 ** limits.qcow2MaxClusterBits;

function refuse(message: string): never {
  throw blockError("EINVAL", "create", message);
}

function parse(options: Record<string, unknown>): CreateOptions {
  const version = options["version"] === "v2" ? 2 : 3;
  const size = Number(options["size"] ?? 0);
  const clusterSize = Number(options["cluster-size"] ?? DEFAULT_CLUSTER_SIZE);
  const bits = Number(options["refcount-bits"] ?? 16);
  if (size % SECTOR_SIZE !== 0) refuse("Image size must be a multiple of 512 bytes");
  if (!isPowerOfTwoBetween(clusterSize, MIN_CLUSTER_SIZE, MAX_CLUSTER_SIZE)) {
    const most = MAX_CLUSTER_SIZE / KiB;
    refuse(`Cluster size must be a power of two between ${MIN_CLUSTER_SIZE} and ${most}k`);
  }
  const parsed: CreateOptions = {
    file: options["file"] as ChildRef,
    size,
    version,
    clusterBits: Math.log2(clusterSize),
    refcountOrder: Math.log2(bits),
    lazyRefcounts: options["lazy-refcounts"] === true,
    preallocation: (options["preallocation"] as Preallocation | undefined) ?? "off",
    backingFile: options["backing-file"] as string | undefined,
    backingFormat: options["backing-fmt"] as string | undefined,
    dataFile: options["data-file"] as ChildRef | undefined,
    dataFileRaw: options["data-file-raw"] === true,
    compression: options["compression-type"] === "zstd" ? "zstd" : "zlib",
    extended: options["extended-l2"] === true,
    encrypt: options["encrypt"] as EncryptOptions | undefined,
  };
  checkTogether(parsed, options);
  if (!isPowerOfTwoBetween(bits, 1, 64)) {
    refuse("Refcount width must be a power of two and may not exceed 64 bits");
  }
  if (version < 3 && bits !== 16) {
    refuse(
      "Different refcount widths than 16 bits require compatibility level 1.1 or above (use version=v3 or greater)",
    );
  }
  checkUnsupported(options, parsed);
  return parsed;
}

function checkTogether(parsed: CreateOptions, options: Record<string, unknown>): void {
  if (parsed.preallocation !== "off" && parsed.backingFile !== undefined && !parsed.extended) {
    refuse("Backing file and preallocation can only be used at the same time if extended_l2 is on");
  }
  if (parsed.backingFormat !== undefined && parsed.backingFile === undefined) {
    refuse("Backing format cannot be used without backing file");
  }
  if (parsed.version < 3 && options["lazy-refcounts"] === true) {
    refuse(
      "Lazy refcounts only supported with compatibility level 1.1 and above (use version=v3 or greater)",
    );
  }
}

const EXTENDED_L2_MIN_CLUSTER = 16 * KiB;

/** Refuses combinations that QEMU refuses too, in its words. */
function checkUnsupported(
  options: Record<string, unknown>,
  { version, clusterBits, compression }: CreateOptions,
): void {
  const needsV3 = "are only supported with compatibility level 1.1 and above (use version=v3 or greater)";
  if (options["data-file"] === undefined && options["data-file-raw"] === true) {
    refuse("data-file-raw requires data-file");
  }
  if (options["data-file-raw"] === true && options["backing-file"] !== undefined) {
    refuse("Backing file and data-file-raw cannot be used at the same time");
  }
  if (options["data-file"] !== undefined && version < 3) refuse(`External data files ${needsV3}`);
  if (options["extended-l2"] === true) {
    if (version < 3) refuse(`Extended L2 entries ${needsV3}`);
    if (2 ** clusterBits < EXTENDED_L2_MIN_CLUSTER) {
      const least = `${EXTENDED_L2_MIN_CLUSTER} bytes`;
      refuse(`Extended L2 entries are only supported with cluster sizes of at least ${least}`);
    }
  }
  if (compression === "zstd" && version < 3) {
    refuse(`Non-zlib compression type ${needsV3.replace("are", "is")}`);
  }
}

/** What making an image takes; others may do what they like. */
const maker = { perm: Perm.write | Perm.resize, shared: Perm.all };

/** A disk that is too long for its clusters is found out before the file is touched, in the words that growing it would have. */
function checkLength({ size, clusterBits, refcountOrder, extended }: CreateOptions): void {
  const tooLarge = (why: string): BlockError =>
    new BlockError({ code: "EFBIG", op: "create", message: `Could not resize image: ${why}` });
  if (size > limits.maxImageBytes) throw tooLarge(`offset(${size}) exceeds maximum(${limits.maxImageBytes})`);
  const entries = l1EntriesFor(size, makeGeometry(clusterBits, refcountOrder, extended));
  if (entries * 8 > limits.qcow2MaxL1Bytes) throw tooLarge("Failed to grow the L1 table: File too large");
}

/** Throws in QEMU's words unless an image can be made by these options. */
export function checkCreate(
  context: CreateContext,
  options: Record<string, unknown>,
  encryption?: EncryptionSupport,
): CreateOptions {
  const parsed = parse(options);
  if (parsed.encrypt) supported(encryption).check(parsed.encrypt, context);
  const { dataFile } = parsed;
  const inline = typeof dataFile === "object" ? dataFile["filename"] : undefined;
  checkLength(parsed);
  // With the name of an open data file it is looked at again.
  headerBytes(makeHeader(parsed, typeof inline === "string" ? inline : undefined));
  return parsed;
}

/** Creates an image in `options.file`. Errors in QEMU's words; the file may then hold an image of size 0. */
export async function create(
  context: CreateContext,
  options: Record<string, unknown>,
  encryption?: EncryptionSupport,
): Promise<void> {
  const parsed = checkCreate(context, options, encryption);
  const { graph } = context;
  const file = await graph.take(parsed.file);
  let dataFile: NodeView | undefined;
  try {
    dataFile = parsed.dataFile === undefined ? undefined : await graph.take(parsed.dataFile);
    const header = makeHeader(parsed, dataFile && imageFilename(dataFile));
    headerBytes(header);
    await graph.withRoot(file, maker, (child) => writeEmptyImage(child, header));
    await growToSize(context, { file: file.name, dataFile: dataFile?.name, parsed });
  } finally {
    if (dataFile) await graph.release(dataFile);
    await graph.release(file);
  }
}

/** The header of an image that is still empty: size and L1 table are 0, the refcount table lies in the second cluster. */
export function makeHeader(
  options: Omit<CreateOptions, "file" | "size" | "preallocation" | "dataFile" | "encrypt">,
  dataFileName: string | undefined,
): Header {
  const clusterSize = 2 ** options.clusterBits;
  const v3 = options.version >= 3;
  const header: Header = {
    version: options.version,
    backingFile: options.backingFile,
    backingFormat: undefined,
    backingOffset: 0,
    clusterBits: options.clusterBits,
    size: 0,
    cryptMethod: CryptMethod.none,
    l1Size: 0,
    l1Offset: 0,
    refcountTableOffset: clusterSize,
    refcountTableClusters: 1,
    snapshotCount: 0,
    snapshotsOffset: 0,
    incompatible: BigInt(
      (dataFileName === undefined ? 0 : Incompatible.dataFile) |
        (options.extended ? Incompatible.extendedL2 : 0) |
        (options.compression === "zstd" ? Incompatible.compressionType : 0),
    ),
    compressionType: options.compression === "zstd" ? 1 : 0,
    compatible: options.lazyRefcounts ? BigInt(Compatible.lazyRefcounts) : 0n,
    autoclear: options.dataFileRaw ? BigInt(Autoclear.dataFileRaw) : 0n,
    refcountOrder: options.refcountOrder,
    headerLength: v3 ? HEADER_BYTES_WRITTEN : HEADER_BYTES_V2,
    unknownFields: new Uint8Array(0),
    // A name table that leaves no room in a tiny first cluster is left out.
    extensions:
      v3 && clusterSize > 2 * KiB
        ? [{ type: Extension.featureNames, data: serializeFeatureNames(knownFeatures) }]
        : [],
  };
  if (dataFileName) {
    header.extensions.unshift({ type: Extension.dataFile, data: encodeName(dataFileName) });
  }
  setBackingFormat(header, options.backingFormat);
  return header;
}

/** Writes header, refcount table and the first refcount block; the header last, so that a crash leaves no half image. */
async function writeEmptyImage(child: Edge, header: Header): Promise<void> {
  const clusterSize = 2 ** header.clusterBits;
  const bytes = headerBytes(header);
  const tables = new Uint8Array(2 * clusterSize);
  writeU64(new DataView(tables.buffer), 0, 2 * clusterSize);
  const block = tables.subarray(clusterSize);
  const view = new DataView(block.buffer, block.byteOffset, block.byteLength);
  for (let cluster = 0; cluster < 3; cluster++) {
    writeRefcount({ bytes: block, view }, cluster, header.refcountOrder, 1);
  }
  await child.pwrite(clusterSize, tables);
  const first = new Uint8Array(clusterSize);
  first.set(bytes);
  await child.pwrite(0, first);
  await child.flush();
}

/** The header's bytes, or QEMU's words for a backing file name that does not fit. */
function headerBytes(header: Header): Uint8Array {
  try {
    return serializeHeader(header).bytes;
  } catch (cause) {
    const { backingFile = "", backingFormat = "(null)" } = header;
    const tooLong = encodeName(backingFile).byteLength > limits.maxBackingNameBytes;
    const code = tooLong ? "EINVAL" : errnoOf(cause);
    const message = `Could not assign backing file '${backingFile}' with format '${backingFormat}': ${strerror(code)}`;
    throw new BlockError({ code, op: "create", message, cause });
  }
}

async function growToSize(
  { graph }: CreateContext,
  { file, dataFile, parsed }: { file: string; dataFile: string | undefined; parsed: CreateOptions },
): Promise<void> {
  const spec: NodeSpec = { driver: "qcow2", file, backing: null, "read-only": false };
  const node = await graph.open(dataFile === undefined ? spec : { ...spec, "data-file": dataFile });
  try {
    const { preallocation } = parsed;
    if (parsed.encrypt) await (node.driver as BlockDriver & Encryptable).encrypt(parsed.encrypt);
    // With the edge's permissions, which reach the data file; without the node's own check of the size.
    await graph.withRoot(node, maker, async () =>
      node.driver.truncate?.(parsed.size, { exact: true, preallocation }),
    );
    node.updateLength();
  } catch (cause) {
    const message = `Could not resize image: ${messageOf(cause)}`;
    throw new BlockError({ code: errnoOf(cause), op: "create", message, cause });
  } finally {
    await graph.release(node);
  }
}

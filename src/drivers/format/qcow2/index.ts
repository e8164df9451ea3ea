/**
 * The qcow2 format driver: versions 2 and 3, every cluster size and refcount width, backing files, zero and compressed
 * clusters, subclusters, internal snapshots, external data files; encryption where it is built in (checked.ts).
 * Source: QEMU docs/interop/qcow2.txt; behaviour and messages of QEMU 7.2.
 */
import type { Answer } from "../../../base/answer.ts";
import { strerror } from "../../../base/errno.ts";
import { BlockError, blockError, errnoOf, ImageError } from "../../../base/errors.ts";
import {
  type AmendContext,
  type AmendOptions,
  type BlockDriver,
  type BlockLimits,
  type BlockStatus,
  type ChildRef,
  type DriverInfo,
  type DriverType,
  type FormatSpecific,
  type NodeSpec,
  type HeaderBacking,
  type OpenContext,
  Req,
  type RequestFlags,
  Role,
  type TruncateOptions,
  type Edge,
} from "../../../block/model/contract.ts";
import type { FilePart, FileRange } from "../../../base/host.ts";
import type { FileZeroes } from "../../../base/ranges.ts";
import { SECTOR_SIZE } from "../../../base/limits.ts";
import { imageFilename } from "../../../block/model/filename.ts";
import { changeBackingFile } from "./metadata/backing-link.ts";
import type { Qcow2Bitmaps } from "./features/bitmaps.ts";
import { askForWriting, dataFileName, isRawDataFile, openDataFile } from "./data/data-file.ts";
import { checkCreate, create } from "./create.ts";
import { type Encryptable, type EncryptOptions, encryptOption, supported } from "./data/encryption.ts";
import { CryptMethod } from "./disk/header-extensions.ts";
import { updateHeader } from "./metadata/header-update.ts";
import {
  checkSnapshotPlace,
  hasSubclusters,
  type Header,
  headerClusterBits,
  parseHeader,
  virtualSize,
} from "./disk/header.ts";
import { Image } from "./metadata/image.ts";
import type { CheckResult, ImageTools } from "./features/tools.ts";
import { Autoclear, Compatible, Incompatible, MAGIC, makeGeometry } from "./disk/layout.ts";
import { checkMadeOver, madeOver, isDirty, markClosed, writeBack } from "./metadata/write-back.ts";
import { loadL1Slot, unmappedBytes } from "./metadata/mapping.ts";
import { parseOptions } from "./metadata/options.ts";
import { readGuest } from "./data/read.ts";
import type { Qcow2Snapshots } from "./features/snapshots.ts";
import { statusAt } from "./data/status.ts";
import { truncate } from "./features/truncate.ts";
import { type Qcow2VmState, vmStateOffset } from "./features/vm-state.ts";
import { streamRange } from "./data/stream-range.ts";
import { copyIntoGuest, writeCompressed, writeGuest } from "./data/write.ts";
import { discard, makeEmpty, writeZeroes } from "./data/zeroes-discard.ts";

/** Enough for a version 3 header and its usual extensions. */
const HEAD_BYTES = 512;

/** What a bundle may leave out. */
interface Features {
  tools?: ImageTools;
  bitmaps?: Qcow2Bitmaps;
  snapshots?: Qcow2Snapshots;
}

/** An open qcow2 image. */
export class Qcow2 implements BlockDriver, Encryptable {
  readonly #image: Image;
  readonly #tools: ImageTools | undefined;
  readonly #bitmaps: Qcow2Bitmaps | undefined;
  readonly #snapshots: Qcow2Snapshots | undefined;
  readonly headerBacking: HeaderBacking;

  constructor(image: Image, { tools, bitmaps, snapshots }: Features) {
    this.#image = image;
    this.#tools = tools;
    this.#bitmaps = bitmaps;
    this.#snapshots = snapshots;
    this.headerBacking = {
      filename: () => image.header.backingFile,
      format: () => image.header.backingFormat,
      change: (backing) => changeBackingFile(image, backing),
      check: (backing) => checkMadeOver(image, backing),
      madeOver: () => madeOver(image.header),
    };
  }

  length(): number {
    return this.#image.size;
  }

  pread(offset: number, buffer: Uint8Array, flags: RequestFlags): Answer<void> {
    // What was found corrupt is read no more: as QEMU has it, there is no medium then.
    this.#image.checkAlive();
    return readGuest(this.#image, { offset, buffer, flags: flags & Req.background });
  }

  pwrite(offset: number, buffer: Uint8Array, flags: RequestFlags): Answer<void> {
    return (flags & Req.compressed ? writeCompressed : writeGuest)(this.#image, offset, buffer);
  }

  streamRange(offset: number, bytes: number): FileRange | undefined {
    return this.#image.dead ? undefined : streamRange(this.#image, offset, bytes);
  }

  copyRanges(parts: readonly FilePart[], zeroes: FileZeroes): Promise<readonly number[]> | undefined {
    return copyIntoGuest(this.#image, parts, zeroes);
  }

  setCompressionLevel(level: number | undefined): void {
    this.#image.compressionLevel = level;
  }

  pwriteZeroes(offset: number, bytes: number, flags: RequestFlags): Promise<void> {
    return writeZeroes(this.#image, offset, bytes, flags);
  }

  pdiscard(offset: number, bytes: number): Promise<void> {
    return discard(this.#image, offset, bytes);
  }

  makeEmpty(): Promise<void> {
    return makeEmpty(this.#image);
  }

  truncate(size: number, options: TruncateOptions): Promise<void> {
    return truncate(this.#image, size, options);
  }

  async setReadOnly(readOnly: boolean): Promise<void> {
    if (!readOnly) {
      checkBuild(this.#image);
      if (this.#image.showsSnapshot) throw blockError("EACCES", "open", "A snapshot can't be written to");
      await askForWriting(this.#image);
      return prepareWritable(this.#image);
    }
    await writeBack(this.#image);
    await this.#image.file.flush();
    await markClosed(this.#image);
  }

  writeBack(): Answer<void> {
    // A pass under way may be writing what this caller waits for.
    const due = isDirty(this.#image) || this.#image.madeOverDue || this.#image.mutex.locked;
    return due && !this.#image.dead ? writeBack(this.#image) : undefined;
  }

  blockStatus(offset: number, bytes: number, wantZero: boolean): Answer<BlockStatus> {
    return statusAt(this.#image, offset, bytes, wantZero);
  }

  passesThrough(offset: number, bytes: number): number {
    return unmappedBytes(this.#image, offset, bytes);
  }

  limits(): Partial<BlockLimits> {
    const { clusterSize, subclusterSize } = this.#image.geometry;
    const requestAlignment = this.#image.encryption ? SECTOR_SIZE : 1;
    return { requestAlignment, pwriteZeroesAlignment: subclusterSize, pdiscardAlignment: clusterSize };
  }

  getInfo(): DriverInfo {
    const isDirtyImage = (Number(this.#image.header.incompatible) & Incompatible.dirty) !== 0;
    return {
      clusterSize: this.#image.geometry.clusterSize,
      isDirty: isDirtyImage,
      vmStateOffset: vmStateOffset(this.#image),
    };
  }

  formatSpecific(): FormatSpecific {
    const { header, geometry, encryption } = this.#image;
    const encrypt = encryption ? { encrypt: encryption.info() } : {};
    if (header.version === 2) {
      const data = { compat: "0.10", "compression-type": "zlib", "refcount-bits": 16, ...encrypt };
      return { type: "qcow2", data };
    }
    const bitmaps = this.#bitmaps?.info() ?? [];
    return {
      type: "qcow2",
      data: {
        compat: "1.1",
        ...(this.#image.hasDataFile
          ? { "data-file": dataFileName(header) ?? "", "data-file-raw": isRawDataFile(header) }
          : {}),
        "lazy-refcounts": (header.compatible & BigInt(Compatible.lazyRefcounts)) !== 0n,
        "refcount-bits": 2 ** geometry.refcountOrder,
        ...encrypt,
        corrupt: (header.incompatible & BigInt(Incompatible.corrupt)) !== 0n,
        "compression-type": header.compressionType === 1 ? "zstd" : "zlib",
        "extended-l2": hasSubclusters(header),
        ...(bitmaps.length > 0 ? { bitmaps } : {}),
      },
    };
  }

  encrypted(): boolean {
    return this.#image.encryption !== undefined;
  }

  /** Makes a new, empty image an encrypted one; creation calls it before the image gets its size. */
  async encrypt(options: EncryptOptions): Promise<void> {
    this.#image.encryption = await supported(this.#tools?.encryption).create(this.#image, options);
  }

  allocatedBytes(): Promise<number | undefined> {
    const below = this.#image.file.node.driver;
    return below.allocatedBytes?.() ?? Promise.resolve(undefined);
  }

  cachePeakBytes(): number {
    const { l1, refcountTable, l2, refcountBlocks } = this.#image;
    return [l1, refcountTable, l2, refcountBlocks].reduce((sum, { peakBytes }) => sum + peakBytes, 0);
  }

  bitmapStore(): Qcow2Bitmaps | undefined {
    return this.#bitmaps;
  }

  snapshots(): Qcow2Snapshots | undefined {
    return this.#snapshots;
  }

  /** Added by checked.ts. */
  amend?(options: AmendOptions, context: AmendContext): Promise<void>;

  /** Added by checked.ts. */
  reopen?(spec: NodeSpec): Promise<void>;
  fileReplaced?(): Promise<void>;

  /** Added by checked.ts. */
  vmState?(): Qcow2VmState;

  /** For checked.ts. */
  get image(): Image {
    return this.#image;
  }

  /** Preallocated clusters of an encrypted image decrypt to noise. */
  hasZeroInit(): boolean {
    return !this.#image.encryption || !this.#image.hadMapping;
  }

  /** Compares refcounts with references; writes cached metadata back first. Errors: those of the file. */
  async check(): Promise<CheckResult> {
    if (this.#image.showsSnapshot) throw blockError("ENOTSUP", "check");
    if (!this.#tools) throw blockError("ENOTSUP", "check");
    await this.writeBack();
    return this.#tools.check(this.#image);
  }

  async close(): Promise<void> {
    if (this.#image.node.readOnly || this.#image.dead) return;
    try {
      await writeBack(this.#image);
      await this.#image.file.flush();
    } catch (error) {
      throw notKept(error);
    }
    await markClosed(this.#image);
  }
}

/** Metadata did not become durable before the image was closed: in QEMU's words. */
function notKept(cause: unknown): BlockError {
  const code = errnoOf(cause);
  const message = ["L2 table", "refcount block"]
    .map((what) => `Failed to flush the ${what} cache: ${strerror(code)}`)
    .join("\n");
  return new BlockError({ code, op: "close", message, cause });
}

/** Throws EACCES for an image that holds what this build can't keep right while it writes. */
function checkBuild({ header, hasTools }: Image): void {
  if (hasTools) return;
  const refuse = (what: string): never => {
    throw blockError("EACCES", "open", `Images with ${what} are read-only in this build`);
  };
  if (header.snapshotCount > 0) refuse("internal snapshots");
  if (header.autoclear & BigInt(Autoclear.bitmaps)) refuse("persistent bitmaps");
}

/** Reads and checks the header. What a short file lacks reads as zeroes. */
async function readHeader(file: Edge): Promise<Header> {
  const head = new Uint8Array(HEAD_BYTES);
  await file.pread(0, head);
  const cluster = new Uint8Array(2 ** headerClusterBits(head));
  await file.pread(0, cluster);
  return parseHeader(cluster);
}

/** What a writable open demands and changes: no corrupt or dirty image, and unknown autoclear bits are cleared. */
async function prepareWritable(image: Image): Promise<void> {
  const bits = Number(image.header.incompatible);
  if (bits & Incompatible.corrupt) {
    const message = "qcow2: Image is corrupt; cannot be opened read/write";
    throw new ImageError({ structure: "header", field: "incompatible_features", code: "EACCES", message });
  }
  if (bits & Incompatible.dirty) await repairDirty(image);
  // Bitmaps are kept up to date by us, with what a crash left of their journal; what we don't know may be stale once we write.
  const bitmaps = Autoclear.bitmaps | (image.hasTools ? Autoclear.bitmapJournal : 0);
  const keep = BigInt(bitmaps | (image.hasDataFile ? Autoclear.dataFileRaw : 0));
  if ((image.header.autoclear & ~keep) !== 0n) {
    await updateHeader(image, (header) => {
      header.autoclear &= keep;
    });
    // Durable before anything that makes it necessary.
    await image.file.flush();
  }
}

/** Who left the image dirty may not have written its refcounts. */
async function repairDirty(image: Image): Promise<void> {
  try {
    await image.locked(() => image.tools().repair(image));
  } catch (cause) {
    const code = errnoOf(cause);
    const message = `Could not repair dirty image: ${strerror(code)}`;
    throw new BlockError({ code, op: "open", node: image.node.name, message, cause });
  }
}

/**
 * Opens an image; `tools` repair one that is dirty, and keep its internal snapshots and bitmaps: without them, EACCES for
 * writing to one that has some. Errors in QEMU's words.
 */
export async function openQcow2(context: OpenContext, spec: NodeSpec, tools?: ImageTools): Promise<Qcow2> {
  const file = await context.openChild(spec["file"] as ChildRef | undefined, "file", Role.image);
  let header: Header;
  try {
    header = await readHeader(file);
  } catch (error) {
    if (error instanceof ImageError || !(error instanceof BlockError)) throw error;
    throw new BlockError({
      code: error.code,
      op: "open",
      message: `Could not read qcow2 header: ${strerror(error.code)}`,
      cause: error,
    });
  }
  const options = parseOptions(spec, {
    geometry: makeGeometry(header.clusterBits, header.refcountOrder, hasSubclusters(header)),
    size: virtualSize(header),
    version: header.version,
    discard: context.node.options.discard === "unmap",
    journal: !context.node.services.isLikeQemu,
  });
  const dataFile = await openDataFile(context, spec, { header, filename: imageFilename(file.node) });
  const image = new Image({ node: context.node, file, dataFile, host: context.host, header, options, tools });
  const keySecret = encryptOption(spec, header);
  if (header.cryptMethod !== CryptMethod.none) {
    image.encryption = await supported(tools?.encryption).open(image, context, keySecret);
    image.hadMapping = await hasMapping(image);
  }
  checkSnapshotPlace(header);
  const parts = tools
    ? { tools, bitmaps: tools.bitmaps(image), snapshots: await tools.snapshots(image) }
    : {};
  if (!context.readOnly) checkBuild(image);
  if (!context.readOnly) await prepareWritable(image);
  return new Qcow2(image, parts);
}

/** Whether the first L1 entry is in use, as it is in a preallocated image. */
async function hasMapping(image: Image): Promise<boolean> {
  if (image.header.l1Size === 0) return false;
  const { table, at } = await loadL1Slot(image, 0);
  return table.view.getUint32(at) !== 0 || table.view.getUint32(at + 4) !== 0;
}

function probe(head: Uint8Array): number {
  if (head.byteLength < 8) return 0;
  const view = new DataView(head.buffer, head.byteOffset, head.byteLength);
  return view.getUint32(0) === MAGIC && view.getUint32(4) >= 2 ? 100 : 0;
}

/** The driver type, to be registered with a graph. */
export const qcow2: DriverType = {
  name: "qcow2",
  kind: "format",
  isDefault: "overlay",
  supportsBacking: true,
  compressedWrites: true,
  namedBy: ["encrypt.key-secret"],
  open: (context, spec) => openQcow2(context, spec),
  create: (context, options) => create(context, options),
  checkCreate: (context, options) => void checkCreate(context, options),
  isForCheck: (error) => error instanceof ImageError && error.structure === "snapshot table",
  probe,
};

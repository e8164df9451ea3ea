/**
 * raw: the guest's bytes lie in the file as they are, from `offset` on, `size` bytes of them. Where raw was only guessed, no
 * write makes the first sector another format's header, so that whoever guesses next is not misled by the guest.
 * Source: QAPI BlockdevOptionsRaw; behaviour and words of QEMU 7.2.
 */
import type { Answer } from "../../base/answer.ts";
import { BlockError, blockError } from "../../base/errors.ts";
import type { FilePart, FileRange } from "../../base/host.ts";
import { MiB, SECTOR_SIZE, limits } from "../../base/limits.ts";
import { alignUp, type FileZeroes } from "../../base/ranges.ts";
import { foreignFormat } from "../../block/model/foreign-formats.ts";
import { guessedFormat } from "../../block/model/spec.ts";
import type { Edge, MeasureRequest, MeasureResult, StreamSource } from "../../block/model/contract.ts";
import { Role } from "../../block/model/contract.ts";
import type {
  BlockDriver,
  BlockLimits,
  BlockStatus,
  DriverInfo,
  DriverType,
  GraphView,
  NodeSpec,
  RequestFlags,
  TruncateOptions,
} from "../../block/model/contract.ts";
import type { NodeView } from "../../block/model/contract.ts";
import { childOption, optionError, sizeOption } from "../../block/model/options.ts";
import { Perm, defaultPermissions } from "../../block/model/permissions.ts";
import type { Permissions } from "../../block/model/contract.ts";

class RawDriver implements BlockDriver {
  readonly #node: NodeView;
  readonly #file: Edge;
  #offset: number;
  /** The option `size`: the disk does not grow. */
  #fixedSize: number | undefined;
  /** Of a disk that was guessed to be raw: whether its first sector would be another format's. */
  readonly #isForeign: ((sector: Uint8Array) => boolean) | undefined;

  constructor(init: {
    node: NodeView;
    file: Edge;
    offset: number;
    size: number | undefined;
    isForeign: ((sector: Uint8Array) => boolean) | undefined;
  }) {
    this.#isForeign = init.isForeign;
    this.#node = init.node;
    this.#file = init.file;
    this.#offset = init.offset;
    this.#fixedSize = init.size;
  }

  length(): number {
    const available = Math.max(this.#file.length - this.#offset, 0);
    return Math.min(this.#fixedSize ?? available, available);
  }

  /** The guard looks at whole sectors. */
  limits(): Partial<BlockLimits> {
    return this.#isForeign
      ? { requestAlignment: Math.max(SECTOR_SIZE, this.#file.node.limits.requestAlignment) }
      : {};
  }

  pread(offset: number, buffer: Uint8Array, flags: RequestFlags): Answer<void> {
    this.#check("pread", offset, buffer.byteLength);
    const below = offset + this.#offset;
    const held = this.#file.node.debugEvent("read_aio");
    return held ? this.#readHeld(below, buffer, { flags, held }) : this.#file.pread(below, buffer, flags);
  }

  async #readHeld(
    below: number,
    buffer: Uint8Array,
    { flags, held }: { flags: RequestFlags; held: Promise<void> },
  ): Promise<void> {
    await held;
    await this.#file.pread(below, buffer, flags);
  }

  pwrite(offset: number, buffer: Uint8Array, flags: RequestFlags): Answer<void> {
    this.#check("pwrite", offset, buffer.byteLength);
    this.#checkSector(offset, buffer);
    const below = offset + this.#offset;
    const held = this.#file.node.debugEvent("write_aio");
    return held
      ? held.then(() => this.#file.pwrite(below, buffer, flags))
      : this.#file.pwrite(below, buffer, flags);
  }

  fileRange(offset: number, bytes: number): FileRange | undefined {
    // What lies behind the window is nobody's who was given the window.
    if (offset + bytes > this.length()) return undefined;
    return this.#file.node.driver.fileRange?.(offset + this.#offset, bytes);
  }

  copyRanges(parts: readonly FilePart[], zeroes: FileZeroes): Promise<readonly number[]> | undefined {
    if (this.#isForeign && parts.some(({ offset }) => offset < SECTOR_SIZE)) return undefined;
    parts.forEach(({ offset, source }) => this.#check("pwrite", offset, source.bytes));
    const below = ({ offset, source }: FilePart): FilePart => ({ offset: offset + this.#offset, source });
    return this.#file.copyRanges(this.#offset === 0 ? parts : parts.map(below), zeroes);
  }

  pwriteZeroes(offset: number, bytes: number, flags: RequestFlags): Answer<void> {
    this.#check("pwriteZeroes", offset, bytes);
    return this.#file.pwriteZeroes(offset + this.#offset, bytes, flags);
  }

  pdiscard(offset: number, bytes: number): Answer<void> {
    this.#check("pdiscard", offset, bytes);
    return this.#file.pdiscard(offset + this.#offset, bytes);
  }

  /** The file's own answer, which may be finer than the guard's sectors: raw adds nothing to it. */
  blockStatus(offset: number, bytes: number): BlockStatus {
    const map = { node: this.#file.node, offset: this.#offset + offset };
    return { bytes, data: true, zero: false, allocated: true, map, recurse: true };
  }

  /** Shows another window of the file. */
  reopen(spec: NodeSpec): Promise<void> {
    const { offset, size } = windowOf(spec);
    checkRange(this.#file.length, offset, size);
    this.#offset = offset;
    this.#fixedSize = size;
    return Promise.resolve();
  }

  async truncate(size: number, options: TruncateOptions): Promise<void> {
    if (this.#fixedSize !== undefined) throw this.#error("ENOTSUP", "Cannot resize fixed-size raw disks");
    if (size > limits.maxImageBytes - this.#offset) {
      throw this.#error("EINVAL", "Disk size too large for the chosen offset");
    }
    await this.#file.truncate(this.#offset + size, options);
  }

  getInfo(): DriverInfo | undefined {
    return this.#file.node.driver.getInfo?.();
  }

  hasZeroInit(): boolean {
    return this.#file.node.driver.hasZeroInit?.() ?? false;
  }

  /** As by role, but without the write and resize that a format takes for its metadata: raw has none. */
  childPermissions(child: Edge, parent: Permissions): Permissions {
    const { perm, shared } = defaultPermissions(parent, child.role, !this.#node.readOnly);
    return {
      perm: (perm & ~(Perm.write | Perm.resize)) | (parent.perm & (Perm.write | Perm.resize)),
      shared,
    };
  }

  /** Refuses a request that would leave what the option `size` allows. */
  #check(op: string, offset: number, bytes: number): void {
    if (this.#fixedSize === undefined || offset + bytes <= this.#fixedSize) return;
    const code = op === "pread" ? "EINVAL" : "ENOSPC";
    throw new BlockError({ code, op, node: this.#node.name, offset, bytes });
  }

  /** Refuses a write to the first sector after which whoever guesses the format next would find another one. */
  #checkSector(offset: number, buffer: Uint8Array): void {
    if (offset >= SECTOR_SIZE || !this.#isForeign?.(buffer.subarray(0, SECTOR_SIZE))) return;
    const { name: node } = this.#node;
    throw new BlockError({ code: "EPERM", op: "pwrite", node, offset, bytes: buffer.byteLength });
  }

  #error(code: "ENOTSUP" | "EINVAL", message: string): BlockError {
    return new BlockError({ code, op: "truncate", node: this.#node.name, message });
  }
}

/** Which part of the file is shown. */
function windowOf(spec: NodeSpec): { offset: number; size: number | undefined } {
  return { offset: sizeOption(spec, "offset") ?? 0, size: sizeOption(spec, "size") };
}

function checkRange(available: number, offset: number, size: number | undefined): void {
  if (offset > available) {
    throw optionError(`Offset (${offset}) cannot be greater than size of the containing file (${available})`);
  }
  if (size === undefined) return;
  if (available - offset < size) {
    throw optionError(
      `The sum of offset (${offset}) and size (${size}) has to be smaller or equal to the ` +
        ` actual size of the containing file (${available})`,
    );
  }
  if (size % SECTOR_SIZE !== 0) throw optionError(`Specified size is not multiple of ${SECTOR_SIZE}`);
}

/** What tells another format's first sector, for a disk that was guessed to be raw. */
function otherFormats(graph: GraphView): (sector: Uint8Array) => boolean {
  return (sector) =>
    foreignFormat(sector) !== undefined || [...graph.drivers].some((type) => (type.probe?.(sector) ?? 0) > 0);
}

/** What one piece of a stream holds, bytes. */
const PIECE_BYTES = MiB;

/** The disk, byte by byte; it has no options and compresses nothing. */
function stream(source: StreamSource): AsyncGenerator<Uint8Array<ArrayBuffer>> {
  if (source.compress) throw blockError("EINVAL", "stream", "a raw image cannot be compressed");
  return pieces(source);
}

async function* pieces(source: StreamSource): AsyncGenerator<Uint8Array<ArrayBuffer>> {
  const { length } = source;
  source.onProgress?.(0, length);
  for (let at = 0; at < length;) {
    const piece = new Uint8Array(Math.min(PIECE_BYTES, length - at));
    await source.read(at, piece);
    yield piece;
    at += piece.byteLength;
    source.onProgress?.(at, length);
  }
}

/** As long as the disk. */
function measure({ bytes }: MeasureRequest): MeasureResult {
  const all = alignUp(bytes, SECTOR_SIZE);
  return { requiredBytes: all, fullyAllocatedBytes: all };
}

/** Options: `file`, `offset` (bytes, default 0), `size` (bytes, a multiple of 512; default: to the file's end). */
export const raw: DriverType = {
  name: "raw",
  kind: "format",
  isDefault: "unclaimed",
  createOptions: [{ name: "size", type: "size", wire: "size", help: "Virtual disk size" }],
  measure,
  stream,
  reopenable: new Set(["offset", "size"]),
  async open(context, spec) {
    const { offset, size } = windowOf(spec);
    // A window into the file is no filter of it: other parents may see more.
    const role = (offset > 0 || size !== undefined ? Role.data : Role.filtered) | Role.primary;
    const file = await context.openChild(childOption(spec, "file"), "file", role);
    checkRange(file.length, offset, size);
    const isForeign = spec[guessedFormat] ? otherFormats(context.graph) : undefined;
    return new RawDriver({ node: context.node, file, offset, size, isForeign });
  },
};

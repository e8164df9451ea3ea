/**
 * file: a regular file of the host; host_device, host_cdrom: a device, named by the user alone (no image's header leads to
 * one). Image locks and the writable mode follow the permissions that parents take; holes read as zeroes and are made by
 * discards. Invariants: a file is opened for writing only when the node is writable and,
 * with auto-read-only, a writer is attached; the length known here never shrinks while writes grow the file.
 * Source: QAPI BlockdevOptionsFile and BlockdevCreateOptionsFile, behaviour of QEMU 7.2.
 */
import { strerror } from "../../base/errno.ts";
import { type Answer, isPromise } from "../../base/answer.ts";
import { BlockError, blockError, errnoOf, isUnsupported, messageOf } from "../../base/errors.ts";
import type {
  FileExtent,
  FileInfo,
  FileLockRequest,
  FilePart,
  FileRange,
  HostFile,
} from "../../base/host.ts";
import { limits, SECTOR_SIZE } from "../../base/limits.ts";
import { alignDown, alignUp, type FileZeroes } from "../../base/ranges.ts";
import {
  type BlockDriver,
  type BlockLimits,
  type BlockStatus,
  type CreateContext,
  type CreatedFile,
  type CreateOption,
  type DriverInfo,
  type DriverType,
  type NodeSpec,
  type OpenContext,
  Req,
  type RequestFlags,
  type TruncateOptions,
  type SharedStorage,
} from "../../block/model/contract.ts";
import type { NodeView } from "../../block/model/contract.ts";
import { hasProtocol } from "../../block/model/gate.ts";
import { optionError, stringOption } from "../../block/model/options.ts";
import { Perm } from "../../block/model/permissions.ts";
import type { Permissions } from "../../block/model/contract.ts";
import { replaceFile } from "../../block/model/replace-file.ts";
import { valuesOf } from "../../wire/qapi/option-types.ts";

const unlocked: FileLockRequest = { perm: 0, shared: Perm.all };
const writers = Perm.write | Perm.writeUnchanged | Perm.resize;

/** What a driver of the host's files is made of. */
interface FileInit {
  readonly node: NodeView;
  readonly file: HostFile;
  readonly locking: boolean;
  /** Bytes. */
  readonly length: number;
  readonly identity: string;
}

/** A file of the host that is open. */
class FileDriver implements BlockDriver {
  readonly sharedStorage: SharedStorage;
  readonly #node: NodeView;
  readonly #file: HostFile;
  readonly #locking: boolean;
  #length: number;
  #permissions: Permissions = unlocked;

  constructor(init: FileInit) {
    this.sharedStorage = {
      identity: init.identity,
      refreshLength: () => this.#refreshLength(),
      setPermissions: (permissions) => this.#setPermissions(permissions),
    };
    this.#node = init.node;
    this.#file = init.file;
    this.#locking = init.locking;
    this.#length = init.length;
  }

  /** In whole sectors, as QEMU has it; what the last one lacks in the file reads as zeroes. */
  length(): number {
    return alignUp(this.#length, SECTOR_SIZE);
  }

  async #refreshLength(): Promise<void> {
    this.#length = await this.#file.size();
  }

  limits(): Partial<BlockLimits> {
    return { requestAlignment: this.#file.alignment };
  }

  pread(offset: number, buffer: Uint8Array): Answer<void> {
    const reading = this.#file.read(buffer, offset);
    return isPromise(reading) ? reading.then((count) => fillRest(buffer, count)) : fillRest(buffer, reading);
  }

  pwrite(offset: number, buffer: Uint8Array): Answer<void> {
    const end = offset + buffer.byteLength;
    const writing = this.#file.write(buffer, offset);
    return isPromise(writing) ? writing.then(() => this.#grew(end)) : this.#grew(end);
  }

  fileRange(offset: number, bytes: number): FileRange | undefined {
    return offset + bytes <= this.#length ? { file: this.#file, offset, bytes } : undefined;
  }

  copyRanges(parts: readonly FilePart[], zeroes: FileZeroes): Promise<readonly number[]> | undefined {
    const { unit } = zeroes;
    // What is left unwritten does not make it longer.
    const grows =
      unit === Infinity && parts.some(({ offset, source }) => offset + source.bytes > this.#length);
    return this.#file.copyFrom?.(parts, { ...zeroes, unit: grows ? 0 : unit })?.then((counts) => {
      counts.forEach((count, index) => {
        if (count > 0) this.#grew(parts[index]!.offset + count);
      });
      return counts;
    });
  }

  async pwriteZeroes(offset: number, bytes: number, flags: RequestFlags): Promise<void> {
    const within = Math.max(0, Math.min(bytes, this.#length - offset));
    if (within > 0) await this.#zeroWithin(offset, within, flags);
    if (within < bytes && flags & Req.noFallback) await this.#reserve(offset + within, bytes - within);
    else if (within < bytes) await this.#extendTo(offset + bytes);
  }

  readonly countsDiscards = true;

  pdiscard(offset: number, bytes: number): Promise<void> {
    const within = Math.min(bytes, this.#length - offset);
    return within > 0 ? this.#file.punchHole(offset, within) : Promise.resolve();
  }

  flush(): Promise<void> {
    return this.#file.flush();
  }

  async recover(): Promise<boolean> {
    return (await this.#file.recover?.()) ?? false;
  }

  blockStatus(offset: number, bytes: number, wantZero: boolean): Answer<BlockStatus> {
    const extent = wantZero ? this.#file.extentAt(offset) : undefined;
    return isPromise(extent)
      ? extent.then((found) => this.#status(offset, bytes, found))
      : this.#status(offset, bytes, extent);
  }

  #status(offset: number, bytes: number, extent: FileExtent | undefined): BlockStatus {
    const map = { node: this.#node, offset };
    const status = (length: number, data: boolean): BlockStatus => ({
      bytes: length,
      data,
      zero: !data,
      allocated: true,
      map,
    });
    // What the last sector lacks in the file.
    if (offset >= this.#length) return status(bytes, false);
    if (!extent) return status(bytes, true);
    const align = this.#file.alignment;
    if (extent.data)
      return status(Math.min(bytes, alignUp(Math.min(extent.bytes, this.#length - offset), align)), true);
    const reachesEnd = offset + extent.bytes >= this.#length;
    const hole = reachesEnd ? bytes : Math.min(bytes, alignDown(extent.bytes, align));
    // A hole smaller than the alignment is no use: count its block as data.
    return hole === 0 ? status(Math.min(bytes, align), true) : status(hole, false);
  }

  async truncate(size: number, options: TruncateOptions): Promise<void> {
    const { preallocation } = options;
    if (preallocation === "metadata") throw unsupportedPreallocation(preallocation);
    await this.#file.truncate(size, preallocation);
    this.#length = size;
  }

  allocatedBytes(): Promise<number | undefined> {
    return this.#file.allocatedBytes();
  }

  getInfo(): DriverInfo {
    return { clusterSize: 0 };
  }

  hasZeroInit(): boolean {
    return true;
  }

  /** Takes more locks before, and gives locks back after, the file changes between read-only and writable. */
  async #setPermissions(permissions: Permissions): Promise<void> {
    const before = this.#permissions;
    await this.#lock({ perm: before.perm | permissions.perm, shared: permissions.shared & before.shared });
    try {
      await this.#file.setWritable(this.#wantsWritable(permissions, this.#node.readOnly));
      await this.#lock(permissions);
    } catch (error) {
      await this.#lock(before);
      throw error;
    }
    this.#permissions = permissions;
  }

  async setReadOnly(readOnly: boolean): Promise<void> {
    checkShare(this.#node, readOnly);
    return this.#file.setWritable(this.#wantsWritable(this.#permissions, readOnly));
  }

  close(): Promise<void> {
    return this.#file.close();
  }

  #wantsWritable({ perm }: Permissions, readOnly: boolean): boolean {
    if (readOnly) return false;
    return !this.#node.options.autoReadOnly || (perm & writers) !== 0;
  }

  #lock({ perm, shared }: Permissions): Promise<void> {
    if (!this.#locking) return Promise.resolve();
    return this.#file.lock({ perm, shared: this.#node.options.forceShare ? Perm.all : shared });
  }

  #grew(end: number): void {
    if (end > this.#length) this.#length = end;
  }

  async #zeroWithin(offset: number, bytes: number, flags: RequestFlags): Promise<void> {
    if (flags & Req.mayUnmap) {
      try {
        return await this.#file.punchHole(offset, bytes);
      } catch (error) {
        if (!isUnsupported(error)) throw error;
      }
    }
    if (!this.#file.zeroRange) throw blockError("ENOTSUP", "pwriteZeroes");
    await this.#file.zeroRange(offset, bytes);
  }

  /** Blocks beyond the file that read as zeroes; ENOTSUP where that can't be had at once. */
  async #reserve(offset: number, bytes: number): Promise<void> {
    if (!this.#file.zeroRange) throw blockError("ENOTSUP", "pwriteZeroes");
    await this.#file.zeroRange(offset, bytes);
    this.#grew(offset + bytes);
  }

  /** Zeroes up to `end` beyond the file: its last block alone is written, which can't cut off what another write appends. */
  async #extendTo(end: number): Promise<void> {
    const block = new Uint8Array(this.#file.alignment);
    await this.#file.write(block, end - block.byteLength);
    this.#grew(end);
  }
}

/** After a read of `count` bytes: the file ends earlier than when it was last measured, or within the last aligned block. */
function fillRest(buffer: Uint8Array, count: number): void {
  if (count < buffer.byteLength) buffer.fill(0, count);
}

/** A block or character device, whose length never changes from here: zeroes are written, discards go to the device. */
class DeviceDriver extends FileDriver {
  readonly #node: NodeView;

  constructor(init: FileInit) {
    super(init);
    this.#node = init.node;
  }

  /** The request path writes zeroes instead. */
  override pwriteZeroes(): Promise<void> {
    return Promise.reject(blockError("ENOTSUP", "pwriteZeroes"));
  }

  /** Nobody knows what a device has holes in. */
  override blockStatus(offset: number, bytes: number): BlockStatus {
    return { bytes, data: true, zero: false, allocated: true, map: { node: this.#node, offset } };
  }

  override truncate(size: number, { exact, preallocation }: TruncateOptions): Promise<void> {
    const refuse = (code: "ENOTSUP" | "EINVAL", message: string): Promise<void> =>
      Promise.reject(new BlockError({ code, op: "truncate", node: this.#node.name, message }));
    if (preallocation !== "off")
      return refuse("ENOTSUP", `Preallocation mode '${preallocation}' unsupported for this non-regular file`);
    if (exact && size !== this.length()) return refuse("ENOTSUP", "Cannot resize device files");
    if (size > this.length()) return refuse("EINVAL", "Cannot grow device files");
    return Promise.resolve();
  }

  override hasZeroInit(): boolean {
    return false;
  }
}

function unsupportedPreallocation(mode: string): BlockError {
  return blockError("ENOTSUP", "truncate", `Unsupported preallocation mode: ${mode}`);
}

function enumOption(spec: NodeSpec, name: string, values: readonly string[]): string | undefined {
  const value = stringOption(spec, name);
  if (value !== undefined && !values.includes(value)) {
    throw optionError(`Parameter '${name}' does not accept value '${value}'`);
  }
  return value;
}

function requiredFilename(options: NodeSpec): string {
  const filename = stringOption(options, "filename");
  if (filename === undefined || filename === "")
    throw optionError("The 'file' block driver requires a file name");
  return filename;
}

/** Throws where what is opened without regard to others' locks would be written. */
function checkShare({ options }: NodeView, readOnly: boolean): void {
  if (options.forceShare && !readOnly)
    throw optionError("force-share=on can only be used with read-only images");
}

function checkAio(spec: NodeSpec, direct: boolean): void {
  const aio = enumOption(spec, "aio", valuesOf("BlockdevAioOptions"));
  if (aio === "native" && !direct) {
    throw optionError("aio=native was specified, but it requires cache.direct=on, which was not specified.");
  }
}

/** `Could not <verb> 'name': why`, with the errno of the cause; that a set of descriptors lacks one is told as it is. */
function couldNot(verb: "open" | "create", filename: string, error: unknown): BlockError {
  if (error instanceof BlockError && error.op === "dup") return error;
  const message = `Could not ${verb} '${filename}': ${messageOf(error)}`;
  return new BlockError({ code: errnoOf(error), op: verb, message, cause: error });
}

/** What a driver opens of all that a path may lead to. */
interface Opens {
  readonly driver: string;
  readonly kinds: readonly FileInfo["kind"][];
  /** The kinds in words. */
  readonly what: string;
  make(init: FileInit): BlockDriver;
}

const regular: Opens = {
  driver: "file",
  kinds: ["file"],
  what: "a regular file",
  make: (init) => new FileDriver(init),
};

function checkKind(info: FileInfo | undefined, filename: string, { driver, kinds, what }: Opens): void {
  if (!info || kinds.includes(info.kind)) return;
  throw blockError("EINVAL", "open", `'${driver}' driver requires '${filename}' to be ${what}`);
}

async function checkOpened(
  { host, node }: OpenContext,
  opened: { file: HostFile; filename: string; locking: string },
  opens: Opens,
): Promise<BlockDriver> {
  const { file, filename, locking } = opened;
  // Of what is open: its name may lead elsewhere by now.
  const info = await (file.info?.() ?? host.files.info(filename));
  checkKind(info, filename, opens);
  if (locking === "on" && !file.canLock) {
    throw blockError("ENOTSUP", "open", "locking=on was specified, but image locks are not available here");
  }
  const length = file.info && info.kind === "file" ? info.size : await file.size();
  if (length > limits.maxImageBytes) {
    throw blockError("EFBIG", "open", `Could not open '${filename}': ${strerror("EFBIG")}`);
  }
  const { identity } = info;
  return opens.make({ node, file, locking: locking !== "off", length, identity });
}

/** Opens what `filename` leads to, if it is of a kind that the driver opens. Errors: see `file`. */
async function openFile(context: OpenContext, spec: NodeSpec, opens: Opens): Promise<BlockDriver> {
  const { node, host } = context;
  const filename = requiredFilename(spec);
  const locking = enumOption(spec, "locking", valuesOf("OnOffAuto")) ?? "auto";
  const direct = node.options.cacheDirect;
  checkAio(spec, direct);
  checkShare(node, node.readOnly);
  const write = !node.readOnly && !node.options.autoReadOnly;
  // A device may do something when it is opened, so it is not.
  const there = await host.files.info(filename).catch(() => undefined);
  if (there?.kind !== "directory") checkKind(there, filename, opens);
  let file: HostFile;
  try {
    file = await host.files.open(filename, { write, direct });
  } catch (error) {
    throw couldNot("open", filename, error);
  }
  try {
    return await checkOpened(context, { file, filename, locking }, opens);
  } catch (error) {
    await file.close().catch(() => undefined);
    throw error;
  }
}

async function create({ host }: CreateContext, options: Record<string, unknown>): Promise<CreatedFile> {
  const spec: NodeSpec = { driver: "file", ...options };
  const filename = requiredFilename(spec);
  const size = options["size"];
  if (typeof size !== "number") throw optionError("Parameter 'size' is missing");
  const preallocation = enumOption(spec, "preallocation", valuesOf("PreallocMode")) ?? "off";
  if (preallocation === "metadata") throw unsupportedPreallocation(preallocation);
  if (!Number.isSafeInteger(size) || size < 0 || size > limits.maxImageBytes) {
    const code = size > 0 ? "EFBIG" : "EINVAL";
    throw blockError(code, "create", `Could not resize file: ${strerror(code)}`);
  }
  const how = {
    size,
    preallocation: preallocation as "off" | "falloc" | "full",
    exclusive: options["exclusive"] === true,
    ...(typeof options["neededBytes"] === "number" ? { neededBytes: options["neededBytes"] } : {}),
  };
  const make = (name: string): Promise<CreatedFile> => host.files.create(name, how);
  const inPlace = how.exclusive || options["inPlace"] === true;
  try {
    return await (inPlace ? make(filename) : replaceFile(host.files, filename, make));
  } catch (error) {
    const opened = error instanceof BlockError && (error.op === "truncate" || error.op === "lock");
    throw opened ? error : couldNot("create", filename, error);
  }
}

async function remove({ host }: CreateContext, options: Record<string, unknown>): Promise<void> {
  const { identity } = options;
  const only = typeof identity === "string" ? { identity } : undefined;
  await host.files.remove(requiredFilename({ driver: "file", ...options }), only);
}

/** In the order in which `create` repeats them. The first and the last mean something to btrfs and XFS. */
const createOptions: readonly CreateOption[] = [
  { name: "nocow", type: "bool", help: "Turn off copy-on-write (valid only on btrfs)" },
  {
    name: "preallocation",
    type: "str",
    wire: "preallocation",
    values: ["off", "falloc", "full"],
    help: "Preallocation mode (allowed values: off, falloc, full)",
  },
  {
    name: "extent_size_hint",
    type: "size",
    help: "Extent size hint for the image file, 0 to disable",
    refusal: (value) => (BigInt(value) > MOST_HINT ? "Extent size hint is too large" : undefined),
  },
];

/** Largest hint for the extents of a file, bytes. */
const MOST_HINT = 2n ** 32n - 1n;

/** The path in a name; one that looks like another protocol's counts from the current directory by name. */
function withoutProtocol(name: string, protocol: string): string {
  const prefix = `${protocol}:`;
  if (!name.startsWith(prefix)) return name;
  const path = name.slice(prefix.length);
  return hasProtocol(path) ? `./${path}` : path;
}

/**
 * Options: `filename`, `locking` (on, off, auto: image locks where the platform has them), `aio` (accepted, one way of I/O
 * serves all). Errors of open: EACCES, ENOENT … with `Could not open '…'`; EINVAL for what is no regular file.
 */
export const file: DriverType = {
  name: "file",
  kind: "protocol",
  reopenable: new Set(["x-check-cache-dropped"]),
  namedBy: ["filename"],
  parseName: (name) => ({ options: { filename: withoutProtocol(name, "file") } }),
  createOptions,
  open: (context, spec) => openFile(context, spec, regular),
  create,
  remove,
};

function deviceType(name: string): DriverType {
  const opens: Opens = {
    driver: name,
    kinds: ["block-device", "character-device"],
    what: "either a character or block device",
    make: (init) => new DeviceDriver(init),
  };
  return {
    name,
    kind: "protocol",
    namedBy: ["filename"],
    parseName: (text) => ({ options: { filename: withoutProtocol(text, name) } }),
    open: (context, spec) => openFile(context, spec, opens),
  };
}

/** Options as those of `file`. Errors of open: as there, EINVAL for what is no device. */
export const hostDevice: DriverType = deviceType("host_device");

/** The same for drives whose medium can be taken out; this is not followed. */
export const hostCdrom: DriverType = deviceType("host_cdrom");

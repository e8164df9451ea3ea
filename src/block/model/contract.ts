/**
 * The contract between the block layer and a driver. A node's public verbs check range, alignment, permission and limits
 * once, in `io.ts`; the hooks below do the work and may rely on those checks.
 *
 * Verbs: pread pwrite pwriteZeroes pdiscard flush blockStatus truncate, on `offset` and `bytes` (safe integers, bytes).
 * Each may answer at once: a hook returns what it has, or a promise of it (base/answer.ts). The layer asks once, and does
 * its bookkeeping in the same turn if nothing has to be awaited. There is one hook for a verb. It fails by throwing a BlockError,
 * or by rejecting with one; ENOTSUP of an optional verb makes the caller take the slower way. An edge's verbs reject, but for assertions.
 */
import type { Answer } from "../../base/answer.ts";
import type { FilePart, FileRange, Host } from "../../base/host.ts";
import type { FileZeroes } from "../../base/ranges.ts";
import type { Arena, RequestMemory } from "../../kernels/arena.ts";
import type { Kernels } from "../../kernels/kernels.ts";
import type { EventBus } from "../../base/event-bus.ts";
import type { ObjectPlace } from "../../base/objects.ts";
import type { Wakeup } from "../../base/signals.ts";
import type { Secrets } from "../../crypto/secrets.ts";
import type { GraphFlags } from "./graph-flags.ts";
import type { Gate } from "./gate.ts";
import type { QmpEvent, TypeOf } from "../../wire/qapi/index.ts";
import type { Members } from "../../wire/qapi/schema.ts";
import type { CreateOption } from "./create-option.ts";
import type { ChildRef, NodeSpec } from "./spec.ts";
import type { BitmapStore, ImageCheck, Parts, SnapshotStore, StoredDraft, VmStateStore } from "./stores.ts";
import type {
  AmendContext,
  AmendOptions,
  BlockLimits,
  ChildRole,
  DriverInfo,
  FormatSpecific,
  ImageInPlace,
  Permissions,
  RequestFlags,
  StoredChunks,
  TruncateOptions,
  Unanswered,
} from "./terms.ts";
import type { ContentVersion } from "./version.ts";

export { defaultLimits, Req, Role } from "./terms.ts";
export type * from "./terms.ts";
export type { CreateOption, OptionUse } from "./create-option.ts";
export type { ChildRef, NodeSpec } from "./spec.ts";
export type * from "./stores.ts";
export type { ContentVersion } from "./version.ts";

/** What a node says of a range. */
export interface BlockStatus {
  /** How far the answer reaches from the offset asked for; >= 1, <= bytes asked for. */
  bytes: number;
  /** Holds data that must be read to be known. */
  data: boolean;
  /** Reads as zeroes. */
  zero: boolean;
  /** This layer determines the content; otherwise it falls through to the backing file. */
  allocated: boolean;
  /** Where the bytes lie, if they lie as they are read. */
  map?: { node: NodeView; offset: number };
  /** Ask `map.node` for more (it may know holes). */
  recurse?: boolean;
  /** Stored compressed (map is not set). */
  compressed?: boolean;
  /** The range reaches the end of the node. */
  eof?: boolean;
}

/** The data path of a node. The hooks may run concurrently. */
export interface DataPath {
  /** Length of the virtual disk in bytes, cheap and synchronous. The node caches it; see `BlockNode.refreshLength`. */
  length(): number;
  pread(offset: number, buffer: Uint8Array, flags: RequestFlags): Answer<void>;
  /** Absent: the node is read-only by nature. */
  pwrite?(offset: number, buffer: Uint8Array, flags: RequestFlags): Answer<void>;
  pwriteZeroes?(offset: number, bytes: number, flags: RequestFlags): Answer<void>;
  pdiscard?(offset: number, bytes: number): Answer<void>;
  /** Where a range lies in a file of the host for good, byte by byte, with all that is read of it; or the streams of it, or of less. */
  fileRange?(offset: number, bytes: number): FileRange | undefined;
  streamRange?(offset: number, bytes: number): FileRange | undefined;
  /** Writes what lies in files of the host; answers as HostFile.copyFrom(), and never rejects. */
  copyRanges?(parts: readonly FilePart[], zeroes: FileZeroes): Promise<readonly number[]> | undefined;
  /** Hands the driver's own cached data and metadata to its children, in crash-safe order. Not yet durable. */
  writeBack?(): Answer<void>;
  /** Makes completed writes durable: protocol drivers only. The node flushes children itself after `writeBack`. */
  flush?(): Answer<void>;
  /** Whether the node's flush includes this child (default: every child that it writes to). */
  flushes?(child: Edge): boolean;
  /** Absent: everything is data of this layer (filters: passed to the filtered child). `wantZero`: precision about zeroes matters more than speed. */
  blockStatus?(offset: number, bytes: number, wantZero: boolean): Answer<BlockStatus>;
  /** Over a backing file: how many bytes from `offset` on are surely not its own, as far as it knows at once; 0: ask blockStatus. */
  passesThrough?(offset: number, bytes: number): number;
  truncate?(size: number, options: TruncateOptions): Answer<void>;
  /** Recomputed when children change. */
  limits?(): Partial<BlockLimits>;
  /** Called for the events of the format above (blkdebug); a promise suspends the format's request. */
  debugEvent?(event: string): Promise<void> | undefined;
}

/** What a driver tells of itself. */
export interface DriverFacts {
  /** Undefined, or absent: it knows nothing of the kind (filters: what is below says it). */
  getInfo?(): DriverInfo | undefined;
  formatSpecific?(): FormatSpecific | undefined;
  /** Whether the disk is stored encrypted. */
  encrypted?(): boolean;
  /** Bytes taken on disk by this node's own storage. */
  allocatedBytes?(): Promise<number | undefined>;
  /** The most bytes that its caches of metadata ever held. */
  cachePeakBytes?(): number;
  /** Zeroes at creation: whether a new image of this kind reads as zeroes. */
  hasZeroInit?(): boolean;
}

/** A node's part in the graph. */
export interface GraphHooks {
  /** What to take on `child`; default by role (permissions.ts). */
  childPermissions?(child: Edge, parent: Permissions): Permissions;
  /** The node becomes read-only or writable (`blockdev-reopen`, commit into a read-only base). */
  setReadOnly?(readOnly: boolean): Promise<void>;
  /** Told when what its users may do has changed: the edges below have, what lies below is told afterwards. Throws to refuse. */
  permissionsChanged?(permissions: Permissions): Promise<void>;
  /** Puts other options of `DriverType.reopenable` in force; the node is drained. Throws in QEMU's words, and then nothing has changed. */
  reopen?(spec: NodeSpec): Promise<void>;
  /** Another file lies below: what was read of the old one is forgotten. The node is drained, and nothing is unwritten. */
  fileReplaced?(): Promise<void>;
  /** Writes back what is left; called once, after the last request, before the children are closed. */
  close?(): Promise<void>;
  /** At a program's end: fails all requests if one has had no answer for so long. For disks that may never answer (servers). */
  giveUp?(unanswered: Unanswered): void;
}

/** Of filters with work of their own: what a drain of the node does with it. */
export interface OwnWork {
  /** The node is being drained: nothing is held back any more. */
  pause?(): void;
  resume?(): void;
  /** There is work of the driver's own that a drain must wait for. */
  isBusy?(): boolean;
}

/** Of storage that other programs have too: a file of the host. */
export interface SharedStorage {
  /** What is open, whatever names it has: FileInfo.identity. */
  readonly identity: string;
  /** Re-reads the length from outside: others may have grown it. */
  refreshLength(): Promise<void>;
  /** Told before the cumulative permissions on the node change (image locks, reopening read-write). Throws to refuse. */
  setPermissions(permissions: Permissions): Promise<void>;
}

/** Of storage that others may replace under the same name: a disk on a server. */
export interface VersionedStorage {
  /** Which content it is. */
  version(): ContentVersion;
  /** Throws ESTALE if it is known to be another version; what its storage has not told yet is held against it later. */
  demand(version: ContentVersion): void;
}

/** Of formats with backing files: the link in the image's header. */
export interface HeaderBacking {
  /** The names in the header. */
  filename(): string | undefined;
  format(): string | undefined;
  /** Rewrites the link: crash-safe order is the caller's (flush first). `null` removes it. */
  change(backing: { filename: string; format?: string } | null): Promise<void>;
  /** Throws ESTALE where the image is known to be made over another version of what is to be its backing file. */
  check?(backing: NodeView): void;
  /** What it is known to be made over; undefined: nothing is noted. */
  madeOver?(): ContentVersion | undefined;
}

/** Children that come and go while the node is used (quorum's copies), drained; `mayReplace`: also for what shows the whole. */
export interface ChildList {
  /** The name and the role of the next one. Throws CommandError where there can be no more. */
  next(): { readonly name: string; readonly role: ChildRole };
  /** Throws CommandError if a child has to stay. */
  checkRemoval(child: Edge): void;
  mayReplace(node: NodeView): boolean;
  added(child: Edge): void;
  removed(child: Edge): void;
}

/** What some drivers can and others can't: who needs it asks for the capability, and does without or refuses. */
export interface Capabilities {
  readonly ownWork?: OwnWork;
  readonly sharedStorage?: SharedStorage;
  readonly versions?: VersionedStorage;
  readonly headerBacking?: HeaderBacking;
  readonly childList?: ChildList;
  /**
   * The way out after a failed flush, which is remembered (later flushes fail, too): opens storage anew, writes what came since
   * the last flush that succeeded again as far as the platform still has it, and makes it durable. False: no flush had failed.
   * Protocol drivers only. Rejects if that fails; the flush stays failed then.
   */
  recover?(): Promise<boolean>;
  /** By which level compressed writes compress from now on; undefined: by the format's own. */
  setCompressionLevel?(level: number | undefined): void;
  /** Changes creation options of the open image; see block/amend.ts, which checks that it can be written. */
  amend?(options: AmendOptions, context: AmendContext): Promise<void>;
  /** Where amending wants the storage for itself: how many amend it, which childPermissions() counts on. */
  amends?: number;
  /** Forgets all that this layer holds, so that what lies below shows through. Drained; no dirty bitmaps. */
  makeEmpty?(): Promise<void>;
  /** Persistent dirty bitmaps. */
  bitmapStore?(): BitmapStore | undefined;
  /** Internal snapshots. */
  snapshots?(): SnapshotStore | undefined;
  /** The saved machine. */
  vmState?(): VmStateStore | undefined;
}

/** One open image, file or filter. One instance per node. */
export interface BlockDriver extends DataPath, DriverFacts, GraphHooks, Capabilities {}

/** What a driver gets while it opens. Children opened here are closed by the layer if the open fails. */
export interface OpenContext {
  readonly node: NodeView;
  readonly graph: GraphView;
  readonly host: Host;
  readonly kernels: Kernels;
  /** For copies that a driver shares with a job; its own requests never wait for it. */
  readonly arena: Arena;
  readonly readOnly: boolean;
  /** The image is only to be described: do without secrets. */
  readonly metadataOnly: boolean;
  /** Opens or references a child: a node name, an inline spec, or undefined (an error naming `name`). */
  openChild(ref: ChildRef | undefined, name: string, role: ChildRole): Promise<Edge>;
}

/** What `create` gets: options as QAPI's BlockdevCreateOptions has them. */
export interface CreateContext {
  readonly graph: GraphView;
  readonly host: Host;
  readonly signal?: AbortSignal;
}

/** What `check` does. */
export interface CheckRequest {
  /** Where the image lies; opened for writing if something is to be repaired. */
  file: ChildRef;
  fix: { leaks: boolean; errors: boolean };
  /** Told of each problem, in words. */
  message: (text: string) => void;
}

/** Options of a node that hold for every driver. */
export interface NodeOptions {
  readOnly: boolean;
  autoReadOnly: boolean;
  forceShare: boolean;
  detectZeroes: TypeOf<"BlockdevDetectZeroesOptions">;
  discard: "ignore" | "unmap";
  cacheDirect: boolean;
  cacheNoFlush: boolean;
}

/** What every node of an engine shares: the outside, memory, and the ways to tell that something has happened. */
export interface NodeServices extends GraphFlags {
  readonly host: Host;
  readonly kernels: Kernels;
  /** What is free of it; nobody waits for the arena within a request. */
  readonly arena: RequestMemory;
  readonly events: EventBus<QmpEvent>;
  /** Woken whenever something that a drain may wait for has changed. */
  readonly changes: Wakeup;
  /** Passphrases and keys by id (`object-add qom-type=secret`). */
  readonly secrets: Secrets;
}

/** A node as drivers see it: their own, or the one at the other end of an edge. */
export interface NodeView {
  readonly services: NodeServices;
  readonly name: string;
  readonly type: DriverType;
  readonly spec: NodeSpec;
  /** Asked for the files that this node's image names. */
  readonly gate: Gate;
  options: NodeOptions;
  /** Length of the virtual disk, bytes. */
  readonly length: number;
  readonly limits: BlockLimits;
  readonly driver: BlockDriver;
  readonly readOnly: boolean;
  readonly dirtyBitmaps: readonly unknown[];
  /** The child in whose storage a format lies. */
  readonly file: Edge | undefined;
  readonly backing: Edge | undefined;
  readonly primary: Edge | undefined;
  /** The child that a filter presents. */
  readonly filtered: Edge | undefined;
  /** Takes the driver's length over and tells the parents. */
  updateLength(): void;
  /** Fires a blkdebug event of the format above; the promise, if any, suspends its request. */
  debugEvent(event: string): Promise<void> | undefined;
}

/** The graph as drivers see it, while they open or create something. */
export interface GraphView extends NodeServices {
  /** What lifts limits, for good: called where no request is to wait any more. */
  readonly limits: Set<() => void>;
  readonly drivers: Iterable<DriverType>;
  /** A device's root node or a node by name. Throws `Cannot find device='x' nor node-name='x'`. */
  lookup(name: string): NodeView;
  findNode(name: string): NodeView | undefined;
  /** Opens a node for a caller who holds a reference on it: release with `release`. */
  open(spec: NodeSpec): Promise<NodeView>;
  /** A node by its name or a spec, with a reference on it. */
  take(ref: ChildRef): Promise<NodeView>;
  release(node: NodeView): Promise<void>;
  /** Runs `body` as a user of the node who is no node (a format that is made or checked), with these permissions. */
  withRoot<T>(node: NodeView, permissions: Permissions, body: (edge: Edge) => Promise<T>): Promise<T>;
}

/** An edge to a child as its parent sees it (child.ts). All I/O of a parent goes through it. Offsets and lengths are bytes. */
export interface Edge {
  readonly name: string;
  readonly role: ChildRole;
  readonly node: NodeView;
  readonly length: number;
  readonly perm: number;
  /** Fills `buffer` from `offset`; beyond the node's end it reads zeroes. */
  pread(offset: number, buffer: Uint8Array, flags?: RequestFlags): Answer<void>;
  /** Writes `buffer` at `offset`; needs write (or write-unchanged with that flag), and resize beyond the end. */
  pwrite(offset: number, buffer: Uint8Array, flags?: RequestFlags): Answer<void>;
  /** Writes what lies in files of the host; see DataPath.copyRanges(). */
  copyRanges(parts: readonly FilePart[], zeroes: FileZeroes): Promise<readonly number[]> | undefined;
  /** Makes the range read as zeroes. */
  pwriteZeroes(offset: number, bytes: number, flags?: RequestFlags): Answer<void>;
  /** Drops the range's content, if the node honours discards. */
  pdiscard(offset: number, bytes: number): Answer<void>;
  /** Makes completed writes durable. */
  flush(): Answer<void>;
  /** Status of a range of the node itself. */
  blockStatus(offset: number, bytes: number, wantZero?: boolean): Answer<BlockStatus>;
  /** Changes the node's length; needs resize. */
  truncate(size: number, options: TruncateOptions): Answer<void>;
}

/** A file that a protocol made. */
export interface CreatedFile {
  /** It was not there before. */
  made: boolean;
  /** Which file it is, where the host can tell. */
  identity?: string;
}

/** What `measure` is asked. */
export interface MeasureRequest {
  /** The creation options, as `create` takes them; `size` and `file` do not count. */
  readonly options: Readonly<Record<string, unknown>>;
  /** Length of the disk, bytes; perhaps no whole number of sectors. */
  readonly bytes: number;
  /** The disk that shall be copied, of that length. Absent: an empty one. */
  readonly source?: NodeView;
  readonly signal?: AbortSignal;
}

/** What a new image takes, bytes. */
export interface MeasureResult {
  requiredBytes: number;
  fullyAllocatedBytes: number;
  /** For the source's persistent bitmaps; absent where the target or the source can't keep any. */
  bitmapsBytes?: number;
}

/** A disk that does not change while it is given out as an image. */
export interface StreamSource {
  /** Bytes. */
  readonly length: number;
  readonly host: Host;
  readonly kernels: Kernels;
  /** Creation options that the stream takes: `cluster-size`. */
  readonly options: Readonly<Record<string, unknown>>;
  /** Data is to be stored compressed. */
  readonly compress: boolean;
  /** The runs that may hold data, in order; what is left out reads as zeroes. Asked once. */
  dataRuns(): AsyncIterable<{ offset: number; bytes: number }>;
  /** Fills `buffer`, within the length. */
  read(offset: number, buffer: Uint8Array): Promise<void>;
  /** Told of the units done, and of all that will be; what a unit is depends on the format. */
  onProgress?(done: number, total: number): void;
}

/** What a driver refuses in words of its own before it is asked to do it. */
export interface DriverRefusals {
  /** Before `: File too large`, of a length that no image can have. Default: `Could not resize file`. */
  readonly tooLong?: string;
  /** Looks at an option of a node that was given as text, before QAPI does. Throws CommandError. */
  option?(name: string, value: unknown): void;
}

/** What a file name says to the driver that it names. */
export interface ParsedName {
  /** Options of the node; an object is one of options. */
  options?: Record<string, string | Record<string, string>>;
  /** Its children by their names; `guess`: their format is found out, else they are storage. */
  children?: Record<string, { name: string; guess?: boolean }>;
}

/**
 * A kind of driver, registered with the graph by an entry. All that is known of a format is said here, by its folder: who
 * creates, measures, amends, checks, probes or describes images asks the type and knows no name.
 */
export interface DriverType {
  readonly name: string;
  readonly kind: "protocol" | "format" | "filter";
  /** Formats: what images are where nothing else is said. `unclaimed`: what no probe claims; `overlay`: new overlays. */
  readonly isDefault?: "unclaimed" | "overlay";
  /** Nodes are described with things of the program (a Blob): the monitor does not know the driver. */
  readonly isLibraryOnly?: boolean;
  /**
   * Reads a file name of the protocol that is called as the driver (`null-co://`), or one that the user gave this driver.
   * Without it the protocol has no names. Throws CommandError.
   */
  parseName?(this: void, name: string): ParsedName;
  /** Further protocols whose names this driver reads (`nbd+unix`). */
  readonly protocols?: readonly string[];
  /** Options of command lines in spellings older than QAPI's, as QAPI has them. Throws CommandError. */
  modernOptions?(this: void, options: Readonly<Record<string, unknown>>): Record<string, unknown>;
  /**
   * Its own options that say what a node shows, nested ones with dots; the others are no part of a node's name. Default: all do.
   */
  readonly namedBy?: readonly string[];
  /**
   * The name that says as much as the options that matter (nested ones with dots in their names); `below` gives that of a
   * child. Undefined: none does.
   */
  plainName?(
    options: Readonly<Record<string, unknown>>,
    below: (child: string) => string | undefined,
  ): string | undefined;
  /** May have a `backing` child. */
  readonly supportsBacking?: boolean;
  /** A job's own filter, which goes with the job: no link to it may be held fast by another. */
  readonly comesAndGoes?: boolean;
  /** An open node takes no other options, and no other files. */
  readonly staysAsOpened?: boolean;
  /** Options of its own that an open node can change (`BlockDriver.reopen`). */
  readonly reopenable?: ReadonlySet<string>;
  /**
   * What stays in force of the options `now` where `changes` come beside them: all but what these exclude (which is none where
   * it is absent). Options of one name give way anyway.
   */
  keptOptions?(this: void, now: Readonly<NodeSpec>, changes: Readonly<Record<string, unknown>>): NodeSpec;
  /** Can store compressed writes (Req.compressed), or passes them `below`; see storesCompressed(). */
  readonly compressedWrites?: true | "below";
  /** Options of its own that `open` takes (QAPI members), where the table of QEMU 7.2 does not know the driver. */
  readonly openOptions?: Members;
  /**
   * What `create -o` takes, in the order in which it is repeated; absent: such images are not made from options. QAPI's
   * check, help and man pages come from it.
   */
  readonly createOptions?: readonly CreateOption[];
  /** What `amend -o` takes; absent: nothing of an image can be changed. */
  readonly amendOptions?: readonly CreateOption[];
  readonly refusals?: DriverRefusals;
  open(context: OpenContext, spec: NodeSpec): Promise<BlockDriver>;
  /**
   * Formats an image (formats: into `options.file`, a node name or spec) or makes a file (protocols: `size` bytes long; with
   * `exclusive` EEXIST for one that is there; the answer tells what was made). A format with createOptions and without this is its
   * file, as it is.
   */
  create?(context: CreateContext, options: Record<string, unknown>): Promise<CreatedFile | void>;
  /** Throws what `create` would throw for its options alone (formats), so that no file is touched for them. */
  checkCreate?(context: CreateContext, options: Record<string, unknown>): Promise<void> | void;
  /**
   * Protocols that make no storage: makes an image in what is there (`file`); `format` formats it, given the node in the place of
   * its file.
   */
  makeInPlace?(
    this: void,
    graph: GraphView,
    made: ImageInPlace,
    format: (storage: ChildRef) => Promise<void>,
  ): Promise<void>;
  /** Protocols that make storage, though no file: objects in a store. */
  readonly store?: {
    /** Whether something is there. */
    exists(this: void, graph: GraphView, file: NodeSpec): Promise<boolean>;
    /** What a disk there will be made of. Throws BlockError EINVAL. */
    chunks?(this: void, file: NodeSpec): Promise<StoredChunks>;
    draft(this: void, graph: GraphView, file: NodeSpec, known?: string | Parts): Promise<StoredDraft>;
    /** The objects below a place, for what is built of objects (a repository of backups). Absent: it keeps no others. */
    objects?(this: void, graph: GraphView, file: NodeSpec): Promise<ObjectPlace>;
  };
  /** Removes what `create` made (protocols; with `identity` that very file, else EBUSY); ENOENT, EAGAIN while it is open. */
  remove?(context: CreateContext, options: Record<string, unknown>): Promise<void>;
  /** How large a new image would become. Throws BlockError EINVAL in QEMU's words. */
  measure?(request: MeasureRequest): MeasureResult | Promise<MeasureResult>;
  /** A disk as an image, from its first byte to its last. Throws BlockError EINVAL, before the first, for options that it has not. */
  stream?(source: StreamSource): AsyncGenerator<Uint8Array<ArrayBuffer>>;
  /** Checks the image that lies in a file, and repairs it if asked. The image itself need not be one that opens. */
  check?(context: CreateContext, request: CheckRequest): Promise<ImageCheck>;
  /** Whether an error of open() is of those that check() reports itself. */
  isForCheck?(error: unknown): boolean;
  /** 0 … 100: how sure the format is that a file starting with `head` (>= 512 bytes or whole) is its own. */
  probe?(head: Uint8Array): number;
}

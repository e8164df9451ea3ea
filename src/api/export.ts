/**
 * A disk as a stream of bytes: raw, or a qcow2 image (compressed, if wanted) that every tool opens, as it is at the moment
 * of the call, while its guest goes on.
 *
 * Invariants: what the guest overwrites meanwhile is kept in a scratch disk first (copy before write); when that is full or
 * fails, the export fails and never the guest's write. Memory is bounded by the scratch disk, a piece and the image's
 * tables. Everything is taken down when the stream ends, fails or is cancelled.
 */
import { closing, failed } from "../base/closing.ts";
import { blockError, errnoOf } from "../base/errors.ts";
import { strerror } from "../base/errno.ts";
import { MiB } from "../base/limits.ts";
import { aboveImplicitFilters } from "../block/model/chain.ts";
import type { ChildRef, NodeSpec } from "../block/model/contract.ts";
import type { BlockNode } from "../block/model/node.ts";
import { type CopyBeforeWrite, copyBeforeWrite } from "../drivers/filter/copy-before-write.ts";
import { snapshotAccess } from "../drivers/filter/snapshot-access.ts";
import { streamQcow2 } from "../drivers/format/qcow2/streamed.ts";
import { memory } from "../drivers/protocol/memory.ts";
import type { CallOptions, Node as NodeHandle } from "./node.ts";
import { Node, releaseIdle } from "./node.ts";
import { STREAM_CHUNK_BYTES } from "./streams.ts";

/** Bytes that a guest may overwrite during an export, by default. */
const SCRATCH_BYTES = 64 * MiB;

/** Options of exportDisk(). */
export interface ExportOptions extends CallOptions {
  /** raw (default): as long as the disk; qcow2: only what holds data. */
  format?: "raw" | "qcow2";
  /** qcow2 only: compressed clusters (zlib). The disk is read twice. Default false. */
  compress?: boolean;
  /** qcow2 only: bytes of a cluster, a power of two, 512 … 2 MiB; default 64 KiB. */
  clusterBytes?: number;
  /** Where overwritten clusters are kept: a spec or a node, as long as the disk. Default: 64 MiB of memory. */
  scratch?: ChildRef;
  /** Told how far it is: units done and in all; what a unit is depends on the format. */
  onProgress?: (done: number, total: number) => void;
}

interface Frozen {
  readonly disk: NodeHandle;
  /** Throws if the point in time was lost. */
  check(): void;
  release(): Promise<void>;
}

/**
 * The disk as it is now. Resolves when the point in time is fixed: what is written from then on is not in the stream. Throws
 * EINVAL for bad options, CommandError where a job forbids the filter.
 */
export async function exportDisk(
  node: NodeHandle,
  options: ExportOptions = {},
): Promise<ReadableStream<Uint8Array>> {
  const { format = "raw", signal } = options;
  signal?.throwIfAborted();
  checkOptions(format, options);
  const frozen = await freeze(node, options.scratch);
  const bytes = format === "raw" ? rawPieces(frozen, options) : qcow2Pieces(frozen, options);
  let isOver = false;
  const finish = async (): Promise<void> => {
    if (isOver) return;
    isOver = true;
    await bytes.return(undefined);
    await frozen.release();
  };
  return new ReadableStream<Uint8Array>({
    async pull(controller): Promise<void> {
      try {
        signal?.throwIfAborted();
        const next = await bytes.next();
        frozen.check();
        if (!next.done) return controller.enqueue(next.value);
        await finish();
        controller.close();
      } catch (error) {
        await finish().catch(() => undefined);
        throw error;
      }
    },
    cancel: finish,
  });
}

function checkOptions(format: string, { compress, clusterBytes }: ExportOptions): void {
  const refuse = (message: string): never => {
    throw blockError("EINVAL", "export", message);
  };
  if (format !== "raw" && format !== "qcow2") refuse(`an export is raw or qcow2, not '${format}'`);
  if (format === "raw" && compress) refuse("a raw export cannot be compressed");
  if (clusterBytes === undefined) return;
  const bits = Math.log2(clusterBytes);
  if (!Number.isInteger(bits) || bits < 9 || bits > 21)
    refuse("Cluster size must be a power of two between 512 and 2048k");
}

/** Fixes the point in time. A disk that nobody can write to needs nothing for it. */
function freeze(node: NodeHandle, scratch: ChildRef | undefined): Promise<Frozen> {
  return node.engine.jobs.exclusively(() => insertSnapshot(node, scratch));
}

async function insertSnapshot(node: NodeHandle, scratch: ChildRef | undefined): Promise<Frozen> {
  const { engine } = node;
  const { graph } = engine;
  await releaseIdle(engine);
  const source = aboveImplicitFilters(node.blockNode);
  if (source.readOnly) {
    const disk = await Node.attach(engine, source);
    return { disk, check: () => undefined, release: () => disk.close() };
  }
  graph.register(copyBeforeWrite, snapshotAccess, memory);
  const own: NodeSpec = { driver: memory.name, size: source.length, "max-bytes": SCRATCH_BYTES };
  const spec = {
    driver: copyBeforeWrite.name,
    file: source.name,
    target: scratch ?? own,
    "on-cbw-error": "break-snapshot",
  };
  const filter = await graph.insertFilter(spec, source, { implicit: true });
  const open = async (): Promise<Node> => {
    const view = await graph.open({
      driver: snapshotAccess.name,
      file: filter.node.name,
      "read-only": true,
    });
    return closing(
      () => Node.attach(engine, view),
      () => graph.release(view),
    );
  };
  const disk = await open().catch((error: unknown) => failed(error, () => filter.end()));
  return {
    disk,
    check: () => checkSnapshot(filter.node),
    release: () =>
      closing(
        () => disk.close(),
        () => engine.jobs.exclusively(() => filter.end()),
      ),
  };
}

function checkSnapshot(filter: BlockNode): void {
  const lost = (filter.driver as CopyBeforeWrite).snapshotError;
  if (lost === undefined) return;
  throw blockError(lost, "export", `what the guest overwrote could not be kept: ${strerror(lost)}`);
}

async function* rawPieces(frozen: Frozen, options: ExportOptions): AsyncGenerator<Uint8Array<ArrayBuffer>> {
  const { disk } = frozen;
  const { length } = disk;
  options.onProgress?.(0, length);
  for (let at = 0; at < length;) {
    const piece = await read(frozen, at, new Uint8Array(Math.min(STREAM_CHUNK_BYTES, length - at)));
    yield piece;
    at += piece.byteLength;
    options.onProgress?.(at, length);
  }
}

/** Reads what is frozen; a read that fails because the point in time was lost says so. */
async function read<T extends Uint8Array>(frozen: Frozen, offset: number, into: T): Promise<T> {
  try {
    await frozen.disk.read(offset, into);
    return into;
  } catch (error) {
    if (errnoOf(error) === "EACCES") frozen.check();
    throw error;
  }
}

function qcow2Pieces(frozen: Frozen, options: ExportOptions): AsyncGenerator<Uint8Array<ArrayBuffer>> {
  const { disk } = frozen;
  const { kernels, host } = disk.engine.graph;
  return streamQcow2({
    length: disk.length,
    clusterBits: Math.log2(options.clusterBytes ?? 65536),
    async *dataRuns() {
      for await (const { offset, bytes, zero } of disk.map()) if (!zero) yield { offset, bytes };
    },
    async read(offset, buffer) {
      await read(frozen, offset, buffer);
    },
    isZero: (data) => kernels.isZero(data),
    ...(options.compress
      ? { deflate: (data: Uint8Array, limit: number) => host.codecs.deflateRaw(data, limit) }
      : {}),
    ...(options.onProgress ? { onProgress: options.onProgress } : {}),
  });
}

/**
 * A disk as a stream of bytes: raw, or a qcow2 image (compressed, if wanted) that every tool opens, as it is at the moment
 * of the call, while its guest goes on.
 *
 * Invariants: what the guest overwrites meanwhile is kept in a scratch disk first (copy before write); when that is full or
 * fails, the stream fails and never the guest's write. Memory is bounded by the scratch disk, a piece and the image's
 * tables. Everything is taken down when the stream ends, fails or is cancelled.
 */
import { closing, failed } from "../base/lease.ts";
import { blockError, errnoOf } from "../base/errors.ts";
import { aboveImplicitFilters } from "../block/model/chain.ts";
import type { ChildRef, DriverType } from "../block/model/contract.ts";
import { lostMoment, pointInTime } from "../job/backup/point-in-time.ts";
import { type CallOptions, type Node as NodeHandle, Node, releaseIdle } from "./node.ts";
import type { CreateImageSpec } from "./open.ts";
import { checkNodes, checkStorage, optionsOf } from "./options.ts";
import { scratchMemory } from "./scratch.ts";

/** Options of imageStream(). */
export interface ImageStreamOptions extends CallOptions {
  /** raw (default): as long as the disk; qcow2: only what holds data; or another format that can be streamed. */
  format?: CreateImageSpec["driver"] | (string & {});
  /** Compressed clusters (qcow2: zlib), of formats that have them. The disk is read twice. Default false. */
  compress?: boolean;
  /** qcow2 only: bytes of a cluster, a power of two, 512 … 2 MiB; default 64 KiB. */
  clusterBytes?: number;
  /** Where overwritten clusters are kept: a spec or a node, as long as the disk. Default: 64 MiB of memory. */
  scratch?: ChildRef;
  /** Told how far it is: units done and in all; what a unit is depends on the format. */
  onProgress?: (done: number, total: number) => void;
}

/** Throws CommandError for what are no options of imageStream(). */
export const checkStreamOptions = /* @__PURE__ */ optionsOf<ImageStreamOptions>({
  signal: "Signal",
  onProgress: "Function",
  format: "str",
  compress: "bool",
  clusterBytes: "Length",
  scratch: "Storage",
});

type Streamed = DriverType & Required<Pick<DriverType, "stream">>;

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
export async function imageStream(
  node: NodeHandle,
  options: ImageStreamOptions = {},
): Promise<ReadableStream<Uint8Array>> {
  checkStreamOptions(options);
  checkNodes({ node });
  checkStorage(options.scratch, node.engine.graph.drivers);
  const { signal } = options;
  signal?.throwIfAborted();
  const format = streamed(node, options.format);
  const frozen = await freeze(node, options.scratch);
  const bytes = await begun(frozen, format, options);
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

/** The stream; options that the format refuses leave nothing behind. */
async function begun(
  frozen: Frozen,
  format: Streamed,
  options: ImageStreamOptions,
): Promise<AsyncGenerator<Uint8Array<ArrayBuffer>>> {
  try {
    return piecesOf(frozen, format, options);
  } catch (error) {
    await frozen.release();
    throw error;
  }
}

/** The format of that name, or the engine's default. Throws EINVAL where images of it cannot be streamed. */
function streamed({ engine }: NodeHandle, name: string | undefined): Streamed {
  const types = [...engine.graph.drivers];
  const type = types.find((each) =>
    name === undefined ? each.isDefault === "unclaimed" : each.name === name,
  );
  if (type?.stream) return type as Streamed;
  const known = types.filter((each) => each.stream !== undefined).map((each) => each.name);
  throw blockError("EINVAL", "stream", `a stream is ${known.join(" or ")}, not '${name ?? ""}'`);
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
  const moment = await pointInTime(graph, source, scratch ?? scratchMemory(graph, source.length));
  const disk = await Node.attach(engine, moment.node).catch((error: unknown) =>
    failed(error, () => moment.end()),
  );
  return {
    disk,
    check: () => {
      if (moment.lost !== undefined) throw lostMoment(moment.lost, "stream");
    },
    release: () =>
      closing(
        () => disk.close(),
        () => engine.jobs.exclusively(() => moment.end()),
      ),
  };
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

function piecesOf(
  frozen: Frozen,
  format: Streamed,
  { compress = false, clusterBytes, onProgress }: ImageStreamOptions,
): AsyncGenerator<Uint8Array<ArrayBuffer>> {
  const { disk } = frozen;
  const { kernels, host } = disk.engine.graph;
  return format.stream({
    length: disk.length,
    kernels,
    host,
    options: clusterBytes === undefined ? {} : { "cluster-size": clusterBytes },
    compress,
    async *dataRuns() {
      for await (const { offset, bytes, zero } of disk.map()) if (!zero) yield { offset, bytes };
    },
    async read(offset, buffer) {
      await read(frozen, offset, buffer);
    },
    ...(onProgress ? { onProgress } : {}),
  });
}

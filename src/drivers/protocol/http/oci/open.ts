/**
 * Opening a disk in a registry: the layer that has it is found, and read by ranges as it is, or, where it is compressed, out of a
 * cache that is filled once.
 *
 * Invariant: whether a layer is an archive or the disk itself is said by its type in the manifest, and by nothing in its content.
 */
import { strerror } from "../../../../base/errno.ts";
import { BlockError, blockError } from "../../../../base/errors.ts";
import { KiB, limits } from "../../../../base/limits.ts";
import type { BlockDriver, ContentVersion, NodeSpec, OpenContext } from "../../../../block/model/contract.ts";
import { type Attempt, Attempts } from "../attempts.ts";
import { Clusters } from "../clusters.ts";
import { HttpDriver } from "../driver.ts";
import { type HttpOptions, openFailed } from "../options.ts";
import { Pace } from "../pace.ts";
import { RangeSource, type Source, type SourceFacts, type Wanted } from "../range-source.ts";
import { cachedDisk } from "./cache.ts";
import { CachedDriver } from "./cached-driver.ts";
import { type Descriptor, layersOf } from "./manifest.ts";
import { type OciOptions, ociOptions } from "./options.ts";
import { Registry } from "./registry.ts";
import { type Member, members, severalDisks } from "./tar.ts";

/** Unit of requests of ranges, bytes. */
const CLUSTER_BYTES = 64 * KiB;

/** What an open disk hangs on. */
interface Opening {
  readonly context: OpenContext;
  readonly options: OciOptions;
  readonly registry: Registry;
  readonly attempts: Attempts;
}

/** Opens a disk. Errors: those of the registry, ENOENT where no layer has one. */
export async function openOci(context: OpenContext, spec: NodeSpec): Promise<BlockDriver> {
  const { host, graph, node } = context;
  const options = ociOptions(spec, graph);
  if (!node.readOnly && !node.options.autoReadOnly)
    throw blockError(
      "EACCES",
      "open",
      `Could not open '${options.url}': an image in a registry is not written in place`,
    );
  node.options = { ...node.options, readOnly: true };
  const opening = {
    context,
    options,
    registry: new Registry(host, options),
    attempts: new Attempts(host, options),
  };
  try {
    return await openLayers(opening);
  } catch (error) {
    closeAll(opening);
    return openFailed(options.url, error, node.name);
  }
}

function closeAll({ registry, attempts }: Opening): void {
  attempts.close();
  registry.close();
}

/** How a layer has a disk. */
function kindOf({ mediaType }: Descriptor): "tar" | "tar+gzip" | "tar+zstd" | "disk" {
  const type = mediaType.toLowerCase();
  if (/\btar\+zstd$|\.tar\.zstd$/.test(type)) return "tar+zstd";
  if (/\btar[+.]gzip$|\+gzip$/.test(type)) return "tar+gzip";
  if (/\btar$/.test(type)) return "tar";
  if (!/\btar[+.]/.test(type)) return "disk";
  throw blockError("ENOTSUP", "open", `it has a layer that can't be unpacked (${mediaType})`);
}

/** The highest layer that has the disk gives it. */
async function openLayers(opening: Opening): Promise<BlockDriver> {
  const { options, registry } = opening;
  const layers = (await layersOf(registry, options)).toReversed();
  for (const layer of layers) {
    const disk = await openLayer(opening, layer);
    if (disk) return disk;
  }
  const what = options.path === undefined ? "a file below /disk/" : `the file '${options.path}'`;
  throw blockError("ENOENT", "open", `no layer has ${what}`);
}

/** Undefined: the layer does not have it. */
async function openLayer(opening: Opening, layer: Descriptor): Promise<BlockDriver | undefined> {
  const { options, context, registry } = opening;
  const kind = kindOf(layer);
  if (kind === "disk") return options.path === undefined ? openBlob(opening, layer) : undefined;
  const isDisk = isDiskOf(options);
  if (kind === "tar") return inArchive(opening, layer, isDisk);
  const cached = await cachedDisk({ host: context.host, options, registry, layer, kind, isDisk });
  return cached && new CachedDriver(context.node, cached, () => closeAll(opening));
}

/** Whether a member of an archive is the disk. */
function isDiskOf({ path: wanted }: OciOptions): (member: Pick<Member, "name">) => boolean {
  return ({ name }) => {
    const path = name.replace(/^(?:\.?\/)+/, "");
    // What a layer removes of those below it has such a name.
    return wanted === undefined ? /^disk\/(?!\.wh\.)[^/]+$/.test(path) : path === wanted;
  };
}

function blobSource({ options, registry }: Opening, layer: Descriptor): RangeSource {
  const { cacheBytes, readaheadBytes, timeoutMs, deadlineMs, retries, connections } = options;
  const how: HttpOptions = {
    ...{
      url: registry.blobUrl(layer.digest),
      etag: undefined,
      size: undefined,
      ifMatch: "off",
      credentials: "omit",
    },
    ...{
      cacheBytes,
      readaheadBytes,
      timeoutMs,
      deadlineMs,
      retries,
      connections,
      clusterBytes: CLUSTER_BYTES,
    },
    ...{ account: { headers: {}, verifiesTls: true }, partBytes: undefined, manifest: undefined },
  };
  return new RangeSource(registry.ranges, how);
}

async function probed(
  opening: Opening,
  layer: Descriptor,
): Promise<{ source: RangeSource; head: Uint8Array }> {
  const source = blobSource(opening, layer);
  const { options, attempts } = opening;
  const head = await attempts.run(options.url, (attempt) => source.probe(attempt, CLUSTER_BYTES));
  if (source.size === layer.size) return { source, head };
  const message = `${options.url}: the layer has ${source.size} bytes, and the manifest says ${layer.size}`;
  throw new BlockError({ code: "EIO", op: "open", message });
}

function clustersOf({ options, attempts, context }: Opening, source: Source): Clusters {
  const pace = new Pace(context.host.clock);
  return new Clusters({
    ...options,
    source,
    attempts,
    clusterBytes: CLUSTER_BYTES,
    pace,
    verify: () => undefined,
  });
}

async function openBlob(opening: Opening, layer: Descriptor): Promise<BlockDriver> {
  const { source, head } = await probed(opening, layer);
  const clusters = clustersOf(opening, source);
  if (head.byteLength > 0) clusters.store(0, head);
  return new LayerDriver(opening, { clusters, source });
}

/** Looks for the disk by the headers of an archive, and opens it. */
async function inArchive(
  opening: Opening,
  layer: Descriptor,
  isDisk: (member: Member) => boolean,
): Promise<BlockDriver | undefined> {
  const { source, head } = await probed(opening, layer);
  const clusters = clustersOf({ ...opening, options: { ...opening.options, readaheadBytes: 0 } }, source);
  if (head.byteLength > 0) clusters.store(0, head);
  const read = async (offset: number, bytes: number): Promise<Uint8Array> => {
    const buffer = new Uint8Array(bytes);
    await clusters.read(offset, buffer, false);
    return buffer;
  };
  const found = await diskOf(members(read, layer.size), isDisk, opening.options);
  if (!found) return undefined;
  if (found.size > limits.maxImageBytes) throw blockError("EFBIG", "open", strerror("EFBIG"));
  const window = new WindowSource(source, found);
  return new LayerDriver(opening, { clusters: clustersOf(opening, window), source: window });
}

/** The disk of an archive. */
async function diskOf(
  all: AsyncGenerator<Member>,
  isDisk: (member: Member) => boolean,
  { path }: OciOptions,
): Promise<Member | undefined> {
  let found: Member | undefined;
  for await (const member of all) {
    if (!isDisk(member)) continue;
    if (found) throw severalDisks(found, member);
    found = member;
    if (path !== undefined) break;
  }
  return found;
}

/** A part of what another source has. */
class WindowSource implements Source {
  readonly maxRequestBytes: number;
  readonly size: number;
  readonly #inner: Source;
  readonly #offset: number;

  constructor(inner: Source, { offset, size }: { offset: number; size: number }) {
    this.#inner = inner;
    this.#offset = offset;
    this.size = size;
    this.maxRequestBytes = inner.maxRequestBytes;
  }

  get facts(): SourceFacts {
    return this.#inner.facts;
  }

  demand({ size: _size, ...version }: ContentVersion): void {
    this.#inner.demand({ ...version, size: this.#inner.size });
  }

  describe(start: number): string {
    return this.#inner.describe(this.#offset + start);
  }

  fetch(attempt: Attempt, start: number, wanted: Wanted): Promise<void> {
    return this.#inner.fetch(attempt, this.#offset + start, wanted);
  }
}

/** A disk in a layer that is read by ranges. */
class LayerDriver extends HttpDriver {
  readonly #opening: Opening;

  constructor(opening: Opening, { clusters, source }: { clusters: Clusters; source: Source }) {
    const { context, options, attempts } = opening;
    super({ node: context.node, clusters, attempts, source, manifest: undefined, url: options.url });
    this.#opening = opening;
  }

  override setReadOnly(readOnly: boolean): Promise<void> {
    if (readOnly) return Promise.resolve();
    return Promise.reject(blockError("EACCES", "reopen", "an image in a registry is not written in place"));
  }

  override close(): Promise<void> {
    closeAll(this.#opening);
    return Promise.resolve();
  }
}

/**
 * Opening a disk in an object store: an object as it is (read-only, by ranges), or a disk in chunks.
 *
 * Invariant: which of the two it is, is said by the object's type alone (format.ts).
 */
import { strerror } from "../../../../base/errno.ts";
import { blockError } from "../../../../base/errors.ts";
import { KiB, limits } from "../../../../base/limits.ts";
import type { BlockDriver, NodeSpec, OpenContext } from "../../../../block/model/contract.ts";
import { Attempts } from "../attempts.ts";
import { Clusters } from "../clusters.ts";
import { HttpDriver } from "../driver.ts";
import { type HttpOptions, openFailed } from "../options.ts";
import { Pace } from "../pace.ts";
import { RangeSource } from "../range-source.ts";
import { ChunkDriver } from "./chunk-driver.ts";
import { Store } from "./client.ts";
import { statObject } from "./objects.ts";
import { isHeadType } from "./format.ts";
import { readHead } from "./heads.ts";
import { IndexMap } from "./index-map.ts";
import { type S3Options, s3Options } from "./options.ts";

/** Unit of requests of ranges, bytes. */
const CLUSTER_BYTES = 64 * KiB;

/** Opens a disk. Errors: those of the store, EACCES for a plain object that is to be written. */
export async function openS3(context: OpenContext, spec: NodeSpec): Promise<BlockDriver> {
  const { host, graph, node } = context;
  const options = s3Options(spec, graph);
  const store = new Store(host, options);
  try {
    return await openIn(store, context, options);
  } catch (error) {
    store.close();
    return openFailed(options.url, error, node.name);
  }
}

async function openIn(store: Store, context: OpenContext, options: S3Options): Promise<BlockDriver> {
  const { place, url, cacheBytes } = options;
  const { node, host } = context;
  const facts = await statObject(store, place);
  if (!facts) throw blockError("ENOENT", "open", strerror("ENOENT"));
  if (!isHeadType(facts.type)) return openObject(store, context, options);
  const read = await readHead(store, place);
  if (!read) throw blockError("ESTALE", "open", "it has become another object");
  if (options.etag !== undefined && options.etag !== read.etag)
    throw blockError("ESTALE", "open", `its ETag was ${options.etag} and is ${read.etag}`);
  const index = new IndexMap(store, place, { read, host });
  return new ChunkDriver({ node, index, store, url, cacheBytes });
}

function refuseWriting({ node }: OpenContext): void {
  if (!node.readOnly && !node.options.autoReadOnly)
    throw blockError(
      "EACCES",
      "open",
      "it is a plain object, which can be replaced but not written in place",
    );
  node.options = { ...node.options, readOnly: true };
}

async function openObject(store: Store, context: OpenContext, options: S3Options): Promise<BlockDriver> {
  const { host, node } = context;
  const { url } = options;
  refuseWriting(context);
  const attempts = new Attempts(host, options);
  try {
    const source = new RangeSource(store.ranges, rangeOptions(options));
    const head = await attempts.run(url, (attempt) => source.probe(attempt, CLUSTER_BYTES));
    const { size } = source;
    if (size > limits.maxImageBytes) throw blockError("EFBIG", "open", strerror("EFBIG"));
    const clusters = new Clusters({
      ...options,
      ...{ source, attempts, clusterBytes: CLUSTER_BYTES, pace: new Pace(host.clock) },
      verify: () => undefined,
    });
    if (head.byteLength > 0) clusters.store(0, head);
    return new ObjectDriver({ node, clusters, attempts, source, manifest: undefined, url }, store);
  } catch (error) {
    attempts.close();
    throw error;
  }
}

/** The options of a reader of ranges; what it reads by says who asks. */
function rangeOptions(options: S3Options): HttpOptions {
  const { url, etag, cacheBytes, readaheadBytes, timeoutMs, deadlineMs, retries, connections } = options;
  return {
    ...{ url, etag, cacheBytes, readaheadBytes, timeoutMs, deadlineMs, retries, connections },
    ...{ size: undefined, ifMatch: "on", credentials: "omit", clusterBytes: CLUSTER_BYTES },
    ...{ account: { headers: {}, verifiesTls: true }, partBytes: undefined, manifest: undefined },
  };
}

/** An object, which is as a disk on a web server is. */
class ObjectDriver extends HttpDriver {
  readonly #store: Store;

  constructor(init: ConstructorParameters<typeof HttpDriver>[0], store: Store) {
    super(init);
    this.#store = store;
  }

  override setReadOnly(readOnly: boolean): Promise<void> {
    if (readOnly) return Promise.resolve();
    return Promise.reject(blockError("EACCES", "reopen", "a plain object can't be written in place"));
  }

  override async close(): Promise<void> {
    await super.close();
    this.#store.close();
  }
}

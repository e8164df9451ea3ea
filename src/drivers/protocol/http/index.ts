/**
 * http and https: a disk on a web server, read by range requests, for Node and browsers. Platform: Host.http. A read-only
 * node. Source: RFC 9110; QAPI BlockdevOptionsCurlHttp for the options that it shares with QEMU's curl driver.
 */
import { strerror } from "../../../base/errno.ts";
import { BlockError, blockError, errnoOf, messageOf } from "../../../base/errors.ts";
import { limits } from "../../../base/limits.ts";
import type { BlockDriver, DriverType, NodeSpec, OpenContext } from "../../../block/driver.ts";
import { optionError } from "../../../block/options.ts";
import { Attempts } from "./attempts.ts";
import { Clusters } from "./clusters.ts";
import { HttpDriver, readOnlyError } from "./driver.ts";
import { HTTP_CLUSTER_BYTES, type HttpOptions, httpOptions } from "./options.ts";
import { PartSource } from "./part-source.ts";
import { RangeSource, type Source } from "./range-source.ts";

interface Opened {
  source: Source;
  clusterBytes: number;
  /** The first cluster, where the opening has read it. */
  head?: Uint8Array;
}

/** A disk whose size is given is not asked for: it can be opened while the server is away. */
async function openRanges(context: OpenContext, options: HttpOptions, attempts: Attempts): Promise<Opened> {
  const source = new RangeSource(context.host.http!, options);
  const clusterBytes = options.clusterBytes ?? HTTP_CLUSTER_BYTES;
  if (options.size !== undefined) return { source, clusterBytes };
  const head = await attempts.run(options.url, (attempt) => source.probe(attempt, clusterBytes));
  return { source, clusterBytes, head };
}

function openParts({ host }: OpenContext, options: HttpOptions, partBytes: number): Opened {
  const { size } = options;
  if (size === undefined) throw optionError("Parameter 'parts' needs the disk's 'size'");
  const source = new PartSource({ http: host.http!, codecs: host.codecs, options, size, partBytes });
  return { source, clusterBytes: partBytes };
}

async function openSource(context: OpenContext, options: HttpOptions, attempts: Attempts): Promise<Opened> {
  try {
    if (options.partBytes !== undefined) return openParts(context, options, options.partBytes);
    return await openRanges(context, options, attempts);
  } catch (error) {
    if (errnoOf(error) === "EINVAL") throw error;
    throw new BlockError({
      code: errnoOf(error),
      op: "open",
      message: `Could not open '${options.url}': ${messageOf(error)}`,
      cause: error,
    });
  }
}

async function open(context: OpenContext, spec: NodeSpec): Promise<BlockDriver> {
  const { host, node } = context;
  if (!host.http) throw blockError("ENOTSUP", "open", "This platform has no HTTP");
  const options = httpOptions(spec, host);
  if (!node.readOnly && !node.options.autoReadOnly) throw readOnlyError();
  const attempts = new Attempts(host, options);
  const { source, clusterBytes, head } = await openSource(context, options, attempts);
  const { size } = source;
  if (size > limits.maxImageBytes)
    throw blockError("EFBIG", "open", `Could not open '${options.url}': ${strerror("EFBIG")}`);
  const clusters = new Clusters({ ...options, source, attempts, clusterBytes, verify: () => undefined });
  if (head && head.byteLength > 0) clusters.store(0, head);
  node.options = { ...node.options, readOnly: true };
  return new HttpDriver({ node, clusters, attempts, size });
}

/**
 * Options: `url`, `readahead`, `timeout` as QEMU's; ours: `size`, `etag`, `if-match`, `credentials`, `cluster-size`,
 * `cache-size`, `deadline`, `retries`, `connections`, `parts`. Errors of reads: EIO (no usable answer in time),
 * ENOENT, EACCES, ESTALE (the source has changed).
 */
export const http: DriverType = { name: "http", kind: "protocol", open };

/** The same over TLS. */
export const https: DriverType = { name: "https", kind: "protocol", open };

/**
 * http and https: a disk on a web server, read by range requests, for Node and browsers. Platform: Host.http. A read-only
 * node. Source: RFC 9110; QAPI BlockdevOptionsCurlHttp for the options that it shares with QEMU's curl driver.
 */
import { strerror } from "../../../base/errno.ts";
import { type BlockError, blockError } from "../../../base/errors.ts";
import { SECTOR_SIZE, limits } from "../../../base/limits.ts";
import { alignUp } from "../../../base/ranges.ts";
import type {
  BlockDriver,
  DriverType,
  NodeSpec,
  OpenContext,
  ParsedName,
} from "../../../block/model/contract.ts";
import { optionError } from "../../../block/model/options.ts";
import type { Manifest } from "../../../wire/manifest.ts";
import { Attempts } from "./attempts.ts";
import { Clusters } from "./clusters.ts";
import { HttpDriver, readOnlyError } from "./driver.ts";
import { loadManifest } from "./manifest.ts";
import { type HttpOptions, httpOptions, openFailed } from "./options.ts";
import { HTTP_CLUSTER_BYTES } from "./sizes.ts";
import { Pace } from "./pace.ts";
import { PartSource } from "./part-source.ts";
import { RangeSource, type Source } from "./range-source.ts";
import { badAnswer } from "./validate.ts";

interface Opened {
  source: Source;
  clusterBytes: number;
  /** The first cluster, where the opening has read it. */
  head?: Uint8Array;
}

/** What the opening works with. */
interface Opening {
  context: OpenContext;
  options: HttpOptions;
  attempts: Attempts;
  manifest: Manifest | undefined;
}

/** Why a cluster is not what the manifest says; undefined if it is. */
type Verify = (cluster: number, bytes: Uint8Array) => BlockError | undefined;

function verifier({ options, manifest }: Opening, clusterBytes: number): Verify {
  if (!manifest) return () => undefined;
  const hashes = clusterBytes / manifest.clusterBytes;
  if (!Number.isInteger(hashes))
    throw optionError(
      `Parameter 'manifest' has clusters of ${manifest.clusterBytes} bytes, which do not fit in ${clusterBytes}`,
    );
  return (cluster, bytes) => {
    for (let at = 0, i = cluster * hashes; at < bytes.byteLength; at += manifest.clusterBytes, i++)
      if (!manifest.matches(i, bytes.subarray(at, at + manifest.clusterBytes)))
        return badAnswer(
          options.url,
          `the content at ${i * manifest.clusterBytes} is not what the manifest says`,
        );
    return undefined;
  };
}

/** A disk whose size is given is not asked for: it can be opened while the server is away. */
async function openRanges(opening: Opening): Promise<Opened> {
  const { context, options, attempts, manifest } = opening;
  const source = new RangeSource(context.host.http!, options);
  const clusterBytes = options.clusterBytes ?? manifest?.clusterBytes ?? HTTP_CLUSTER_BYTES;
  if (options.size !== undefined) return { source, clusterBytes };
  const verify = verifier(opening, clusterBytes);
  const head = await attempts.run(options.url, async (attempt) => {
    const bytes = await source.probe(attempt, clusterBytes);
    const wrong = verify(0, bytes);
    if (wrong) throw wrong;
    return bytes;
  });
  return { source, clusterBytes, head };
}

function openParts({ context: { host }, options }: Opening, partBytes: number): Opened {
  const { size } = options;
  if (size === undefined) throw optionError("Parameter 'parts' needs the disk's 'size'");
  const source = new PartSource({ http: host.http!, codecs: host.codecs, options, size, partBytes });
  return { source, clusterBytes: partBytes };
}

async function openSource(opening: Opening): Promise<Opened> {
  const { options } = opening;
  try {
    if (options.partBytes !== undefined) return openParts(opening, options.partBytes);
    return await openRanges(opening);
  } catch (error) {
    return openFailed(options.url, error, opening.context.node.name);
  }
}

async function openDisk(opening: Opening): Promise<BlockDriver> {
  const { context, options, attempts, manifest } = opening;
  const { source, clusterBytes, head } = await openSource(opening);
  const { size } = source;
  if (size > limits.maxImageBytes)
    throw blockError("EFBIG", "open", `Could not open '${options.url}': ${strerror("EFBIG")}`);
  if (manifest && manifest.size !== alignUp(size, SECTOR_SIZE))
    throw optionError(
      `Parameter 'manifest' is of a disk of ${manifest.size} bytes, and this one has ${size}`,
    );
  const verify = verifier(opening, clusterBytes);
  const clusters = new Clusters({
    ...options,
    source,
    attempts,
    clusterBytes,
    pace: new Pace(context.host.clock),
    verify,
  });
  if (head && head.byteLength > 0) clusters.store(0, head);
  context.node.options = { ...context.node.options, readOnly: true };
  return new HttpDriver({ node: context.node, clusters, attempts, source, manifest, url: options.url });
}

async function open(context: OpenContext, spec: NodeSpec): Promise<BlockDriver> {
  const { host, node } = context;
  if (!host.http) throw blockError("ENOTSUP", "open", "This platform has no HTTP");
  const options = httpOptions(spec, context, host.http);
  if (!node.readOnly && !node.options.autoReadOnly) throw readOnlyError();
  const attempts = new Attempts(host, options);
  try {
    const manifest = await loadManifest(context, options, attempts);
    return await openDisk({ context, options, attempts, manifest });
  } catch (error) {
    attempts.close();
    throw error;
  }
}

/** A name is the URL, unless an option says more: which version, whose, or in which parts. How it is fetched is no part of it. */
const names = {
  namedBy: [
    ...["url", "username", "password-secret", "cookie", "cookie-secret", "sslverify", "credentials"],
    ...["size", "etag", "parts.chunk-size", "manifest"],
  ],
  parseName: (url: string): ParsedName => ({ options: { url } }),
  plainName: ({ url, ...others }: Readonly<Record<string, unknown>>): string | undefined =>
    Object.keys(others).length === 0 ? String(url) : undefined,
};

/**
 * Options: `url`, `readahead`, `timeout`, `username`, `password-secret`, `cookie`, `cookie-secret`, `sslverify` (https) as
 * QEMU's; ours: `size`, `etag`, `if-match`, `credentials`, `cluster-size`,
 * `cache-size`, `deadline`, `retries`, `connections`, `parts`, `manifest`. Errors of reads: EIO (no usable answer in time),
 * ENOENT, EACCES, ESTALE (the source has changed).
 */
export const http: DriverType = { name: "http", kind: "protocol", ...names, open };

/** The same over TLS. */
export const https: DriverType = { name: "https", kind: "protocol", ...names, open };

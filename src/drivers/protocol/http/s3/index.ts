/**
 * s3: disks in an object store. An object as any client has put it there is read by ranges; a disk in chunks (disk/format.ts)
 * is read and written. Platform: Host.http with `send`; credentials from Host.environment or secrets.
 *
 * Invariant: what talks to the store is loaded when the first of its disks is opened. Source: Amazon's S3 API, of which GET, PUT,
 * DELETE, conditional requests, listings and multipart uploads are used.
 */
import type { DriverType } from "../../../../block/model/contract.ts";
import { makeInPlace } from "../../../../block/graph/in-place.ts";
import { parseS3Name, plainS3Name } from "./names.ts";

/**
 * Options: `url` (or `bucket` and `key`), `endpoint`, `region`, `path-style`, `access-key-id`, `secret-access-key`,
 * `session-token` (ids of secrets), `conditional-writes`, `form`, `chunk-size`, `etag`, `cache-size`, `readahead`, `connections`, `timeout`, `deadline`,
 * `retries`. Errors of requests: EIO (no usable answer in time), ENOENT, EACCES, ENOSPC, ESTALE (the object has changed, or
 * another writer was first).
 */
export const s3: DriverType = {
  name: "s3",
  kind: "protocol",
  openOptions: {
    "*url": "str",
    "*bucket": "str",
    "*key": "str",
    "*endpoint": "str",
    "*region": "str",
    "*path-style": "bool",
    "*access-key-id": "str",
    "*secret-access-key": "str",
    "*session-token": "str",
    "*conditional-writes": "bool",
    "*form": "str",
    "*chunk-size": "size",
    "*etag": "str",
    "*cache-size": "size",
    "*readahead": "size",
    "*connections": "int",
    "*timeout": "int",
    "*deadline": "int",
    "*retries": "int",
  },
  namedBy: ["url", "bucket", "key", "endpoint", "region", "path-style", "conditional-writes", "etag"],
  parseName: parseS3Name,
  plainName: plainS3Name,
  open: async (context, spec) => (await import("./late.ts")).openS3(context, spec),
  makeInPlace: async (graph, made, format) => {
    await (await import("./late.ts")).makeDisk(graph, made);
    await makeInPlace(graph, made, format);
  },
  store: {
    chunks: async (file) => (await import("./late.ts")).chunksOf(file),
    exists: async (graph, file) => (await import("./late.ts")).objectExists(graph, file),
    draft: async (graph, file, known) => (await import("./late.ts")).draftOf(graph, file, known),
    objects: async (graph, file) => (await import("./late.ts")).objectsBelow(graph, file),
  },
};

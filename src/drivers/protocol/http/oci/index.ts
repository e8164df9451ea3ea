/**
 * oci: disks in registries of container images, `oci://HOST/REPOSITORY:TAG`. A disk is a file in a layer (KubeVirt's containerDisk: below
 * /disk/), or a layer that is the image itself. Plain ones are read by ranges, without pulling; what is compressed is read through
 * once, into a cache. Read-only; `convert` makes images of a repository. Platform: Host.http.
 *
 * Invariant: what talks to the registry is loaded when the first of its disks is opened. Source: OCI image and distribution
 * specifications 1.0; KubeVirt's containerDisks.
 */
import type { DriverType } from "../../../../block/model/contract.ts";
import { optionError } from "../../../../block/model/options.ts";
import { parseOciName, plainOciName } from "./names.ts";

/**
 * Options: `url`, `path` (of the disk in its layer), `platform`, `username`, `password-secret`, `plain-http`, `cache-dir`, `cache-size`, `readahead`,
 * `connections`, `timeout`, `deadline`, `retries`. Errors of requests: EIO (no usable answer in time), ENOENT, EACCES, ESTALE.
 */
export const oci: DriverType = {
  name: "oci",
  kind: "protocol",
  openOptions: {
    url: "str",
    "*path": "str",
    "*platform": "str",
    "*username": "str",
    "*password-secret": "str",
    "*plain-http": "bool",
    "*cache-dir": "str",
    "*cache-size": "size",
    "*readahead": "size",
    "*connections": "int",
    "*timeout": "int",
    "*deadline": "int",
    "*retries": "int",
  },
  namedBy: ["url", "path", "platform", "plain-http"],
  parseName: parseOciName,
  plainName: plainOciName,
  open: async (context, spec) => (await import("./late.ts")).openOci(context, spec),
  makeInPlace: () =>
    Promise.reject(optionError("an image in a registry is made whole, by convert, and not written in place")),
  store: {
    exists: async (graph, file) => (await import("./late.ts")).imageExists(graph, file),
    draft: async (graph, file) => (await import("./late.ts")).draftOf(graph, file),
  },
};

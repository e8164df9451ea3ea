/**
 * What openGuestDisk() is asked for, and what follows from it: the base on the server, the file of the overlay. The names of
 * v86's own disks (`url`, `size`, `async`, `use_parts`, `fixed_chunk_size`) mean what they mean there.
 */
import { CommandError } from "../../base/errors.ts";
import { isPowerOfTwo } from "../../base/ranges.ts";
import type { BlockdevOptions } from "../../wire/qapi/index.ts";
import { type GuestDiskOptions, guestOptions } from "../guest.ts";
import type { NewFile } from "../open.ts";
import type { OpenSpec } from "../specs.ts";
import { optionsOf, type OptionTable } from "../options.ts";

type HttpDescription = Extract<BlockdevOptions, { driver: "http" | "https" }>;

/** Where overlays are kept. */
export type GuestStore = "opfs" | "indexeddb";

/** Options of openGuestDisk(). They cross a port: plain data. */
export interface OpenGuestDiskOptions extends GuestDiskOptions {
  /** The image on the server; relative to the page. With `use_parts`: the name that the parts' names begin and end with. */
  url: string;
  /** The disk's name in the browser's storage: names joined by slashes. Default: made from the URL. */
  name?: string;
  /** Bytes of the image, where the server does not tell; with it nothing is asked before the guest reads. */
  size?: number;
  /** Taken for v86's sake: the image is always read bit by bit. */
  async?: boolean;
  /** The image lies in parts, as v86's tools/split-image.py makes them (also `.zst`); needs `size` and `fixed_chunk_size`. */
  use_parts?: boolean;
  /** Bytes of each part; without parts the least that is asked for at once, where it is a power of two. */
  fixed_chunk_size?: number;
  /** The image's format; default raw. */
  format?: string;
  /** More options of the driver http for the image: `etag`, `manifest`, `credentials`, `cache-size` … */
  http?: Partial<Omit<HttpDescription, "driver" | "url" | "size" | "parts">>;
  /** Where what is written is kept. Default auto: OPFS, else IndexedDB. */
  store?: "auto" | GuestStore;
  /** Brings the rest of the image in the background. Default true. */
  fill?: boolean;
  /** Most bytes per second of that; 0 (default): no limit. */
  fillSpeedBytesPerSecond?: number;
  /** Room that the filling leaves to what the guest writes, bytes; default 16 MiB. */
  reserveBytes?: number;
  /**
   * When the image on the server is not the one that the disk was made over. refuse (default): ESTALE. discard: what was written
   * is thrown away. keep-both: a disk of its own for this version. accept: the content is the same all the same.
   */
  whenChanged?: "refuse" | "discard" | "accept" | "keep-both";
  /** Throws away what an earlier visit left. Default false. */
  fresh?: boolean;
  /** Milliseconds before what failed is tried again; default 5000. */
  probeMs?: number;
}

/** Without a spread, so that who does not import it does not bundle it. */
const own = {
  url: "str",
  name: "str",
  size: "Length",
  async: "bool",
  use_parts: "bool",
  fixed_chunk_size: "Length",
  format: "str",
  http: "Object",
  store: "GuestStore",
  fill: "bool",
  fillSpeedBytesPerSecond: "Finite",
  reserveBytes: "Length",
  whenChanged: "WhenChanged",
  fresh: "bool",
  probeMs: "Finite",
} as const satisfies OptionTable<Omit<OpenGuestDiskOptions, keyof GuestDiskOptions>>;

/** Throws CommandError for options that are none, or lack what they need. */
export function checkOpenGuestDisk(options: OpenGuestDiskOptions): void {
  optionsOf<OpenGuestDiskOptions>({ ...guestOptions, ...own })(options);
  if (options.url === undefined) throw new CommandError("Parameter 'url' is missing");
  if (!options.use_parts) return;
  for (const name of ["size", "fixed_chunk_size"] as const)
    if (options[name] === undefined) throw new CommandError(`'use_parts' needs '${name}'`);
}

/** The disk's name: the one given, or one out of the URL's host and path. */
export function diskName({ name, url }: OpenGuestDiskOptions, base: string | undefined): string {
  if (name !== undefined) return name;
  const { host, pathname } = new URL(url, base);
  return `${host}${pathname}`.replaceAll(/[^\w.-]+/g, "_");
}

/** The file of the overlay, in a store. */
export function overlayFile(store: GuestStore, name: string): NewFile {
  return { driver: store, filename: `${name}.qcow2` };
}

/** The base's description; `size`: its storage's bytes, where they are known without asking. */
export function baseSpec(
  options: OpenGuestDiskOptions,
  { nodeName, page, size }: { nodeName: string; page: string | undefined; size: number | undefined },
): OpenSpec {
  const { format, http = {}, use_parts: inParts, fixed_chunk_size: chunk } = options;
  const { href, protocol } = new URL(options.url, page);
  const storage: HttpDescription = {
    ...(http as Partial<HttpDescription>),
    // One driver under two names, whose options are the same but for one of TLS.
    driver: protocol.slice(0, -1) as "http",
    url: href,
    "read-only": true,
    ...(size === undefined ? {} : { size }),
    ...(chunk === undefined ? {} : chunked(chunk, inParts ?? false)),
  };
  if (format === undefined) return { ...storage, "node-name": nodeName };
  return { driver: format, "node-name": nodeName, "read-only": true, file: storage } as OpenSpec;
}

function chunked(
  bytes: number,
  inParts: boolean,
): { parts?: { "chunk-size": number }; "cluster-size"?: number } {
  if (inParts) return { parts: { "chunk-size": bytes } };
  return isPowerOfTwo(bytes) && bytes >= 512 ? { "cluster-size": bytes } : {};
}

/**
 * Builders of descriptions: `qcow2(file("disk.qcow2"))` is `{ driver: "qcow2", file: { driver: "file", filename: "disk.qcow2" } }`,
 * with the literal types that a `const` of one's own would lose. Plain functions that look at nothing: openNode() and createImage()
 * check what they are given. Each is by itself, so that a bundle has only those that it uses.
 */
import type {
  BlobOptions,
  CustomSpec,
  DriverSpec,
  HttpDiskOptions,
  MemoryBufferOptions,
  MemoryOptions,
  OpenChild,
} from "./specs.ts";

/** What may be said beside what a builder's arguments say. */
type More<T, K extends string> = Omit<T, "driver" | K>;

/** A description that says no more than where its file is. */
export interface Over<D extends string, F> {
  driver: D;
  file: F;
}

/** A description that says no more than a file's name. */
export interface Named<D extends string> {
  driver: D;
  filename: string;
}

/** A regular file of the host (Node). */
export function file(filename: string): Named<"file">;
export function file(filename: string, options: More<DriverSpec<"file">, "filename">): DriverSpec<"file">;
export function file(filename: string, options: object = {}): object {
  return { ...options, driver: "file", filename };
}

/** A file in the browser's private file system (dedicated workers). */
export function opfs(filename: string): Named<"opfs">;
export function opfs(filename: string, options: More<DriverSpec<"opfs">, "filename">): DriverSpec<"opfs">;
export function opfs(filename: string, options: object = {}): object {
  return { ...options, driver: "opfs", filename };
}

/** A database of the browser (pages and workers). */
export function indexeddb(filename: string): Named<"indexeddb">;
export function indexeddb(
  filename: string,
  options: More<DriverSpec<"indexeddb">, "filename">,
): DriverSpec<"indexeddb">;
export function indexeddb(filename: string, options: object = {}): object {
  return { ...options, driver: "indexeddb", filename };
}

/** What may be said of a disk on a web server. */
export type HttpOptions = More<DriverSpec<"https">, "url" | "manifest"> & {
  /** A URL, in Node also a file's name, or the manifest's bytes. */
  manifest?: string | Uint8Array;
};

/** A file on a web server, read-only. The URL's scheme says which driver it is; a page's own counts for one without. */
export function http(
  url: string | URL,
  options: HttpOptions = {},
): DriverSpec<"http"> | DriverSpec<"https"> | HttpDiskOptions {
  const text = String(url);
  const page = (globalThis as { location?: { protocol?: string } }).location?.protocol ?? "";
  const isSecure = /^https:/i.test(text) || (!/^http:/i.test(text) && page === "https:");
  const spec = { "read-only": true, ...options, driver: isSecure ? "https" : "http", url: text } as const;
  return spec as DriverSpec<"https">;
}

/** A disk in memory: of so many bytes, growing by writes, or over a buffer, whose length it keeps. */
export function memory(size?: number, options?: More<MemoryOptions, "size">): MemoryOptions;
export function memory(
  buffer: Uint8Array,
  options?: More<MemoryBufferOptions, "buffer">,
): MemoryBufferOptions;
export function memory(what: number | Uint8Array = 0, options: object = {}): object {
  return { ...options, driver: "memory", ...(typeof what === "number" ? { size: what } : { buffer: what }) };
}

/** A Blob or File, read-only. In Node: `await fs.openAsBlob(path)`. */
export function blob(data: Blob, options: { "node-name"?: string } = {}): BlobOptions {
  return { ...options, driver: "blob", blob: data, "read-only": true };
}

/** A raw disk: the bytes of `storage` as they are, or a window of them. */
export function raw<F extends OpenChild>(storage: F): Over<"raw", F>;
export function raw(storage: OpenChild, options: More<DriverSpec<"raw">, "file">): DriverSpec<"raw">;
export function raw(storage: OpenChild, options: object = {}): object {
  return { ...options, driver: "raw", file: storage };
}

/** A qcow2 image in `storage`. */
export function qcow2<F extends OpenChild>(storage: F): Over<"qcow2", F>;
export function qcow2(storage: OpenChild, options: More<DriverSpec<"qcow2">, "file">): DriverSpec<"qcow2">;
export function qcow2(storage: OpenChild, options: object = {}): object {
  return { ...options, driver: "qcow2", file: storage };
}

/** A LUKS volume in `storage`; `key-secret` is the id of its passphrase's secret. */
export function luks(storage: OpenChild, options: More<DriverSpec<"luks">, "file"> = {}): DriverSpec<"luks"> {
  return { ...options, driver: "luks", file: storage };
}

/** A qcow2 image in `top` over the disk `base`, whatever the image's header names. */
export function overlay(
  base: OpenChild,
  top: OpenChild,
  options: More<DriverSpec<"qcow2">, "file" | "backing"> = {},
): DriverSpec<"qcow2"> {
  return { ...options, driver: "qcow2", file: top, backing: base };
}

/** A description for a driver of one's own, which looks at its options itself. */
export function custom(driver: string, options: object = {}): CustomSpec {
  return { ...options, driver } as CustomSpec;
}

/**
 * One name for a driver and for the builder of its descriptions, where a page imports the drivers that its bundle shall have: the
 * driver is callable.
 */
export function callable<D extends object, B extends object>(driver: D, build: B & Builder): D & B {
  const made: Builder = (...args) => build(...args);
  // A function's own `name` gives way to the driver's.
  return Object.defineProperties(made, Object.getOwnPropertyDescriptors(driver)) as unknown as D & B;
}

type Builder = (...args: never[]) => unknown;

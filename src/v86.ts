/**
 * The v86 entry: a node as a disk of v86, and an engine with the drivers that its user chooses, so that a bundle holds
 * nothing else: no monitor, no table of commands, no check, no job that is not imported.
 */
import * as build from "./api/builders.ts";
import { callable } from "./api/builders.ts";
import { type EngineOptions, makeSimdEngine } from "./api/engine.ts";
import type { Host } from "./base/host.ts";
import type { DriverType } from "./block/model/contract.ts";
import { copyOnRead } from "./drivers/filter/copy-on-read.ts";
import { indexedDbOver } from "./drivers/protocol/indexeddb.ts";
import { qcow2 as qcow2Driver } from "./drivers/format/qcow2/index.ts";
import { raw as rawDriver } from "./drivers/format/raw.ts";
import { http as httpDriver, https as httpsDriver } from "./drivers/protocol/http/index.ts";
import { memory as memoryDriver } from "./drivers/protocol/memory.ts";
import { webNbdBy } from "./drivers/protocol/nbd/web.ts";
import { opfs as opfsDriver } from "./drivers/protocol/opfs/index.ts";
import type { Engine } from "./machine/engine.ts";
import { openNbdFromPage } from "./browser-nbd.ts";
import { browserDatabases } from "./platform/browser/databases.ts";
import { plainBrowserHost } from "./platform/browser/host.ts";

export { BlockError, CommandError } from "./base/errors.ts";
export { createImageIn as createImage, openNodeIn as openNode } from "./api/open.ts";
export { type AutoResumeOptions, autoCont, autoResume } from "./api/auto-resume.ts";
export { stream } from "./api/jobs.ts";
export type { StreamOptions } from "./api/jobs.ts";
export { type V86DiskOptions, type V86StateOptions, toV86Disk } from "./api/v86.ts";
export { overlay } from "./api/builders.ts";
export { openGuestDiskIn } from "./api/guest-disk/open.ts";
export type { OpenGuestDiskOptions } from "./api/guest-disk/options.ts";
export type { OpenedGuestDisk } from "./api/guest-disk/disk.ts";
export type { GuestDiskCause, GuestDiskStatus } from "./api/guest-disk/status.ts";
export { type PageDiskOptions, PageGuestDisk, openGuestDisk } from "./browser-guest-disk.ts";
export type { Node } from "./api/node.ts";
export type { Engine } from "./machine/engine.ts";
export type { GuestDisk, GuestMachine } from "./machine/guest-disk.ts";
export type { V86Disk } from "./machine/v86/disk.ts";
export type { V86Emulator } from "./machine/v86/emulator.ts";
export type { GenerationKeeper } from "./machine/v86/state.ts";
export { type StoredGeneration, keepGeneration } from "./platform/browser/generation.ts";

/** The driver of qcow2 images, and by a call the description of one: `qcow2(opfs("disk.qcow2"))`. */
export const qcow2 = /* @__PURE__ */ callable(qcow2Driver, build.qcow2);
/** The driver of raw disks, and by a call the description of one. */
export const raw = /* @__PURE__ */ callable(rawDriver, build.raw);
/** The driver of disks on web servers, and by a call the description of one, also by `https:`. */
export const http = /* @__PURE__ */ callable(httpDriver, build.http);
/** The same over TLS. */
export const https = /* @__PURE__ */ callable(httpsDriver, build.http);
/** The driver of disks in memory, and by a call the description of one. */
export const memory = /* @__PURE__ */ callable(memoryDriver, build.memory);
/** The driver of files in the browser's private file system, and by a call the description of one. */
export const opfs = /* @__PURE__ */ callable(opfsDriver, build.opfs);
/** Disks in the browser's database, for browsers without a private file system. */
export const indexeddb = /* @__PURE__ */ callable(
  /* @__PURE__ */ indexedDbOver(browserDatabases),
  build.indexeddb,
);

/** The driver of disks on NBD servers that are reached by WebSocket. */
export const nbd = /* @__PURE__ */ webNbdBy(openNbdFromPage);

/** How an engine for v86 is made. */
export interface V86EngineOptions extends Omit<EngineOptions, "kernels"> {
  drivers: readonly DriverType[];
  /** Default: the browser's without cryptography; browserHost() of `./browser` has it. */
  host?: Host;
}

/**
 * An engine with just these drivers (and copy-on-read, which stream jobs need). ENOTSUP where
 * WebAssembly has no SIMD.
 */
export function createEngine(options: V86EngineOptions): Engine {
  const drivers = [...new Set([copyOnRead, ...options.drivers])];
  return makeSimdEngine({ host: options.host ?? plainBrowserHost(), drivers }, options);
}

/**
 * Making engines for library callers: the host and the drivers come from the entry, everything else has a default.
 *
 * An engine tells those who look on: every event of its jobs, and every error of theirs and of guests, on the channels of
 * the Host. (Requests are told by their nodes.)
 */
import { blockError } from "../base/errors.ts";
import type { Host, HostDiagnostics } from "../base/host.ts";
import type { DriverType } from "../block/model/contract.ts";
import type { Gate } from "../block/model/gate.ts";
import type { Kernels } from "../kernels/kernels.ts";
import { type KernelOptions, loadKernels, loadSimdKernels, loadTwinKernels } from "../kernels/load.ts";
import { Engine } from "../machine/engine.ts";
import { makeObject } from "../machine/object-kinds.ts";
import type { ObjectMaker } from "../machine/objects.ts";
import { answering } from "./gate-answer.ts";
import { optionsOf } from "./options.ts";
import type { QmpEvent } from "../wire/qapi/index.ts";
import { BlockJob } from "../job/core/block-job.ts";

const ERRORS: ReadonlySet<QmpEvent["event"]> = new Set([
  "BLOCK_JOB_ERROR",
  "BLOCK_IO_ERROR",
  "BLOCK_IMAGE_CORRUPTED",
] as const);

/** Publishes the engine's events on `blockwright:job` and `blockwright:error`, while somebody listens. */
export function tellWatchers({ graph, jobs }: Engine, diagnostics: HostDiagnostics): void {
  const ofJobs = diagnostics.channel?.("blockwright:job");
  const ofErrors = diagnostics.channel?.("blockwright:error");
  if (!ofJobs || !ofErrors) return;
  graph.events.subscribe(({ event, data }) => {
    const isOfJob = event === "JOB_STATUS_CHANGE" || event.startsWith("BLOCK_JOB_");
    if (isOfJob && ofJobs.hasSubscribers) ofJobs.publish({ event, data });
    if (!ERRORS.has(event) || !ofErrors.hasSubscribers) return;
    const job = "device" in data ? jobs.find(data.device) : undefined;
    const failure = event === "BLOCK_JOB_ERROR" && job instanceof BlockJob ? job.lastFailure : undefined;
    ofErrors.publish({ event, data, ...(failure ? { failure } : {}) });
  });
}

/** How an engine is made. */
export interface EngineOptions {
  /** Asked before a file that an image names is opened. Default: nothing is allowed. */
  gate?: Gate;
  /** Refuses `stop` and `enospc` unless the guest device stops too (QEMU's rule of 2012). Default false. */
  strictErrorPolicy?: boolean;
  /** Size of the I/O arena, bytes; default 64 MiB. It bounds the data that all jobs have in flight. */
  arenaBytes?: number;
  /** Passphrases and keys by id, which images name as `key-secret`. More by `engine.objects.addSecret()`. */
  secrets?: Readonly<Record<string, string | Uint8Array>>;
  /** `twin` does without WebAssembly. Default `auto`. */
  kernels?: "auto" | "twin";
}

/** What an entry adds. */
export interface EnginePlatform {
  host: Host;
  drivers: readonly DriverType[];
  /** The platform's own comparison of bytes; see KernelOptions. */
  equals?: (a: Uint8Array, b: Uint8Array) => boolean;
  /** Kernels, with the memory of the arena, of an engine that has been closed. Default: new ones, by the options. */
  ownKernels?: Kernels;
}

const checkOptions = optionsOf<EngineOptions & EntryOptions>({
  gate: "Function",
  strictErrorPolicy: "bool",
  arenaBytes: "Length",
  secrets: "Object",
  kernels: "Kernels",
  host: "Object",
  drivers: "Drivers",
  native: "NativeCalls",
  io: "FileIo",
  copyLeastBytes: "Length",
  warnUnflushed: "bool",
});

/** What entries take beside it. */
interface EntryOptions {
  host?: unknown;
  drivers?: unknown;
  native?: unknown;
  io?: unknown;
  copyLeastBytes?: unknown;
  warnUnflushed?: unknown;
}

/** Makes an engine. Throws BlockError ENOMEM where the arena does not fit. */
export function makeEngine(platform: EnginePlatform, options: EngineOptions = {}): Engine {
  checkOptions(options);
  const { gate } = options;
  return engineOver(
    platform.ownKernels ?? kernelsFor(platform, options),
    { ...platform, makeObject },
    gate ? { ...options, gate: answering(gate) } : options,
  );
}

/**
 * Makes an engine for bundles that shall be small: without object-add, and without a twin of the kernels to fall back on.
 * ENOTSUP without SIMD.
 */
export function makeSimdEngine(platform: EnginePlatform, options: Omit<EngineOptions, "kernels">): Engine {
  checkOptions(options);
  const kernels = loadSimdKernels(kernelOptions(platform, options));
  if (!kernels) throw blockError("ENOTSUP", "engine", "this platform does not run WebAssembly with SIMD");
  return engineOver(kernels, platform, options);
}

/** New kernels for an engine. Throws BlockError ENOMEM where the arena does not fit. */
export function kernelsFor(
  platform: Pick<EnginePlatform, "equals">,
  options: Pick<EngineOptions, "kernels" | "arenaBytes">,
): Kernels {
  const size = kernelOptions(platform, options);
  return options.kernels === "twin" ? loadTwinKernels(size) : loadKernels(size);
}

function kernelOptions(
  { equals }: Pick<EnginePlatform, "equals">,
  { arenaBytes }: Pick<EngineOptions, "arenaBytes">,
): KernelOptions {
  return { ...(arenaBytes === undefined ? {} : { arenaBytes }), ...(equals ? { equals } : {}) };
}

function engineOver(
  kernels: Kernels,
  platform: EnginePlatform & { makeObject?: ObjectMaker },
  options: EngineOptions,
): Engine {
  const { gate, strictErrorPolicy } = options;
  const engine = new Engine({
    ...platform,
    kernels,
    ...(gate === undefined ? {} : { gate }),
    ...(strictErrorPolicy === undefined ? {} : { strictErrorPolicy }),
  });
  if (platform.host.diagnostics) tellWatchers(engine, platform.host.diagnostics);
  for (const [id, secret] of Object.entries(options.secrets ?? {})) engine.objects.addSecret(id, secret);
  return engine;
}

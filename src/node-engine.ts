/**
 * The composition of an engine in Node: its Host, and the drivers that fit it. A file of its own, since the program's verbs need no
 * more of the library than what each does.
 */
import { type EngineOptions, makeEngine } from "./api/engine.ts";
import { unflushedFiles } from "./api/node.ts";
import type { DriverType } from "./block/model/contract.ts";
import { blklogwrites } from "./drivers/filter/blklogwrites/index.ts";
import { blkreplay } from "./drivers/filter/blkreplay.ts";
import { preallocate } from "./drivers/filter/preallocate.ts";
import { quorum } from "./drivers/filter/quorum.ts";
import { portableDrivers } from "./drivers/index.ts";
import { file, hostCdrom, hostDevice } from "./drivers/protocol/file.ts";
import { nbd } from "./drivers/protocol/nbd/index.ts";
import type { Engine } from "./machine/engine.ts";
import { sameBytes } from "./platform/node/compare.ts";
import { type NodeHostOptions, nodeHost } from "./platform/node/host.ts";
import { warnAtExit } from "./platform/node/leftovers.ts";

/** How an engine over Node's files is made. */
export interface NodeEngineOptions extends EngineOptions, NodeHostOptions {
  /** Drivers beside Blockwright's own. */
  drivers?: readonly DriverType[];
  /** False: says nothing on stderr where the process ends while disks are open that were written to and not flushed. */
  warnUnflushed?: boolean;
}

/** What an engine in Node can open: the drivers of a platform (`blockwright/workload`). */
export const nodeDrivers: readonly DriverType[] = [
  ...portableDrivers,
  file,
  hostDevice,
  hostCdrom,
  nbd,
  blklogwrites,
  blkreplay,
  preallocate,
  quorum,
];

/** An engine over this process's files and sockets. Close it with `await using` or close(). */
export function createEngine(options: NodeEngineOptions = {}): Engine {
  const drivers = [...nodeDrivers, ...(options.drivers ?? [])];
  const engine = makeEngine({ host: nodeHost(options), drivers, equals: sameBytes }, options);
  if (options.warnUnflushed ?? true) warnAtExit(engine, unflushedFiles);
  return engine;
}

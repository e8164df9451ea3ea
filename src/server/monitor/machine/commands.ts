/**
 * The commands that only a machine's monitor serves: devices, media, the human monitor.
 * Source: QAPI block, qdev, machine and misc schemas; behaviour of QEMU 7.2.
 */
import { CommandError } from "../../../base/errors.ts";
import { chainStats } from "../../../block/stats.ts";
import { limitNames, oldLimitName, type ThrottleLimits } from "../../../block/throttle/config.ts";
import type { BlockNode } from "../../../block/model/node.ts";
import type { Board } from "../../../machine/board/board.ts";
import type { Drive } from "../../../machine/board/drive.ts";
import { machineObject } from "../../../machine/board/qom.ts";
import * as media from "../../../machine/board/media.ts";
import { driveRow, listedDrives } from "../../../machine/board/query.ts";
import type { Engine } from "../../../machine/engine.ts";
import { type TypeOf } from "../../../wire/qapi/index.ts";
import {
  type MachineArgsOf,
  type MachineCommandName,
  type MachineReturnOf,
  machineSchema,
} from "../../../wire/qapi/machine/table.ts";
import { schemaAt, schemaShownAt, schemaWith } from "../../../wire/qapi/index.ts";
import { type EngineCommandsOptions, engineHandlers } from "../commands/index.ts";
import { statsOfNodes } from "../commands/query.ts";
import { type CommandContext, type CommandHandlers, CommandRegistry } from "../registry.ts";
import { type HmpHost, runHmp } from "../hmp/run.ts";
import { type ChardevControl, chardevHandlers } from "./chardev.ts";
import { devicePropertyRows, type QomHost, qomHandlers } from "./qom.ts";
import { type DescriptorControl, descriptorHandlers } from "./descriptors.ts";
import {
  identityHandlers,
  type MachineIdentity,
  refusedCommands,
  setHistograms,
  snapshotHandlers,
} from "./queries.ts";

type Answer<R> = R extends void ? Record<string, never> : R;

/** Handlers of the commands that only a machine has. */
export type MachineHandlers = {
  readonly [N in MachineCommandName]?: (
    args: MachineArgsOf<N>,
    context: CommandContext<Engine>,
  ) => Answer<MachineReturnOf<N>> | Promise<Answer<MachineReturnOf<N>>>;
};

/** What the machine's commands work with beside the engine. */
export interface MachineCommandsOptions extends EngineCommandsOptions {
  readonly board: Board;
  /** Opens an image that is named as on the command line; a reference is held on it. */
  readonly openImage: (image: {
    filename: string;
    format: string | undefined;
    readOnly: boolean;
  }) => Promise<BlockNode>;
  readonly hmp: Omit<HmpHost, "execute" | "board" | "hasChips">;
  readonly chardevs: ChardevControl & Pick<QomHost, "chardevs">;
  readonly identity: MachineIdentity;
  readonly descriptors: DescriptorControl;
}

async function changeMedium(
  { board, openImage }: MachineCommandsOptions,
  args: MachineArgsOf<"blockdev-change-medium">,
): Promise<void> {
  const { filename, format } = args;
  await media.changeMedium(board, args, {
    mode: args["read-only-mode"] ?? "retain",
    open: (readOnly) => openImage({ filename, format, readOnly }),
  });
}

function deviceHandlers({ board }: MachineCommandsOptions): MachineHandlers {
  return {
    device_add: async (args) => {
      const { driver, id, bus, ...properties } = args;
      await board.addDevice({ driver, id, bus, properties });
      return {};
    },
    device_del: async ({ id }) => {
      await board.removeDevice(id);
      return {};
    },
    system_reset: async () => {
      await board.reset();
      board.events.emit("RESET", { guest: false, reason: "host-qmp-system-reset" });
      return {};
    },
    "query-iothreads": (_args, { engine }) =>
      engine.objects
        .list()
        .filter(({ type }) => type === "child<iothread>")
        .map(({ name }) => ({
          id: name,
          "thread-id": 0,
          ...{ "poll-max-ns": 32768, "poll-grow": 0, "poll-shrink": 0, "aio-max-batch": 0 },
        })),
  };
}

function mediumHandlers(options: MachineCommandsOptions): MachineHandlers {
  const { board } = options;
  return {
    eject: async (args) => {
      await media.eject(board, args);
      return {};
    },
    block_set_io_throttle: (args) => {
      setThrottle(board, args);
      return {};
    },
    "blockdev-open-tray": (args) => {
      media.openTray(board, args);
      return {};
    },
    "blockdev-close-tray": (args) => {
      media.closeTray(board, args);
      return {};
    },
    "blockdev-remove-medium": async (args) => {
      await media.removeMedium(board, args);
      return {};
    },
    "blockdev-insert-medium": async (args) => {
      await media.insertMedium(board, args, args["node-name"]);
      return {};
    },
    "blockdev-change-medium": async (args) => {
      await changeMedium(options, args);
      return {};
    },
  };
}

/** block_set_io_throttle: all limits anew. Throws CommandError, EINVAL. */
function setThrottle(board: Board, args: MachineArgsOf<"block_set_io_throttle">): void {
  const drive = board.driveOf(args);
  if (!drive.node) throw new CommandError(`Device has no medium`);
  const given = args as Record<string, unknown>;
  const limits = limitNames.flatMap((name) => {
    const value = given[oldLimitName(name)];
    return typeof value === "number" ? [[name, value]] : [];
  });
  const group = args.group ?? (drive.backend.throttle ? undefined : (args.device ?? args.id));
  drive.limit(Object.fromEntries(limits) as ThrottleLimits, group);
}

/** The statistics of a drive, and of the disk in it below what jobs have put over it. */
function statsRow(drive: Drive): TypeOf<"BlockStats"> {
  const { node } = drive;
  const stats = drive.account.stats(node?.highestWrite ?? 0);
  const qdev = drive.user?.backendPath;
  return {
    device: drive.isForgotten ? "" : drive.name,
    ...(qdev === undefined ? {} : { qdev }),
    ...(node ? chainStats(node, stats) : { stats }),
  };
}

/** The queries that look at drives where the daemon's look at an engine's devices. */
function queryHandlers({ board }: MachineCommandsOptions): CommandHandlers<Engine> {
  return {
    "query-block": () =>
      Promise.all<TypeOf<"BlockInfo">>(listedDrives(board).map((drive) => driveRow(drive))),
    "query-blockstats": (args, { engine }) => {
      if (args["query-nodes"]) return statsOfNodes(engine);
      return listedDrives(board).map(statsRow);
    },
  };
}

/** What the human monitor works with, in one client's context. */
export function machineHmp(
  options: MachineCommandsOptions,
  registry: CommandRegistry<Engine>,
  context: CommandContext<Engine>,
): HmpHost {
  return {
    ...options.hmp,
    hasChips: options.identity.machine === "pc",
    board: options.board,
    execute: (name, args) => registry.run(name, args, context),
  };
}

function releaseOf({ qemu }: TypeOf<"VersionInfo">): string {
  return `${qemu.major}.${qemu.minor}`;
}

/** The registry of a machine's monitors. */
export function machineRegistry(options: MachineCommandsOptions): CommandRegistry<Engine> {
  const human: MachineHandlers = {
    "human-monitor-command": (args, context) =>
      runHmp(args["command-line"], machineHmp(options, registry, context)),
  };
  const { board, chardevs, identity, version } = options;
  const level = options.compat ?? "7.2";
  const base = schemaAt(level, machineSchema);
  const type = identity.machine === "pc" ? `pc-i440fx-${releaseOf(version)}-machine` : "none-machine";
  const qom: QomHost = { machine: () => machineObject(board, type), chardevs: () => chardevs.chardevs() };
  const registry: CommandRegistry<Engine> = new CommandRegistry<Engine>(
    {
      ...engineHandlers(options),
      ...queryHandlers(options),
      ...deviceHandlers(options),
      ...mediumHandlers(options),
      ...human,
      ...options.more,
      ...chardevHandlers(chardevs),
      ...qomHandlers(qom),
      "device-list-properties": ({ typename }: { typename: string }) => devicePropertyRows(qom, typename),
      ...identityHandlers(identity, releaseOf(version)),
      ...descriptorHandlers(options.descriptors),
      ...snapshotHandlers(board),
      "block-latency-histogram-set": (args: MachineArgsOf<"block-latency-histogram-set">) => {
        setHistograms(board, args);
        return {};
      },
    },
    options.version,
    {
      base,
      tableOf: ({ graph }) => schemaWith(graph.drivers, base),
      shown: (table) => schemaShownAt(level, table),
      refused: refusedCommands,
    },
  );
  return registry;
}

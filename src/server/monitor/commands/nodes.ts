/**
 * The commands on nodes: add, delete, reopen, resize, snapshot, backing link. Those that find a node first and change the
 * graph later do so while no job starts or ends.
 * Source: QAPI block-core schema, QEMU 7.2.
 */
import { CommandError } from "../../../base/errors.ts";
import { checkDiskLength } from "../../../base/ranges.ts";
import { changeChild } from "../../../block/graph/child-list.ts";
import { reopen } from "../../../block/graph/reopen.ts";
import * as change from "../../../block/graph/change.ts";
import { recoverStorage } from "../../../block/graph/recover.ts";
import { drained } from "../../../block/model/drain.ts";
import { Perm } from "../../../block/model/permissions.ts";
import { prepareInternalSnapshot, removeInternalSnapshot } from "../../../block/graph/internal-snapshots.ts";
import type { Engine } from "../../../machine/engine.ts";
import { type ArgsOf, isJsonObject, type Json } from "../../../wire/qapi/index.ts";
import { snapshotInfo } from "../../../block/query.ts";
import type { CommandHandlers } from "../registry.ts";

/** The longest disk of QEMU's, bytes. */
const LONGEST = 2n ** 63n - 2n ** 30n;

/** Throws for a length that no disk can have, as it was given. */
function checkLength(given: Json | undefined): void {
  const size = given !== undefined && isJsonObject(given) ? given["size"] : undefined;
  if (typeof size !== "bigint") return;
  if (size > LONGEST) throw new CommandError(`offset(${size}) exceeds maximum(${LONGEST})`);
  checkDiskLength(size, "truncate");
}

async function resize(engine: Engine, args: ArgsOf<"block_resize">, given?: Json): Promise<void> {
  const node = engine.graph.nodeOrDevice({
    ...(args.device === undefined ? {} : { device: args.device }),
    ...(args["node-name"] === undefined ? {} : { node: args["node-name"] }),
  });
  const size = Number(args.size);
  if (size < 0) throw new CommandError("Parameter 'size' expects a >0 size");
  // The device's name is missing in QEMU's words here.
  if (node.blockedBy("resize"))
    throw new CommandError(`Device '${args.device ?? "(null)"}' is in use`, { code: "EBUSY" });
  checkLength(given);
  // A parent that asks for the right to resize: whoever counts on the length below or beside it refuses.
  await engine.graph.withRoot(node, { perm: Perm.resize, shared: Perm.all }, (root) =>
    drained([root.node], () => root.truncate(size, { exact: false, preallocation: "off" })),
  );
}

/** Handlers. */
export const nodeCommands: CommandHandlers<Engine> = {
  "x-blockdev-set-iothread": (args, { engine }) => {
    const node = engine.graph.node(args["node-name"]);
    const isUsed = [...node.parents].some(({ name }) => name === "root");
    if (isUsed && !args.force)
      throw new CommandError(
        `Node ${node.name} is associated with a BlockBackend and could be in use (use force=true to override this check)`,
      );
    const { iothread } = args;
    if (iothread !== null && !engine.objects.list().some(({ name }) => name === iothread))
      throw new CommandError(`Cannot find iothread ${iothread}`);
    return {};
  },
  "blockdev-add": async (args, { engine }) => {
    await engine.graph.add(args);
    return {};
  },
  "blockdev-del": async (args, { engine }) => {
    await engine.graph.remove(args["node-name"]);
    return {};
  },
  "blockdev-reopen": async (args, { engine }) => {
    await engine.jobs.exclusively(() => reopen(engine.graph, args.options));
    return {};
  },
  "x-blockdev-recover": async (args, { engine }) => {
    await recoverStorage(engine.graph.lookup(args["node-name"]));
    return {};
  },
  "x-blockdev-change": async (args, { engine }) => {
    await engine.jobs.exclusively(() => changeChild(engine.graph, args));
    return {};
  },
  block_resize: async (args, { engine }, given) => {
    await engine.jobs.exclusively(() => resize(engine, args, given));
    return {};
  },
  "change-backing-file": async (args, { engine }) => {
    const link = {
      device: args.device,
      node: args["image-node-name"],
      backingFile: args["backing-file"],
    };
    await engine.jobs.exclusively(() => change.changeBackingFile(engine.graph, link));
    return {};
  },
  "blockdev-snapshot": async (args, { engine }) => {
    await engine.jobs.exclusively(async () => (await change.prepareSnapshot(engine.graph, args)).commit());
    return {};
  },
  "blockdev-snapshot-sync": async (args, { engine }) => {
    await engine.jobs.exclusively(async () =>
      (await change.prepareSnapshotSync(engine.graph, args)).commit(),
    );
    return {};
  },
  "blockdev-snapshot-internal-sync": async (args, { engine }) => {
    await (await prepareInternalSnapshot(engine.graph, args)).commit();
    return {};
  },
  "blockdev-snapshot-delete-internal-sync": async (args, { engine }) =>
    snapshotInfo(await removeInternalSnapshot(engine.graph, args)),
  "block-set-write-threshold": (args, { engine }) => {
    const name = args["node-name"];
    const node = engine.graph.findNode(name);
    if (!node) throw new CommandError(`Device '${name}' not found`, { code: "ENOENT" });
    node.writeThreshold = Number(args["write-threshold"]);
    return {};
  },
};

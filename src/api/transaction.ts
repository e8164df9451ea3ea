/**
 * Transactions for library callers: typed actions in TypeScript's case over the function that the monitor's command calls.
 *
 * Invariants: all actions happen at one moment, or none does and nothing stays behind, overlays that were opened for it
 * included. Handles and names mean the nodes that they show before it.
 */
import { closing } from "../base/lease.ts";
import { CommandError, blockError } from "../base/errors.ts";
import type { NodeSpec } from "../block/model/contract.ts";
import type { BackupJob } from "../job/backup/job.ts";
import { runTransaction } from "../job/transaction.ts";
import type { Engine } from "../machine/engine.ts";
import type { ArgsOf } from "../wire/qapi/index.ts";
import { namedSources } from "./bitmaps.ts";
import { backupArguments, backupStart, watched } from "./jobs.ts";
import { type CallOptions, type Node, releaseIdle } from "./node.ts";
import type { OpenSpec } from "./specs.ts";
import { callOptions, checkNodeSpec, optionsOf } from "./options.ts";
import { type TransactionAction, checkAction } from "./transaction-actions.ts";

/** Options of transaction(). */
export interface TransactionOptions extends CallOptions {
  /** `grouped`: its jobs end together, and if one fails the others are cancelled. Default `individual`. */
  completion?: "individual" | "grouped" | undefined;
}

/** The jobs of actions, in their order. */
export type TransactionJobs<Actions extends readonly TransactionAction[]> = number extends Actions["length"]
  ? BackupJob[]
  : Actions extends readonly [infer First, ...infer Rest extends readonly TransactionAction[]]
    ? First extends { type: "backup" }
      ? [BackupJob, ...TransactionJobs<Rest>]
      : TransactionJobs<Rest>
    : [];

type WireAction = ArgsOf<"transaction">["actions"][number];

const checkOptions = optionsOf<TransactionOptions>({ ...callOptions, completion: "Completion" });

/**
 * Carries out several actions at one moment, all or none: a bitmap and the full backup that it goes on from; backups of
 * several disks; an overlay and what is recorded from it on. Resolves with the jobs of its backups, running, in the order of
 * the actions. Throws CommandError in QEMU's words where an action can't be done, EINVAL for nodes of several engines.
 */
export async function transaction<const Actions extends readonly TransactionAction[]>(
  actions: Actions,
  options: TransactionOptions = {},
): Promise<TransactionJobs<Actions>> {
  checkOptions(options);
  if (!Array.isArray(actions))
    throw new CommandError("Invalid parameter type for 'actions', expected: array");
  for (const action of actions as readonly unknown[]) checkAction(action);
  options.signal?.throwIfAborted();
  const engine = engineOf(actions);
  const jobs = engine ? await run(engine, actions, options) : [];
  return jobs as TransactionJobs<Actions>;
}

/** The handles that an action names. */
function nodesOf(action: TransactionAction): Node[] {
  if (action.type === "abort") return [];
  if (action.type === "backup") return [action.source, action.target];
  const others = action.type === "mergeBitmaps" ? action.sources : [];
  return [action.node, ...others.flatMap((source) => (typeof source === "string" ? [] : source.node))];
}

/** The one engine of all; undefined where there is nothing to do. */
function engineOf(actions: readonly TransactionAction[]): Engine | undefined {
  const engines = new Set(actions.flatMap(nodesOf).map(({ engine }) => engine));
  if (engines.size > 1) {
    const message = "the nodes of a transaction are open in different engines";
    throw blockError("EINVAL", "transaction", message);
  }
  const [engine] = engines;
  if (!engine && actions.length > 0) throw new CommandError("Transaction aborted using Abort action");
  return engine;
}

async function run(
  engine: Engine,
  actions: readonly TransactionAction[],
  { completion }: TransactionOptions,
): Promise<BackupJob[]> {
  const { graph } = engine;
  for (const action of actions) if (action.type === "overlay") checkNodeSpec(action.overlay, graph.drivers);
  await releaseIdle(engine);
  const opened: (() => Promise<unknown>)[] = [];
  const begin = async (): Promise<BackupJob[]> => {
    const wire = new Map<WireAction, TransactionAction>();
    for (const action of actions) {
      const overlay = action.type === "overlay" ? await openOverlay(engine, action.overlay) : undefined;
      if (overlay) opened.push(() => graph.release(overlay));
      wire.set(wireAction(action, overlay?.name), action);
    }
    const args = { actions: [...wire.keys()], ...properties(completion) };
    const backups = actions.filter((action) => action.type === "backup");
    const jobs = await runTransaction(graph, args, (action) => {
      const asked = wire.get(action);
      return asked?.type === "backup" ? backupStart(asked.source, asked) : {};
    });
    return jobs.map((job, index) => watched(job, backups[index]!));
  };
  return closing(begin, async () => {
    for (const release of opened) await release();
  });
}

function properties(completion: TransactionOptions["completion"]): Pick<ArgsOf<"transaction">, "properties"> {
  return completion === undefined ? {} : { properties: { "completion-mode": completion } };
}

type Overlay = Awaited<ReturnType<Engine["graph"]["open"]>>;

/** Opens what is to be put over a node. */
function openOverlay(engine: Engine, spec: OpenSpec): Promise<Overlay> {
  return engine.graph.open({ ...(spec as NodeSpec), backing: null });
}

/** An action in the monitor's words. */
function wireAction(action: TransactionAction, overlay: string | undefined): WireAction {
  switch (action.type) {
    case "backup": {
      const { type, source, target, ...options } = action;
      return { type: `blockdev-${type}`, data: backupArguments(source, target, options) };
    }
    case "addBitmap": {
      const { node, name, granularity, persistent = false, disabled = false } = action;
      const unit = granularity === undefined ? {} : { granularity };
      return {
        type: "block-dirty-bitmap-add",
        data: { node: node.name, name, persistent, disabled, ...unit },
      };
    }
    case "removeBitmap":
      return { type: "block-dirty-bitmap-remove", data: { node: action.node.name, name: action.name } };
    case "clearBitmap":
      return { type: "block-dirty-bitmap-clear", data: { node: action.node.name, name: action.name } };
    case "enableBitmap": {
      const { node, name, enabled = true } = action;
      const type = enabled ? "block-dirty-bitmap-enable" : "block-dirty-bitmap-disable";
      return { type, data: { node: node.name, name } };
    }
    case "mergeBitmaps": {
      const data = {
        node: action.node.name,
        target: action.target,
        bitmaps: namedSources(action.sources),
      };
      return { type: "block-dirty-bitmap-merge", data };
    }
    case "overlay":
      return { type: "blockdev-snapshot", data: { node: action.node.name, overlay: overlay ?? "" } };
    case "createSnapshot":
      return {
        type: "blockdev-snapshot-internal-sync",
        data: { device: action.node.name, name: action.name },
      };
    case "abort":
      return { type: "abort", data: {} };
  }
}

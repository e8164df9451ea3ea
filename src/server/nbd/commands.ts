/**
 * The commands on exports and on the NBD server, which whoever puts a monitor together adds to its others.
 * Source: QAPI block-export schema, QEMU 7.2.
 */
import { CommandError } from "../../base/errors.ts";
import { exportsOf } from "../../export/exports.ts";
import type { Engine } from "../../machine/engine.ts";
import type { ArgsOf, ReturnOf, TypeOf } from "../../wire/qapi/index.ts";
import { listenAddressLegacy } from "./address.ts";
import { nbdControlOf } from "./control.ts";

interface Context {
  readonly engine: Engine;
}

/** block-export-add, for monitors and command lines. Throws CommandError. */
export async function addExport(engine: Engine, args: TypeOf<"BlockExportOptions">): Promise<void> {
  exportsOf(engine).checkId(args.id);
  if (args.type !== "nbd")
    throw new CommandError(
      `Exports of type '${args.type}' are not supported; export the node by NBD instead`,
      {
        code: "ENOTSUP",
      },
    );
  const { iothread } = args;
  const threads = engine.objects.list().filter(({ type }) => type === "child<iothread>");
  if (iothread !== undefined && !threads.some(({ name }) => name === iothread))
    throw new CommandError(`iothread "${iothread}" not found`, { code: "ENOENT" });
  await nbdControlOf(engine).add(args);
}

function queryExports(engine: Engine): ReturnOf<"query-block-exports"> {
  // QAPI has no word for exports by HTTP.
  const shown = exportsOf(engine).all.filter(({ type }) => type !== "http");
  return shown.map(({ id, type, backend, shuttingDown }) => ({
    "node-name": backend.node?.name ?? "",
    "shutting-down": shuttingDown,
    type: type as TypeOf<"BlockExportType">,
    id,
  }));
}

/** Handlers. */
export const exportHandlers = {
  "nbd-server-start": async (args: ArgsOf<"nbd-server-start">, { engine }: Context) => {
    await nbdControlOf(engine).start(listenAddressLegacy(args.addr), args);
    return {};
  },
  "nbd-server-stop": async (_args: unknown, { engine }: Context) => {
    await nbdControlOf(engine).stop();
    return {};
  },
  "nbd-server-add": async (args: ArgsOf<"nbd-server-add">, { engine }: Context) => {
    await nbdControlOf(engine).addDevice(args);
    return {};
  },
  "nbd-server-remove": async (args: ArgsOf<"nbd-server-remove">, { engine }: Context) => {
    await nbdControlOf(engine).remove(args.name, args.mode);
    return {};
  },
  "block-export-add": async (args: ArgsOf<"block-export-add">, { engine }: Context) => {
    await addExport(engine, args);
    return {};
  },
  "block-export-del": async (args: ArgsOf<"block-export-del">, { engine }: Context) => {
    await exportsOf(engine).remove(args.id, args.mode);
    return {};
  },
  "query-block-exports": (_args: unknown, { engine }: Context) => queryExports(engine),
};

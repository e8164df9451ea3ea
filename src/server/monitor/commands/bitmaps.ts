/**
 * The commands on dirty bitmaps. Source: QAPI block-core schema, QEMU 7.2.
 */
import * as bitmaps from "../../../block/bitmap/commands.ts";
import { settleBitmaps } from "../../../block/bitmap/persistence.ts";
import type { Engine } from "../../../machine/engine.ts";
import type { CommandHandlers } from "../registry.ts";

/** Handlers. */
export const bitmapCommands: CommandHandlers<Engine> = {
  "block-dirty-bitmap-add": (args, { engine }) => run(engine, () => bitmaps.addBitmap(engine.graph, args)),
  "block-dirty-bitmap-remove": (args, { engine }) =>
    run(engine, () => bitmaps.removeBitmap(engine.graph, args)),
  "block-dirty-bitmap-clear": (args, { engine }) =>
    run(engine, () => bitmaps.clearBitmap(engine.graph, args)),
  "block-dirty-bitmap-enable": (args, { engine }) =>
    run(engine, () => bitmaps.enableBitmap(engine.graph, args, true)),
  "block-dirty-bitmap-disable": (args, { engine }) =>
    run(engine, () => bitmaps.enableBitmap(engine.graph, args, false)),
  "block-dirty-bitmap-merge": (args, { engine }) =>
    run(engine, () => bitmaps.mergeBitmaps(engine.graph, args)),
  "x-debug-block-dirty-bitmap-sha256": async (args, { engine }) => ({
    sha256: await bitmaps.bitmapSha256(engine.graph, args),
  }),
};

/** What was answered survives a crash. */
async function run({ graph }: Engine, command: () => unknown): Promise<Record<string, never>> {
  command();
  await settleBitmaps(graph.nodes);
  return {};
}

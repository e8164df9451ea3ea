/**
 * The commands on dirty bitmaps. Source: QAPI block-core schema, QEMU 7.2.
 */
import * as bitmaps from "../../../block/bitmap/commands.ts";
import type { Engine } from "../../../machine/engine.ts";
import type { CommandHandlers } from "../registry.ts";

/** Handlers. */
export const bitmapCommands: CommandHandlers<Engine> = {
  "block-dirty-bitmap-add": (args, { engine }) => run(() => bitmaps.addBitmap(engine.graph, args)),
  "block-dirty-bitmap-remove": (args, { engine }) => run(() => bitmaps.removeBitmap(engine.graph, args)),
  "block-dirty-bitmap-clear": (args, { engine }) => run(() => bitmaps.clearBitmap(engine.graph, args)),
  "block-dirty-bitmap-enable": (args, { engine }) =>
    run(() => bitmaps.enableBitmap(engine.graph, args, true)),
  "block-dirty-bitmap-disable": (args, { engine }) =>
    run(() => bitmaps.enableBitmap(engine.graph, args, false)),
  "block-dirty-bitmap-merge": (args, { engine }) => run(() => bitmaps.mergeBitmaps(engine.graph, args)),
  "x-debug-block-dirty-bitmap-sha256": async (args, { engine }) => ({
    sha256: await bitmaps.bitmapSha256(engine.graph, args),
  }),
};

function run(command: () => unknown): Record<string, never> {
  command();
  return {};
}

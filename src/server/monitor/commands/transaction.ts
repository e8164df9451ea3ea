/** The transaction command: all of its actions happen, or none. Source: QAPI transaction schema, QEMU 7.2. */
import { runTransaction } from "../../../job/transaction.ts";
import type { Engine } from "../../../machine/engine.ts";
import type { CommandHandlers } from "../registry.ts";

/** Handlers. */
export const transactionCommands: CommandHandlers<Engine> = {
  transaction: async (args, { engine }) => {
    await runTransaction(engine.graph, args);
    return {};
  },
};

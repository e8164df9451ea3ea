/**
 * The commands on objects, the machine and the engine itself.
 * Source: QAPI qom, run-state and control schemas, QEMU 7.2.
 */
import { CommandError } from "../../../base/errors.ts";
import type { Engine } from "../../../machine/engine.ts";
import type { CommandHandlers } from "../registry.ts";

/** Handlers. QEMU answers quit once its jobs have ended and its images are closed, so their events come before. */
export function controlCommands({
  beforeQuit,
  onQuit,
}: {
  beforeQuit?: () => Promise<void>;
  onQuit: () => void;
}): CommandHandlers<Engine> {
  return {
    "object-add": async (args, { engine }) => {
      await engine.objects.add(args);
      return {};
    },
    "object-del": (args, { engine }) => {
      engine.objects.remove(args.id);
      return {};
    },
    "qom-list": (args, { engine }) => {
      if (args.path === "/objects") return [{ name: "type", type: "string" }, ...engine.objects.list()];
      if (args.path === "/")
        return [
          { name: "type", type: "string" },
          { name: "objects", type: "child<container>" },
        ];
      throw new CommandError(`Device '${args.path}' not found`, { qmpClass: "DeviceNotFound" });
    },
    stop: async (_args, { engine }) => {
      await engine.machine.stop();
      return {};
    },
    cont: async (_args, { engine }) => {
      await engine.machine.cont();
      return {};
    },
    "query-status": (_args, { engine }) => engine.machine.query(),
    quit: async (_args, context) => {
      await beforeQuit?.();
      context.afterReply(onQuit);
      return {};
    },
  };
}

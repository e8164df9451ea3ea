/**
 * The commands on descriptors that clients hand over. Source: QAPI misc schema, behaviour of QEMU 7.2.
 */
import { CommandError } from "../../../base/errors.ts";
import type { MachineArgsOf, MachineReturnOf } from "../../../wire/qapi/machine/table.ts";
import type { CommandContext } from "../registry.ts";

/** A row of query-fdsets. */
export type FdSetRow = MachineReturnOf<"query-fdsets">[number];

/** The sets of descriptors, and those that have names. Methods throw CommandError in QEMU's words. */
export interface DescriptorControl {
  rows(): FdSetRow[];
  /** Takes a descriptor over, also where it throws. */
  add(fd: number, to: { set?: number; opaque?: string }): MachineReturnOf<"add-fd">;
  remove(set: number, fd?: number): void;
  /** Keeps a descriptor under a name, in the place of the one that had it. */
  keep(name: string, fd: number): void;
  forget(name: string): void;
  /** Closes one that nobody wants. */
  discard(fd: number): void;
}

/** Handlers. A descriptor is the one that came with the command, or before it. */
export function descriptorHandlers(descriptors: DescriptorControl): object {
  const received = ({ takeDescriptor }: CommandContext<unknown>): number => {
    const fd = takeDescriptor?.();
    if (fd === undefined) throw new CommandError("No file descriptor supplied via SCM_RIGHTS");
    return fd;
  };
  return {
    getfd: ({ fdname }: MachineArgsOf<"getfd">, context: CommandContext<unknown>) => {
      const fd = received(context);
      if (/^[0-9]/.test(fdname)) {
        descriptors.discard(fd);
        throw new CommandError("Parameter 'fdname' expects a name not starting with a digit");
      }
      descriptors.keep(fdname, fd);
      return {};
    },
    closefd: ({ fdname }: MachineArgsOf<"closefd">) => {
      descriptors.forget(fdname);
      return {};
    },
    "add-fd": (args: MachineArgsOf<"add-fd">, context: CommandContext<unknown>) => {
      const { "fdset-id": set, opaque } = args;
      const to = { ...(set === undefined ? {} : { set }), ...(opaque === undefined ? {} : { opaque }) };
      return descriptors.add(received(context), to);
    },
    "remove-fd": ({ "fdset-id": set, fd }: MachineArgsOf<"remove-fd">) => {
      descriptors.remove(set, fd);
      return {};
    },
    "query-fdsets": () => descriptors.rows(),
  };
}

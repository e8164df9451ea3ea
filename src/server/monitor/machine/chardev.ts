/**
 * The commands on character devices, which the program that serves the monitors has. Source: QAPI char schema, behaviour of QEMU 7.2.
 */
import { CommandError } from "../../../base/errors.ts";
import type { MachineArgsOf, MachineReturnOf } from "../../../wire/qapi/machine/table.ts";

/** A character device as it was asked for. */
export type ChardevBackend = MachineArgsOf<"chardev-add">["backend"];

/** A row of query-chardev. */
export type ChardevRow = MachineReturnOf<"query-chardev">[number];

/** The character devices. Methods throw CommandError in QEMU's words. */
export interface ChardevControl {
  rows(): ChardevRow[];
  create(id: string, backend: ChardevBackend): Promise<void>;
  change(id: string, backend: ChardevBackend): Promise<void>;
  destroy(id: string): Promise<void>;
  has(id: string): boolean;
  /** The ring buffer of that name. */
  ring(id: string): { write(bytes: Uint8Array): void; read(size: number): Uint8Array };
}

/** The kinds that there are. */
export const chardevKinds = ["stdio", "ringbuf", "null", "memory", "socket", "file"] as const;

/** Handlers. */
export function chardevHandlers(devices: ChardevControl): object {
  return {
    "query-chardev": () => devices.rows(),
    "query-chardev-backends": () => chardevKinds.map((name) => ({ name })),
    "chardev-add": async ({ id, backend }: MachineArgsOf<"chardev-add">) => {
      await devices.create(id, backend);
      return {};
    },
    "chardev-change": async ({ id, backend }: MachineArgsOf<"chardev-change">) => {
      await devices.change(id, backend);
      return {};
    },
    "chardev-remove": async ({ id }: MachineArgsOf<"chardev-remove">) => {
      await devices.destroy(id);
      return {};
    },
    "chardev-send-break": ({ id }: MachineArgsOf<"chardev-send-break">) => {
      if (!devices.has(id)) throw new CommandError(`Chardev '${id}' not found`);
      return {};
    },
    ...ringHandlers(devices),
  };
}

function ringHandlers(devices: ChardevControl): object {
  return {
    "ringbuf-write": ({ device, data, format }: MachineArgsOf<"ringbuf-write">) => {
      devices.ring(device).write(format === "base64" ? bytesOf(data) : new TextEncoder().encode(data));
      return {};
    },
    "ringbuf-read": ({ device, size, format }: MachineArgsOf<"ringbuf-read">) => {
      const ring = devices.ring(device);
      if (size <= 0) throw new CommandError("size must be greater than zero");
      const bytes = ring.read(size);
      return format === "base64" ? btoa(String.fromCharCode(...bytes)) : new TextDecoder().decode(bytes);
    },
  };
}

/** Throws CommandError. */
function bytesOf(base64: string): Uint8Array {
  try {
    return Uint8Array.from(atob(base64), (char) => char.charCodeAt(0));
  } catch {
    throw new CommandError("Base64 data is not valid");
  }
}

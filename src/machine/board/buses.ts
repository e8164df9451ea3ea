/**
 * The buses of a machine, and which of their places are taken. Source: behaviour of QEMU 7.2 (qdev_find_recursive, PCI, SCSI and
 * IDE buses of the `pc` machine).
 */
import { CommandError } from "../../base/errors.ts";
import type { BusKind } from "./models.ts";

/** A bus. */
export interface Bus {
  readonly name: string;
  readonly kind: BusKind;
  readonly slots: number;
  readonly taken: Set<number>;
}

/** The buses that a `pc` has from the start. */
export function firstBuses(): Bus[] {
  const bus = (name: string, kind: BusKind, slots: number, taken: number[] = []): Bus => ({
    name,
    kind,
    slots,
    taken: new Set(taken),
  });
  // Slots 0 and 1 hold the host bridge and the chips behind it.
  return [
    bus("pci.0", "PCI", 32, [0, 1]),
    bus("ide.0", "IDE", 2),
    bus("ide.1", "IDE", 2),
    bus("floppy-bus.0", "floppy-bus", 2),
    bus("main-system-bus", "System", Infinity),
  ];
}

/** The bus for a device: the one it names, or the first of its kind that has room. Throws CommandError. */
export function findBus(
  buses: readonly Bus[],
  kind: BusKind,
  wanted: { model: string; name: string | undefined },
): Bus {
  if (wanted.name !== undefined) {
    const named = buses.find(({ name }) => name === wanted.name);
    if (!named) throw new CommandError(`Bus '${wanted.name}' not found`);
    if (named.kind !== kind) throw new CommandError(`Device '${wanted.model}' can't go on ${named.kind} bus`);
    if (isFull(named)) throw new CommandError(`Bus '${named.name}' is full`);
    return named;
  }
  const free = buses.find((bus) => bus.kind === kind && !isFull(bus));
  if (free) return free;
  throw new CommandError(`No '${kind}' bus found for device '${wanted.model}'`);
}

function isFull({ taken, slots }: Bus): boolean {
  return taken.size >= slots;
}

/** Takes a place: the one that is asked for, or the first that is free. Throws CommandError. */
export function takeSlot(bus: Bus, wanted: number | undefined): number {
  let slot = wanted ?? 0;
  if (wanted === undefined) while (bus.taken.has(slot)) slot += 1;
  bus.taken.add(slot);
  return slot;
}

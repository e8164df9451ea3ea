/**
 * The buses of a machine, and which of their places are taken. Source: behaviour of QEMU 7.2 (qdev_find_recursive, PCI, SCSI and
 * IDE buses of the `pc` machine).
 */
import { CommandError } from "../../base/errors.ts";
import type { BusKind } from "./models.ts";

/** Who has a place: the model, and the id, empty for none. */
export interface Occupant {
  readonly model: string;
  readonly id: string;
}

/** A place, and what a device there says of it. */
export interface Place {
  /** Of the bus. */
  readonly key: number;
  readonly told: Readonly<Record<string, string>>;
}

/** A bus. */
export interface Bus {
  readonly name: string;
  readonly kind: BusKind;
  /** PCI: slots; SCSI: targets; else units. */
  readonly slots: number;
  /** Of each SCSI target. */
  readonly luns: number;
  readonly taken: Map<number, Occupant>;
}

/** What sits on a `pc`'s PCI bus from the start, by slot and function. */
const chips: readonly (readonly [number, string])[] = [
  [0, "i440FX"],
  [8, "PIIX3"],
  [9, "piix3-ide"],
  [11, "PIIX4_PM"],
];

/** The buses that a `pc` has from the start; without its chips, those of any machine. */
export function firstBuses(hasChips: boolean): Bus[] {
  const bus = (name: string, kind: BusKind, slots: number): Bus => ({
    name,
    kind,
    slots,
    luns: 1,
    taken: new Map(),
  });
  const system = bus("main-system-bus", "System", Infinity);
  if (!hasChips) return [system];
  const pci = bus("pci.0", "PCI", 32);
  for (const [key, model] of chips) pci.taken.set(key, { model, id: "" });
  return [pci, bus("ide.0", "IDE", 2), bus("ide.1", "IDE", 2), bus("floppy-bus.0", "floppy-bus", 2), system];
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
  // The newest first; only bridges come after what they lie on.
  const inOrder = kind === "PCI" ? buses : buses.toReversed();
  const free = inOrder.find((bus) => bus.kind === kind && !isFull(bus));
  if (free) return free;
  throw new CommandError(`No '${kind}' bus found for device '${wanted.model}'`);
}

/** The others are full when a place is looked for on them. */
function isFull({ kind, taken, slots }: Bus): boolean {
  return kind === "IDE" && taken.size >= slots;
}

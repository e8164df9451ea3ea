/**
 * Where a device goes on its bus: what its properties ask for, or the first place that is free. Source: behaviour of QEMU 7.2's PCI,
 * IDE, SCSI and floppy buses.
 */
import { CommandError } from "../../base/errors.ts";
import type { Bus, Place } from "./buses.ts";
import { propertyWord } from "./device.ts";

type Properties = Readonly<Record<string, unknown>>;

const FUNCTIONS = 8;
const UNITS = 2;
/** Asks for any place. */
const ANY = 2 ** 32 - 1;
/** More than any bus has. */
const LUNS = 2 ** 14;

/** The place for a device of that model. Throws CommandError where it can't be had. */
export function placeFor(bus: Bus, model: string, properties: Properties): Place {
  if (bus.kind === "PCI") return pciPlace(bus, model, properties["addr"]);
  if (bus.kind === "SCSI") return scsiPlace(bus, properties);
  if (bus.kind === "System") return { key: firstFree(bus, 1), told: {} };
  return unitPlace(bus, bus.kind === "IDE" ? "IDE" : "Floppy", numberOf(properties, "unit"));
}

function numberOf(properties: Properties, name: string): number | undefined {
  const value = properties[name];
  return value === undefined || Number(value) === ANY ? undefined : Number(value);
}

function firstFree({ taken }: Bus, step: number): number {
  let key = 0;
  while (taken.has(key)) key += step;
  return key;
}

function pciPlace(bus: Bus, model: string, wanted: unknown): Place {
  const key = wanted === undefined ? freeSlot(bus, model) : pciAddress(model, wanted);
  const [slot, at] = [Math.floor(key / FUNCTIONS), key % FUNCTIONS];
  const other = bus.taken.get(key);
  if (other !== undefined)
    throw new CommandError(
      `PCI: slot ${slot} function ${at} not available for ${model}, in use by ${other.model},id=${other.id || "(null)"}`,
    );
  return { key, told: { addr: `${slot.toString(16).padStart(2, "0")}.${at}` } };
}

/** The first slot of which no function is taken. */
function freeSlot({ taken, slots }: Bus, model: string): number {
  const used = new Set([...taken.keys()].map((key) => Math.floor(key / FUNCTIONS)));
  for (let slot = 0; slot < slots; slot++) if (!used.has(slot)) return slot * FUNCTIONS;
  throw new CommandError(`PCI: no slot/function available for ${model}, all in use or reserved`);
}

function pciAddress(model: string, wanted: unknown): number {
  if (typeof wanted === "number") return wanted;
  const text = propertyWord(wanted);
  const [, slot = "", at = "0"] = /^(?:0x)?([01]?[0-9a-f])(?:\.([0-7]))?$/i.exec(text) ?? [];
  if (slot === "") throw new CommandError(`Property '${model}.addr' doesn't take value '${text}'`);
  return parseInt(slot, 16) * FUNCTIONS + Number(at);
}

function unitPlace(bus: Bus, words: string, wanted: number | undefined): Place {
  const key = wanted ?? firstFree(bus, 1);
  if (key >= UNITS)
    throw new CommandError(
      `Can't create ${words === "IDE" ? words : "floppy"} unit ${key}, bus supports only ${UNITS} units`,
    );
  if (bus.taken.has(key)) throw new CommandError(`${words} unit ${key} is in use`);
  return { key, told: { unit: String(key) } };
}

function scsiPlace(bus: Bus, properties: Properties): Place {
  const most = { target: bus.slots - 1, lun: bus.luns - 1 };
  const [channel, id, lun] = ["channel", "scsi-id", "lun"].map((name) => numberOf(properties, name));
  if (channel) throw new CommandError(`bad scsi channel id: ${channel}`);
  if (id !== undefined && id > most.target) throw new CommandError(`bad scsi device id: ${id}`);
  if (lun !== undefined && lun > most.lun) throw new CommandError(`bad scsi device lun: ${lun}`);
  const key = id === undefined ? freeTarget(bus, lun ?? 0) : id * LUNS + (lun ?? freeLun(bus, id));
  const other = bus.taken.get(key);
  if (other) throw new CommandError(`lun already used by '${other.id || "(null)"}'`);
  return { key, told: { "scsi-id": String(Math.floor(key / LUNS)), lun: String(key % LUNS) } };
}

function freeTarget({ taken, slots }: Bus, lun: number): number {
  for (let target = 0; target < slots; target++)
    if (!taken.has(target * LUNS + lun)) return target * LUNS + lun;
  throw new CommandError("no free target");
}

function freeLun({ taken, luns }: Bus, target: number): number {
  for (let lun = 0; lun < luns; lun++) if (!taken.has(target * LUNS + lun)) return lun;
  throw new CommandError("no free lun");
}

/**
 * `info qtree`: the buses of a machine and what is on them, as far as it is about disks. Source: behaviour of QEMU 7.2's human monitor.
 */
import { assert } from "../../base/assert.ts";
import type { Board } from "./board.ts";
import { type BoardDevice, isOn, propertyWord } from "./device.ts";
import { pciFacts, shownProperties } from "./properties.ts";

type Words = Readonly<Record<string, string>>;

/** A bus, and the chips of the board on it; the newest device stands first. */
interface Chip {
  readonly model: string;
  readonly buses: readonly ChipBus[];
}
interface ChipBus {
  readonly name: string;
  readonly type: string;
  readonly chips: readonly Chip[];
}

const bus = (name: string, type: string, ...held: Chip[]): ChipBus => ({ name, type, chips: held });
const chip = (model: string, ...buses: ChipBus[]): Chip => ({ model, buses });
const mainBus = (...held: Chip[]): ChipBus => bus("main-system-bus", "System", ...held);

const fdc = chip("isa-fdc", bus("floppy-bus.0", "floppy-bus"));
/** What comes after it: scripts look for its end. */
const afterFdc = chip("isa-pcspk");
const southBridge = [
  chip("piix3-ide", bus("ide.1", "IDE"), bus("ide.0", "IDE")),
  chip("PIIX3", bus("isa.0", "ISA", fdc, afterFdc)),
];
const chips = mainBus(chip("i440FX-pcihost", bus("pci.0", "PCI", ...southBridge)));

/** The text; `hasChips`: the machine is a `pc`. */
export function treeText(board: Board, hasChips: boolean): string {
  const lines = busLines(board, hasChips ? chips : mainBus());
  return lines.map((line) => `${line}\n`).join("");
}

const within = (lines: readonly string[]): string[] => lines.map((line) => `  ${line}`);

function busLines(board: Board, { name, type, chips: held }: ChipBus): string[] {
  const bus = board.buses.find((one) => one.name === name);
  const mine = [...board.devices].filter(
    (device) => device.bus === bus && shownProperties[device.model.name],
  );
  const devices = mine.toReversed().flatMap((device) => deviceLines(board, device));
  const fixed = held.flatMap((chip) => chipLines(board, chip));
  return [`bus: ${name}`, ...within([`type ${type}`, ...devices, ...fixed])];
}

function chipLines(board: Board, { model, buses }: Chip): string[] {
  const below = buses.flatMap((bus) => busLines(board, bus));
  return [`dev: ${model}, id ""`, ...within([...propertyLines(model, {}), ...factLines(model), ...below])];
}

function deviceLines(board: Board, device: BoardDevice): string[] {
  const { model, id } = device;
  const inner = /^virtio-(?:blk|scsi)/.exec(model.name)?.[0];
  const values = valuesOf(board, device);
  const { provides } = device;
  const below = provides ? busLines(board, bus(provides.name, provides.kind)) : [];
  const head = `dev: ${model.name}, id "${id}"`;
  const own = [...propertyLines(model.name, values), ...factLines(model.name, values["addr"])];
  if (inner === undefined) return [head, ...within([...gpio(model.name), ...own, ...below])];
  const held = [
    `dev: ${inner}-device, id ""`,
    ...within([...propertyLines(`${inner}-device`, values), ...below]),
  ];
  return [head, ...within([...own, "bus: virtio-bus", ...within(["type virtio-pci-bus", ...held])])];
}

const gpio = (model: string): string[] => (model === "lsi53c895a" ? ['gpio-out "" 1'] : []);

function factLines(model: string, addr?: string): string[] {
  const [kind, id, ...bars] = pciFacts[model] ?? [];
  if (kind === undefined) return [];
  const at = addr ?? /addr:(\S+)/.exec(shownProperties[model] ?? "")?.[1];
  const lines = bars.map((bar) => {
    const [number = "", type = "", bytes = ""] = bar.split(" ");
    return `bar ${number} ${type} at 0xffffffffffffffff [0x${bytes}]`;
  });
  return [`class ${kind}, addr 00:${at}, pci id ${id}`, ...lines];
}

/** A line for each property of a type, with its value where there is one among these. */
function propertyLines(type: string, values: Words): string[] {
  return (shownProperties[type] ?? "")
    .trim()
    .split(/\s+/)
    .map((word) => {
      const [, name, kind, first] = /^([^"#@:]+)(["#@:])([^"]*)/.exec(word) ?? [];
      assert(name !== undefined && kind !== undefined && first !== undefined, `no property to show: ${word}`);
      return `${name} = ${shown(kind, values[name] ?? first.replaceAll("_", " "))}`;
    });
}

function shown(kind: string, value: string): string {
  if (kind === '"') return `"${value}"`;
  if (kind === "#") return `${BigInt(value)} (0x${BigInt(value).toString(16)})`;
  if (kind === "@") return `${bytesOf(value)} (${sizeText(Number(bytesOf(value)))})`;
  return /^[\dA-Fa-f]+\./.test(value) ? value : String(isOn(value));
}

function bytesOf(value: string): bigint {
  const [, digits = "0", unit = ""] = /^(0x[\da-f]+|\d+)([bkmgt]?)/i.exec(value) ?? [];
  return BigInt(digits) * 1024n ** BigInt(Math.max(0, "bkmgt".indexOf(unit.toLowerCase() || "b")));
}

function sizeText(bytes: number): string {
  const power = bytes === 0 ? 0 : Math.min(6, Math.floor(Math.log2(bytes) / 10));
  return `${Number((bytes / 1024 ** power).toPrecision(3))} ${["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"][power]}B`;
}

/** What a device shows where it differs from others of its type. */
function valuesOf(board: Board, device: BoardDevice): Words {
  const given = Object.fromEntries(
    Object.entries(device.properties).map(([name, value]) => [name, propertyWord(value)]),
  );
  const { drive } = device.disk ?? {};
  return {
    ...queueWords(device, given),
    ...(drive ? driveWords(board, device, given) : {}),
    ...given,
    ...(drive ? { drive: drive.name || (drive.node?.name ?? "") } : {}),
    ...device.place.told,
  };
}

/** There is a vector for each queue, and some for what is no queue of requests. */
function queueWords({ model }: BoardDevice, given: Words): Words {
  const queues = given["num-queues"] ?? given["num_queues"];
  if (queues === undefined) return {};
  return { vectors: String(Number(queues) + (model.name === "virtio-scsi-pci" ? 3 : 1)) };
}

function driveWords({ buses }: Board, device: BoardDevice, given: Words): Words {
  const { disk, model, place } = device;
  const length = disk?.drive.node?.length ?? 0;
  const cylinders = Math.max(2, Math.min(16383, Math.floor(length / (512 * 16 * 63))));
  const isGiven = given["cyls"] !== undefined;
  const ide = buses.filter(({ kind }) => kind === "IDE").indexOf(device.bus);
  return {
    device_id: given["serial"] ?? disk?.drive.name ?? "",
    ...(isGiven ? {} : { cyls: String(cylinders) }),
    "bios-chs-trans": cylinders > 1024 ? "lba" : "none",
    ...(ide < 0 ? {} : { serial: `QM${String(ide * 2 + place.key + 1).padStart(5, "0")}` }),
    ...(model.name === "floppy" ? { "drive-type": floppyType(length / 1024) } : {}),
  };
}

/** By the length of a disk of a usual form, KiB. */
const floppyForms: Readonly<Record<string, readonly number[]>> = {
  "120": [160, 180, 320, 360, 1200],
  "144": [720, 800, 1440, 1600, 1680, 1722, 1760, 1840, 1920],
};

function floppyType(kibibytes: number): string {
  const found = Object.entries(floppyForms).find(([, forms]) => forms.includes(kibibytes));
  return found?.[0] ?? "288";
}

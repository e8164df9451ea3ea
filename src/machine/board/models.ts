/**
 * The device models that a machine without a CPU knows: what they are plugged into, what they give, what their drive must be, and
 * the properties that they take. Another one is a row. Source: `-device NAME,help` and behaviour of QEMU 7.2.
 */
import { CommandError } from "../../base/errors.ts";
import type { PropertyRow } from "../qom/property.ts";
import { modelProperties, unlisted } from "./properties.ts";

/** A kind of bus, as QEMU's messages name it. */
export type BusKind = "PCI" | "SCSI" | "IDE" | "floppy-bus" | "System";

/** What a model's drive is. */
export interface DriveModel {
  /** The type that messages about the drive name. */
  readonly type: string;
  /** A medium may be taken out; without a drive the device makes an empty one. */
  readonly isRemovable: boolean;
  /** What is said where no drive is given. */
  readonly missing?: string;
  /** It can be over a disk that must not be written. */
  readonly takesReadOnly: boolean;
  /** It never writes. */
  readonly onlyReads?: boolean;
  /** Its medium lies in a tray, which it tells of. */
  readonly hasTray?: boolean;
  readonly keepsIoStatus: boolean;
}

/** A device model. */
export interface DeviceModel {
  readonly name: string;
  /** The type that it is derived from. */
  readonly parent: string;
  readonly aliases?: readonly string[];
  readonly bus: BusKind;
  /** The bus that it has, and how it is called behind the device's id. */
  readonly provides?: { readonly kind: BusKind; readonly slots: number; readonly luns?: number };
  readonly drive?: DriveModel;
  readonly properties: readonly PropertyRow[];
  /** It goes only when the machine is reset: the guest would have to let go of it. */
  readonly leavesAtReset?: boolean;
}

const disk = { isRemovable: false, takesReadOnly: true, keepsIoStatus: true } as const;
const cdrom = {
  isRemovable: true,
  takesReadOnly: true,
  onlyReads: true,
  hasTray: true,
  keepsIoStatus: true,
} as const;

/** The models, in the order of `-device help`. */
export const deviceModels: readonly DeviceModel[] = [
  {
    name: "pci-bridge",
    parent: "base-pci-bridge",
    properties: modelProperties["pci-bridge"],
    bus: "PCI",
    provides: { kind: "PCI", slots: 32 },
    leavesAtReset: true,
  },
  {
    name: "floppy",
    parent: "device",
    properties: modelProperties.floppy,
    bus: "floppy-bus",
    drive: { type: "floppy", isRemovable: true, takesReadOnly: true, keepsIoStatus: false },
  },
  {
    name: "ide-cd",
    parent: "ide-device",
    properties: modelProperties["ide-cd"],
    bus: "IDE",
    drive: { type: "ide-cd", ...cdrom },
  },
  {
    name: "ide-hd",
    parent: "ide-device",
    properties: modelProperties["ide-hd"],
    bus: "IDE",
    drive: { type: "ide-hd", ...disk, takesReadOnly: false, missing: "No drive specified" },
  },
  {
    name: "lsi53c895a",
    parent: "pci-device",
    properties: modelProperties.lsi53c895a,
    aliases: ["lsi"],
    bus: "PCI",
    provides: { kind: "SCSI", slots: 8 },
    leavesAtReset: true,
  },
  {
    name: "scsi-cd",
    parent: "scsi-disk-base",
    properties: modelProperties["scsi-cd"],
    bus: "SCSI",
    drive: { type: "scsi-cd", ...cdrom },
  },
  {
    name: "scsi-hd",
    parent: "scsi-disk-base",
    properties: modelProperties["scsi-hd"],
    bus: "SCSI",
    drive: { type: "scsi-hd", ...disk, missing: "drive property not set" },
  },
  {
    name: "virtio-blk-pci",
    parent: "virtio-blk-pci-base",
    properties: modelProperties["virtio-blk-pci"],
    aliases: ["virtio-blk"],
    bus: "PCI",
    drive: { type: "virtio-blk-device", ...disk, missing: "drive property not set" },
    leavesAtReset: true,
  },
  {
    name: "virtio-scsi-pci",
    parent: "virtio-scsi-pci-base",
    properties: modelProperties["virtio-scsi-pci"],
    aliases: ["virtio-scsi"],
    bus: "PCI",
    provides: { kind: "SCSI", slots: 256, luns: 16384 },
    leavesAtReset: true,
  },
];

/** Memory that keeps its content: firmware. Nobody but the machine itself makes one. */
export const flash: DeviceModel = {
  name: "cfi.pflash01",
  parent: "sys-bus-device",
  properties: modelProperties.flash,
  bus: "System",
  drive: { type: "cfi.pflash01", isRemovable: false, takesReadOnly: true, keepsIoStatus: false },
};

/** The model of a name or an alias. */
export function deviceModel(name: string): DeviceModel | undefined {
  return deviceModels.find((model) => model.name === name || model.aliases?.includes(name));
}

/** Whether a device of the model takes a property of that name. */
function takesProperty({ properties }: DeviceModel, name: string): boolean {
  return unlisted.has(name) || properties.some((row) => row.name === name);
}

/** Throws CommandError for a property that the model does not have. */
export function checkProperties(model: DeviceModel, properties: Readonly<Record<string, unknown>>): void {
  for (const name of Object.keys(properties))
    if (!takesProperty(model, name)) throw new CommandError(`Property '${model.name}.${name}' not found`);
}

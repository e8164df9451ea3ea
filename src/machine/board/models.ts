/**
 * The device models that a machine without a CPU knows: what they are plugged into, what they give, what their drive must be, and
 * the properties that they take. Another one is a row. Source: `-device NAME,help` and behaviour of QEMU 7.2.
 */

/** A kind of bus, as QEMU's messages name it. */
export type BusKind = "PCI" | "SCSI" | "IDE" | "floppy-bus";

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
  readonly aliases?: readonly string[];
  readonly bus: BusKind;
  /** The bus that it has, and how it is called behind the device's id. */
  readonly provides?: { readonly kind: BusKind; readonly slots: number };
  readonly drive?: DriveModel;
  readonly properties: ReadonlySet<string>;
  /** It goes only when the machine is reset: the guest would have to let go of it. */
  readonly leavesAtReset?: boolean;
}

const pci = ["addr", "romfile", "romsize", "rombar", "multifunction", "failover_pair_id", "acpi-index"];
const pciHidden = ["x-pcie-lnksta-dllla", "x-pcie-extcap-init"];
const virtioPci = [
  ...["ats", "modern-pio-notify", "disable-legacy", "disable-modern", "virtio-pci-bus-master-bug-migration"],
  ...["migrate-extra", "vectors", "class", "ioeventfd", "iommu_platform", "packed", "any_layout"],
  ...["event_idx", "indirect_desc", "notify_on_empty", "use-disabled-flag", "use-started", "page-per-vq"],
  ...[
    "x-disable-pcie",
    "x-disable-legacy-check",
    "x-pcie-deverr-init",
    "x-pcie-flr-init",
    "x-pcie-lnkctl-init",
  ],
  ...["x-pcie-pm-init", "x-ats-page-aligned", "queue_reset", "iothread", "num_queues", "num-queues"],
];
const block = [
  ...["drive", "bootindex", "logical_block_size", "physical_block_size", "min_io_size", "opt_io_size"],
  ...[
    "discard_granularity",
    "write-cache",
    "share-rw",
    "account-invalid",
    "account-failed",
    "backend_defaults",
  ],
];
const policies = ["rerror", "werror"];
const geometry = ["cyls", "heads", "secs"];
const scsi = [
  "channel",
  "scsi-id",
  "lun",
  "ver",
  "serial",
  "vendor",
  "product",
  "device_id",
  "removable",
  "dpofua",
];
const scsiMore = [
  "wwn",
  "port_wwn",
  "port_index",
  "max_unmap_size",
  "max_io_size",
  "scsi_version",
  "rotation_rate",
];
const scsiLast = [
  "quirk_mode_page_apple_vendor",
  "quirk_mode_page_truncated",
  "quirk_mode_sense_rom_use_dbd",
];
const ide = ["unit", "ver", "wwn", "serial", "model", "rotation_rate", "bios-chs-trans", ...geometry];

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
    bus: "PCI",
    provides: { kind: "PCI", slots: 32 },
    properties: new Set([...pci, ...pciHidden, "chassis_nr", "msi", "shpc"]),
    leavesAtReset: true,
  },
  {
    name: "floppy",
    bus: "floppy-bus",
    drive: { type: "floppy", isRemovable: true, takesReadOnly: true, keepsIoStatus: false },
    properties: new Set([...block, "unit", "drive-type"]),
  },
  {
    name: "ide-cd",
    bus: "IDE",
    drive: { type: "ide-cd", ...cdrom },
    properties: new Set([...block, ...policies, ...ide]),
  },
  {
    name: "ide-hd",
    bus: "IDE",
    drive: { type: "ide-hd", ...disk, takesReadOnly: false, missing: "No drive specified" },
    properties: new Set([...block, ...policies, ...ide]),
  },
  {
    name: "lsi53c895a",
    aliases: ["lsi"],
    bus: "PCI",
    provides: { kind: "SCSI", slots: 7 },
    properties: new Set([...pci, ...pciHidden]),
    leavesAtReset: true,
  },
  {
    name: "scsi-cd",
    bus: "SCSI",
    drive: { type: "scsi-cd", ...cdrom },
    properties: new Set([...block, ...policies, ...scsi, ...scsiMore, ...scsiLast]),
  },
  {
    name: "scsi-hd",
    bus: "SCSI",
    drive: { type: "scsi-hd", ...disk, missing: "drive property not set" },
    properties: new Set([...block, ...policies, ...geometry, ...scsi, ...scsiMore, ...scsiLast]),
  },
  {
    name: "virtio-blk-pci",
    aliases: ["virtio-blk"],
    bus: "PCI",
    drive: { type: "virtio-blk-device", ...disk, missing: "drive property not set" },
    properties: new Set([
      ...[...pci, ...pciHidden, ...virtioPci, ...block, ...policies, ...geometry],
      ...["serial", "config-wce", "scsi", "request-merging", "queue-size", "seg-max-adjust", "discard"],
      ...["report-discard-granularity", "write-zeroes", "max-discard-sectors", "max-write-zeroes-sectors"],
      "x-enable-wce-if-config-wce",
    ]),
    leavesAtReset: true,
  },
  {
    name: "virtio-scsi-pci",
    aliases: ["virtio-scsi"],
    bus: "PCI",
    provides: { kind: "SCSI", slots: 256 },
    properties: new Set([
      ...[
        ...pci,
        ...pciHidden,
        ...virtioPci,
        "virtqueue_size",
        "seg_max_adjust",
        "max_sectors",
        "cmd_per_lun",
      ],
      ...["hotplug", "param_change"],
    ]),
    leavesAtReset: true,
  },
];

/** The model of a name or an alias. */
export function deviceModel(name: string): DeviceModel | undefined {
  return deviceModels.find((model) => model.name === name || model.aliases?.includes(name));
}

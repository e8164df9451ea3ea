/**
 * The properties of the device models, in the short form of qom/property.ts, and what `info qtree` shows of them. Source:
 * `device-list-properties` and the human monitor of QEMU 7.2.
 */
import { type PropertyRow, propertyRows } from "../qom/property.ts";

const pci = `failover_pair_id:str romfile:str addr:int32=-1 romsize:uint32=4294967295 x-pcie-lnksta-dllla:bit=true
  rombar:uint32=1 x-pcie-extcap-init:bit=true acpi-index:uint32=0 multifunction:bit=false`;
const bridge = `chassis_nr:uint8=0 bus-reserve:uint32=4294967295 mem-reserve:size=18446744073709551615
  pref64-reserve:size=18446744073709551615 io-reserve:size=18446744073709551615 msi:OnOffAuto=auto
  pref32-reserve:size=18446744073709551615 shpc:bit=true`;
const virtio = `migrate-extra:bit=true ats:bit=false x-ignore-backend-features:bool=false x-pcie-pm-init:bit=true
  aer:bit=false x-pcie-flr-init:bit=true x-pcie-lnkctl-init:bit=true x-ats-page-aligned:bit=true page-per-vq:bit=false
  x-pcie-deverr-init:bit=true virtio-pci-bus-master-bug-migration:bit=false modern-pio-notify:bit=false
  x-disable-pcie:bit=false vectors:uint32=4294967295 ioeventfd:bit=true disable-legacy:OnOffAuto=auto
  disable-modern:bool=false notify_on_empty:bit=true iothread:link<iothread> use-disabled-flag:bool=true
  x-disable-legacy-check:bool=false use-started:bool=true iommu_platform:bit=false any_layout:bit=true
  queue_reset:bit=true packed:bit=false indirect_desc:bit=true event_idx:bit=true`;
const virtioBlk = `class:uint32=0 queue-size:uint16=256 num-queues:uint16=65535 virtio-backend:child<virtio-blk-device>
  config-wce:bit=true seg-max-adjust:bool=true report-discard-granularity:bool=true scsi:bit=false
  max-discard-sectors:uint32=4194303 discard:bit=true request-merging:bit=true write-zeroes:bit=true
  max-write-zeroes-sectors:uint32=4194303 x-enable-wce-if-config-wce:bool=true`;
const virtioScsi = `hotplug:bit=true num_queues:uint32=4294967295 max_sectors:uint32=65535 param_change:bit=true
  virtqueue_size:uint32=256 seg_max_adjust:bool=true cmd_per_lun:uint32=128 virtio-backend:child<virtio-scsi-device>`;
const block = `min_io_size:size=0 backend_defaults:OnOffAuto=auto account-invalid:OnOffAuto=auto share-rw:bool=false
  account-failed:OnOffAuto=auto logical_block_size:size=0 write-cache:OnOffAuto=auto opt_io_size:size=0 drive:str
  physical_block_size:size=0 discard_granularity:size=4294967295`;
const disk = `serial:str rerror:BlockdevOnError=auto werror:BlockdevOnError=auto bootindex:int32`;
const drive = `ver:str wwn:uint64=0`;
const geometry = `lsecs:uint32=0 lheads:uint32=0 heads:uint32=0 cyls:uint32=0 lcyls:uint32=0 secs:uint32=0`;
const unit = "unit:uint32=4294967295";
const rotation = "rotation_rate:uint16=0";
const scsi = `scsi-id:uint32=4294967295 lun:uint32=4294967295 channel:uint32=0 device_id:str max_io_size:uint64=2147483647
  scsi_version:int32=5 vendor:str quirk_mode_page_vendor_specific_apple:bit=false product:str port_wwn:uint64=0
  port_index:uint16=0`;
const scsiHd = "removable:bit=false max_unmap_size:uint64=1073741824 dpofua:bit=false";
const scsiCd = `quirk_mode_sense_rom_use_dbd:bit=false quirk_mode_page_truncated:bit=false
  quirk_mode_page_apple_vendor:bit=false`;

const rows = (...parts: readonly string[]): readonly PropertyRow[] => propertyRows(parts.join(" "));

/** By model. */
export const modelProperties = {
  "pci-bridge": rows(pci, bridge),
  flash: rows(`id0:uint16=137 id1:uint16=24 id2:uint16=0 id3:uint16=0 secure:bool=false big-endian:bool=false
    num-blocks:uint32=0 max-device-width:uint8=0 old-multiple-chip-handling:bool=false name:str drive:str
    sector-length:uint64=0 device-width:uint8=0 width:uint8=1`),
  floppy: rows(block, unit, "drive-type:FdcDriveType=auto"),
  "ide-cd": rows(block, disk, drive, unit, "model:str"),
  "ide-hd": rows(
    block,
    disk,
    drive,
    unit,
    "model:str",
    geometry,
    rotation,
    "bios-chs-trans:BiosAtaTranslation=auto",
  ),
  lsi53c895a: rows(pci),
  "scsi-cd": rows(block, disk, drive, scsi, scsiCd),
  "scsi-hd": rows(block, disk, drive, scsi, scsiHd, geometry, rotation),
  "virtio-blk-pci": rows(pci, virtio, virtioBlk, block, disk, geometry),
  "virtio-scsi-pci": rows(pci, virtio, virtioScsi),
} as const;

/** What every device says of itself. */
export const deviceProperties = propertyRows(
  "parent_bus:link<bus> realized:bool hotplugged:bool hotpluggable:bool",
);

/** Properties that devices take beyond those that their model lists. */
export const unlisted: ReadonlySet<string> = new Set(["bootindex"]);

// What `info qtree` shows of a device: its properties in QEMU's order, as they are when it works. In short: `name"text"`, `name:word`,
// `name#number` (also in hexadecimal), `name@bytes`.
const shownPci = `romfile"" romsize#4294967295 rombar#1 multifunction:false x-pcie-lnksta-dllla:true x-pcie-extcap-init:true
  failover_pair_id"" acpi-index#0`;
const proxy = (
  own: string,
  vectors: number,
): string => `disable-legacy"off" disable-modern:false ${own} ioeventfd:true
  vectors#${vectors} virtio-pci-bus-master-bug-migration:false migrate-extra:true modern-pio-notify:false x-disable-pcie:false
  page-per-vq:false x-ignore-backend-features:false ats:false x-ats-page-aligned:true x-pcie-deverr-init:true
  x-pcie-lnkctl-init:true x-pcie-pm-init:true x-pcie-flr-init:true aer:false addr:00.0 ${shownPci}`;
const shownVirtio = `indirect_desc:true event_idx:true notify_on_empty:true any_layout:true iommu_platform:false packed:false
  queue_reset:true use-started:true use-disabled-flag:true x-disable-legacy-check:false`;
const shownBlock = (
  granularity: number,
): string => `drive"" backend_defaults"auto" logical_block_size@512 physical_block_size@512
  min_io_size@0 opt_io_size@0 discard_granularity@${granularity} write-cache"auto" share-rw:false account-invalid"auto"
  account-failed"auto"`;
const policies = `rerror"auto" werror"auto"`;
const shownGeometry = "cyls#0 heads#16 secs#63 lcyls#0 lheads#0 lsecs#0";
const shownScsi = (
  product: string,
  own: string,
): string => `${shownBlock(4096)} ${policies} ver"2.5+" serial"" vendor"QEMU"
  product"${product}" device_id"" ${own} scsi_version#5`;
const ports = "wwn#0 port_wwn#0 port_index#0";
const shownPlace = "channel#0 scsi-id#0 lun#0";
const most = 4294967295;
const everything = "18446744073709551615";

/** By type; a virtio proxy and what it holds are two. */
export const shownProperties: Readonly<Record<string, string>> = {
  "pci-bridge": `chassis_nr#0 msi"auto" shpc:true bus-reserve#${most} io-reserve@${everything} mem-reserve@${everything}
    pref32-reserve@${everything} pref64-reserve@${everything} addr:00.0 ${shownPci}`,
  "virtio-blk-pci": proxy("class#0", 2),
  "virtio-blk-device": `${shownBlock(most)} ${policies} ${shownGeometry} serial"" config-wce:true scsi:false request-merging:true num-queues#1
    queue-size#256 seg-max-adjust:true discard:true report-discard-granularity:true write-zeroes:true
    max-discard-sectors#4194303 max-write-zeroes-sectors#4194303 x-enable-wce-if-config-wce:true ${shownVirtio}`,
  "virtio-scsi-pci": proxy("", 4),
  "virtio-scsi-device": `num_queues#1 virtqueue_size#256 seg_max_adjust:true max_sectors#65535 cmd_per_lun#128 hotplug:true
    param_change:true ${shownVirtio}`,
  lsi53c895a: `addr:00.0 ${shownPci}`,
  "scsi-hd": `${shownScsi(
    "QEMU_HARDDISK",
    `removable:false dpofua:false ${ports} max_unmap_size#1073741824 max_io_size#2147483647
    rotation_rate#0`,
  )} quirk_mode_page_vendor_specific_apple:false ${shownGeometry} ${shownPlace}`,
  "scsi-cd": `${shownScsi("QEMU_CD-ROM", `${ports} max_io_size#2147483647`)} quirk_mode_page_apple_vendor:false
    quirk_mode_sense_rom_use_dbd:false quirk_mode_page_vendor_specific_apple:false quirk_mode_page_truncated:false ${shownPlace}`,
  "ide-hd": `${shownBlock(512)} ${policies} ver"2.5+" wwn#0 serial"" model"" ${shownGeometry} bios-chs-trans"none" rotation_rate#0 unit#0`,
  "ide-cd": `${shownBlock(512)} ${policies} ver"2.5+" wwn#0 serial"" model"" unit#0`,
  floppy: `unit#0 ${shownBlock(most)} drive-type"288"`,
  "i440FX-pcihost": `pci-hole64-size@2147483648 short_root_bus#0 x-pci-hole64-fix:true x-config-reg-migration-enabled:true
    bypass-iommu:false`,
  "piix3-ide": `addr:01.1 ${shownPci}`,
  PIIX3: `addr:01.0 ${shownPci}`.replace("multifunction:false", "multifunction:true"),
  "isa-pcspk": `audiodev"" iobase#97 migrate:true`,
  "isa-fdc": `iobase#1008 irq#6 dma#2 fdtypeA"auto" fdtypeB"auto" fallback"288"`,
};

/** What is said of a PCI device's registers while no guest has placed them: class, pci id, bars. */
export const pciFacts: Readonly<Record<string, readonly [kind: string, id: string, ...bars: string[]]>> = {
  "pci-bridge": ["PCI bridge", "1b36:0001 (sub 0000:0000)", "0: mem fe"],
  "virtio-blk-pci": [
    "SCSI controller",
    "1af4:1001 (sub 1af4:0002)",
    "0: i/o 7e",
    "1: mem ffe",
    "4: mem 3ffe",
  ],
  "virtio-scsi-pci": [
    "SCSI controller",
    "1af4:1004 (sub 1af4:0008)",
    "0: i/o 3e",
    "1: mem ffe",
    "4: mem 3ffe",
  ],
  lsi53c895a: ["SCSI controller", "1000:0012 (sub 0000:1000)", "0: i/o fe", "1: mem 3fe", "2: mem 1ffe"],
  "piix3-ide": ["IDE controller", "8086:7010 (sub 1af4:1100)", "4: i/o e"],
  PIIX3: ["ISA bridge", "8086:7000 (sub 1af4:1100)"],
};

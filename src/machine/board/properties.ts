/**
 * The properties of the device models, in the short form of qom/property.ts. Source: `device-list-properties` of QEMU 7.2.
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

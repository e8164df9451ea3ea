/**
 * What `info qtree` shows of a device: its properties in QEMU's order, as they are when it works. In short: `name"text"`, `name:word`,
 * `name#number` (also in hexadecimal), `name@bytes`. Source: behaviour of QEMU 7.2's human monitor.
 */

const pci = `romfile"" romsize#4294967295 rombar#1 multifunction:false x-pcie-lnksta-dllla:true x-pcie-extcap-init:true
  failover_pair_id"" acpi-index#0`;
const proxy = (
  own: string,
  vectors: number,
): string => `disable-legacy"off" disable-modern:false ${own} ioeventfd:true
  vectors#${vectors} virtio-pci-bus-master-bug-migration:false migrate-extra:true modern-pio-notify:false x-disable-pcie:false
  page-per-vq:false x-ignore-backend-features:false ats:false x-ats-page-aligned:true x-pcie-deverr-init:true
  x-pcie-lnkctl-init:true x-pcie-pm-init:true x-pcie-flr-init:true aer:false addr:00.0 ${pci}`;
const virtio = `indirect_desc:true event_idx:true notify_on_empty:true any_layout:true iommu_platform:false packed:false
  queue_reset:true use-started:true use-disabled-flag:true x-disable-legacy-check:false`;
const block = (
  granularity: number,
): string => `drive"" backend_defaults"auto" logical_block_size@512 physical_block_size@512
  min_io_size@0 opt_io_size@0 discard_granularity@${granularity} write-cache"auto" share-rw:false account-invalid"auto"
  account-failed"auto"`;
const policies = `rerror"auto" werror"auto"`;
const geometry = "cyls#0 heads#16 secs#63 lcyls#0 lheads#0 lsecs#0";
const scsi = (
  product: string,
  own: string,
): string => `${block(4096)} ${policies} ver"2.5+" serial"" vendor"QEMU"
  product"${product}" device_id"" ${own} scsi_version#5`;
const ports = "wwn#0 port_wwn#0 port_index#0";
const place = "channel#0 scsi-id#0 lun#0";
const most = 4294967295;
const everything = "18446744073709551615";

/** By type; a virtio proxy and what it holds are two. */
export const shownProperties: Readonly<Record<string, string>> = {
  "pci-bridge": `chassis_nr#0 msi"auto" shpc:true bus-reserve#${most} io-reserve@${everything} mem-reserve@${everything}
    pref32-reserve@${everything} pref64-reserve@${everything} addr:00.0 ${pci}`,
  "virtio-blk-pci": proxy("class#0", 2),
  "virtio-blk-device": `${block(most)} ${policies} ${geometry} serial"" config-wce:true scsi:false request-merging:true num-queues#1
    queue-size#256 seg-max-adjust:true discard:true report-discard-granularity:true write-zeroes:true
    max-discard-sectors#4194303 max-write-zeroes-sectors#4194303 x-enable-wce-if-config-wce:true ${virtio}`,
  "virtio-scsi-pci": proxy("", 4),
  "virtio-scsi-device": `num_queues#1 virtqueue_size#256 seg_max_adjust:true max_sectors#65535 cmd_per_lun#128 hotplug:true
    param_change:true ${virtio}`,
  lsi53c895a: `addr:00.0 ${pci}`,
  "scsi-hd": `${scsi(
    "QEMU_HARDDISK",
    `removable:false dpofua:false ${ports} max_unmap_size#1073741824 max_io_size#2147483647
    rotation_rate#0`,
  )} quirk_mode_page_vendor_specific_apple:false ${geometry} ${place}`,
  "scsi-cd": `${scsi("QEMU_CD-ROM", `${ports} max_io_size#2147483647`)} quirk_mode_page_apple_vendor:false
    quirk_mode_sense_rom_use_dbd:false quirk_mode_page_vendor_specific_apple:false quirk_mode_page_truncated:false ${place}`,
  "ide-hd": `${block(512)} ${policies} ver"2.5+" wwn#0 serial"" model"" ${geometry} bios-chs-trans"none" rotation_rate#0 unit#0`,
  "ide-cd": `${block(512)} ${policies} ver"2.5+" wwn#0 serial"" model"" unit#0`,
  floppy: `unit#0 ${block(most)} drive-type"288"`,
  "i440FX-pcihost": `pci-hole64-size@2147483648 short_root_bus#0 x-pci-hole64-fix:true x-config-reg-migration-enabled:true
    bypass-iommu:false`,
  "piix3-ide": `addr:01.1 ${pci}`,
  PIIX3: `addr:01.0 ${pci}`.replace("multifunction:false", "multifunction:true"),
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

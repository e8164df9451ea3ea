/**
 * The options that `-o` takes of each format that can be made, in the order in which `create` repeats them.
 * Source: behaviour and words of qemu-img 7.2.
 */

/** One option of a format. */
export interface OptionRow {
  name: string;
  type: "str" | "size" | "num" | "bool";
  help: string;
  /** What `create` says where the user said nothing. */
  default?: string;
  /** QAPI's name. */
  wire?: string;
  /** The words that QAPI's enumeration has. */
  values?: readonly string[];
  /** An option of the file below, not of the format. */
  ofFile?: boolean;
}

/** Formats that QEMU knows; an image may name them whether they can be opened here or not. */
const FORMATS =
  "raw qcow2 qcow qed vmdk vdi vpc vhdx parallels bochs cloop dmg luks vvfat blkdebug file host_device nbd".split(
    " ",
  );

/** Whether a header may name the format. */
export function isKnownFormat(name: string): boolean {
  return FORMATS.includes(name);
}

/** How blocks can be prepared. */
export const PREALLOCATIONS = ["off", "metadata", "falloc", "full"];

/** Options of local files, in the order in which `create` repeats them. The first and the last mean something to btrfs and XFS. */
const nocowRow: OptionRow = {
  name: "nocow",
  type: "bool",
  help: "Turn off copy-on-write (valid only on btrfs)",
  ofFile: true,
};
const hintRow: OptionRow = {
  name: "extent_size_hint",
  type: "size",
  help: "Extent size hint for the image file, 0 to disable",
  ofFile: true,
};
const fileRows: readonly OptionRow[] = [
  nocowRow,
  {
    name: "preallocation",
    type: "str",
    wire: "preallocation",
    help: "Preallocation mode (allowed values: off, falloc, full)",
    ofFile: true,
  },
  hintRow,
];

const cipherRows: readonly OptionRow[] = [
  { name: "cipher-alg", type: "str", help: "Name of encryption cipher algorithm" },
  { name: "cipher-mode", type: "str", help: "Name of encryption cipher mode" },
  { name: "ivgen-alg", type: "str", help: "Name of IV generator algorithm" },
  { name: "ivgen-hash-alg", type: "str", help: "Name of IV generator hash algorithm" },
  { name: "hash-alg", type: "str", help: "Name of encryption hash algorithm" },
  { name: "iter-time", type: "num", help: "Time to spend in PBKDF in milliseconds" },
];

const luksRows: readonly OptionRow[] = [
  { name: "size", type: "size", wire: "size", help: "Virtual disk size" },
  {
    name: "key-secret",
    type: "str",
    wire: "key-secret",
    help: "ID of the secret that provides the keyslot passphrase",
  },
  ...cipherRows.map((row) => ({ ...row, wire: row.name })),
  ...fileRows,
];

/** In the order in which `create` repeats them. */
const qcow2Rows: readonly OptionRow[] = [
  {
    name: "encryption",
    type: "bool",
    help: "Encrypt the image with format 'aes'. (Deprecated in favor of encrypt.format=aes)",
  },
  { name: "encrypt.format", type: "str", help: "Encrypt the image, format choices: 'aes', 'luks'" },
  {
    name: "encrypt.key-secret",
    type: "str",
    help: "ID of secret providing qcow AES key or LUKS passphrase",
  },
  ...cipherRows.map((row) => ({ ...row, name: `encrypt.${row.name}` })),
  {
    name: "cluster_size",
    type: "size",
    default: "65536",
    wire: "cluster-size",
    help: "qcow2 cluster size",
  },
  { name: "extended_l2", type: "bool", default: "off", wire: "extended-l2", help: "Extended L2 tables" },
  {
    name: "preallocation",
    type: "str",
    wire: "preallocation",
    values: PREALLOCATIONS,
    help: "Preallocation mode (allowed values: off, metadata, falloc, full)",
  },
  {
    name: "compression_type",
    type: "str",
    default: "zlib",
    wire: "compression-type",
    values: ["zlib", "zstd"],
    help: "Compression method used for image cluster compression",
  },
  { name: "size", type: "size", wire: "size", help: "Virtual disk size" },
  {
    name: "compat",
    type: "str",
    wire: "version",
    values: ["v2", "v3"],
    help: "Compatibility level (v2 [0.10] or v3 [1.1])",
  },
  { name: "backing_file", type: "str", wire: "backing-file", help: "File name of a base image" },
  {
    name: "backing_fmt",
    type: "str",
    wire: "backing-fmt",
    values: FORMATS,
    help: "Image format of the base image",
  },
  { name: "data_file", type: "str", wire: "data-file", help: "File name of an external data file" },
  {
    name: "data_file_raw",
    type: "bool",
    wire: "data-file-raw",
    help: "The external data file must stay valid as a raw image",
  },
  {
    name: "lazy_refcounts",
    type: "bool",
    default: "off",
    wire: "lazy-refcounts",
    help: "Postpone refcount updates",
  },
  {
    name: "refcount_bits",
    type: "num",
    default: "16",
    wire: "refcount-bits",
    help: "Width of a reference count entry in bits",
  },
  nocowRow,
  hintRow,
];

const rawRows: readonly OptionRow[] = [
  { name: "size", type: "size", wire: "size", help: "Virtual disk size" },
  ...fileRows,
];

/** The options of each format that can be made. */
export const tables: Readonly<Record<string, readonly OptionRow[]>> = {
  qcow2: qcow2Rows,
  raw: rawRows,
  luks: luksRows,
};

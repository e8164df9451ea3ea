/**
 * What `-o` takes of qcow2 images: of new ones, in the order in which `create` repeats it, and what `amend` changes.
 * Source: behaviour and words of qemu-img 7.2.
 */
import type { CreateOption, OptionUse } from "../../../../block/model/contract.ts";
import { cipherOptions, keySlotOptions, LUKS } from "../../../../crypto/luks-rows.ts";
import { valuesOf } from "../../../../wire/qapi/option-types.ts";

const PREALLOCATIONS: readonly string[] = valuesOf("PreallocMode");
const versions: Readonly<Record<string, string>> = { "0.10": "v2", "1.1": "v3" };

function compatRefusal(value: string, use: OptionUse): string | undefined {
  if (Object.hasOwn(versions, value)) return undefined;
  if (use === "measure") return `Invalid compatibility level: '${value}'`;
  if (Object.values(versions).includes(value)) return undefined;
  return use === "amend" ? `Unknown compatibility level ${value}` : undefined;
}

const compat: CreateOption = {
  name: "compat",
  type: "str",
  wire: "version",
  values: ["v2", "v3"],
  words: versions,
  help: "Compatibility level (v2 [0.10] or v3 [1.1])",
  refusal: compatRefusal,
};

const encryptOptions: readonly CreateOption[] = [
  {
    name: "encryption",
    type: "bool",
    help: "Encrypt the image with format 'aes'. (Deprecated in favor of encrypt.format=aes)",
    alias: { option: "encrypt.format", value: "aes" },
  },
  {
    name: "encrypt.format",
    type: "str",
    wire: "encrypt.format",
    values: [LUKS],
    words: { aes: "qcow" },
    help: "Encrypt the image, format choices: 'aes', 'luks'",
    isTag: true,
  },
  {
    name: "encrypt.key-secret",
    type: "str",
    wire: "encrypt.key-secret",
    help: "ID of secret providing qcow AES key or LUKS passphrase",
    isSecret: true,
    isNeededToMeasure: ({ encrypt }) => (encrypt as { format?: unknown } | undefined)?.format === LUKS,
  },
  ...cipherOptions.map((row) => ({ ...row, name: `encrypt.${row.name}`, wire: `encrypt.${row.name}` })),
];

/** Of a new image. */
export const createOptions: readonly CreateOption[] = [
  ...encryptOptions,
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
    refusal: (value, use) =>
      use === "measure" && !PREALLOCATIONS.includes(value) ? `invalid parameter value: ${value}` : undefined,
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
  compat,
  { name: "backing_file", type: "str", wire: "backing-file", help: "File name of a base image" },
  {
    name: "backing_fmt",
    type: "str",
    wire: "backing-fmt",
    isFormat: true,
    help: "Image format of the base image",
  },
  {
    name: "data_file",
    type: "str",
    wire: "data-file",
    isFile: true,
    help: "File name of an external data file",
  },
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
];

/** Of an image that is there. */
export const amendOptions: readonly CreateOption[] = [
  { name: "backing_file", type: "str", wire: "backing-file", help: "File name of a base image" },
  { name: "backing_fmt", type: "str", wire: "backing-fmt", help: "Image format of the base image" },
  compat,
  { name: "data_file", type: "str", wire: "data-file", help: "File name of an external data file" },
  {
    name: "data_file_raw",
    type: "bool",
    wire: "data-file-raw",
    help: "The external data file must stay valid as a raw image",
  },
  ...keySlotOptions.map((row) => ({ ...row, name: `encrypt.${row.name}`, wire: `encrypt.${row.name}` })),
  { name: "lazy_refcounts", type: "bool", wire: "lazy-refcounts", help: "Postpone refcount updates" },
  {
    name: "refcount_bits",
    type: "num",
    wire: "refcount-bits",
    help: "Width of a reference count entry in bits",
  },
  { name: "size", type: "size", wire: "size", help: "Virtual disk size" },
];

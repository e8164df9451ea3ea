/**
 * The values of a device's properties: each must be of its type, and some must fit each other. Wrong ones are told in QEMU's words.
 * Source: behaviour of QEMU 7.2's qdev properties and block configuration.
 */
import { CommandError } from "../../base/errors.ts";
import { schema } from "../../wire/qapi/index.ts";
import { integerFromOption, sizeFromOption } from "../../wire/qapi/option-number.ts";
import type { PropertyRow } from "../qom/property.ts";
import { isOn, propertyWord } from "./device.ts";
import type { DeviceModel } from "./models.ts";

type Values = Readonly<Record<string, unknown>>;

/** Of types that QAPI does not have. */
const ownEnumerations: Readonly<Record<string, readonly string[]>> = {
  FdcDriveType: ["144", "288", "120", "none", "auto"],
  BiosAtaTranslation: ["auto", "none", "lba", "large", "rechs"],
};

function wordsOf(type: string): readonly string[] | undefined {
  const known = schema.types[type];
  return known && "values" in known ? known.values : ownEnumerations[type];
}

/** Looked at by who places the device, or finds the drive. */
const elsewhere: ReadonlySet<string> = new Set(["addr", "drive"]);

/** Throws CommandError for a value that is none of its property's. */
export function checkOne(model: DeviceModel, name: string, value: unknown): void {
  const row = model.properties.find((one) => one.name === name) ?? { name, type: "int32" };
  if (!elsewhere.has(name)) checkValue(row, value);
  else if (typeof value !== "string" && name === "drive") throw wrongType(name, "string");
}

/** Throws CommandError for the first value that is none. */
export function checkValues(model: DeviceModel, values: Values): void {
  for (const [name, value] of Object.entries(values)) checkOne(model, name, value);
  checkBlocks(values);
  checkModel(model.name, values);
  checkGeometry(model, values);
}

function wrongType(name: string, expected: string): CommandError {
  return new CommandError(`Invalid parameter type for '${name}', expected: ${expected}`);
}

function checkValue({ name, type }: PropertyRow, value: unknown): void {
  const accepted = wordsOf(type);
  const number = /^(u?)int(\d+)$/.exec(type);
  if (type === "bool") checkTruth(name, value);
  else if (type === "size") numberIn(name, value, "size");
  else if (number) checkRange(name, type, numberIn(name, value, "integer"));
  else if (accepted && !accepted.includes(propertyWord(value)))
    throw new CommandError(`Parameter '${name}' does not accept value '${propertyWord(value)}'`);
  else if (typeof value !== "string") throw wrongType(name, "string");
}

function checkTruth(name: string, value: unknown): void {
  if (typeof value === "boolean") return;
  if (typeof value !== "string") throw wrongType(name, "boolean");
  if (!/^(on|off|yes|no|true|false|y|n)$/.test(value))
    throw new CommandError(`Parameter '${name}' expects 'on' or 'off'`);
}

function numberIn(name: string, value: unknown, kind: "size" | "integer"): bigint {
  const text = typeof value === "number" || typeof value === "string" ? String(value) : "";
  const number = kind === "size" ? sizeFromOption(text) : integerFromOption(text, true);
  if (number === undefined) throw new CommandError(`Parameter '${name}' expects ${kind}`);
  return number;
}

function checkRange(name: string, type: string, value: bigint): void {
  const [, unsigned = "", bits = "64"] = /^(u?)int(\d+)$/.exec(type) ?? [];
  const most = 2n ** BigInt(unsigned === "" ? Number(bits) - 1 : Number(bits)) - 1n;
  const least = unsigned === "" ? -most - 1n : 0n;
  if (value < least || value > most) throw new CommandError(`Parameter '${name}' expects ${type}_t`);
}

/** A size, or an integer, that was given. */
function given(values: Values, name: string, otherwise: bigint): bigint {
  const value = values[name];
  return value === undefined ? otherwise : (sizeFromOption(propertyWord(value)) ?? otherwise);
}

const [LEAST_BLOCK, MOST_BLOCK] = [512n, 2n ** 21n] as const;

function checkBlocks(values: Values): void {
  for (const name of ["logical_block_size", "physical_block_size"])
    if (values[name] !== undefined) checkBlock(name, given(values, name, 0n));
  const logical = given(values, "logical_block_size", LEAST_BLOCK);
  if (logical > given(values, "physical_block_size", LEAST_BLOCK))
    throw new CommandError("logical_block_size > physical_block_size not supported");
  for (const name of ["min_io_size", "opt_io_size", "discard_granularity"])
    if (given(values, name, 0n) % logical !== 0n && given(values, name, 0n) !== 2n ** 32n - 1n)
      throw new CommandError(`${name} must be a multiple of logical_block_size`);
}

function checkBlock(name: string, bytes: bigint): void {
  if (bytes !== 0n && (bytes < LEAST_BLOCK || bytes > MOST_BLOCK))
    throw new CommandError(
      `Property .${name} doesn't take value ${bytes} (minimum: ${LEAST_BLOCK}, maximum: ${MOST_BLOCK})`,
    );
  if ((bytes & (bytes - 1n)) !== 0n)
    throw new CommandError(`Property .${name} doesn't take value '${bytes}', it's not a power of 2`);
}

/** What only one model minds. */
function checkModel(model: string, values: Values): void {
  const sizes = ["logical_block_size", "physical_block_size"].map((name) => given(values, name, LEAST_BLOCK));
  if (model === "floppy" && sizes.some((bytes) => bytes !== LEAST_BLOCK))
    throw new CommandError("Physical and logical block size must be 512 for floppy");
  if (model.startsWith("ide-") && sizes[0] !== LEAST_BLOCK)
    throw new CommandError("logical_block_size must be 512 for IDE");
  if (model === "pci-bridge" && given(values, "chassis_nr", 0n) === 0n)
    throw new CommandError(
      "Bridge chassis not specified. Each bridge is required to be assigned a unique chassis id > 0.",
    );
  if (model === "virtio-blk-pci" && isOn(values["scsi"]) && !isOn(values["disable-modern"]))
    throw new CommandError("Please set scsi=off for virtio-blk devices in order to use virtio 1.0");
  if (model.startsWith("virtio-")) checkQueues(values);
}

function checkQueues(values: Values): void {
  if (given(values, "num-queues", 1n) === 0n)
    throw new CommandError("num-queues property must be larger than 0");
  const scsi = given(values, "num_queues", 1n);
  if (scsi === 0n || (scsi > 1021n && scsi !== 2n ** 32n - 1n))
    throw new CommandError(
      `Invalid number of queues (= ${scsi}), must be a positive integer less than 1022.`,
    );
  const queue = given(values, "queue-size", 256n);
  if (queue > 1024n || queue < 1n || (queue & (queue - 1n)) !== 0n)
    throw new CommandError(`invalid queue-size property (${queue}), must be a power of 2 (max 1024)`);
}

function checkGeometry(model: DeviceModel, values: Values): void {
  const limits: readonly (readonly [string, bigint])[] = [
    ["cyls", 65535n],
    ["heads", model.bus === "IDE" ? 16n : 255n],
    ["secs", 255n],
  ];
  if (limits.every(([name]) => given(values, name, 0n) === 0n)) return;
  for (const [name, most] of limits) {
    const value = given(values, name, 0n);
    if (value < 1n || value > most) throw new CommandError(`${name} must be between 1 and ${most}`);
  }
}

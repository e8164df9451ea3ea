/**
 * What `-drive` says: where the drive goes, its policies and its cache, and the options of the node in it.
 * Source: behaviour of QEMU 7.2's drive_new and blockdev_init.
 */
import { CommandError } from "../../base/errors.ts";
import type { OnError } from "../../job/core/error-policy.ts";
import { type DriveInterface, driveInterfaces, type DrivePlace } from "../../machine/board/drive.ts";
import { type JsonObject, parseKeyval, QapiError, valuesOf } from "../../wire/qapi/index.ts";
import { limitNames, oldLimitName, type ThrottleLimits } from "../../block/throttle/config.ts";
import {
  joinedPairs,
  type OptionPairs,
  optionPairs,
  renameOption,
  takeFlag,
  takeNumber,
  takeOption,
} from "./opts.ts";

/** A drive as it was asked for. */
export interface DriveWish {
  name: string | undefined;
  place: Omit<DrivePlace, "unit" | "bus"> & { bus: number | undefined; unit: number | undefined };
  index: number | undefined;
  rerror: OnError | undefined;
  werror: OnError | undefined;
  readOnly: boolean;
  /** Undefined: as the machine wants it. */
  snapshot: boolean | undefined;
  copyOnRead: boolean;
  writeCache: boolean;
  aio: string | undefined;
  /** The file's name; undefined: the options say it, if anything. */
  file: string | undefined;
  format: string | undefined;
  options: JsonObject;
  /** Nothing is in it. */
  isEmpty: boolean;
  throttling: ThrottleLimits | undefined;
  throttleGroup: string | undefined;
  /** What is counted, and over which seconds. */
  counting: { invalid: boolean; failed: boolean; intervals: readonly number[] };
}

const caches: Readonly<Record<string, readonly [writeback: boolean, direct: boolean, noFlush: boolean]>> = {
  none: [true, true, false],
  off: [true, true, false],
  writeback: [true, false, false],
  writethrough: [false, false, false],
  directsync: [false, true, false],
  unsafe: [true, false, true],
};

/** Older names of options. */
const aliases: readonly (readonly [alias: string, name: string])[] = [
  ["readonly", "read-only"],
  ["group", "throttling.group"],
  ...limitNames
    .filter((name) => !name.endsWith("-length"))
    .map((name) => [oldLimitName(name), `throttling.${name}`] as const),
];

/** Throws CommandError for what is no id of a group of options. */
export function checkIdentifier(name: string): void {
  if (/^[A-Za-z][A-Za-z0-9._-]*$/.test(name)) return;
  throw new CommandError(
    "Parameter 'id' expects an identifier\nIdentifiers consist of letters, digits, '-', '.', '_', starting with a letter.",
  );
}

/** Reads the argument of `-drive`; `otherwise`: where a drive goes that does not say. Throws CommandError, QapiError. */
export function readDrive(text: string, otherwise: DriveInterface): DriveWish {
  const pairs = optionPairs(text);
  for (const [alias, to] of aliases) renameOption(pairs, alias, to);
  // The first one counts, here alone.
  const name = pairs.find(([key]) => key === "id")?.[1];
  takeOption(pairs, "id");
  if (name !== undefined) checkIdentifier(name);
  const media = takeOption(pairs, "media");
  if (media !== undefined && media !== "disk" && media !== "cdrom")
    throw new CommandError(`'${media}' invalid media`);
  const isCdrom = media === "cdrom";
  const place = readPlace(pairs, { otherwise, isCdrom });
  const index = takeNumber(pairs, "index");
  if (index !== undefined && (place.bus !== undefined || place.unit !== undefined))
    throw new CommandError("index cannot be used with bus and unit");
  const readOnly = takeFlag(pairs, "read-only") ?? false;
  const snapshot = takeFlag(pairs, "snapshot");
  const cache = takeCache(pairs);
  const policies = takePolicies(pairs, place.interface);
  const rest = takeRest(pairs);
  const counting = takeCounting(pairs);
  return {
    name,
    place,
    index,
    ...policies,
    readOnly: readOnly || isCdrom,
    snapshot,
    copyOnRead: takeFlag(pairs, "copy-on-read") ?? false,
    counting,
    ...rest,
    ...cache,
    ...nodeOptions(pairs),
  };
}

function readPlace(
  pairs: OptionPairs,
  { otherwise, isCdrom }: { otherwise: DriveInterface; isCdrom: boolean },
): DriveWish["place"] {
  const text = takeOption(pairs, "if") ?? otherwise;
  const found = driveInterfaces.find((one) => one === text);
  if (!found) throw new CommandError(`unsupported bus type '${text}'`);
  return { interface: found, bus: takeNumber(pairs, "bus"), unit: takeNumber(pairs, "unit"), isCdrom };
}

const MOST_SECONDS = 2 ** 32 - 1;

const withPolicies: ReadonlySet<DriveInterface> = new Set(["ide", "scsi", "virtio", "none"]);

function takePolicies(
  pairs: OptionPairs,
  kind: DriveInterface,
): { rerror: OnError | undefined; werror: OnError | undefined } {
  const take = (key: "werror" | "rerror", words: readonly string[], what: string): OnError | undefined => {
    const value = takeOption(pairs, key);
    if (value === undefined) return undefined;
    if (!withPolicies.has(kind)) throw new CommandError(`${key} is not supported by this bus type`);
    if (words.includes(value)) return value as OnError;
    throw new CommandError(`'${value}' invalid ${what} error action`);
  };
  const both = valuesOf("BlockdevOnError").filter((policy) => policy !== "auto" && policy !== "enospc");
  const werror = take("werror", [...both, "enospc"], "write");
  return { werror, rerror: take("rerror", both, "read") };
}

/** `cache=` and the options that it stands for; those of the node are put back among the pairs. */
function takeCache(pairs: OptionPairs): { writeCache: boolean } {
  const mode = takeOption(pairs, "cache");
  const known = mode === undefined ? undefined : caches[mode];
  if (mode !== undefined && !known) throw new CommandError("invalid cache option");
  const own = takeFlag(pairs, "cache.writeback");
  if (known) {
    for (const [key, value] of [
      ["cache.direct", known[1]],
      ["cache.no-flush", known[2]],
    ] as const)
      if (!pairs.some(([name]) => name === key)) pairs.push([key, value ? "on" : "off"]);
  }
  return { writeCache: own ?? known?.[0] ?? true };
}

function takeRest(pairs: OptionPairs): Pick<DriveWish, "aio" | "throttling" | "throttleGroup"> {
  const aio = takeOption(pairs, "aio");
  if (aio !== undefined && !valuesOf("BlockdevAioOptions").some((mode) => mode === aio))
    throw new CommandError("invalid aio option");
  const limits: [string, number][] = [];
  for (const name of limitNames) {
    const value = takeNumber(pairs, `throttling.${name}`);
    if (value !== undefined) limits.push([name, value]);
  }
  const throttleGroup = takeOption(pairs, "throttling.group");
  return {
    aio,
    throttling: limits.length === 0 ? undefined : (Object.fromEntries(limits) as ThrottleLimits),
    throttleGroup,
  };
}

/** `stats-…`: what is counted. Throws CommandError, QapiError. */
function takeCounting(pairs: OptionPairs): DriveWish["counting"] {
  const invalid = takeFlag(pairs, "stats-account-invalid") ?? true;
  const failed = takeFlag(pairs, "stats-account-failed") ?? true;
  const intervals: number[] = [];
  const prefix = "stats-intervals.";
  for (;;) {
    const text = takeOption(pairs, `${prefix}${intervals.length}`);
    if (text === undefined) break;
    if (!/^[0-9]+$/.test(text) || Number(text) === 0 || Number(text) > MOST_SECONDS)
      throw new CommandError(`Invalid interval length: ${text}`);
    intervals.push(Number(text));
  }
  const left = pairs.find(([key]) => key.startsWith(prefix));
  if (left) throw new CommandError(`Invalid option ${left[0]}`);
  return { invalid, failed, intervals };
}

function nodeOptions(pairs: OptionPairs): Pick<DriveWish, "file" | "format" | "options" | "isEmpty"> {
  const format = takeOption(pairs, "format");
  const file = takeOption(pairs, "file");
  const given = takeOption(pairs, "driver");
  if (format !== undefined && given !== undefined)
    throw new QapiError("Cannot specify both 'driver' and 'format'");
  const driver = format ?? given;
  // A key of nothing is one that no driver has.
  const nothing = takeOption(pairs, "");
  const describing = pairs.filter(([key]) => !key.startsWith("cache."));
  return {
    file: file === "" ? undefined : file,
    format: driver,
    options: Object.assign(parseKeyval(joinedPairs(pairs)), nothing === undefined ? {} : { "": nothing }),
    isEmpty:
      (file === undefined || file === "") &&
      driver === undefined &&
      describing.length === 0 &&
      nothing === undefined,
  };
}

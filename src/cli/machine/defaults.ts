/** What a `pc` has unless `-nodefaults` is said: drives, and the devices by which paths of drives are counted. Source: behaviour of QEMU 7.2. */
import { lastValue, type GivenOption } from "./options.ts";
import { optionPairs } from "./opts.ts";

const hasFlag = (options: readonly GivenOption[], flag: string): boolean =>
  options.some(({ name }) => name === flag);

/** The drives as `-drive` would say them; one whose place is taken is not made. */
export function defaultDrives(options: readonly GivenOption[]): string[] {
  if (hasFlag(options, "nodefaults")) return [];
  const models = options.flatMap(({ name, value = "" }) =>
    name === "device"
      ? optionPairs(value, "driver").flatMap(([key, its]) => (key === "driver" ? [its] : []))
      : [],
  );
  const isGiven = (...names: string[]): boolean => models.some((model) => names.includes(model));
  return [
    ...(isGiven("ide-cd", "ide-hd", "scsi-cd", "scsi-hd") ? [] : ["index=2,media=cdrom"]),
    ...(isGiven("floppy", "isa-fdc") ? [] : ["if=floppy,index=0"]),
    "if=sd,index=0",
  ];
}

/** How many devices there are before the first floppy drive, and from the last floppy drive to the first IDE drive. */
export function devicesBefore(options: readonly GivenOption[]): { floppy: number; ide: number } {
  const otherwise = hasFlag(options, "nodefaults") ? 0 : 1;
  const count = (name: string): number => {
    const given = options.filter((option) => option.name === name);
    return given.length === 0 ? otherwise : given.filter(({ value }) => value !== "none").length;
  };
  const isVga = lastValue(options, "vga");
  const vga = isVga === undefined ? otherwise : Number(isVga !== "none");
  const isAlone = hasFlag(options, "net") || hasFlag(options, "nic");
  return { floppy: 13 + vga + count("serial") + count("parallel"), ide: 5 + (isAlone ? 0 : otherwise) };
}

/**
 * Sizes, rates and times as people read and write them. Sizes read as qemu-img prints them.
 */
import { evenFixed } from "./options/sizes.ts";

const prefixes = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];

/** A size in bytes as qemu-img prints it: three digits and a binary unit (`1.5 GiB`). */
export function formatBytes(bytes: number): string {
  let step = 0;
  while (step < prefixes.length - 1 && bytes / 1024 ** step >= 1000) step += 1;
  const value = bytes / 1024 ** step;
  const digits = value < 1 ? 3 : Math.max(3 - String(Math.floor(value)).length, 0);
  return `${Number(evenFixed(value, digits))} ${prefixes[step]}B`;
}

/** A rate in bytes per second. */
export function formatRate(bytesPerSecond: number): string {
  return `${formatBytes(Math.round(bytesPerSecond))}/s`;
}

/** A time in seconds as `0:07`, `12:05` or `1:02:03`. */
export function formatSeconds(seconds: number): string {
  const whole = Math.max(0, Math.round(seconds));
  const two = (value: number): string => String(value).padStart(2, "0");
  const [hours, minutes] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60];
  if (hours > 0) return `${hours}:${two(minutes)}:${two(whole % 60)}`;
  return `${minutes}:${two(whole % 60)}`;
}

/** Reads `64k`, `10M`, `1.5G` or plain bytes; a whole number of bytes >= 0, or undefined. */
export function parseBytes(text: string): number | undefined {
  const match = /^(\d+(?:\.\d+)?)([bkmgtpe])?$/i.exec(text.trim());
  if (!match) return undefined;
  const step = "bkmgtpe".indexOf((match[2] ?? "b").toLowerCase());
  const bytes = Number(match[1]) * 1024 ** step;
  return Number.isSafeInteger(bytes) ? bytes : undefined;
}

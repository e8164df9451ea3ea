/**
 * What `io` prints of a request: sizes, times and rates, and dumps of bytes. Source: behaviour of qemu-io 7.2.
 */
import { evenFixed } from "../../options/sizes.ts";

const units = ["bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];

/** `64 KiB`, `1.500 KiB`, `512 bytes`; `digits` behind the point below 1 KiB. */
export function sizeText(value: number, digits = 0): string {
  let step = 0;
  while (step < units.length - 1 && value >= 1024 ** (step + 1)) step += 1;
  const text = evenFixed(value / 1024 ** step, step === 0 ? digits : 3);
  return `${text.replace(/\.0+$/, "")} ${units[step]}`;
}

function two(value: number): string {
  return String(Math.floor(value)).padStart(2, "0");
}

/** Seconds with two digits; `fixed`: always as `h:mm:ss.cc`. */
function timeText(seconds: number, fixed: boolean): string {
  const hundredths = Math.floor(seconds * 100);
  const [hours, minutes, rest] = [seconds / 3600, (seconds / 60) % 60, (hundredths / 100) % 60];
  const short = `${two(rest)}.${two(hundredths % 100)}`;
  if (fixed || seconds >= 60) return `${Math.floor(hours)}:${two(minutes)}:${short}`;
  return `${short} sec`;
}

/** A request that is over. */
export interface RequestReport {
  /** `read`, `wrote`, `discard`. */
  verb: string;
  offset: number;
  bytes: number;
  seconds: number;
  /** In a form for programs. */
  machine: boolean;
}

/** The lines on a request. */
export function requestReport({ verb, offset, bytes, seconds, machine }: RequestReport): string {
  // A clock that did not move is no reason to divide by zero.
  const time = Math.max(seconds, 1e-9);
  if (machine)
    return `${bytes},1,${timeText(seconds, true)},${(bytes / time).toFixed(3)},${(1 / time).toFixed(3)}\n`;
  const rates = `${sizeText(bytes / time, 6)}/sec and ${(1 / time).toFixed(4)} ops/sec`;
  return (
    `${verb} ${bytes}/${bytes} bytes at offset ${offset}\n` +
    `${sizeText(bytes)}, 1 ops; ${timeText(seconds, false)} (${rates})\n`
  );
}

const ROW_BYTES = 16;

/** Bytes in hexadecimal and as ASCII, 16 in a row; `offset` is that of the first one. */
export function hexDump(bytes: Uint8Array, offset: number): string {
  let text = "";
  for (let at = 0; at < bytes.byteLength; at += ROW_BYTES) {
    const row = [...bytes.subarray(at, at + ROW_BYTES)];
    const hex = row.map((byte) => `${byte.toString(16).padStart(2, "0")} `).join("");
    const ascii = row.map(letterOrDot).join("");
    text += `${(offset + at).toString(16).padStart(8, "0")}:  ${hex} ${ascii}\n`;
  }
  return text;
}

/** As dumps show a byte: letters and digits as they are. */
function letterOrDot(byte: number): string {
  const text = String.fromCharCode(byte);
  return /[0-9A-Za-z]/.test(text) ? text : ".";
}

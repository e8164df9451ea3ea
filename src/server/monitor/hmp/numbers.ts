/**
 * Sizes as the human monitor takes them: megabytes unless a suffix says otherwise. Source: behaviour of QEMU 7.2's monitor.
 */
import { integerFromOption, sizeFromOption } from "../../../wire/qapi/option-number.ts";

const MEBI = 1024 * 1024;

/** Bytes; undefined for what is no size. */
export function parsedSize(text: string): number | undefined {
  const plain = integerFromOption(text, true);
  const bytes = plain === undefined ? sizeFromOption(text) : plain * BigInt(MEBI);
  return bytes === undefined || bytes < 0n ? undefined : Number(bytes);
}

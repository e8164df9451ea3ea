/**
 * The modes of opening a disk, as the words of `io`'s options and of its `open` say them. Throws IoFailure in qemu-io's words.
 */
import { type CacheMode, cacheMode } from "../../options/engine.ts";
import { IoFailure } from "./failure.ts";
import { valuesOf } from "../../../wire/qapi/option-types.ts";

/** -t. */
export function cacheChoice(text: string): { cache: CacheMode; writeThrough: boolean } {
  try {
    const writeThrough = text === "writethrough" || text === "directsync";
    return { cache: cacheMode(text, "cache"), writeThrough };
  } catch {
    throw new IoFailure(`Invalid cache option: ${text}`, "note");
  }
}

/** -d: whether discards reach the file. */
export function discardChoice(text: string): boolean {
  if (["unmap", "on"].includes(text)) return true;
  if (["ignore", "off"].includes(text)) return false;
  throw new IoFailure(`Invalid discard option: ${text}`, "note");
}

/** -i. */
export function aioMode(text: string): string {
  if (valuesOf("BlockdevAioOptions").some((mode) => mode === text)) return text;
  throw new IoFailure(`Invalid aio option: ${text}`, "note");
}

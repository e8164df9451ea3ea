/**
 * Guessing formats. What no format claims is taken for raw, and marked as guessed: the raw driver then refuses to let a write
 * make it another format. Known formats without a driver are refused by name.
 * Source: behaviour of QEMU's bdrv_probe_all; CVE-2008-2004.
 */
import { blockError } from "../../base/errors.ts";
import { rescue } from "../../base/answer.ts";
import { closing } from "../../base/lease.ts";
import { foreignFormat, foreignTrailer, TRAILER_BYTES } from "../model/foreign-formats.ts";
import { defaultFormat } from "../model/options.ts";
import { guessedFormat, type NodeSpec } from "../model/spec.ts";
import { pread } from "../io/io.ts";
import type { BlockNode } from "../model/node.ts";
import type { NodeHome } from "./home.ts";

/** A format that was found; to be spread into the description of the image. */
export interface FoundFormat {
  driver: string;
  /** It is raw because nothing else claims the file. */
  [guessedFormat]?: true;
}

const HEAD_BYTES = 2048;

/** The format that a protocol's first 2 KiB show. Throws ENOTSUP for known formats that have no driver. */
export async function probeFormat(graph: NodeHome, file: NodeSpec): Promise<FoundFormat> {
  const found = await probeAny(graph, file);
  if (!("foreign" in found)) return found;
  const message = `Image is in ${found.foreign} format, which is not supported; give the format 'raw' to take its bytes as a disk`;
  throw blockError("ENOTSUP", "open", message);
}

/** As probeFormat(); names a known format that has no driver. */
export async function probeAny(graph: NodeHome, file: NodeSpec): Promise<FoundFormat | { foreign: string }> {
  const node = await graph.open({ ...file, "read-only": true });
  return closing(
    () => probeNode(graph, node),
    () => graph.release(node),
  );
}

async function probeNode(graph: NodeHome, node: BlockNode): Promise<FoundFormat | { foreign: string }> {
  const head = new Uint8Array(Math.min(HEAD_BYTES, Math.max(TRAILER_BYTES, node.length)));
  await rescue(
    () => pread(node, 0, head),
    () => undefined,
  );
  let best: { name?: string; score: number } = { score: 0 };
  for (const type of graph.drivers) {
    const score = type.probe?.(head) ?? 0;
    if (score > best.score) best = { name: type.name, score };
  }
  if (best.name !== undefined) return { driver: best.name };
  const foreign = foreignFormat(head) ?? (await trailerOf(node));
  return foreign === undefined
    ? { driver: defaultFormat(graph, "unclaimed"), [guessedFormat]: true }
    : { foreign };
}

async function trailerOf(node: BlockNode): Promise<string | undefined> {
  const tail = new Uint8Array(TRAILER_BYTES);
  if (node.length < 2 * TRAILER_BYTES) return undefined;
  await rescue(
    () => pread(node, node.length - TRAILER_BYTES, tail),
    () => undefined,
  );
  return foreignTrailer(tail);
}

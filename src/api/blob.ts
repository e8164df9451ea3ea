/**
 * fromBlob(): what a user picked in a page, or `fs.openAsBlob()` gave, as a node.
 */
import type { Engine } from "../machine/engine.ts";
import type { InEngine, Node } from "./node.ts";
import { type OpenOptions, openNodeIn } from "./open.ts";
import { imageOptions, optionsOf } from "./options.ts";
import type { OpenSpec } from "./specs.ts";

/** Options of fromBlob(). */
export interface FromBlobOptions extends Omit<OpenOptions, "readOnly"> {
  /** Format of the image that the Blob holds (`qcow2` …); default: the Blob's bytes are the disk. Never guessed. */
  format?: string;
  /** The node's name; default: one is made. */
  nodeName?: string;
}

const checkOptions = optionsOf<FromBlobOptions & InEngine>({
  ...imageOptions,
  gate: "Function",
  metadataOnly: "bool",
  format: "str",
  nodeName: "str",
});

/** Opens a Blob read-only. Its bytes are read as they are asked for. Throws what openNode() throws. */
export async function fromBlobIn(engine: Engine, blob: Blob, options: FromBlobOptions = {}): Promise<Node> {
  checkOptions(options);
  const { format, nodeName, ...open } = options;
  const storage = { driver: "blob", blob, "read-only": true } as const;
  const spec = {
    ...(format === undefined ? storage : { driver: format, file: storage, "read-only": true }),
    ...(nodeName === undefined ? {} : { "node-name": nodeName }),
  };
  // A child that only the library knows has no place in QAPI's types.
  return openNodeIn(engine, spec as unknown as OpenSpec, open);
}

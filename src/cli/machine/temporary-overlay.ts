/**
 * `snapshot=on` and `-snapshot`: an image is opened read-only below an overlay in a file that nobody else has, whose name goes at
 * once, and with it what was written, at the end. `commit` of the human monitor brings it into the image.
 */
import { randomBytes } from "node:crypto";
import { closeSync, openSync, unlinkSync } from "node:fs";
import { strerror } from "../../base/errno.ts";
import { BlockError, errnoOf } from "../../base/errors.ts";
import type { BlockGraph } from "../../block/graph/graph.ts";
import { defaultFormat } from "../../block/model/options.ts";
import type { BlockNode } from "../../block/model/node.ts";

/** A new, empty file of its own. Throws BlockError. */
function temporaryFile(): string {
  const folder = process.env["TMPDIR"] ?? "/var/tmp";
  const name = `${folder}/vl.${randomBytes(4).toString("base64url")}`;
  try {
    closeSync(openSync(name, "wx", 0o600));
    return name;
  } catch (error) {
    const code = errnoOf(error);
    const message = `Could not open temporary file '${folder}/vl.XXXXXX': ${strerror(code)}`;
    throw new BlockError({ code, op: "create", message, cause: error });
  }
}

/** Opens an overlay over the node; a reference is held on it. Throws BlockError. */
export async function openTemporaryOverlay(
  graph: BlockGraph,
  node: BlockNode,
  { readOnly }: { readOnly: boolean },
): Promise<BlockNode> {
  const filename = temporaryFile();
  try {
    const file = { driver: "file", filename };
    const context = { graph, host: graph.host };
    const driver = defaultFormat(graph, "overlay");
    await graph.driver(driver).create?.(context, { driver, file, size: node.length });
    return await graph.open({
      ...{ driver, file, backing: node.name, "read-only": readOnly },
      cache: { direct: false, "no-flush": true },
    });
  } finally {
    unlinkSync(filename);
  }
}

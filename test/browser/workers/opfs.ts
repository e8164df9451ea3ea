// A dedicated worker with an engine over the private file system, for tests: the page calls its functions by name.
import { createEngine, createImage, openNode, removeImage } from "../../../src/browser.ts";
import type { Engine } from "../../../src/machine/engine.ts";
import type { Node } from "../../../src/api/node.ts";

let engine: Engine = createEngine();
const nodes = new Map<string, Node>();

function node(name: string): Node {
  const found = nodes.get(name);
  if (!found) throw new Error(`no node '${name}'`);
  return found;
}

async function digest(name: string): Promise<string> {
  const bytes = await node(name).read(0, node(name).length);
  const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", new Uint8Array(bytes)));
  return [...hash].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** What the page may call. */
export const calls = {
  create: (spec: Parameters<typeof createImage>[0]) => createImage(spec, { engine }),
  remove: (filename: string) => removeImage({ driver: "opfs", filename }, { engine }),
  async open(name: string, spec: Parameters<typeof openNode>[0]) {
    const opened = await openNode(spec, { engine });
    nodes.set(name, opened);
    return opened.length;
  },
  close: (name: string) => node(name).close(),
  read: (name: string, offset: number, bytes: number) => node(name).read(offset, bytes),
  write: (name: string, offset: number, data: Uint8Array) => node(name).write(offset, data),
  flush: (name: string) => node(name).flush(),
  digest,
  async restart() {
    await engine.close();
    nodes.clear();
    engine = createEngine();
  },
};
/** Their types. */
export type Calls = typeof calls;

globalThis.addEventListener(
  "message",
  ({ data }: MessageEvent<{ id: number; name: keyof Calls; args: unknown[] }>) => {
    const call = calls[data.name] as (...args: unknown[]) => Promise<unknown>;
    call(...data.args).then(
      (value) => postMessage({ id: data.id, value }),
      (error: unknown) => {
        const { message, code } = error as { message: string; code?: string };
        postMessage({ id: data.id, error: { message, code } });
      },
    );
  },
);

// The built browser entry in a realm without Symbol.dispose and Symbol.asyncDispose, as in WebKit and older browsers: jobs begin
// and end, leases are given back, and what a compiler makes of `await using` closes what it opened.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { createContext, Script } from "node:vm";
import { build } from "esbuild";
import { beforeAll, expect, test } from "vitest";
import { root } from "../support/root.ts";

/** What the realm has beside the language itself. */
const platform = {
  AbortController,
  AbortSignal,
  Blob,
  DOMException,
  Event,
  EventTarget,
  MessageChannel,
  TextDecoder,
  TextEncoder,
  URL,
  atob,
  btoa,
  clearTimeout,
  console,
  crypto,
  performance,
  queueMicrotask,
  setTimeout,
};

let run: (story: string) => Promise<unknown>;

/** A Symbol without the two; the realm's own where it lacks them. */
const withoutDisposal = `
  const lacks = new Set(["dispose", "asyncDispose"]);
  globalThis.Symbol = new Proxy(Symbol, { get: (all, name) => (lacks.has(name) ? undefined : all[name]) });
`;

beforeAll(async () => {
  const stdin = {
    contents: 'export * as bw from "./build/browser.js"; export { tell } from "story";',
    resolveDir: root,
  };
  run = async (story) => {
    const { outputFiles } = await build({
      stdin,
      bundle: true,
      write: false,
      format: "iife",
      globalName: "bundle",
      target: "safari17.2",
      plugins: [
        {
          name: "story",
          setup(plugins) {
            plugins.onResolve({ filter: /^story$/ }, () => ({ path: "story", namespace: "story" }));
            plugins.onLoad({ filter: /.*/, namespace: "story" }, () => ({ contents: story }));
          },
        },
      ],
    });
    const context = createContext({ ...platform });
    new Script(withoutDisposal).runInContext(context);
    new Script(outputFiles[0]!.text).runInContext(context);
    return new Script("bundle.tell(bundle.bw)").runInContext(context) as Promise<unknown>;
  };
  expect(readFileSync(join(root, "build/browser.js"), "utf8")).not.toBe("");
});

const size = 1 << 20;
const opening = `
  const size = ${size};
  const disk = (engine, name) => bw.openNode({ driver: "memory", size, "node-name": name }, { engine });
  const storage = (engine, name) => engine.graph.add({ driver: "memory", size: 0, "node-name": name });
  const image = async (engine, name) => {
    await storage(engine, name);
    await bw.createImage({ driver: "qcow2", file: name, size }, { engine });
  };
`;

test("a mirror moves a disk, and `await using` closes everything", async () => {
  const story = `export async function tell(bw) {
    ${opening}
    const symbols = [typeof Symbol.dispose, typeof Symbol.asyncDispose];
    let graph;
    const shown = await (async () => {
      await using engine = bw.createEngine({ arenaBytes: 16 << 20 });
      graph = engine.graph;
      await using source = await disk(engine, "old");
      await using target = await disk(engine, "new");
      await source.write(4096, new Uint8Array(512).fill(9));
      const job = await bw.mirror(source, target);
      await bw.whenReady(job);
      await job.complete();
      await job.done;
      return [source.name, (await source.read(4096, 1))[0]];
    })();
    return JSON.stringify({ symbols, shown, left: graph.nodes.length, inUse: graph.arena.inUse });
  }`;
  expect(JSON.parse((await run(story)) as string)).toEqual({
    symbols: ["undefined", "undefined"],
    shown: ["new", 9],
    left: 0,
    inUse: 0,
  });
});

test("a commit links the overlay anew and gives every node back as it was; a refused stream leaves nothing", async () => {
  const story = `export async function tell(bw) {
    ${opening}
    const engine = bw.createEngine({ arenaBytes: 16 << 20 });
    await engine.graph.add({ driver: "memory", size, "node-name": "base", "read-only": true });
    await image(engine, "mid-file");
    await image(engine, "top-file");
    const mid = { driver: "qcow2", "node-name": "mid", file: "mid-file", "read-only": true, backing: "base" };
    const top = await bw.openNode({ driver: "qcow2", "node-name": "top", file: "top-file", backing: mid }, { engine });
    const refused = await bw.stream(top, { filterNodeName: "base" }).then(() => "started", (error) => error.message);
    const job = await bw.commit(top, { topNode: "mid", baseNode: "base", backingFile: "base.raw" });
    await job.done;
    const nodes = engine.graph.nodes.map(({ name, readOnly, quiesceCounter }) => [name, readOnly, quiesceCounter]);
    const backing = top.blockNode.backing.node.name;
    await engine.close();
    return JSON.stringify({ refused, nodes: nodes.sort(), backing });
  }`;
  expect(JSON.parse((await run(story)) as string)).toEqual({
    refused: "Could not create node: Duplicate nodes with node-name='base'",
    nodes: [
      ["base", true, 0],
      ["mid-file", false, 0],
      ["top", false, 0],
      ["top-file", false, 0],
    ],
    backing: "base",
  });
});

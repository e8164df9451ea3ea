// The declarations of the packed tarball in a user's project: with the newest TypeScript and with the oldest that is promised (docs/API.md), which is
// fetched from npm and skipped by its name where it can't be had; `strict`, every declaration checked, in Node without the DOM's types
// and in a page with them.
import { execFileSync, spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { HANG_MS } from "../support/until.ts";
import { root } from "../support/root.ts";
import { readText } from "../tidy/source.ts";

/** The oldest, as docs/API.md has it. */
const oldest = /TypeScript (\d+\.\d+) or later/.exec(readText("docs/API.md"))?.[1] ?? "none";
const folder = mkdtempSync(join(tmpdir(), "blockwright-typescript-"));

/** What a program of Node has first, with its types where one would look for them. */
const PROGRAM = `
import * as portable from "blockwright";
import { type BlockJob, type JobEvent, type Node, type OpenSpec, CommandError, backup, createEngine } from "blockwright/node";
import { createImage, file, http, memory, mirror, nodeHost, openNode, overlay, qcow2, whenReady } from "blockwright/node";

const image = file("first.qcow2");
await createImage({ ...qcow2(image), size: 2 ** 20 });
const disk: Node = await openNode("first.qcow2", { readOnly: false });
const spec: OpenSpec = overlay(qcow2(http("https://example.org/base.qcow2")), image, { discard: "unmap" });
const nested = await openNode({ driver: "qcow2", file: { driver: "memory", buffer: new Uint8Array(512) } });
const job: BlockJob = await mirror(disk, await openNode(memory(2 ** 20)), { onTargetError: "enospc" });
job.addEventListener("BLOCK_JOB_ERROR", ({ data: { operation, action } }) => console.log(operation, action));
job.addEventListener("JOB_STATUS_CHANGE", ({ data: { status } }) => console.log(status === "paused"));
// @ts-expect-error: no such event
job.addEventListener("JOB_STATUS_CHANGED", () => undefined);
// @ts-expect-error: the engine's own
job.transition("running");
// @ts-expect-error: no such option
const wrong: OpenSpec = { driver: "qcow2", file: image, readOnly: true };
const told = (event: JobEvent): number => (event.type === "BLOCK_JOB_READY" ? event.data.len : 0);
await whenReady(job);
await job.complete();
try {
  await backup(disk, nested);
} catch (error) {
  if (error instanceof CommandError && error.code === "EBUSY") console.log(error.qmpClass);
}
const engine = createEngine();
engine.graph.events.subscribe((event) => {
  if (event.event === "BLOCK_IO_ERROR") console.log(event.data.reason.length);
});
await nodeHost().sockets.connect({ type: "unix", path: "qmp.sock" });
console.log(spec, wrong, told, portable.version);
`;

/** The entries for programs of other packages. */
const REST = `
import { mountDisks, serveFile } from "blockwright/emscripten";
import { toFileDisk } from "blockwright/file-disk";
import * as guest from "blockwright/guest-worker";
import { memory, openNode } from "blockwright/node";
import { type RandomAccess, toRandomAccess } from "blockwright/random-access";
import { type WorkloadJson, runWorkload } from "blockwright/workload";
const node = await openNode(memory(2 ** 20));
const access: RandomAccess = toRandomAccess(node);
const told: WorkloadJson | undefined = undefined;
console.log(mountDisks, serveFile, await toFileDisk(node).getCapacity(), guest, access, told, runWorkload);
`;

/** A page's entries, all of them. */
const PAGE = `
import * as browser from "blockwright/browser";
import * as v86 from "blockwright/v86";
import * as worker from "blockwright/worker";
import kernels from "blockwright/wasm";

const engine = v86.createEngine({ drivers: [v86.qcow2, v86.http, v86.opfs] });
const disk = await v86.openNode(engine, v86.overlay(v86.http("disk.img"), v86.opfs("disk.qcow2")));
const page = await browser.openNode("disk.qcow2");
const engines: browser.RemoteEngine = await browser.connectWorker();
console.log(disk.length, page.length, engines, worker.serveWorker, kernels);
`;

beforeAll(() => {
  const modules = join(folder, "node_modules");
  mkdirSync(join(modules, "@types"), { recursive: true });
  const packed = execFileSync("npm", ["pack", "--ignore-scripts", "--silent", "--pack-destination", folder], {
    cwd: root,
    encoding: "utf8",
  });
  const home = join(modules, "blockwright");
  mkdirSync(home);
  execFileSync("tar", ["xzf", join(folder, packed.trim()), "-C", home, "--strip-components=1"]);
  for (const name of ["@types/node", "undici-types", "v86", "file-disk"])
    symlinkSync(join(root, "node_modules", name), join(modules, name));
  writeFileSync(join(folder, "package.json"), '{ "private": true, "type": "module" }');
});

afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** What the compiler says of a program. */
function said(tsc: string, program: string, lib: readonly string[], types: readonly string[]): string {
  const name = types.length > 0 ? "program" : "page";
  const compilerOptions = {
    strict: true,
    exactOptionalPropertyTypes: true,
    noUncheckedIndexedAccess: true,
    skipLibCheck: false,
    noEmit: true,
    target: "es2022",
    lib,
    types,
    module: "nodenext",
    preserveSymlinks: true,
  };
  writeFileSync(join(folder, `${name}.ts`), program);
  writeFileSync(join(folder, "tsconfig.json"), JSON.stringify({ compilerOptions, files: [`${name}.ts`] }));
  return spawnSync(process.execPath, [tsc, "-p", folder], { encoding: "utf8" }).stdout;
}

/** The compiler of a version; undefined where it can't be had. */
function compiler(version: string): string | undefined {
  if (version === "newest") return join(root, "node_modules/typescript/bin/tsc");
  const home = join(folder, "oldest");
  mkdirSync(home, { recursive: true });
  writeFileSync(join(home, "package.json"), '{ "private": true }');
  try {
    const words = ["install", "--ignore-scripts", "--no-audit", "--no-fund", `typescript@~${version}.0`];
    execFileSync("npm", words, { cwd: home, stdio: "ignore", timeout: 2 * HANG_MS });
  } catch {
    return undefined;
  }
  return join(home, "node_modules/typescript/bin/tsc");
}

describe.each(["newest", oldest])("TypeScript: %s", (version) => {
  it("takes programs of Node without the DOM's types, and a page", (context) => {
    const tsc = compiler(version);
    if (tsc === undefined) return context.skip(`typescript@${version} is not to be had`);
    expect(said(tsc, PROGRAM, ["es2022"], ["node"])).toBe("");
    expect(said(tsc, REST, ["es2022"], ["node"])).toBe("");
    expect(said(tsc, PAGE, ["es2022", "dom", "dom.iterable", "dom.asynciterable"], [])).toBe("");
  });
});

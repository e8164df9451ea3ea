// The site of the C program: disk.c as Emscripten compiles it, its page with two workers, and a disk of 8 GiB.
import { execFileSync } from "node:child_process";
import { copyFileSync, mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { build } from "esbuild";
import { root } from "../../support/root.ts";

const app = join(root, "test", "acceptance", "app");
/** In blocks of 4 KiB: the last one of 8 GiB. */
export const LAST_BLOCK = 2 * 1024 * 1024 - 1;

/** Makes it in a folder of its own, which the caller removes. */
export async function cProgramSite(): Promise<string> {
  const folder = mkdtempSync(join(tmpdir(), "blockwright-program-"));
  const run = (program: string, ...words: string[]): void =>
    void execFileSync(program, words, { cwd: folder, stdio: ["ignore", "ignore", "inherit"] });
  copyFileSync(join(app, "disk.c"), join(folder, "disk.c"));
  const settings = ["MODULARIZE=1", "EXPORT_ES6=1", "ENVIRONMENT=worker", "FORCE_FILESYSTEM=1"];
  const runtime = "EXPORTED_RUNTIME_METHODS=FS";
  const flags = [...settings, runtime].map((one) => `-s${one}`);
  run("emcc", "-O1", "--no-entry", "disk.c", "-o", "program.js", ...flags);
  run("qemu-img", "create", "-f", "qcow2", "disk.qcow2", "8G");
  run("qemu-io", "-c", "write -P 0x11 4k 4k", "-c", `write -P 0x22 ${LAST_BLOCK * 4}k 4k`, "disk.qcow2");
  const names = ["emscripten", "emscripten-engine", "emscripten-program"];
  await build({
    entryPoints: names.map((name) => join(app, `${name}.ts`)),
    bundle: true,
    outdir: folder,
    format: "esm",
    target: "chrome120",
    logLevel: "error",
  });
  const script = '<script type="module" src="emscripten.js"></script>';
  writeFileSync(join(folder, "index.html"), `<title>test</title>${script}`);
  return folder;
}

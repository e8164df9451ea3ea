// What the demo is made of, whether a server plays along (demo.mjs) or not (demo-static.mjs): the guest's firmware, its disk, the
// bundles.
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { build } from "esbuild";
import { assemble } from "./assemble.mjs";
import { root, target } from "./build.mjs";

const SECTOR = 512;
/** As in guest.asm. */
const MAGIC = 0xb10c0de5;
const FIRST_SECTOR = 2048;
const TOTAL_AT = 504;

/** Where SeaBIOS's files may be: Debian's package seabios, QEMU's own folders elsewhere. */
const FIRMWARE = [
  "/usr/share/seabios",
  "/usr/share/qemu",
  "/usr/local/share/qemu",
  "/opt/homebrew/share/qemu",
];

/** The folder with v86 and its wasm. */
export const v86Folder = dirname(createRequire(import.meta.url).resolve("v86"));

/** The folder with the firmware. Throws in words that say what to install. */
export function firmware() {
  const found = FIRMWARE.find((folder) =>
    ["bios.bin", "vgabios-stdvga.bin"].every((name) => existsSync(join(folder, name))),
  );
  if (found) return found;
  throw new Error("the guest boots with SeaBIOS, which is not here; on Debian: apt-get install seabios");
}

/**
 * A disk of `bytes` bytes as guest.asm wants it.
 *
 * @param {number} bytes
 */
export function makeDisk(bytes) {
  const disk = Buffer.alloc(bytes);
  assemble({ root, source: "src/dashboard/guest.asm" }).copy(disk);
  const sectors = bytes / SECTOR;
  disk.writeUInt32LE(sectors, TOTAL_AT);
  for (let sector = FIRST_SECTOR; sector < sectors; sector++) {
    const at = sector * SECTOR;
    disk.fill(`Sector ${sector} of the demo's disk. `, at, at + SECTOR, "latin1");
    disk.writeUInt32LE((sector ^ MAGIC) >>> 0, at);
  }
  return disk;
}

/**
 * Bundles programs of the page into a folder.
 *
 * @param {string} folder
 * @param {Record<string, string>} entryPoints
 */
export async function bundle(folder, entryPoints) {
  await build({
    absWorkingDir: root,
    entryPoints,
    outdir: folder,
    bundle: true,
    format: "esm",
    platform: "browser",
    target,
    sourcemap: true,
    minify: true,
    // v86 asks for these only where Node is.
    external: ["node:*", "crypto", "fs", "perf_hooks"],
    logLevel: "warning",
  });
}

/** The page and its worker. */
export const page = { page: "src/dashboard/page.ts", worker: "src/dashboard/worker.ts" };

/**
 * The size of the disk that a word names, bytes.
 *
 * @param {string} word
 */
export function diskBytes(word) {
  const mib = Number(word);
  if (!Number.isInteger(mib) || mib < 2 || mib > 1024) throw new Error(`no size from 2 to 1024: ${word}`);
  return mib * 1024 * 1024;
}

/** Builds the library. */
export function buildLibrary() {
  const { status } = spawnSync(process.execPath, [join(root, ".ci/build.mjs")], { stdio: "inherit" });
  if (status !== 0) throw new Error("the library does not build");
}

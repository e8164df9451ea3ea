// The demo as files alone, for any web host that answers Range: `npm run demo:static -- [FOLDER]` writes the page, its worker, the
// guest's firmware and its disk into build/demo/site or FOLDER. A service worker plays the cut network
// (src/dashboard/service-worker.ts).
import { copyFileSync, cpSync, mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { basename, join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { root } from "./build.mjs";
import { buildLibrary, bundle, diskBytes, firmware, makeDisk, page, v86Folder } from "./demo-parts.mjs";

const dashboard = join(root, "src", "dashboard");

/**
 * Writes everything into a folder of its own.
 *
 * @param {string} folder
 * @param {number} bytes
 */
async function writeSite(folder, bytes) {
  rmSync(folder, { recursive: true, force: true });
  for (const name of ["built", "v86", "firmware", "docs", "source"])
    mkdirSync(join(folder, name), { recursive: true });
  await bundle(join(folder, "built"), page);
  // Its scope is the folder that it is in.
  await bundle(folder, { "service-worker": "src/dashboard/service-worker.ts" });
  const html = readFileSync(join(dashboard, "index.html"), "utf8");
  writeFileSync(
    join(folder, "index.html"),
    html.replace("<html", '<html data-service-worker="service-worker.js"'),
  );
  copyFileSync(join(dashboard, "style.css"), join(folder, "style.css"));
  copyFileSync(join(v86Folder, "v86.wasm"), join(folder, "v86", "v86.wasm"));
  const bios = firmware();
  for (const name of ["bios.bin", "vgabios-stdvga.bin"])
    copyFileSync(join(bios, name), join(folder, "firmware", name));
  cpSync(join(root, "docs"), join(folder, "docs"), { recursive: true });
  for (const name of readdirSync(dashboard))
    if (name.endsWith(".ts")) copyFileSync(join(dashboard, name), join(folder, "source", basename(name)));
  writeFileSync(join(folder, "disk.img"), makeDisk(bytes));
}

const options = /** @type {const} */ ({
  "disk-mib": { type: "string", default: "64" },
  "skip-build": { type: "boolean", default: false },
});

try {
  const { values, positionals } = parseArgs({ options, allowPositionals: true });
  const folder = resolve(positionals[0] ?? join(root, "build", "demo", "site"));
  const bytes = diskBytes(values["disk-mib"]);
  if (!values["skip-build"]) buildLibrary();
  await writeSite(folder, bytes);
  console.log(
    `The demo is in ${folder}: serve it by any host that answers Range, over HTTPS or on this machine.`,
  );
} catch (error) {
  console.error(`demo: ${error instanceof Error ? error.message : String(error)}`);
  process.exitCode = 1;
}

// Completes package-lock.json after `npm install`: a registry mirror that carries no package for other platforms makes npm
// leave them out of the lock file, and `npm ci` then refuses it. Adds what is missing by name, with the version that its
// parent pins; os, cpu and libc come from the name, the hash from what the registry says of that version: without one it adds
// nothing and fails (test/tidy wants every package's). Prints what it added.
import { execFileSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

const CPU = /(?:^|-)(arm64|arm|x64|ia32|ppc64|riscv64|s390x|loong64|mips64el)(?=-|$)/;
const OS = /(?:^|-)(android|darwin|freebsd|linux|openharmony|win32|openbsd|netbsd|sunos|aix)(?=-)/;

const file = fileURLToPath(new URL("../package-lock.json", import.meta.url));
/**
 * @typedef {object} Locked
 * @property {string} [version]
 * @property {string} [integrity]
 * @property {boolean} [dev]
 * @property {boolean} [optional]
 * @property {string[]} [os]
 * @property {string[]} [cpu]
 * @property {string[]} [libc]
 * @property {Record<string, string>} [optionalDependencies]
 */
const lock = /** @type {{ packages: Record<string, Locked> }} */ (JSON.parse(readFileSync(file, "utf8")));

/**
 * Whether a package at `path` finds that version in the lock file, in its own node_modules or in one above.
 *
 * @param {string} path
 * @param {string} name
 * @param {string} version
 */
function resolves(path, name, version) {
  for (let folder = path; ; folder = folder.slice(0, Math.max(0, folder.lastIndexOf("/node_modules/")))) {
    const found = lock.packages[`${folder === "" ? "" : `${folder}/`}node_modules/${name}`];
    if (found) return /^\d/.test(version) ? found.version === version : true;
    if (folder === "") return false;
  }
}

/**
 * What a version of a package must be, byte for byte.
 *
 * @param {string} name
 * @param {string} version
 */
function integrityOf(name, version) {
  const told = execFileSync("npm", ["view", `${name}@${version}`, "dist.integrity"], {
    encoding: "utf8",
  }).trim();
  if (!told.startsWith("sha512-")) throw new Error(`the registry has no hash of ${name}@${version}`);
  return told;
}

/**
 * The lock file's entry for a platform's package.
 *
 * @param {string} name
 * @param {string} version
 * @param {Locked} parent
 * @returns {Locked}
 */
function entry(name, version, parent) {
  const platform = name.slice(name.lastIndexOf("/") + 1);
  const [, os] = OS.exec(platform) ?? [];
  const [, cpu] = CPU.exec(platform) ?? [];
  if (!os || !cpu || !/^\d/.test(version)) throw new Error(`cannot tell the platform of ${name}@${version}`);
  const libc = os !== "linux" ? {} : { libc: [platform.includes("musl") ? "musl" : "glibc"] };
  const integrity = integrityOf(name, version);
  return {
    version,
    integrity,
    cpu: [cpu],
    ...(parent.dev ? { dev: true } : {}),
    ...libc,
    optional: true,
    os: [os],
  };
}

for (const [path, parent] of Object.entries(lock.packages)) {
  for (const [name, version] of Object.entries(parent.optionalDependencies ?? {})) {
    if (resolves(path, name, version)) continue;
    // Beside the parent: where npm hoists the first of a name.
    const folder = path.slice(0, path.lastIndexOf("node_modules/"));
    lock.packages[`${folder}node_modules/${name}`] = entry(name, version, parent);
    console.log(`added ${name}@${version}`);
  }
}
const sorted = Object.entries(lock.packages).toSorted(([a], [b]) => (a < b ? -1 : 1));
lock.packages = Object.fromEntries(sorted);
writeFileSync(file, `${JSON.stringify(lock, undefined, 2)}\n`);

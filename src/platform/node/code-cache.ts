/**
 * Running a script whose compiled code is kept from run to run, which takes most of a short program's time off it: V8 then
 * reads its bytecode instead of the source. Node's own cache of compiled code (22.8 and later) is one per file; this one is
 * one per `name`, so that each use of the script reads what it runs and no more, and Node 20 has it, too.
 *
 * Trust: compiled code is code. It is read only where this user owns the folder and the file and nobody else may write to
 * them; V8 refuses (`cachedDataRejected`) what another version of it, or other flags of it, have made. The folder's name has
 * the hash of the script. Invariant: whatever is wrong with the cache, the script runs.
 */
import {
  fstatSync,
  closeSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  renameSync,
  rmSync,
  statSync,
  type Stats,
  writeFileSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { Script } from "node:vm";
import { makeFolders } from "./folders.ts";

/** How many folders of compiled code are kept: of versions of the script and of Node. */
const KEPT_FOLDERS = 4;

/** What is run. */
export interface CachedScript {
  /** A CommonJS script, in ASCII, without `import()`. */
  readonly file: string;
  /** The hash of what it holds. */
  readonly hash: string;
  /** Where compiled code is kept; undefined: nowhere. */
  readonly folder: string | undefined;
  /** Which use of the script this is: a file name. */
  readonly name: string;
  readonly require: NodeJS.Require;
}

/** Whether nobody but this user may change it. */
function isOwn({ uid, mode }: Stats): boolean {
  return uid === process.geteuid?.() && (mode & 0o022) === 0;
}

/** Reads compiled code that is safe to run; undefined where there is none. */
function readCode(path: string): Buffer | undefined {
  let fd: number | undefined;
  try {
    if (!isOwn(statSync(dirname(path)))) return undefined;
    fd = openSync(path, "r");
    return isOwn(fstatSync(fd)) ? readFileSync(fd) : undefined;
  } catch {
    return undefined;
  } finally {
    if (fd !== undefined) closeSync(fd);
  }
}

/** Keeps compiled code, all of it or nothing. Another run may do the same at the same time. */
function keepCode(path: string, code: () => Buffer): void {
  const folder = dirname(path);
  const made = `${path}.${process.pid}`;
  try {
    const isNew = makeFolders(folder, 0o700);
    if (!isOwn(statSync(folder))) return;
    writeFileSync(made, code(), { mode: 0o600, flag: "wx" });
    renameSync(made, path);
    if (isNew) removeOld(dirname(folder));
  } catch {
    removeDraft(made);
  }
}

/** What can't even be looked at is not there for this user. */
function removeDraft(path: string): void {
  try {
    rmSync(path, { force: true });
  } catch {
    // The script has run, and how it ended is what counts.
  }
}

/** Leaves the folders that were made last. */
function removeOld(parent: string): void {
  const folders = readdirSync(parent).map((name) => join(parent, name));
  const ages = new Map(folders.map((folder) => [folder, statSync(folder).mtimeMs]));
  const byAge = folders.toSorted((one, other) => ages.get(other)! - ages.get(one)!);
  for (const folder of byAge.slice(KEPT_FOLDERS)) rmSync(folder, { recursive: true, force: true });
}

/** What makes a function of a CommonJS module, around it. */
const HEAD = Buffer.from("(function (exports, require, module, __filename, __dirname) {", "latin1");
const TAIL = Buffer.from("\n})", "latin1");

/** The script as a function's text. Put together as bytes: a text that is joined is copied once more, which a start of 30 ms feels. */
function functionText(file: string): string {
  const fd = openSync(file, "r");
  try {
    const { size } = fstatSync(fd);
    const bytes = Buffer.allocUnsafe(HEAD.length + size + TAIL.length);
    bytes.set(HEAD);
    let end = HEAD.length;
    for (let got = -1; got !== 0 && end < HEAD.length + size; end += got)
      got = readSync(fd, bytes, end, HEAD.length + size - end, null);
    bytes.set(TAIL, end);
    return bytes.toString("latin1", 0, end + TAIL.length);
  } finally {
    closeSync(fd);
  }
}

/** Runs the script as a CommonJS module, and gives what it exports; what it compiled is kept when the process ends well, unless that was there already. */
export function runCached({ file, hash, folder, name, require }: CachedScript): unknown {
  const path =
    folder === undefined
      ? undefined
      : join(folder, `${hash}-${process.version}-${process.arch}`, `${name}.code`);
  const cachedData = path === undefined ? undefined : readCode(path);
  const script = new Script(functionText(file), {
    filename: file,
    ...(cachedData ? { cachedData } : {}),
  });
  if (path !== undefined && (!cachedData || script.cachedDataRejected === true))
    process.on("exit", (status) => {
      if (status === 0) keepCode(path, () => script.createCachedData());
    });
  const run = script.runInThisContext() as (...args: unknown[]) => void;
  const module = { exports: {} };
  run.call(module.exports, module.exports, require, module, file, dirname(file));
  return module.exports;
}

/**
 * Names of files that are to be made, beside those that they must not be: two names may mean one file by a link or by dots,
 * also one that is not there yet.
 */
import { blockError } from "../base/errors.ts";
import type { HostFiles } from "../base/host.ts";
import { hasProtocol } from "../block/model/gate.ts";

/** Whether two names mean one file. */
export async function isSameFile(files: HostFiles, one: string, other: string): Promise<boolean> {
  const [a, b] = await Promise.all([one, other].map((name) => files.info(name).catch(() => undefined)));
  if (a || b) return a?.identity === b?.identity;
  const [first, second] = await Promise.all([one, other].map((name) => placeOf(files, name)));
  return first === second;
}

/** Where a file that is not there yet would lie. */
async function placeOf(files: HostFiles, name: string): Promise<string> {
  const folder = await files.realPath(files.resolve(name, ".")).catch(() => name);
  return `${folder}/${name.slice(name.lastIndexOf("/") + 1)}`;
}

/** Throws EINVAL where a new image's file is the data file or the backing file that its header shall name. */
export async function refuseOwnFiles(files: HostFiles, image: Record<string, unknown>): Promise<void> {
  const filename = fileNameOf(image["file"]);
  if (filename === undefined) return;
  const backing = image["backing-file"];
  const named = {
    "data file": fileNameOf(image["data-file"]),
    "backing file":
      typeof backing === "string" && !hasProtocol(backing) ? files.resolve(filename, backing) : undefined,
  };
  for (const [what, other] of Object.entries(named)) {
    if (other === undefined || !(await isSameFile(files, filename, other))) continue;
    const message = `'${filename}' can't be its own ${what} ('${other}')`;
    throw blockError("EINVAL", "create", message);
  }
}

function fileNameOf(spec: unknown): string | undefined {
  if (typeof spec !== "object" || spec === null) return undefined;
  const { driver, filename } = spec as { driver?: unknown; filename?: unknown };
  return driver === "file" && typeof filename === "string" ? filename : undefined;
}

/**
 * What a program's author is told when an image can't be opened or made: QEMU's words, and then what they leave out (which file, who
 * may hold it, what to write instead). The library's own face says it; QMP and the command line keep to QEMU's words.
 *
 * Invariant: the error stays the same object with the same code and cause; its message alone gets longer.
 */
import { BlockError, CommandError } from "../base/errors.ts";
import { imageFilename } from "../block/model/filename.ts";
import type { Engine } from "../machine/engine.ts";

/** What is being done, for the words. */
export interface Attempt {
  spec: unknown;
  /** "open" or "create". */
  verb: "open" | "create";
  /** It is to be opened for reading only. */
  readOnly?: boolean | undefined;
  /** Whose other disks may be what stands in the way. */
  engine?: Engine;
}

/** Carries out an opening or a making; what it fails with says what to do. */
export async function advised<T>(attempt: Attempt, body: () => Promise<T>): Promise<T> {
  try {
    return await body();
  } catch (error) {
    if (error instanceof BlockError) reword(error, inFile(error, attempt) + adviceFor(error, attempt));
    else if (error instanceof CommandError) reword(error, error.message + adviceOn(error));
    throw error;
  }
}

/** The message with the name of the file, unless it is told, or the file was opened, or an option is what is wrong. */
function inFile({ message, op }: BlockError, { spec, verb }: Attempt): string {
  const name = storageName(spec);
  const isTold =
    name === undefined || message.includes(name) || op === "check" || message.startsWith("Parameter '");
  return isTold ? message : `Could not ${verb} '${name}': ${message}`;
}

/** The file's name or URL in a description, or in what lies below it. */
function storageName(spec: unknown): string | undefined {
  if (typeof spec !== "object" || spec === null) return undefined;
  const { filename, url, file, image } = spec as Record<string, unknown>;
  if (typeof filename === "string") return filename;
  return typeof url === "string" ? url : storageName(file ?? image);
}

function adviceFor(
  { code, details, message, op }: BlockError,
  { verb, readOnly = false, engine }: Attempt,
): string {
  if (details.hint !== undefined)
    return `. ${(op === "lock" ? ownHolder(details.hint, engine) : undefined) ?? details.hint}`;
  if (message.endsWith("no gate allows it")) return " (`gate: fileGate()` or `urlGate()` does)";
  if (verb === "create") return code === "EEXIST" ? " (`overwrite: true` replaces it)" : "";
  const forbidden = code === "EACCES" || code === "EROFS";
  return forbidden && !readOnly ? " (`readOnly: true` opens it for reading only)" : "";
}

/** Who holds the lock of the file that is named in the hint's brackets, if it is this engine itself. */
function ownHolder(hint: string, engine: Engine | undefined): string | undefined {
  const its = engine?.graph.nodes.filter((node) => hint.endsWith(`[${imageFilename(node)}]?`)) ?? [];
  const holder = its.find(
    (node) => !its.some(({ children }) => children.some((child) => child.node === node)),
  );
  return holder && `This engine has it open, as node '${holder.name}': close that first`;
}

function adviceOn({ message, details: { missingNode, missingChild } }: CommandError): string {
  if (/ expects (?:u?int\d*|size)$/.test(message)) return " (sizes in bytes)";
  if (missingNode !== undefined)
    return ` (a string is the name of a node that is open; a file is { driver: "file", filename: "${missingNode}" })`;
  if (missingChild === undefined) return "";
  return ` (${missingChild}: { driver: "file", filename: "…" })`;
}

/** Gives an error another message, in its stack too, which is what terminals show. */
function reword(error: Error, message: string): void {
  if (message === error.message) return;
  const { stack, message: before } = error;
  error.message = message;
  if (stack !== undefined) error.stack = stack.replace(before, () => message);
}

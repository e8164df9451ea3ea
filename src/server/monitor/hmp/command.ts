/**
 * What a command of the human monitor is, and what it works with.
 */
import { messageOf } from "../../../base/errors.ts";
import type { BlockBackend } from "../../../block/graph/backend.ts";
import type { SnapshotInfo } from "../../../block/model/contract.ts";
import type { BlockNode } from "../../../block/model/node.ts";
import type { Board } from "../../../machine/board/board.ts";
import type { Json, TypeOf } from "../../../wire/qapi/index.ts";
import type { HmpArguments, Parameter } from "./words.ts";

/** A failure that is told without a word before it. */
export class Reported extends Error {}

/** What fails is told as it is. */
export async function asTold<T>(call: () => T | Promise<T>): Promise<T> {
  try {
    return await call();
  } catch (error) {
    throw new Reported(messageOf(error), { cause: error });
  }
}

/** What the human monitor works with: the machine's QMP commands, and what only the program can do. */
export interface HmpHost {
  readonly board: Board;
  /** The machine is a `pc`. */
  readonly hasChips: boolean;
  /** Carries out a QMP command; rejects as it does. */
  readonly execute: (name: string, args: Json) => Promise<unknown>;
  /** Carries out a line of qemu-io on a backend; resolves with what the monitor is told. */
  readonly qemuIo: (backend: BlockBackend, line: string) => Promise<string>;
  /** Writes an overlay back into its backing file. */
  readonly commit: (node: BlockNode) => Promise<void>;
  /** Makes a drive out of the text of `-drive`. */
  readonly addDrive: (text: string) => Promise<string>;
  /** Makes a node out of such a text. */
  readonly addNode: (text: string) => Promise<void>;
  /** What qemu-img's `info` prints of an image. */
  readonly imageText: (info: TypeOf<"ImageInfo">) => string;
  /** The names of the columns and a row for each snapshot, in lines. */
  readonly snapshotTable: (list: readonly SnapshotInfo[]) => string;
  /** QEMU's version, and the package that it came from. */
  readonly versionText: string;
}

/** A command. What it answers is told, lines and all. */
export interface HmpCommand {
  readonly name: string;
  readonly alias?: string;
  readonly parameters: readonly Parameter[];
  /** The parameters as help shows them. */
  readonly synopsis: string;
  readonly help: string;
  readonly run: (host: HmpHost, args: HmpArguments) => Promise<string | void> | string | void;
}

/** Parameters from their short form: `-f:force device:B target:F format:s?`. */
export function parameters(text: string): Parameter[] {
  const kinds = { B: "device", F: "file", s: "string", i: "integer", o: "size", S: "rest" } as const;
  return text
    .split(" ")
    .filter((word) => word !== "")
    .map((word): Parameter => {
      const [first = "", second = ""] = word.split(":");
      if (first.startsWith("-")) return { name: second, kind: "flag", letter: first.slice(1) };
      const kind = kinds[second[0] as keyof typeof kinds];
      return { name: first, kind, optional: second.endsWith("?") };
    });
}

/** The value as text, or nothing. */
export function text(args: HmpArguments, name: string): string | undefined {
  const value = args[name];
  return value === undefined ? undefined : String(value);
}

/** Leaves out members that are undefined. */
export function given(members: Record<string, Json | undefined>): Json {
  return Object.fromEntries(Object.entries(members).filter(([, value]) => value !== undefined)) as Json;
}

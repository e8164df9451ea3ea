/** How a node is described: QAPI's BlockdevOptions with wire names, as they were validated. */
import type { TypeOf } from "../../wire/qapi/index.ts";

/** A node by name, or a spec to open. */
export type ChildRef = string | NodeSpec;

/** Marks a description whose format was guessed to be raw, since no format claimed the file. Options have no such name. */
export const guessedFormat: unique symbol = Symbol("guessed format");

/** The words that the user gave for options, as a name repeats them (`"offset": "1k"`). Options have no such name. */
export const givenWords: unique symbol = Symbol("given words");

/** A node's options as QAPI's BlockdevOptions has them: wire names, already validated. */
export interface NodeSpec {
  driver: string;
  [guessedFormat]?: true;
  [givenWords]?: Readonly<Record<string, string>>;
  "node-name"?: string;
  "read-only"?: boolean;
  "auto-read-only"?: boolean;
  "force-share"?: boolean;
  "detect-zeroes"?: TypeOf<"BlockdevDetectZeroesOptions">;
  discard?: "ignore" | "unmap";
  cache?: { direct?: boolean; "no-flush"?: boolean };
  [option: string]: unknown;
}

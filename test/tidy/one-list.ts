/**
 * The rule that every enumeration is listed once: in the QAPI table, or where QAPI has none in the file that is its home.
 * Everywhere else its values come from that list (`valuesOf`), and its type from that type (`TypeOf`).
 */
import { gatePolicies } from "../../src/block/model/gate.ts";
import { blockOperations } from "../../src/block/model/node.ts";
import { jobVerbs } from "../../src/job/core/verbs.ts";
import { typeTable } from "../../src/wire/qapi/index.ts";
import { type Breach, isNode, lineOf, type Rule, type SyntaxNode, walk } from "./source.ts";

/** Fewer values than this are words that meet by chance: `full` and `top`. */
const FEWEST = 3;

interface Enumeration {
  readonly name: string;
  readonly home: RegExp;
  readonly values: readonly string[];
}

const QAPI = /^src\/wire\/qapi\//;
/** What the platforms below the table know by name has a type there, too; the compiler holds the two equal. */
const PLATFORM = /^src\/(wire\/qapi\/|base\/host\.ts$)/;
const platform = new Set(["HttpCredentials", "QCryptoHashAlgorithm"]);

/** What every kind of request is called, by quorum as by others. */
const everydayWords = new Set(["QuorumOpType"]);

const enumerations: readonly Enumeration[] = [
  ...Object.entries(typeTable).flatMap(([name, definition]) =>
    definition.kind === "enum" && !everydayWords.has(name)
      ? [{ name, home: platform.has(name) ? PLATFORM : QAPI, values: definition.values }]
      : [],
  ),
  { name: "BlockOperation", home: /^src\/block\/model\/node\.ts$/, values: blockOperations },
  { name: "GatePolicy", home: /^src\/block\/model\/gate\.ts$/, values: gatePolicies },
  { name: "JobVerb", home: /^src\/job\/core\/verbs\.ts$/, values: jobVerbs },
].filter(({ values }) => values.length >= FEWEST);

/** The string that an element of an array, or a member of a union type, is. */
function textOf(node: unknown): string | undefined {
  if (!isNode(node)) return undefined;
  const literal = node.type === "TSLiteralType" ? node["literal"] : node;
  if (!isNode(literal) || typeof literal["value"] !== "string") return undefined;
  return literal["value"];
}

/** The strings that a node lists: as an array or as a union of types. */
function listed(node: SyntaxNode): string[] {
  const parts = node.type === "ArrayExpression" ? node["elements"] : node["types"];
  if (!/^(ArrayExpression|TSUnionType)$/.test(node.type) || !Array.isArray(parts)) return [];
  return parts.map(textOf).filter((text) => text !== undefined);
}

/** Lists, and unions of types, that hold every value of an enumeration. */
export const oneListBreaches: Rule = (source) => {
  const found: Breach[] = [];
  const others = enumerations.filter(({ home }) => !home.test(source.path));
  walk(source.program, (node) => {
    const texts = new Set(listed(node));
    if (texts.size < FEWEST) return;
    for (const { name, values } of others) {
      if (values.every((value) => texts.has(value)))
        found.push({ line: lineOf(source, node.start), what: `lists the values of ${name} again` });
    }
  });
  return found;
};

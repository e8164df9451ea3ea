/**
 * The rules on single files: banned calls and types, sizes, comments. Each names its limit here and nowhere else.
 */
import { type Breach, isNode, lineOf, type Rule, type Source, type SyntaxNode, walk } from "./source.ts";

const MAX_FILE_LINES = 500;
const MAX_FUNCTION_LINES = 70;

/** Reads of the clock, waits and randomness go through the Host; output goes through the caller. */
const BANNED_MEMBERS = new Set([
  "Date.now",
  "Math.random",
  "performance.now",
  "crypto.getRandomValues",
  "AbortSignal.timeout",
]);
const BANNED_CALLS = new Set(["setTimeout", "setInterval", "setImmediate", "requestAnimationFrame"]);
/** Globals that exist in Node only, or that write past the caller. */
const BANNED_GLOBALS = new Set(["console", "process", "Buffer"]);

/** Virtual time waits for the platform to run its microtasks, which no clock tells. */
const MAY_TOUCH_THE_WORLD = /^src\/((platform|cli|dashboard)\/|workload\/time\/macrotask\.ts$)/;
const MAY_USE_NODE = /^src\/(platform\/node|cli)\//;

/** Whether an identifier is a name of its own: no property, no key, no member of a type. */
function isReference(node: SyntaxNode, parent: SyntaxNode | undefined): boolean {
  if (parent === undefined) return true;
  if (parent.type === "MemberExpression") return parent["object"] === node || parent["computed"] === true;
  return parent["key"] !== node;
}

/** What a node uses that is banned in this file. */
function banned(path: string, node: SyntaxNode, parent: SyntaxNode | undefined): string | undefined {
  if (node.type === "TSAnyKeyword") return "any";
  if (node.type === "Identifier" && isReference(node, parent)) {
    const name = String(node["name"]);
    const allowed = name === "console" ? MAY_TOUCH_THE_WORLD : MAY_USE_NODE;
    if (BANNED_GLOBALS.has(name) && !allowed.test(path)) return name;
    if (BANNED_CALLS.has(name) && !MAY_TOUCH_THE_WORLD.test(path)) return name;
  }
  if (MAY_TOUCH_THE_WORLD.test(path)) return undefined;
  if (
    node.type === "NewExpression" &&
    isNamed(node["callee"], "Date") &&
    (node["arguments"] as unknown[]).length === 0
  ) {
    return "new Date()";
  }
  if (node.type !== "MemberExpression" || !isNode(node["object"]) || !isNode(node["property"]))
    return undefined;
  const member = `${String(node["object"]["name"])}.${String(node["property"]["name"])}`;
  return BANNED_MEMBERS.has(member) ? member : undefined;
}

function isNamed(node: unknown, name: string): boolean {
  return isNode(node) && node.type === "Identifier" && node["name"] === name;
}

/** Banned calls, globals and types in src/. */
export const bannedBreaches: Rule = (source) => {
  const found: Breach[] = [];
  walk(source.program, (node, parent) => {
    const what = banned(source.path, node, parent);
    if (what !== undefined) found.push({ line: lineOf(source, node.start), what: `uses ${what}` });
  });
  return found;
};

/** Whether a function is the body of a test suite: those are tables of tests, and only their tests are measured. */
function isSuiteBody(parent: SyntaxNode | undefined): boolean {
  if (parent?.type !== "CallExpression" || !isNode(parent["callee"])) return false;
  let callee = parent["callee"];
  while (isNode(callee["object"] ?? callee["callee"]))
    callee = (callee["object"] ?? callee["callee"]) as SyntaxNode;
  return isNamed(callee, "describe");
}

/** Files and functions that are too long. */
export const sizeBreaches: Rule = (source) => {
  const found: Breach[] = [];
  const lines = linesOf(source);
  if (lines > MAX_FILE_LINES) found.push({ line: 1, what: `${lines} lines, more than ${MAX_FILE_LINES}` });
  walk(source.program, (node, parent) => {
    if (
      !/^(Function(Declaration|Expression)|ArrowFunctionExpression)$/.test(node.type) ||
      isSuiteBody(parent)
    )
      return;
    const line = lineOf(source, node.start);
    const length = lineOf(source, node.end) - line + 1;
    if (length > MAX_FUNCTION_LINES)
      found.push({ line, what: `a function of ${length} lines, more than ${MAX_FUNCTION_LINES}` });
  });
  return found;
};

/** Lines of a file. */
export function linesOf(source: Source): number {
  return source.text.replace(/\n$/, "").split("\n").length;
}

/** Lines of every function that has a name: declarations, methods, arrows bound to a name. */
export function functionLengths(source: Source): number[] {
  const found: number[] = [];
  walk(source.program, (node, parent) => {
    const bound = /^(VariableDeclarator|MethodDefinition|PropertyDefinition|Property)$/.test(
      parent?.type ?? "",
    );
    const named = node.type === "FunctionDeclaration";
    if (!named && !(bound && /^(FunctionExpression|ArrowFunctionExpression)$/.test(node.type))) return;
    found.push(lineOf(source, node.end) - lineOf(source, node.start) + 1);
  });
  return found;
}

/** The value that nine of ten do not pass. */
export function ninth(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.ceil(sorted.length * 0.9) - 1] ?? 0;
}

/** A file opens with a comment that says what it is for. */
export const headerBreaches: Rule = (source) => {
  const first = source.comments[0];
  const start = /^(#![^\n]*\n)?\s*/.exec(source.text)?.[0].length ?? 0;
  const opens = first !== undefined && first.start === start && first.value.trim().length >= 20;
  return opens ? [] : [{ line: 1, what: "does not open with a comment on its purpose" }];
};

/** The name that a declaration declares, for the message. */
function nameOf(declaration: SyntaxNode): string {
  const first = (declaration["declarations"] as SyntaxNode[] | undefined)?.[0];
  const id = declaration["id"] ?? first?.["id"];
  return isNode(id) && typeof id["name"] === "string" ? id["name"] : declaration.type;
}

function hasDocstring(source: Source, position: number): boolean {
  return source.comments.some(
    ({ type, value, end }) =>
      type === "Block" &&
      value.startsWith("*") &&
      end <= position &&
      source.text.slice(end, position).trim() === "",
  );
}

/** Every declaration that a file of src/ exports has a docstring; overloads after the first share it. */
export const docstringBreaches: Rule = (source) => {
  const documented = new Set<string>();
  const found: Breach[] = [];
  for (const node of source.program["body"] as SyntaxNode[]) {
    const declaration = node["declaration"];
    if (node.type !== "ExportNamedDeclaration" || !isNode(declaration)) continue;
    const name = nameOf(declaration);
    if (hasDocstring(source, node.start)) documented.add(name);
    else if (!documented.has(name))
      found.push({ line: lineOf(source, node.start), what: `'${name}' has no docstring` });
  }
  return found;
};

/**
 * One way of I/O: a verb that may answer at once has one function, and nothing that a request is made of waits for memory
 * of the arena.
 */
import { type Breach, isNode, lineOf, type Rule, type SyntaxNode, walk } from "./source.ts";

const VERBS = /^(pread|pwrite|pwriteZeroes|pdiscard|flush|blockStatus|truncate)([A-Z]\w*)$/;
/** Verbs of their own: those of a snapshot's source, and what goes down a whole chain. */
const OTHER_VERBS = new Set(["preadSnapshot", "pwriteZeroes"]);
/** Where a verb's hooks are: the contract, the edge and what implements or forwards them. */
const HOOKS = /^src\/(drivers|block|job|machine)\//;
const REQUESTS = /^src\/(block\/(io|model)|drivers)\//;

const MEMBER = /^(MethodDefinition|PropertyDefinition|TSMethodSignature|TSAbstractMethodDefinition)$/;

/** The name of a function, method or function-valued member; private ones without their mark. */
function functionName(node: SyntaxNode): string | undefined {
  const key = MEMBER.test(node.type) ? node["key"] : isFunction(node) ? node["id"] : undefined;
  return isNode(key) && typeof key["name"] === "string" ? key["name"] : undefined;
}

function isFunction(node: SyntaxNode): boolean {
  return (
    node.type === "FunctionDeclaration" ||
    (node.type === "VariableDeclarator" &&
      isNode(node["init"]) &&
      /^(ArrowFunction|Function)Expression$/.test(node["init"].type))
  );
}

function isPublicMember(node: SyntaxNode): boolean {
  return MEMBER.test(node.type) && isNode(node["key"]) && node["key"].type === "Identifier";
}

/** Whether a call takes memory of an arena and may wait for it. */
function acquires(node: SyntaxNode): boolean {
  const callee = node.type === "CallExpression" ? node["callee"] : undefined;
  if (!isNode(callee) || callee.type !== "MemberExpression") return false;
  const { object, property } = callee;
  if (!isNode(property) || property["name"] !== "acquire" || !isNode(object)) return false;
  const of = isNode(object["property"]) ? object["property"] : object;
  return of["name"] === "arena";
}

/** Second functions for a verb, functions for "at once" only, and requests that wait for the arena. */
export const oneWayBreaches: Rule = (source) => {
  const found: Breach[] = [];
  const say = (node: SyntaxNode, what: string): number =>
    found.push({ line: lineOf(source, node.start), what });
  walk(source.program, (node) => {
    const name = functionName(node);
    if (name !== undefined && /[a-z0-9]Now$/.test(name)) say(node, `'${name}' is for "at once" only`);
    else if (name !== undefined && HOOKS.test(source.path) && isPublicMember(node)) {
      const verb = OTHER_VERBS.has(name) ? undefined : VERBS.exec(name)?.[1];
      if (verb !== undefined) say(node, `'${name}' is a second function for '${verb}'`);
    }
    if (REQUESTS.test(source.path) && acquires(node)) say(node, "waits for the arena within a request");
  });
  return found;
};

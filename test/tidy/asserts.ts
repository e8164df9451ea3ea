/**
 * How thick asserts lie: of the functions that have more than three lines, and so may break something, how many there are to
 * one assert.
 */
import { functionLengths } from "./rules.ts";
import { type Source, walk } from "./source.ts";

/** Lines that a function has at most that is too small to need an assert. */
const SMALL = 3;

/** Asserts of a file: calls of assert(), and broken invariants that are made where they are found. */
export function assertsOf(source: Source): number {
  let found = 0;
  walk(source.program, (node) => {
    const { callee } = node as { callee?: { name?: string } };
    const name = callee?.name;
    if (node.type === "CallExpression" && name === "assert") found += 1;
    if (node.type === "NewExpression" && name === "AssertionError") found += 1;
  });
  return found;
}

/** Functions of more than three lines. */
export function largeFunctions(source: Source): number {
  return functionLengths(source).filter((lines) => lines > SMALL).length;
}

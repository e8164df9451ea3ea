/**
 * What the tidy rules look at: the repository's files and their syntax trees. A rule is a function from one parsed
 * file to its breaches, so that each rule is itself tested on a snippet that must fail.
 */
import { execFileSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { type Comment, parseSync } from "oxc-parser";

const root = fileURLToPath(new URL("../../", import.meta.url));

/** A node of the syntax tree, as far as the rules need to know it (ESTree with TypeScript's nodes). */
export interface SyntaxNode {
  readonly type: string;
  readonly start: number;
  readonly end: number;
  readonly [key: string]: unknown;
}

/** One parsed source file. */
export interface Source {
  /** Path from the repository's root, with forward slashes. */
  readonly path: string;
  readonly text: string;
  readonly program: SyntaxNode;
  readonly comments: readonly Comment[];
}

/** What a rule found: a line (from 1) and a sentence. */
export interface Breach {
  readonly line: number;
  readonly what: string;
}

/** One rule over one file. */
export type Rule = (source: Source) => Breach[];

/** Whether a value is a syntax node. */
export function isNode(value: unknown): value is SyntaxNode {
  return (
    typeof value === "object" && value !== null && typeof (value as { type?: unknown }).type === "string"
  );
}

/** Parses a file's text. Throws when it is not valid TypeScript. */
export function parse(path: string, text: string): Source {
  const { program, comments, errors } = parseSync(path, text, { sourceType: "module" });
  const error = errors[0];
  if (error) throw new Error(`${path}: ${error.message}`);
  return { path, text, program: program as unknown as SyntaxNode, comments };
}

/** The line, from 1, of a position in a file. */
export function lineOf(source: Source, position: number): number {
  return source.text.slice(0, position).split("\n").length;
}

/** Calls `visit` with every node below (and including) `node` and with its parent, parents first. */
export function walk(
  node: SyntaxNode,
  visit: (node: SyntaxNode, parent: SyntaxNode | undefined) => void,
  parent?: SyntaxNode,
): void {
  visit(node, parent);
  for (const value of Object.values(node)) {
    for (const child of Array.isArray(value) ? (value as unknown[]) : [value]) {
      if (isNode(child)) walk(child, visit, node);
    }
  }
}

/** The files of the repository (tracked, or new and not ignored) whose path matches. */
export function repositoryFiles(pattern: RegExp): string[] {
  const listed = execFileSync("git", ["ls-files", "-co", "--exclude-standard", "-z"], {
    cwd: root,
    encoding: "utf8",
  });
  const paths = [...new Set(listed.split("\0"))].filter((path) => path !== "" && pattern.test(path));
  return paths.filter((path) => existsSync(join(root, path))).toSorted();
}

/** The text of a repository file. */
export function readText(path: string): string {
  return readFileSync(join(root, path), "utf8");
}

/** All sources of one kind, parsed. */
export function sources(pattern: RegExp): Source[] {
  return repositoryFiles(pattern).map((path) => parse(path, readText(path)));
}

/** A report with `file:line: breach` a line, headed by how many files were looked at; just the head when all is well. */
export function report(files: readonly Source[], rule: Rule): string {
  const lines = files.flatMap((source) =>
    rule(source).map(({ line, what }) => `${source.path}:${line}: ${what}`),
  );
  return [head(files.length), ...lines].join("\n");
}

/** What {@link report} says about `count` files without a breach. Looking at no file is a failure of its own. */
export function head(count: number): string {
  if (count === 0) throw new Error("the rule looked at no file");
  return `looked at ${count} files`;
}

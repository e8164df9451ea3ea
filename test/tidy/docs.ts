/**
 * What the tests of the documentation read out of it: links, code blocks that are to run, marked tables, and the names that
 * it mentions; and the exports of a built declaration file.
 */
import { existsSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { type SyntaxNode, isNode, parse, readText } from "./source.ts";

const root = fileURLToPath(new URL("../../", import.meta.url));

/** A page, and where its links lead: paths from the repository's root, with the fragment if there is one. */
export interface Link {
  page: string;
  path: string;
  fragment: string | undefined;
}

/** The links of a page within the repository. */
export function linksOf(page: string): Link[] {
  const targets = [...prose(readText(page)).matchAll(/\]\(([^)\s]+)\)/g)].map((match) => match[1] ?? "");
  return targets
    .filter((target) => !/^[a-z]+:/.test(target))
    .map((target) => {
      const [file = "", fragment] = target.split("#");
      return { page, path: file === "" ? page : join(dirname(page), file), fragment };
    });
}

/** A page without its blocks of code. */
function prose(text: string): string {
  return text.replaceAll(/^```[\s\S]*?^```/gm, "");
}

/** Why a link leads nowhere; undefined if it leads somewhere. */
export function deadLink({ page, path, fragment }: Link): string | undefined {
  if (!existsSync(join(root, path))) return `${page}: ${path} does not exist`;
  if (fragment === undefined || anchorsOf(path).has(fragment)) return undefined;
  return `${page}: ${path} has no heading #${fragment}`;
}

/** The anchors of a page's headings, as the usual renderers make them. */
function anchorsOf(page: string): Set<string> {
  const headings = [...prose(readText(page)).matchAll(/^#+ (.*)$/gm)].map((match) => match[1] ?? "");
  const plain = (text: string): string =>
    text
      .toLowerCase()
      .replaceAll(/[^\p{L}\p{N} _-]/gu, "")
      .replaceAll(" ", "-");
  return new Set(headings.map(plain));
}

/** The code block that follows the mark `<!-- runs: NAME -->`. Throws if there is none. */
export function runnable(page: string, name: string): string {
  const mark = `<!-- runs: ${name} -->`;
  const [, after = ""] = readText(page).split(mark);
  const code = /^\s*```(?:js|ts|sh|html)\n([\s\S]*?)^```/m.exec(after)?.[1];
  if (code === undefined) throw new Error(`${page} has no code after ${mark}`);
  return code;
}

/** All code blocks of these languages. */
export function codeBlocks(text: string, languages: readonly string[]): string[] {
  const fence = new RegExp(`^\`\`\`(?:${languages.join("|")})\n([\\s\\S]*?)^\`\`\``, "gm");
  return [...text.matchAll(fence)].map((match) => match[1] ?? "");
}

/** The names of all blocks that are marked as running. */
export function runnableNames(page: string): string[] {
  return [...readText(page).matchAll(/<!-- runs: (\S+) -->/g)].map((match) => match[1] ?? "");
}

/** What stands between `<!-- table: NAME -->` and `<!-- end -->`. */
export function markedTable(page: string, name: string): string | undefined {
  const [, after] = readText(page).split(`<!-- table: ${name} -->`);
  return after?.split("<!-- end -->")[0]?.trim();
}

/** The words of a page that are set as code. */
export function codeWords(page: string): Set<string> {
  const spans = [...readText(page).matchAll(/`([^`\n]+)`/g)].map((match) => match[1] ?? "");
  return new Set(spans.flatMap((span) => span.split(/[^\w-]+/)));
}

/** The exported names of a declaration file, those that it passes on included. */
export function exportsOf(path: string): Set<string> {
  const source = parse(path, readFileSync(join(root, path), "utf8"));
  return new Set((source.program["body"] as SyntaxNode[]).flatMap((node) => exportedBy(path, node)));
}

function exportedBy(path: string, node: SyntaxNode): string[] {
  if (node.type === "ExportAllDeclaration") {
    const from = (node["source"] as { value: string }).value.replace(/(\.d)?\.(ts|js)$/, ".d.ts");
    return [...exportsOf(join(dirname(path), from))];
  }
  if (node.type !== "ExportNamedDeclaration") return [];
  const named = (node["specifiers"] as SyntaxNode[]).map((item) => item["exported"]);
  const declaration = node["declaration"];
  return [...named, ...(isNode(declaration) ? declaredBy(declaration) : [])].flatMap((id) =>
    isNode(id) && typeof id["name"] === "string" ? [id["name"]] : [],
  );
}

function declaredBy(declaration: SyntaxNode): unknown[] {
  const list = declaration["declarations"] as SyntaxNode[] | undefined;
  return list ? list.map((item) => item["id"]) : [declaration["id"]];
}

/**
 * What an editor offers after `job.` and `node.`: the members that docs/API.md tells of, and none of the block layer's own.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, it } from "vitest";
import { root } from "../support/root.ts";
import { codeWords } from "./docs.ts";
import { type SyntaxNode, isNode, parse, walk } from "./source.ts";

/** The public members of a class in a built declaration file, those of its constructor and of symbols left out. */
function membersOf(file: string, name: string): string[] {
  const path = `build/.types/${file}.d.ts`;
  const found = new Set<string>();
  walk(parse(path, readFileSync(join(root, path), "utf8")).program, (node) => {
    if (node.type !== "ClassDeclaration" || (node["id"] as { name: string }).name !== name) return;
    for (const member of (node["body"] as { body: SyntaxNode[] }).body) {
      const key = member["key"];
      if (!isNode(key) || key.type !== "Identifier" || member["computed"] === true) continue;
      const label = key["name"] as string;
      if (label !== "constructor") found.add(member["accessibility"] ? `protected ${label}` : label);
    }
  });
  return [...found];
}

const jobFiles = [
  ["job/core/events", "JobEventSource"],
  ["job/core/job-core", "JobCore"],
  ["job/core/job", "Job"],
  ["job/core/block-job", "BlockJob"],
  ["job/core/chunk-copy", "ChunkJob"],
  ["job/mirror/job", "MirrorJob"],
  ["job/backup/job", "BackupJob"],
  ["job/stream/stream", "StreamJob"],
  ["job/commit/commit", "CommitJob"],
] as const;

it("a job shows what the documentation tells of, and nothing that is the engine's", () => {
  const members = jobFiles.flatMap(([file, name]) => membersOf(file, name));
  expect(members).toEqual(expect.arrayContaining(["status", "offset", "pause", "done", "setSpeed"]));
  const words = codeWords("docs/API.md");
  expect(members.filter((member) => !words.has(member))).toEqual([]);
  for (const internal of ["transition", "addNode", "applyVerb", "registry", "drainPause", "graph"])
    expect(members).not.toContain(internal);
  expect(members.length).toBeLessThan(30);
});

it("a node shows what the documentation tells of", () => {
  const members = membersOf("api/node", "Node");
  expect(members).toEqual(expect.arrayContaining(["read", "write", "close", "map"]));
  const words = codeWords("docs/API.md");
  expect(members.filter((member) => !words.has(member))).toEqual([]);
  expect(members).not.toContain("attach");
});

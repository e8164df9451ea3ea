// The program's verbs on disks in OpenStack's object store with its face of S3 (Debian's python3-swift), which has no conditional writes.
import { writeFileSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { hasSwift, ObjectServer } from "./support/s3.ts";
import { verbsBeside } from "./support/s3-verbs.ts";

describe.skipIf(!hasSwift)("Debian's swift with s3api", () => {
  verbsBeside(() => ObjectServer.swift());
});

describe.skipIf(!hasSwift)("a store without conditional writes", () => {
  let server: ObjectServer;

  beforeAll(async () => {
    server = await ObjectServer.swift();
    writeFileSync(server.scratch.at("a.raw"), Buffer.alloc(9 * 2 ** 20, 7));
  });

  afterAll(() => server.stop());

  it("is told what to do without them", async () => {
    const { status, stderr } = await server.say(["convert", "-f", "raw", "a.raw", "s3://disks/a.raw"]);
    expect(status).toBe(1);
    expect(stderr).toContain("the store has no conditional writes; 'conditional-writes=off'");
    expect(await server.keys()).toEqual([]);
  });

  it("is no place for a fleet's targets, whose fence needs them", async () => {
    const list = (query: string): void => {
      const job = { id: "a", kind: "convert", source: "a.raw", target: `s3://disks/b.raw${query}` };
      writeFileSync(server.scratch.at("jobs.json"), JSON.stringify([job]));
    };
    const run = ["fleet", "run", "jobs.json", "--json", "--jobs"];
    for (const [query, said] of [
      ["", "the store has no conditional writes"],
      ["?conditional-writes=off", "a fence needs a store with conditional writes"],
    ] as const) {
      list(query);
      const { status, stdout } = await server.say(run);
      expect(status).toBe(1);
      const [job] = (JSON.parse(stdout) as { jobs: { lastError: string; attempts: number }[] }).jobs;
      expect(job).toMatchObject({ attempts: 1 });
      expect(job?.lastError).toContain(said);
    }
    expect(await server.keys()).toEqual([]);
  });
});

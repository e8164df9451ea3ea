// Backups that are kept in an object store: full and incremental ones, restored, read, verified and pruned by the program's verbs.
import { execFileSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { afterAll, beforeAll, expect, it } from "vitest";
import { contentOf } from "../support/content.ts";
import { ObjectServer } from "./support/s3.ts";

const MiB = 2 ** 20;
const REPO = "s3://disks/nightly/vm%201";
let server: ObjectServer;

beforeAll(async () => {
  server = await ObjectServer.start();
  writeFileSync(server.scratch.at("source.raw"), contentOf(6 * MiB));
  await server.fine("convert", "-O", "qcow2", "-f", "raw", "source.raw", "disk.qcow2");
});

afterAll(() => server.stop());

interface Listed {
  id: string;
  kind: string;
  "read-bytes": number;
}

/** A backup, and the disk as it was. */
async function turn(): Promise<{ made: Listed; content: Buffer }> {
  await server.fine("convert", "-O", "raw", "disk.qcow2", "now.raw");
  const words = ["backup", "create", "--repo", REPO, "disk.qcow2", "--bitmap", "nightly", "--json"];
  return { made: JSON.parse(await server.fine(...words)) as Listed, content: server.file("now.raw") };
}

const turns: { made: Listed; content: Buffer }[] = [];

it("a full backup and what changed after it go there, and are listed and verified", async () => {
  turns.push(await turn());
  execFileSync("qemu-io", ["-c", "write -P 9 1M 192k", server.scratch.at("disk.qcow2")]);
  turns.push(await turn());
  expect(turns.map(({ made }) => made.kind)).toEqual(["full", "incremental"]);
  expect(turns[1]!.made["read-bytes"]).toBe(192 * 1024);
  const listed = JSON.parse(await server.fine("backup", "list", "--repo", REPO, "--json")) as Listed[];
  expect(listed.map(({ id }) => id)).toEqual(turns.map(({ made }) => made.id));
  expect(JSON.parse(await server.fine("backup", "verify", "--repo", `${REPO}/`, "--json"))).toMatchObject({
    ...{ ok: true, backups: 2 },
  });
  // Nobody is at work any more.
  expect(await server.keys("nightly/vm%201/holders/")).toEqual([]);
});

it("each is restored as the disk was, into either format, and read in part", async () => {
  for (const [at, { made, content }] of turns.entries()) {
    await server.fine("backup", "restore", "--repo", REPO, made.id, `back-${at}.raw`);
    expect(server.file(`back-${at}.raw`).equals(content)).toBe(true);
    await server.fine("backup", "restore", "--repo", REPO, made.id, `back-${at}.qcow2`, "-O", "qcow2");
    await server.fine("compare", `back-${at}.qcow2`, "-f", "qcow2", "-F", "raw", `back-${at}.raw`);
    const part = ["backup", "cat", "--repo", REPO, made.id, "1M", "4"];
    expect(await server.fine(...part)).toBe(content.subarray(MiB, MiB + 4).toString());
  }
});

it("what is pruned goes, and what stays is whole", async () => {
  const before = (await server.keys("nightly/vm%201/packs/")).length;
  await server.fine("backup", "prune", "--repo", REPO, "--keep-last", "1");
  expect(await server.keys("nightly/vm%201/backups/")).toHaveLength(1);
  expect((await server.keys("nightly/vm%201/packs/")).length).toBeLessThanOrEqual(before);
  await server.fine("backup", "restore", "--repo", REPO, "latest", "--force", "back.raw");
  expect(server.file("back.raw").equals(turns[1]!.content)).toBe(true);
});

it("a pack that has gone is told by verify, and restores nothing", async () => {
  const [pack] = await server.keys("nightly/vm%201/packs/");
  await server.remove(pack!.replace("vm 1", "vm%201"));
  const told = await server.say(["backup", "verify", "--repo", REPO]);
  expect({ status: told.status, stderr: told.stderr }).toEqual({ status: 2, stderr: "" });
  const refused = await server.say(["backup", "restore", "--repo", REPO, "latest", "none.raw"]);
  expect(refused.status).toBe(1);
  expect(() => server.file("none.raw")).toThrow("ENOENT");
});

it("refuses what is no repository, and never tells the secret", async () => {
  const list = (
    repo: string,
    more: Record<string, string> = {},
  ): Promise<{ status: number; stderr: string }> => server.say(["backup", "list", "--repo", repo], more);
  expect((await list("s3://disks/other")).stderr).toBe(
    "blockwright: Could not open repository 's3://disks/other': there is no repository of backups here\n",
  );
  expect((await list("http://127.0.0.1/backups")).stderr).toContain(
    "Protocol driver 'http' keeps no repositories",
  );
  expect((await list("s4://disks/other")).stderr).toContain("Unknown protocol 's4'");
  const wrong = await list(REPO, { AWS_SECRET_ACCESS_KEY: "wrongSecretKey" });
  expect(wrong.status).toBe(1);
  expect(wrong.stderr).toContain("HTTP status 403");
  expect(wrong.stderr).not.toContain("wrongSecretKey");
});

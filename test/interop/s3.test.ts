// The program's verbs on disks in an object store, beside another's server (s3rver, from npm), which checks signatures.
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Buffer } from "node:buffer";
import { afterAll, beforeAll, expect, it } from "vitest";
import { contentOf } from "../support/content.ts";
import type { Said, Scratch } from "./support/nbd.ts";
import { ObjectServer } from "./support/s3.ts";

const MiB = 2 ** 20;
let server: ObjectServer;
let scratch: Scratch;
let endpoint: string;

beforeAll(async () => {
  server = await ObjectServer.start();
  ({ scratch, endpoint } = server);
  const source = Buffer.alloc(40 * MiB);
  source.set(contentOf(18 * MiB), 0);
  source.set(contentOf(MiB, 3), 33 * MiB);
  writeFileSync(scratch.at("source.raw"), source);
});

afterAll(() => server.stop());

const say = (words: readonly string[], more: Record<string, string> = {}): Promise<Said> =>
  server.say(words, more);
const fine = (...words: string[]): Promise<string> => server.fine(...words);

it("convert makes one object that any client downloads, and leaves nothing beside it", async () => {
  await fine("convert", "-f", "raw", "-O", "raw", "source.raw", "s3://disks/a%20disk+1.raw");
  expect((await server.download("a%20disk%2B1.raw")).equals(readFileSync(scratch.at("source.raw")))).toBe(
    true,
  );
  await fine("convert", "-f", "raw", "-O", "qcow2", "source.raw", "s3://disks/image.qcow2");
  writeFileSync(scratch.at("image.qcow2"), await server.download("image.qcow2"));
  expect(await fine("compare", "-f", "raw", "-F", "qcow2", "source.raw", "image.qcow2")).toBe(
    "Images are identical.\n",
  );
  expect(await server.keys()).toEqual(["a disk+1.raw", "image.qcow2"]);
});

it("every verb reads it", async () => {
  const image = "s3://disks/image.qcow2";
  expect(await fine("compare", "-f", "raw", "source.raw", image)).toBe("Images are identical.\n");
  expect(JSON.parse(await fine("info", "--output=json", image))).toMatchObject({
    ...{ filename: image, format: "qcow2", "virtual-size": 40 * MiB },
  });
  const extents = JSON.parse(await fine("map", "--output=json", image)) as {
    data: boolean;
    length: number;
  }[];
  expect(extents.reduce((sum, { data, length }) => sum + (data ? length : 0), 0)).toBe(19 * MiB);
  expect(await fine("check", image)).toContain("No errors were found on the image.");
  await fine("convert", "-O", "raw", image, "back.raw");
  expect(readFileSync(scratch.at("back.raw")).equals(readFileSync(scratch.at("source.raw")))).toBe(true);
});

it("create, io, mirror and backup make disks that are written in place", async () => {
  await fine("create", "-q", "-f", "qcow2", "s3://disks/live.qcow2", "1G");
  await fine("io", "-f", "qcow2", "-c", "write -P 7 100M 3M", "s3://disks/live.qcow2");
  expect(await fine("io", "-r", "-f", "qcow2", "-c", "read -P 7 100M 3M", "s3://disks/live.qcow2")).toContain(
    "3 MiB",
  );
  for (const verb of ["mirror", "backup"]) {
    await fine(verb, "-f", "raw", "-F", "qcow2", "source.raw", `s3://disks/${verb}.qcow2`);
    expect(await fine("compare", "-f", "raw", "source.raw", `s3://disks/${verb}.qcow2`)).toBe(
      "Images are identical.\n",
    );
    const again = await say([verb, "-f", "raw", "-F", "qcow2", "source.raw", `s3://disks/${verb}.qcow2`]);
    expect(again.status).toBe(1);
    expect(again.stderr).toContain("exists; --force writes over it");
  }
});

it("tells refusals in a line, and never the secret", async () => {
  const missing = await say(["info", "s3://disks/nothing"]);
  expect(missing).toMatchObject({ status: 1, stdout: "" });
  expect(missing.stderr).toContain("Could not open 's3://disks/nothing': No such file or directory");
  const wrong = await say(["info", "s3://disks/image.qcow2"], { AWS_SECRET_ACCESS_KEY: "wrongSecretKey" });
  expect(wrong.status).toBe(1);
  expect(wrong.stderr).toContain("HTTP status 403");
  expect(wrong.stderr).not.toContain("wrongSecretKey");
  const half = await say(["convert", "-f", "raw", "source.raw", "s3://nobucket/x"]);
  expect(half.status).toBe(1);
});

it("secrets are objects, and options go by name and by description", async () => {
  writeFileSync(join(scratch.at("."), "key"), "S3RVER");
  const spec = { driver: "s3", bucket: "disks", key: "image.qcow2", endpoint, "access-key-id": "S3RVER" };
  const image = `json:${JSON.stringify({ driver: "qcow2", file: { ...spec, "secret-access-key": "k" } })}`;
  const told = await say(["info", "--object", "secret,id=k,file=key", image], {
    ...{ AWS_ENDPOINT_URL: "", AWS_ACCESS_KEY_ID: "", AWS_SECRET_ACCESS_KEY: "" },
  });
  expect(told.stderr).toBe("");
  expect(told.stdout).toContain("virtual size: 40 MiB");
  const named = await say(["info", `s3://disks/image.qcow2?endpoint=${encodeURIComponent(endpoint)}`], {
    AWS_ENDPOINT_URL: "http://127.0.0.1:9",
  });
  expect(named.stdout).toContain("virtual size: 40 MiB");
  rmSync(join(scratch.at("."), "key"));
});

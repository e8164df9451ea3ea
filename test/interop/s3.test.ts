// The program's verbs on disks in an object store, beside another's server (s3rver, from npm), which checks signatures.
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Buffer } from "node:buffer";
import { execFile } from "node:child_process";
import S3rver from "@20minutes/s3rver";
import { AwsClient } from "aws4fetch";
import { afterAll, beforeAll, expect, it } from "vitest";
import { ours } from "../support/daemon.ts";
import { contentOf } from "../support/content.ts";
import { Scratch } from "./support/nbd.ts";

const MiB = 2 ** 20;
const scratch = new Scratch();
const keys = { accessKeyId: "S3RVER", secretAccessKey: "S3RVER" };
let server: S3rver;
let endpoint: string;

beforeAll(async () => {
  server = new S3rver({
    ...{ port: 0, address: "127.0.0.1", silent: true, directory: scratch.at("store") },
    configureBuckets: [{ name: "disks", configs: [] }],
  });
  endpoint = `http://127.0.0.1:${(await server.run()).port}`;
  const source = Buffer.alloc(40 * MiB);
  source.set(contentOf(18 * MiB), 0);
  source.set(contentOf(MiB, 3), 33 * MiB);
  writeFileSync(scratch.at("source.raw"), source);
});

afterAll(async () => {
  await server.close();
  scratch.remove();
});

interface Said {
  status: number;
  stdout: string;
  stderr: string;
}

/** What the program says, in a process of its own: the server is in this one. */
function say(words: readonly string[], more: Record<string, string> = {}): Promise<Said> {
  const env = {
    ...process.env,
    ...{ AWS_ENDPOINT_URL: endpoint, AWS_ACCESS_KEY_ID: "S3RVER", AWS_SECRET_ACCESS_KEY: "S3RVER" },
    ...more,
  };
  const [node, main] = ours;
  return new Promise((resolve) =>
    execFile(node!, [main!, ...words], { cwd: scratch.at("."), env }, (error, stdout, stderr) =>
      resolve({ status: typeof error?.code === "number" ? error.code : error ? 1 : 0, stdout, stderr }),
    ),
  );
}

async function fine(...words: string[]): Promise<string> {
  const { status, stdout, stderr } = await say(words);
  expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
  return stdout;
}

/** An object as any client has it. */
async function download(key: string): Promise<Buffer> {
  const client = new AwsClient({ ...keys, service: "s3", region: "us-east-1" });
  const response = await client.fetch(`${endpoint}/disks/${key}`);
  expect(response.status).toBe(200);
  return Buffer.from(await response.arrayBuffer());
}

it("convert makes one object that any client downloads, and leaves nothing beside it", async () => {
  await fine("convert", "-f", "raw", "-O", "raw", "source.raw", "s3://disks/a%20disk+1.raw");
  expect((await download("a%20disk%2B1.raw")).equals(readFileSync(scratch.at("source.raw")))).toBe(true);
  await fine("convert", "-f", "raw", "-O", "qcow2", "source.raw", "s3://disks/image.qcow2");
  writeFileSync(scratch.at("image.qcow2"), await download("image.qcow2"));
  expect(await fine("compare", "-f", "raw", "-F", "qcow2", "source.raw", "image.qcow2")).toBe(
    "Images are identical.\n",
  );
  const client = new AwsClient({ ...keys, service: "s3", region: "us-east-1" });
  const listed = await (await client.fetch(`${endpoint}/disks?list-type=2`)).text();
  expect([...listed.matchAll(/<Key>([^<]*)</g)].map(([, key]) => key)).toEqual([
    "a disk+1.raw",
    "image.qcow2",
  ]);
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

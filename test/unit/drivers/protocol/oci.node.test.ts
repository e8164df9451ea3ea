// The oci driver over a registry that does wrong: each ends in one clear error that names the image and no password, what passes is asked
// again, and nothing half-read is taken for a disk.
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { tarHeader } from "../../../../src/drivers/protocol/http/oci/tar.ts";
import { createEngine, type Engine, type Node, openNode } from "../../../../src/node.ts";
import { contentOf } from "../../../support/content.ts";
import { type Asked, digestOf, TestRegistry } from "../../../support/registry.ts";

const TAR = "application/vnd.oci.image.layer.v1.tar";
const disk = contentOf(300 * 1024, 1);
let registry: TestRegistry;
let engine: Engine;
let cache: string;

beforeEach(async () => {
  registry = await TestRegistry.start();
  engine = createEngine();
  cache = mkdtempSync(join(tmpdir(), "bw-oci-"));
  engine.graph.secrets.set("password", Buffer.from("geheim"));
});

afterEach(async () => {
  await engine.close();
  await registry.stop();
  rmSync(cache, { recursive: true });
});

function archive(...names: string[]): Buffer {
  const padding = Buffer.alloc((512 - (disk.byteLength % 512)) % 512);
  const files = names.flatMap((name) => [tarHeader(name, disk.byteLength), disk, padding]);
  return Buffer.concat([...files, Buffer.alloc(1024)]);
}

function open(tag: string, more: object = {}): Promise<Node> {
  const who = { username: "me", "password-secret": "password", "cache-dir": cache };
  const spec = { driver: "oci", url: `oci://${registry.host}/disks:${tag}`, ...who, ...more };
  return openNode({ ...spec, "read-only": true } as never, { engine });
}

async function isWhole(tag: string, more: object = {}): Promise<void> {
  await using node = await open(tag, more);
  const found = await node.read(0, disk.byteLength);
  expect(Buffer.from(found).equals(disk)).toBe(true);
}

/** The error of an opening. */
async function refusal(tag: string, more: object = {}): Promise<{ code: string; message: string }> {
  const error = await open(tag, { retries: 1, ...more }).then(
    () => new Error("it was opened"),
    (thrown: unknown) => thrown as Error,
  );
  expect(error.message).not.toMatch(/geheim|Z2VoZWlt|t0ken/);
  expect(readdirSync(cache)).toEqual([]);
  return error as Error & { code: string };
}

const isBlob = ({ path }: Asked): boolean => path.includes("/blobs/");
const isManifest = ({ path }: Asked): boolean => path.includes("/manifests/");

describe.each([
  ["manifest", isManifest],
  ["blob", isBlob],
])("a %s", (_what, isIt) => {
  beforeEach(() => void registry.image("1", [{ bytes: archive("disk/a.img"), type: TAR }]));

  it.each([
    [401, "EACCES"],
    [403, "EACCES"],
    [404, "ENOENT"],
    [409, "EIO"],
    [410, "ENOENT"],
    [429, "EIO"],
    [500, "EIO"],
    [503, "EIO"],
  ])("of status %i is %s", async (status, code) => {
    registry.fault = (asked) => (isIt(asked) ? { status } : undefined);
    const error = await refusal("1");
    expect(error).toMatchObject({ code });
    expect(error.message).toContain(`Could not open 'oci://${registry.host}/disks:1'`);
    expect(error.message).toContain(String(status));
  });

  it.each([
    ["a 503", { status: 503 }],
    ["a 429", { status: 429 }],
    ["a lost connection", { cut: true }],
    ["half an answer", { only: 20 }],
  ])("is asked for again after %s", async (_name, wrong) => {
    let left = 2;
    registry.fault = (asked) => (isIt(asked) && left-- > 0 ? wrong : undefined);
    await isWhole("1");
    expect(left).toBeLessThan(0);
  });

  it("that never comes is told of within bounds", async () => {
    registry.fault = (asked) => (isIt(asked) ? { hang: true } : undefined);
    expect(await refusal("1", { timeout: 1, retries: 0 })).toMatchObject({
      code: "EIO",
      message: expect.stringContaining("timed out") as string,
    });
  });
});

describe("what is refused says what is wrong", () => {
  const document = (code: string): string => JSON.stringify({ errors: [{ code, message: "geheim" }] });

  it.each([
    [
      "a tag that is not there",
      404,
      document("MANIFEST_UNKNOWN"),
      "(MANIFEST_UNKNOWN): there is no image '1' in",
    ],
    [
      "a repository that is not",
      404,
      document("NAME_UNKNOWN"),
      "(NAME_UNKNOWN): there is no such repository",
    ],
    ["a server that tells no code", 404, "<html>geheim</html>", "HTTP status 404: there is no image '1' in"],
    ["a code that is none", 404, document("geheim"), "HTTP status 404: there is no image '1' in"],
    ["a password", 401, document("UNAUTHORIZED"), "HTTP status 401: 'username' or its password is wrong"],
    ["a user", 403, document("DENIED"), "HTTP status 403 (DENIED): 'username' may not do that"],
  ])("%s", async (_what, status, body, told) => {
    registry.fault = () => ({ status, body });
    const { message } = await refusal("1");
    expect(message).toContain(told);
    expect(message).toContain(`oci://${registry.host}/disks:1`);
  });

  it("that nobody has said who he is", async () => {
    registry.fault = () => ({ status: 401 });
    const { message } = await refusal("1", { username: undefined, "password-secret": undefined });
    expect(message).toContain("it is not for everybody: give 'username' and 'password-secret'");
  });
});

describe("who asks", () => {
  /** Wants the token that is right, and gives it to who knows the password. */
  const wants = (right: () => string) => {
    registry.fault = ({ path, authorization }) => {
      if (path.startsWith("/token"))
        return authorization === `Basic ${Buffer.from("me:geheim").toString("base64")}`
          ? { status: 200, body: JSON.stringify({ token: right() }) }
          : { status: 401 };
      const challenge = `Bearer realm="http://${registry.host}/token",service="here"`;
      return authorization === `Bearer ${right()}`
        ? undefined
        : { status: 401, headers: { "WWW-Authenticate": challenge } };
    };
  };

  it("gets a new token when the one that he has expires", async () => {
    registry.image("1", [{ bytes: archive("disk/a.img"), type: TAR }]);
    let asked = 0;
    wants(() => `t0ken${Math.floor((asked += 0.2))}`);
    await isWhole("1", { readahead: 0, "cache-size": 0 });
    expect(registry.asked.filter(({ path }) => path.startsWith("/token")).length).toBeGreaterThan(1);
  });

  it("takes the password to no place without TLS that a registry with it names, and a token to no other place", async () => {
    registry.image("1", [{ bytes: archive("disk/a.img"), type: TAR }]);
    const other = await TestRegistry.start();
    other.content.set(digestOf(archive("disk/a.img")), { bytes: archive("disk/a.img"), type: TAR });
    try {
      wants(() => "t0ken");
      const { fault } = registry;
      registry.fault = (asked) =>
        fault(asked) ??
        (isBlob(asked)
          ? { status: 307, headers: { Location: `http://${other.host}${asked.path}` } }
          : undefined);
      await isWhole("1");
      expect(other.asked.length).toBeGreaterThan(0);
      expect(new Set(other.asked.map(({ authorization }) => authorization))).toEqual(new Set([""]));
    } finally {
      await other.stop();
    }
  });

  it.each(["nothing", "Basic", 'Bearer realm="ftp://x/"', "Bearer"])(
    "is refused where the registry wants %s",
    async (challenge) => {
      const wrong = challenge === "Basic" ? "Digest" : challenge;
      registry.fault = () => ({ status: 401, headers: { "WWW-Authenticate": wrong } });
      expect(await refusal("1")).toMatchObject({ code: "EACCES" });
    },
  );
});

describe("lies and damage", () => {
  it.each(["", "+gzip"])("a layer of another length than its manifest says (tar%s)", async (packing) => {
    const bytes = packing === "" ? archive("disk/a.img") : gzipSync(archive("disk/a.img"));
    registry.image("1", [{ bytes, type: TAR + packing }], { size: bytes.byteLength + 512 });
    if (packing === "") expect(await refusal("1")).toMatchObject({ code: "EIO" });
    else await isWhole("1");
  });

  it("a packed layer that ends early, or is not what its digest says, is no disk", async () => {
    const whole = gzipSync(archive("disk/a.img"));
    const other = gzipSync(archive("disk/b.img"));
    for (const bytes of [whole.subarray(0, whole.byteLength / 2), other, Buffer.from("no archive")]) {
      registry.image("1", [{ bytes: whole, type: `${TAR}+gzip` }]);
      registry.content.set(digestOf(whole), { bytes, type: TAR });
      expect(await refusal("1")).toMatchObject({ code: "EIO" });
    }
    registry.content.set(digestOf(whole), { bytes: whole, type: TAR });
    await isWhole("1");
  });

  it("a manifest that is not what it was asked for, is none, or has no image for this machine", async () => {
    const digest = registry.image("1", [{ bytes: archive("disk/a.img"), type: TAR }]);
    registry.content.set(digest, { bytes: Buffer.from('{"layers":[]}'), type: "" });
    const asked = { url: `oci://${registry.host}/disks@${digest}` };
    expect((await refusal("1", asked)).message).toContain("is not what its digest says");
    for (const manifest of [{}, { layers: 7 }, { layers: [{ digest: "sha512:00" }] }]) {
      registry.manifest("2", manifest);
      expect(await refusal("2")).toMatchObject({ code: "EIO" });
    }
    const platform = { os: "linux", architecture: "arm64" };
    const one = { mediaType: "x", digest, size: 1, platform };
    registry.manifest("3", { manifests: [one, { ...one, platform: { ...platform, os: "windows" } }] });
    expect(await refusal("3")).toMatchObject({ code: "ENOENT" });
  });

  it("an image of several disks wants to know which; one in a packing that nobody knows is refused", async () => {
    const several = archive("disk/a.img", "disk/.wh.old.img", "disk/b.img");
    registry.image("1", [{ bytes: several, type: TAR }]);
    registry.image("2", [{ bytes: gzipSync(several), type: `${TAR}+gzip` }]);
    for (const tag of ["1", "2"]) {
      const error = await refusal(tag);
      expect(error).toMatchObject({ code: "EINVAL" });
      expect(error.message).toContain("several files below /disk/ ('disk/a.img', 'disk/b.img')");
    }
    for (const tag of ["1", "2"]) await isWhole(tag, { path: "disk/b.img" });
    registry.image("3", [{ bytes: several, type: `${TAR}+xz` }]);
    rmSync(cache, { recursive: true });
    cache = mkdtempSync(join(tmpdir(), "bw-oci-"));
    expect(await refusal("3")).toMatchObject({ code: "ENOTSUP" });
    registry.image("4", [{ bytes: archive("disk/.wh.a.img"), type: TAR }]);
    expect(await refusal("4")).toMatchObject({ code: "ENOENT" });
  });
});

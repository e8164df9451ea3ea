// Disks in a registry of container images: Debian's docker-registry, filled and looked at by skopeo.
import { type ChildProcess, execFile, execFileSync, spawn } from "node:child_process";
import { createHash } from "node:crypto";
import {
  closeSync,
  copyFileSync,
  ftruncateSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { createServer, request as ask, type Server } from "node:http";
import { createServer as createSocket, type AddressInfo } from "node:net";
import { dirname } from "node:path";
import { gzipSync } from "node:zlib";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { imageOf, parseOciName } from "../../src/drivers/protocol/http/oci/names.ts";
import { tarHeader } from "../../src/drivers/protocol/http/oci/tar.ts";
import { createEngine, nodeHost, openNode } from "../../src/node.ts";
import { contentOf } from "../support/content.ts";
import { ours } from "../support/daemon.ts";
import { Scratch } from "./support/nbd.ts";
import { until } from "../support/until.ts";

const MiB = 2 ** 20;
const OS_RELEASE = 'PRETTY_NAME="A disk in a registry"\n';
const scratch = new Scratch();
const hasRegistry = ["docker-registry", "skopeo"].every((name) => {
  try {
    execFileSync("which", [name], { stdio: "ignore" });
    return true;
  } catch {
    return false;
  }
});

let registry: ChildProcess;
let proxy: Server;
/** Of the registry itself, and of the proxy before it that counts and asks who is there. */
let direct: string;
let host: string;
let moved = 0;
/** What the proxy wants to see. */
let wanted: "nothing" | "basic" | "token" = "nothing";

async function freePort(): Promise<number> {
  const socket = createSocket();
  await new Promise<void>((resolve) => socket.listen(0, "127.0.0.1", resolve));
  const { port } = socket.address() as AddressInfo;
  await new Promise((resolve) => socket.close(resolve));
  return port;
}

const LOGIN = `Basic ${Buffer.from("somebody:pass:word").toString("base64")}`;

async function startProxy(port: number): Promise<void> {
  proxy = createServer((request, response) => {
    const { authorization } = request.headers;
    if (request.url!.startsWith("/token")) {
      expect(request.url).toContain("scope=repository%3A");
      return void response.writeHead(authorization === LOGIN ? 200 : 401).end('{"token":"t0ken"}');
    }
    const right = { nothing: undefined, basic: LOGIN, token: "Bearer t0ken" }[wanted];
    if (wanted !== "nothing" && authorization !== right) {
      const challenge =
        wanted === "basic" ? 'Basic realm="here"' : `Bearer realm="http://${host}/token",service="here"`;
      request.resume();
      return void response.writeHead(401, { "WWW-Authenticate": challenge }).end();
    }
    const onward = ask(
      { port, host: "127.0.0.1", path: request.url, method: request.method, headers: request.headers },
      (answer) => {
        response.writeHead(answer.statusCode!, answer.headers);
        answer.on("data", (chunk: Buffer) => (moved += chunk.byteLength));
        answer.pipe(response);
      },
    );
    request.pipe(onward);
  });
  await new Promise<void>((resolve) => proxy.listen(0, "127.0.0.1", resolve));
  host = `127.0.0.1:${(proxy.address() as AddressInfo).port}`;
}

beforeAll(async () => {
  if (!hasRegistry) return;
  const port = await freePort();
  direct = `127.0.0.1:${port}`;
  const config = `version: 0.1\nlog: { level: error }\nstorage: { filesystem: { rootdirectory: "${scratch.at("registry")}" } }\nhttp: { addr: "${direct}" }\n`;
  writeFileSync(scratch.at("config.yml"), config);
  registry = spawn("docker-registry", ["serve", scratch.at("config.yml")], { stdio: "ignore" });
  await until("docker-registry answers", () =>
    fetch(`http://${direct}/v2/`).then(
      ({ ok }) => ok,
      () => false,
    ),
  );
  await startProxy(port);
});

afterAll(() => {
  registry?.kill();
  proxy?.closeAllConnections();
  proxy?.close();
  scratch.remove();
});

interface Said {
  status: number;
  stdout: string;
  stderr: string;
}

function say(...words: string[]): Promise<Said> {
  const [node, main] = ours;
  const env = {
    ...process.env,
    TMPDIR: scratch.at("."),
    HOME: scratch.at("home"),
    XDG_CACHE_HOME: scratch.at("cache"),
  };
  return new Promise((resolve) =>
    execFile(node!, [main!, ...words], { cwd: scratch.at("."), env }, (error, stdout, stderr) =>
      resolve({ status: typeof error?.code === "number" ? error.code : error ? 1 : 0, stdout, stderr }),
    ),
  );
}

function sha256(bytes: Uint8Array | string): string {
  return createHash("sha256").update(bytes).digest("hex");
}

/** An archive with a file. */
function tarOf(name: string, content: Uint8Array): Buffer {
  const padding = Buffer.alloc(((512 - (content.byteLength % 512)) % 512) + 1024);
  return Buffer.concat([tarHeader("disk/", 0), tarHeader(name, content.byteLength), content, padding]);
}

/** Pushes an image with one layer, by skopeo. */
function push(repository: string, layer: Buffer, mediaType: string): void {
  const folder = scratch.at(`layout-${repository}`);
  mkdirSync(`${folder}/blobs/sha256`, { recursive: true });
  const blob = (bytes: Buffer, type: string): object => {
    writeFileSync(`${folder}/blobs/sha256/${sha256(bytes)}`, bytes);
    return { mediaType: type, digest: `sha256:${sha256(bytes)}`, size: bytes.byteLength };
  };
  const rootfs = { type: "layers", diff_ids: [`sha256:${sha256(layer)}`] };
  const config = blob(
    Buffer.from(JSON.stringify({ os: "linux", architecture: "amd64", config: {}, rootfs })),
    "application/vnd.oci.image.config.v1+json",
  );
  const type = "application/vnd.oci.image.manifest.v1+json";
  const manifest = { schemaVersion: 2, mediaType: type, config, layers: [blob(layer, mediaType)] };
  const index = {
    schemaVersion: 2,
    manifests: [
      {
        ...blob(Buffer.from(JSON.stringify(manifest)), type),
        annotations: { "org.opencontainers.image.ref.name": "v1" },
      },
    ],
  };
  writeFileSync(`${folder}/index.json`, JSON.stringify(index));
  writeFileSync(`${folder}/oci-layout`, '{"imageLayoutVersion":"1.0.0"}');
  execFileSync("skopeo", [
    "copy",
    "--quiet",
    "--dest-tls-verify=false",
    `oci:${folder}:v1`,
    `docker://${direct}/${repository}:v1`,
  ]);
}

/** Puts a blob into the registry's folder, as large ones would take their time over HTTP; then a manifest by HTTP. */
async function place(repository: string, file: string, digest: string): Promise<void> {
  const root = scratch.at("registry/docker/registry/v2");
  const data = `${root}/blobs/sha256/${digest.slice(0, 2)}/${digest}/data`;
  const link = `${root}/repositories/${repository}/_layers/sha256/${digest}/link`;
  for (const path of [data, link]) mkdirSync(dirname(path), { recursive: true });
  renameSync(file, data);
  writeFileSync(link, `sha256:${digest}`);
  const config = "{}";
  const begun = await fetch(`http://${direct}/v2/${repository}/blobs/uploads/`, { method: "POST" });
  const to = `${begun.headers.get("location")}&digest=sha256:${sha256(config)}`;
  expect((await fetch(to, { method: "PUT", body: config })).status).toBe(201);
  const type = "application/vnd.oci.image.manifest.v1+json";
  const manifest = {
    ...{ schemaVersion: 2, mediaType: type },
    config: {
      mediaType: "application/vnd.oci.image.config.v1+json",
      digest: `sha256:${sha256(config)}`,
      size: 2,
    },
    layers: [
      {
        mediaType: "application/vnd.oci.image.layer.v1.tar",
        digest: `sha256:${digest}`,
        size: statSync(data).size,
      },
    ],
  };
  const put = await fetch(`http://${direct}/v2/${repository}/manifests/v1`, {
    ...{ method: "PUT", body: JSON.stringify(manifest) },
    headers: { "Content-Type": type },
  });
  expect(put.status).toBe(201);
}

it("reads names as registries have them", () => {
  const digest = `sha256:${"0f".repeat(32)}`;
  expect(imageOf("oci://h.example:5000/a/b-c:1.2")).toEqual({
    registry: "h.example:5000",
    repository: "a/b-c",
    tag: "1.2",
    digest: undefined,
  });
  expect(imageOf(`oci://h/a@${digest}`)).toMatchObject({ tag: "latest", digest });
  expect(parseOciName("oci://h/a:1?path=disk%2Fx.img").options).toEqual({
    url: "oci://h/a:1",
    path: "disk/x.img",
  });
  for (const name of [
    "oci://h",
    "oci:h/a",
    "oci://u:p@h/a",
    "oci://h/A",
    "oci://h/../a",
    "oci://h/a?password=x",
  ])
    expect(() => parseOciName(name), name).toThrow();
});

describe.skipIf(!hasRegistry)("docker-registry and skopeo", () => {
  it("a file of a disk in a 2 GiB layer is read with less than 1 % of its bytes moved", async () => {
    const image = scratch.at("large.qcow2");
    execFileSync("qemu-img", ["create", "-q", "-f", "qcow2", "-o", "preallocation=metadata", image, "2G"]);
    mkdirSync(scratch.at("root/etc"), { recursive: true });
    writeFileSync(scratch.at("root/etc/os-release"), OS_RELEASE);
    execFileSync("mke2fs", [
      "-q",
      "-t",
      "ext4",
      "-b",
      "4096",
      "-d",
      scratch.at("root"),
      scratch.at("fs.raw"),
      "64M",
    ]);
    const ask = (command: string): string =>
      execFileSync("debugfs", ["-R", command, scratch.at("fs.raw")], {
        encoding: "utf8",
        stdio: ["ignore", "pipe", "ignore"],
      });
    // What a reader of the file system asks for: its head, and of each name on the way the inode and the blocks.
    const way = ["/", "/etc", "/etc/os-release"].flatMap((path) => [
      Number(/located at block (\d+)/.exec(ask(`imap ${path}`))?.[1]),
      ...ask(`blocks ${path}`).trim().split(" ").map(Number),
    ]);
    // The file system's data go where they are; all else of the image is a hole here, and sent as zeroes by the registry.
    execFileSync("qemu-img", ["convert", "-n", "-f", "raw", "-O", "qcow2", scratch.at("fs.raw"), image]);
    const { size } = statSync(image);
    expect(size).toBeGreaterThan(2 ** 31);
    const layer = scratch.at("layer.tar");
    const file = openSync(layer, "w");
    writeSync(file, tarHeader("disk/", 0));
    writeSync(file, tarHeader("disk/large.qcow2", size));
    ftruncateSync(file, 1024 + size + ((512 - (size % 512)) % 512) + 1024);
    closeSync(file);
    execFileSync("dd", [
      `if=${image}`,
      `of=${layer}`,
      "bs=1M",
      "seek=1024",
      "oflag=seek_bytes",
      "conv=sparse,notrunc",
      "status=none",
    ]);
    const digest = execFileSync("sha256sum", [layer], { encoding: "utf8" }).split(" ")[0]!;
    await place("large", layer, digest);

    moved = 0;
    await using engine = createEngine();
    await using node = await openNode(`oci://${host}/large:v1`, { engine });
    const content = Buffer.alloc(4096);
    const files = readFileSync(scratch.at("fs.raw"));
    for (const block of [0, 1, ...way]) {
      await node.read(block * 4096, content);
      expect(content.equals(files.subarray(block * 4096, (block + 1) * 4096)), `block ${block}`).toBe(true);
    }
    expect(content.toString("utf8", 0, OS_RELEASE.length)).toBe(OS_RELEASE);
    expect(moved).toBeLessThan(size / 100);
    expect(moved).toBeGreaterThan(4096);
  });

  it("a layer that is a qcow2 image, or an archive with one, plain or compressed", async () => {
    const raw = Buffer.alloc(24 * MiB);
    raw.set(contentOf(3 * MiB), 5 * MiB);
    writeFileSync(scratch.at("small.raw"), raw);
    execFileSync("qemu-img", [
      "convert",
      "-f",
      "raw",
      "-O",
      "qcow2",
      scratch.at("small.raw"),
      scratch.at("small.qcow2"),
    ]);
    const image = readFileSync(scratch.at("small.qcow2"));
    const tar = tarOf("disk/small.qcow2", image);
    const zstd = (await nodeHost().codecs.compressZstd!(tar, tar.byteLength))!;
    mkdirSync(scratch.at("cache"));
    push("bare", image, "application/vnd.example.disk.qcow2");
    push("plain", tar, "application/vnd.oci.image.layer.v1.tar");
    push("gzip", gzipSync(tar), "application/vnd.oci.image.layer.v1.tar+gzip");
    push("zstd", Buffer.from(zstd), "application/vnd.oci.image.layer.v1.tar+zstd");
    for (const name of ["bare", "plain", "gzip", "zstd"]) {
      const told = await say("compare", "-f", "raw", "-F", "qcow2", "small.raw", `oci://${host}/${name}:v1`);
      expect({ name, ...told }).toMatchObject({ status: 0, stdout: "Images are identical.\n" });
      if (name === "gzip") expect(told.stderr).toContain("is compressed, and is read through once");
    }
    // What was read through is not asked for again.
    moved = 0;
    const again = await say("compare", "-f", "raw", "-F", "qcow2", "small.raw", `oci://${host}/gzip:v1`);
    expect(again).toMatchObject({ status: 0, stderr: "" });
    expect(moved).toBeLessThan(20_000);
    const none = await say("info", `oci://${host}/plain:v1?path=disk/other.img`);
    expect(none.stderr).toContain("no layer has the file 'disk/other.img'");
  });

  it("is what a fleet copies from, and what is done is done", async () => {
    const job = {
      ...{ id: "a", kind: "convert", source: `oci://${host}/gzip:v1`, target: scratch.at("fleet.raw") },
      options: { sourceFormat: "qcow2", targetFormat: "raw" },
    };
    writeFileSync(scratch.at("jobs.json"), JSON.stringify([job]));
    const run = async (): Promise<{ jobs: { state: string; bytes: number; lastError: string }[] }> =>
      JSON.parse((await say("fleet", "run", "jobs.json", "--json", "--jobs")).stdout) as never;
    expect((await run()).jobs).toMatchObject([{ state: "done", lastError: "" }]);
    execFileSync("cmp", [scratch.at("small.raw"), scratch.at("fleet.raw")]);
    // What is done is done, also where nobody remembers.
    rmSync(scratch.at("jobs.json.journal"), { recursive: true });
    moved = 0;
    expect((await run()).jobs).toMatchObject([{ state: "done", lastError: "" }]);
    expect(moved).toBeLessThan(20_000);
  });

  it("what convert pushes is seen whole by skopeo", async () => {
    const made = await say("convert", "-f", "raw", "-O", "qcow2", "small.raw", `oci://${host}/made:1.0`);
    expect(made).toEqual({ status: 0, stdout: "", stderr: "" });
    const inspected = JSON.parse(
      execFileSync("skopeo", ["inspect", "--tls-verify=false", `docker://${direct}/made:1.0`], {
        encoding: "utf8",
      }),
    ) as { Layers: string[]; Architecture: string };
    expect(inspected).toMatchObject({ Architecture: "amd64" });
    execFileSync("skopeo", [
      "copy",
      "--quiet",
      "--src-tls-verify=false",
      `docker://${direct}/made:1.0`,
      `dir:${scratch.at("pulled")}`,
    ]);
    execFileSync("tar", [
      "xf",
      scratch.at(`pulled/${inspected.Layers[0]!.replace("sha256:", "")}`),
      "-C",
      scratch.at("pulled"),
    ]);
    copyFileSync(scratch.at("pulled/disk/disk.img"), scratch.at("pulled.qcow2"));
    expect(
      execFileSync(
        "qemu-img",
        ["compare", "-f", "raw", "-F", "qcow2", scratch.at("small.raw"), scratch.at("pulled.qcow2")],
        { encoding: "utf8" },
      ),
    ).toBe("Images are identical.\n");
    const back = await say("compare", "-f", "raw", "-F", "qcow2", "small.raw", `oci://${host}/made:1.0`);
    expect(back).toMatchObject({ status: 0, stdout: "Images are identical.\n" });
  });

  it("asks with a user's name and password, or the token that they get, and shows neither", async () => {
    writeFileSync(scratch.at("password"), "pass:word");
    const spec = (secret: string): string =>
      `json:${JSON.stringify({ driver: "qcow2", file: { driver: "oci", url: `oci://${host}/plain:v1`, username: "somebody", "password-secret": secret } })}`;
    for (const kind of ["basic", "token"] as const) {
      wanted = kind;
      const told = await say("info", "--object", "secret,id=p,file=password", spec("p"));
      expect(told).toMatchObject({ status: 0, stderr: "" });
      const refused = await say("info", "--object", "secret,id=p,data=wr0ng", spec("p"));
      expect(refused.status).toBe(1);
      expect(refused.stderr).toContain("HTTP status 401");
      expect(refused.stderr).not.toContain("wr0ng");
    }
    wanted = "nothing";
    const missing = await say("info", `oci://${host}/plain:v9`);
    expect(missing.stderr).toContain(
      "HTTP status 404 (MANIFEST_UNKNOWN): there is no image 'v9' in the repository",
    );
    const closed = await say("io", "-c", "write 0 512", `oci://${host}/bare:v1`);
    expect(closed.stderr).toContain("is not written in place");
  });
});

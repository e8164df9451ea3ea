// The open gate: what each policy lets an image open.
import { describe, expect, test } from "vitest";
import type { FileInfo, Host } from "../../../src/base/host.ts";
import { type GateRequest, denyGate, fileGate, urlGate } from "../../../src/block/model/gate.ts";
import { VirtualHost } from "../support/virtual-host.ts";

const kinds: Record<string, FileInfo["kind"]> = {
  "/images/base.raw": "file",
  "/other/base.raw": "file",
  "/images/link.raw": "file",
  "/images/inner.raw": "file",
  "/proc/self/mem": "file",
  "/sys/power/state": "file",
  "/dev/shm/x": "file",
  "/images": "directory",
  "/dev/sda": "block-device",
  "/dev/null": "character-device",
  "/run/pipe": "other",
};

const host: Host = Object.assign(new VirtualHost(), {
  files: {
    ...new VirtualHost().files,
    info: (path: string) =>
      kinds[path]
        ? Promise.resolve({
            kind: kinds[path],
            size: 0,
            identity: path,
            symlink: path === "/images/link.raw",
          })
        : Promise.reject(new Error("ENOENT")),
    realPath: (path: string) =>
      Promise.resolve(
        path === "/images/inner.raw"
          ? "/proc/self/mem"
          : path
              .replaceAll("/./", "/")
              .replace(/\/\w+\/\.\./, "")
              .replace(/\/\.?$/, ""),
      ),
    resolve: (base: string, path: string) =>
      path.startsWith("/") ? path : `${base.slice(0, base.lastIndexOf("/") + 1)}${path}`,
  },
});

const ask = (name: string, format?: string): GateRequest => ({
  kind: "backing",
  image: "/images/top.qcow2",
  name,
  format,
  access: "read",
});
const askData = (name: string, access: "read" | "write"): GateRequest => ({
  ...ask(name, "raw"),
  kind: "data-file",
  access,
});

test("nothing is opened by default", async () => {
  expect(await denyGate(ask("base.raw"))).toEqual({
    refuse: "the image's backing name 'base.raw' was not opened: no gate allows it",
  });
  expect(fileGate("deny", host)).toBe(denyGate);
});

describe.each(["same-dir", "local", "all"] as const)("%s", (policy) => {
  const gate = fileGate(policy, host);

  test("a file beside the image is opened, in the format that the image names", async () => {
    const file = { driver: "file", filename: "/images/base.raw" };
    // What is opened has to be the file that the gate looked at.
    const identity = policy === "all" ? {} : { identity: "/images/base.raw" };
    expect(await gate(ask("base.raw", "raw"))).toEqual({ allow: { driver: "raw", file }, ...identity });
    // The layer probes where the image names no format.
    expect(await gate(ask("base.raw"))).toEqual({ allow: { driver: "", file }, ...identity });
  });

  test.each([
    "json:{}",
    "nbd://host/x",
    "nbd:unix:/x",
    "http://x",
    "1weird:x",
    "a b:c",
    ":x",
    "C:\\x",
    "fat:/etc",
  ])("the protocol name '%s' is refused", async (name) => {
    expect(await gate(ask(name))).toEqual({
      refuse: `backing name '${name}' refused: names with a protocol are not opened out of an image's header`,
    });
  });

  test("`file:` before an absolute path is that path, and no more than it", async () => {
    const identity = policy === "all" ? {} : { identity: "/images/base.raw" };
    const file = { driver: "file", filename: "/images/base.raw" };
    expect(await gate(ask("file:/images/base.raw", "raw"))).toEqual({
      allow: { driver: "raw", file },
      ...identity,
    });
    for (const name of ["file:base.raw", "file:json:{}", "file:nbd://host/x"])
      expect(await gate(ask(name))).toHaveProperty("refuse");
    if (policy === "all") return;
    for (const name of ["file:/proc/self/mem", "file:/dev/null"])
      expect(await gate(ask(name))).toHaveProperty("refuse");
  });

  test("a file behind blkdebug, and the rules beside it, pass as they would alone", async () => {
    const identity = policy === "all" ? {} : { identity: "/images/base.raw" };
    const image = { driver: "file", filename: "/images/base.raw" };
    const faults = (config: object): object => ({ driver: "blkdebug", ...config, image });
    expect(await gate(ask("blkdebug::/images/base.raw", "raw"))).toEqual({
      allow: { driver: "raw", file: faults({}) },
      ...identity,
    });
    expect(await gate(ask("blkdebug:base.rules:base.raw"))).toEqual({
      allow: { driver: "", file: faults({ config: "/images/base.rules" }) },
      ...identity,
    });
    for (const name of [
      "blkdebug:/proc/self/environ:base.raw",
      "blkdebug::/proc/self/mem",
      "blkdebug::/dev/null",
    ])
      expect("allow" in (await gate(ask(name))), name).toBe(policy === "all");
    for (const name of ["blkdebug::nbd://host/x", "blkdebug::json:{}", "blkdebug:base.rules", "blkdebug:::x"])
      expect("allow" in (await gate(ask(name))), name).toBe(false);
    expect("allow" in (await gate(askData("blkdebug::base.raw", "read")))).toBe(false);
  });

  test("a disk that opens nothing may be named, but not written to", async () => {
    expect(await gate(ask("null-co://", "raw"))).toEqual({
      allow: { driver: "raw", file: { driver: "null-co" } },
    });
    expect(await gate(ask("null-aio://"))).toEqual({
      allow: { driver: "", file: { driver: "null-aio" } },
    });
    expect("allow" in (await gate(ask("null-co://x")))).toBe(false);
    expect("allow" in (await gate(askData("null-co://", "write")))).toBe(false);
  });

  test("a NUL byte is refused", async () => {
    expect(await gate(ask("base.raw\0.txt"))).toHaveProperty("refuse", expect.stringContaining("NUL"));
  });

  test.each(["/other/base.raw", "../other/base.raw", "sub/base.raw"])(
    "another directory: '%s'",
    async (name) => {
      const answer = await gate(ask(name));
      expect("allow" in answer).toBe(policy !== "same-dir");
    },
  );

  test.each(["/dev/sda", "/dev/null", "/images", "/run/pipe"])("no regular file: '%s'", async (name) => {
    const answer = await gate(ask(name));
    expect("allow" in answer).toBe(policy === "all");
  });

  test.each(["/proc/self/mem", "/sys/power/state", "/dev/shm/x", "inner.raw"])(
    "a regular file of the system, or a link to one: '%s'",
    async (name) => {
      expect("allow" in (await gate(ask(name)))).toBe(policy === "all");
      expect("allow" in (await gate(askData(name, "read")))).toBe(policy === "all");
    },
  );

  test("shared memory, to an image that lies there itself", async () => {
    const there = { image: "/dev/shm/top.qcow2" };
    expect("allow" in (await gate({ ...ask("/dev/shm/x"), ...there }))).toBe(true);
    expect("allow" in (await gate({ ...askData("x", "write"), ...there }))).toBe(true);
    expect("allow" in (await gate({ ...ask("/dev/sda"), ...there }))).toBe(policy === "all");
    expect("allow" in (await gate({ ...ask("/proc/self/mem"), ...there }))).toBe(policy === "all");
  });

  test("a symbolic link may lead away from an image's folder, but only where the policy lets a name do so", async () => {
    expect("allow" in (await gate(ask("link.raw")))).toBe(policy !== "same-dir");
  });

  test.each(["read", "write"] as const)("a data file lies beside the image, for %s", async (access) => {
    for (const name of ["base.raw", "/images/base.raw", "../images/base.raw", "missing.raw"])
      expect(await gate(askData(name, access)), name).toHaveProperty("allow");
    for (const name of ["/other/base.raw", "../other/base.raw", "link.raw", "/images/link.raw"])
      expect("allow" in (await gate(askData(name, access))), name).toBe(policy === "all");
  });

  test("what is to be written lies beside the image, whatever it is", async () => {
    expect(await gate({ ...ask("base.raw"), access: "write" })).toHaveProperty("allow");
    expect("allow" in (await gate({ ...ask("/other/base.raw"), access: "write" }))).toBe(policy === "all");
  });

  test("an image without a file name has no folder", async () => {
    expect("allow" in (await gate({ ...ask("base.raw"), image: "" }))).toBe(policy !== "same-dir");
    expect("allow" in (await gate({ ...askData("base.raw", "read"), image: "" }))).toBe(policy === "all");
  });

  test("a file that is not there is left to the open, which says so", async () => {
    expect(await gate(ask("missing.raw", "raw"))).toHaveProperty("allow");
  });

  test("a colon behind a slash belongs to the name", async () => {
    expect("allow" in (await gate(ask("./a:b", "raw")))).toBe(true);
  });
});

describe("urlGate", () => {
  const gate = urlGate(["https://example.org", "http://127.0.0.1:8000/ignored"]);

  test("a URL of an allowed origin is opened, as what the header says or as what is found", async () => {
    const file = { driver: "https", url: "https://example.org/a/base.img?x=1" };
    expect(await gate(ask("https://example.org/a/base.img?x=1", "qcow2"))).toEqual({
      allow: { driver: "qcow2", file },
    });
    expect(await gate(ask("http://127.0.0.1:8000/b"))).toEqual({
      allow: { driver: "", file: { driver: "http", url: "http://127.0.0.1:8000/b" } },
    });
  });

  test.each([
    ["https://example.org.evil.test/x", "its origin https://example.org.evil.test is not allowed"],
    ["https://example.org@evil.test/x", "its origin https://evil.test is not allowed"],
    ["http://example.org/x", "its origin http://example.org is not allowed"],
    ["https://example.org:8443/x", "not allowed"],
    ["http://[::1", "it is no URL"],
  ])("%s is refused", async (name, why) => {
    expect(await gate(ask(name, "raw"))).toHaveProperty("refuse", expect.stringContaining(why));
  });

  test("a data file may not lie there, and other names are for the other gate", async () => {
    const request = { ...ask("https://example.org/x", "raw"), kind: "data-file" as const };
    expect(await gate(request)).toHaveProperty("refuse", expect.stringContaining("only backing files"));
    expect(await gate(ask("base.raw"))).toHaveProperty(
      "refuse",
      expect.stringContaining("no gate allows it"),
    );
    expect(await urlGate([], (asked) => Promise.resolve({ refuse: asked.name }))(ask("x"))).toEqual({
      refuse: "x",
    });
  });
});

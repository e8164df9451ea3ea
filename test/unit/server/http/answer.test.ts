// What an HTTP server answers about a disk: ranges, conditions, names, origins.
import { describe, expect, test } from "vitest";
import { answerOf, type ServedDisk } from "../../../../src/server/http/answer.ts";

const disk: ServedDisk = {
  name: "my disk",
  size: 1000,
  etag: '"v1"',
  origin: undefined,
  hosts: new Set(["localhost:80"]),
};

function ask(
  headers: Record<string, string> = {},
  more: { method?: string; target?: string } = {},
  of = disk,
) {
  const all: Record<string, string> = { host: "localhost:80", ...headers };
  const { method = "GET", target = "/my%20disk" } = more;
  return answerOf({ method, target, header: (name) => all[name] }, of);
}

describe("ranges", () => {
  test.each([
    ["bytes=0-0", 0, 1],
    ["bytes=10-19", 10, 20],
    ["bytes=990-5000", 990, 1000],
    ["bytes=999-", 999, 1000],
    ["bytes=-1", 999, 1000],
    ["bytes=-5000", 0, 1000],
    ["bytes = 1 - 2", 1, 3],
  ])("%s", (range, offset, end) => {
    expect(ask({ range })).toMatchObject({
      status: 206,
      headers: { "content-range": `bytes ${offset}-${end - 1}/1000`, "content-length": String(end - offset) },
      range: { offset, end },
    });
  });

  test.each(["bytes=1000-", "bytes=5000-6000", "bytes=-0"])("%s is behind the end", (range) => {
    const answer = ask({ range });
    expect(answer).toMatchObject({ status: 416, headers: { "content-range": "bytes */1000" } });
    expect(answer.range).toBeUndefined();
  });

  test.each(["bytes=9-8", "bytes=-", "bytes=0-1,3-4", "lines=0-1", "bytes=a-b", "0-1"])(
    "'%s' is no range of bytes: the whole disk is meant",
    (range) => {
      expect(ask({ range })).toMatchObject({ status: 200, range: { offset: 0, end: 1000 } });
    },
  );
});

describe("conditions", () => {
  test("a range of another content is the whole", () => {
    expect(ask({ range: "bytes=0-9", "if-range": '"v1"' }).status).toBe(206);
    expect(ask({ range: "bytes=0-9", "if-range": '"v0"' }).status).toBe(200);
    expect(ask({ range: "bytes=0-9", "if-range": "Sat, 28 Nov 2026 00:00:00 GMT" }).status).toBe(200);
  });

  test("If-Match and If-None-Match", () => {
    expect(ask({ "if-match": '"v0", "v1"' }).status).toBe(200);
    expect(ask({ "if-match": "*" }).status).toBe(200);
    expect(ask({ "if-match": '"v0"' })).toMatchObject({ status: 412 });
    expect(ask({ "if-none-match": '"v1"' })).toMatchObject({ status: 304, headers: { etag: '"v1"' } });
    expect(ask({ "if-none-match": '"v0"' }).status).toBe(200);
  });
});

describe("names", () => {
  test("another path is none of the disk's, a query is no part of it", () => {
    expect(ask({}, { target: "/my%20disk?x=1" }).status).toBe(200);
    for (const target of ["/", "/my", "/my%20disk/", "/%", "*", "http://localhost/my%20disk"])
      expect(ask({}, { target })).toMatchObject({ status: 404 });
  });

  test("a page that points a name of its own at the server gets nothing", () => {
    expect(ask({ host: "evil.example" })).toMatchObject({ status: 421 });
    expect(ask({ host: "LOCALHOST:80" }).status).toBe(200);
    expect(ask({ host: "evil.example" }, {}, { ...disk, hosts: undefined }).status).toBe(200);
  });

  test("only reading", () => {
    for (const method of ["PUT", "POST", "DELETE", "PATCH"])
      expect(ask({}, { method })).toMatchObject({ status: 405, headers: { allow: "GET, HEAD, OPTIONS" } });
    expect(ask({}, { method: "HEAD" })).toMatchObject({ status: 200, headers: { "content-length": "1000" } });
  });
});

test("pages of other origins read it only where one is named", () => {
  const shared = { ...disk, origin: "https://app.example" };
  for (const answer of [ask({}, {}, shared), ask({ range: "bytes=0-1" }, {}, shared)])
    expect(answer.headers).toMatchObject({
      "access-control-allow-origin": "https://app.example",
      vary: "Origin",
    });
  expect(ask({}, { method: "OPTIONS" }, shared)).toMatchObject({
    status: 204,
    headers: { "access-control-allow-headers": expect.stringContaining("Range") as string },
  });
  expect(Object.keys(ask().headers).join()).not.toContain("access-control");
  expect(Object.keys(ask({}, { method: "OPTIONS" }).headers).join()).not.toContain("access-control");
});

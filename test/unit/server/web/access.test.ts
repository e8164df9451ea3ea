// Who may speak to a web server of ours.
import { describe, expect, it } from "vitest";
import { makeToken, namesOf, refusalOf, type WebAccess } from "../../../../src/server/web/access.ts";

const access: WebAccess = {
  token: "secret-token",
  hosts: new Set(namesOf("127.0.0.1", 8080)),
  origins: [],
  scheme: "http",
};

function refused(headers: Record<string, string>, target = "/qmp", who = access): number | undefined {
  return refusalOf({ method: "GET", target, header: (name) => headers[name] }, who);
}

describe("refusalOf()", () => {
  const host = "127.0.0.1:8080";
  const good = "/qmp?token=secret-token";

  it("wants the token, in the query or as a bearer's", () => {
    expect(refused({ host })).toBe(401);
    expect(refused({ host }, "/qmp?token=secret-tokem")).toBe(401);
    expect(refused({ host }, "/qmp?token=secret-token-and-more")).toBe(401);
    expect(refused({ host }, "/qmp?token=")).toBe(401);
    expect(refused({ host, authorization: "Bearer secret-toke" }, good)).toBe(401);
    expect(refused({ host }, good)).toBeUndefined();
    expect(refused({ host, authorization: "Bearer secret-token" })).toBeUndefined();
  });

  it("refuses names that are not the server's, and pages of other origins", () => {
    expect(refused({ host: "evil.example:8080" }, good)).toBe(421);
    expect(refused({}, good)).toBe(421);
    expect(refused({ host: "LocalHost:8080", origin: "http://localhost:8080" }, good)).toBeUndefined();
    expect(refused({ host, origin: "http://evil.example" }, good)).toBe(403);
    expect(refused({ host, origin: "null" }, good)).toBe(403);
    expect(refused({ host, origin: "http://127.0.0.1:8081" }, good)).toBe(403);
  });

  it("lets the pages in that it was told of", () => {
    const origin = "https://guests.example";
    expect(refused({ host, origin }, good, { ...access, origins: [origin] })).toBeUndefined();
    expect(refused({ host, origin: `${origin}.evil` }, good, { ...access, origins: [origin] })).toBe(403);
    expect(refused({ host, origin: "null" }, good, { ...access, origins: ["*"] })).toBeUndefined();
    expect(refused({ host: "any:1" }, good, { ...access, hosts: undefined })).toBeUndefined();
  });
});

describe("makeToken()", () => {
  it("is made of 16 random bytes", () => {
    expect(makeToken((bytes) => new Uint8Array(bytes).fill(0xa))).toBe("0a".repeat(16));
  });
});

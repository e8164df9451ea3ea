/** Names of NBD's client: what each says, and what is refused in QEMU's words. */
import { describe, expect, it } from "vitest";
import {
  modernNbdOptions,
  parseNbdName,
  plainNbdName,
} from "../../../../../src/drivers/protocol/nbd/names.ts";

const inet = (host: string, port = "10809") => ({ type: "inet", host, port });
const web = (url: string) => ({ type: "websocket", url });
const unix = (path: string) => ({ type: "unix", path });

describe("a name", () => {
  it.each([
    ["nbd://host", { server: inet("host") }],
    ["nbd://host/", { server: inet("host") }],
    ["nbd://host:1/x/y", { server: inet("host", "1"), export: "x/y" }],
    ["nbd+tcp://[::1]:2/a%20b", { server: inet("::1", "2"), export: "a b" }],
    ["nbds://user@host/x", { server: inet("host"), export: "x", tls: "on" }],
    ["nbd+unix:///x?socket=%2Fsrv%2Fs", { server: unix("/srv/s"), export: "x" }],
    ["nbds+unix://?socket=s", { server: unix("s"), tls: "on" }],
    ["nbd+ws://h:1", { server: web("ws://h:1/nbd") }],
    ["nbd+wss://[::1]:1/a%2Fb?token=t", { server: web("wss://[::1]:1/nbd?token=t"), export: "a/b" }],
    ["nbd:host:1", { server: inet("host", "1") }],
    ["nbd:[::1]:1:exportname=a:b", { server: inet("::1", "1"), export: "a:b" }],
    ["nbd:unix:/a:b:exportname=x", { server: unix("/a:b"), export: "x" }],
    ["nbd:unix:", { server: unix("") }],
    ["nbd:", {}],
    ["nbd:host:1:exportname=", {}],
  ])("%s", (name, options) => {
    expect(parseNbdName(name)).toEqual({ options });
  });

  it.each([
    "nbd://",
    "nbd:///x",
    "nbd+unix://",
    "nbd+unix:///x?a=b",
    "nbd://h/x?socket=s",
    "nbd://h:p/",
    "nbd://h/%zz",
    "nbd+ws:///x",
    "nbd+ws://user@h/x",
    "nbd+wss://h/%zz",
  ])("%s is no URL", (name) => {
    expect(() => parseNbdName(name)).toThrow("No valid URL specified");
  });

  it("needs an address", () => {
    expect(() => parseNbdName("nbd:host")).toThrow("error parsing address 'host'");
    expect(() => parseNbdName("nbd:host:")).toThrow("error parsing address 'host:'");
    expect(() => parseNbdName("x:y")).toThrow("must start with 'nbd:'");
  });
});

describe("older options", () => {
  it("become `server`", () => {
    expect(modernNbdOptions({ path: "s", export: "x" })).toEqual({ server: unix("s"), export: "x" });
    expect(modernNbdOptions({ host: "h" })).toEqual({ server: inet("h") });
    expect(modernNbdOptions({ host: "h", port: "7" })).toEqual({ server: inet("h", "7") });
    const modern = { server: unix("s"), "node-name": "n" };
    expect(modernNbdOptions(modern)).toEqual(modern);
  });

  it.each([
    [{ path: "s", host: "h" }, "path and host may not be used at the same time"],
    [{ port: "1" }, "NBD server address missing"],
    [{}, "NBD server address missing"],
    [{ host: "h", server: unix("s") }, "Cannot use 'server' and path/host/port at the same time"],
  ])("%o are refused", (options, words) => {
    expect(() => modernNbdOptions(options)).toThrow(words);
  });
});

it("the plain name says what was given", () => {
  expect(plainNbdName({ "server.path": "s", export: "x" })).toBe("nbd+unix:///x?socket=s");
  expect(plainNbdName({ "server.path": "s", tls: true })).toBe("nbds+unix://?socket=s");
  expect(plainNbdName({ "server.host": "h", "server.port": "1" })).toBe("nbd://h:1");
  expect(plainNbdName({ "server.host": "h", "server.port": "1", export: "x" })).toBe("nbd://h:1/x");
  expect(plainNbdName({ "server.str": "fd" })).toBeUndefined();
  // A token is nobody's who looks at names.
  expect(plainNbdName({ "server.url": "wss://h:1/nbd?token=t", export: "x" })).toBe("nbd+wss://h:1/x");
  expect(plainNbdName({ "server.url": "ws://h/websockify" })).toBeUndefined();
});
